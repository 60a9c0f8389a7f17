"""The native protocol, sans-IO: bytes to typed commands and back, with no socket, no task and no store in sight.

    framing      bytes <-> frames (lines, WebSocket messages)
    codec        frames <-> commands, replies and pushes
    commands     what a client may ask: one row per command
    pushes       what the server says unasked, and the replies' contents
    schema       all of it as a JSON Schema, for programs
    lifecycle    the states of a session, as a literal table
    extras       what a message may have beside its body
    amendments   who may change what was said, as a literal table
    text         which characters text may have
    contacts     the states of contacts, likewise
    presence     what several devices show together
    limits       token buckets
    overload     the ladder: what is shed first when there is too much to do
    admission    a line before the entrance, and tickets for those who are to come back

Imports nothing of the server but `model` and `errors`. The client library is built on the same modules.
"""
