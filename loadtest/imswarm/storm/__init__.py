"""imswarm storm: everybody was connected, then much of the server is killed, and all come back at once.

run      what is started, what is killed and when, how long is waited
process  a client process: obeys the parent's orders, and tells in the end what everybody saw
member   one session that comes back by itself, as real clients do
flow     the messages from one session to another: due at fixed times, sent again until answered
figures  what the records of all mean: a pure function
"""
