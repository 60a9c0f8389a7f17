"""One connected device: who it is, which logs it follows from where, and what it may ask.

    session    a device's session, from its first byte to its last
    identity   who has logged in
    following  the groups that a session follows, each with a tail
    fan_out    one entry of a group to all who follow it here
    tail       following one log: forward, duplicate or gap; reading what was missed
    cursor     that decision, as a pure function
    registry   who is here
    entrance   where logins wait for their turn
    keepalive  the timer wheel
    context    what all sessions of a worker share

Knows neither sockets nor JSON nor Redis: a session talks to its `Channel` and to the `Store` in types.
"""
