"""The rules: what each command means. One module for each part of the messenger; no sockets, no JSON, no Redis.

messages   send, ack, and what happens to a published entry
accounts   register, login, logout
history    reading a conversation back
groups     making, joining, leaving and ruling groups, and each user's list of them
returning  what sessions do when a lost link is back
contacts   asking, accepting, removing, blocking; the list
presence   who shows what to whom
typing     who is told that somebody types
table      which rule answers which command
"""
