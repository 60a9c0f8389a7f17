"""imserver: an instant-messaging server.

The path of a message, socket to socket:

    wire.connection.Connection.on_readable   bytes from the sender's socket
    protocol.framing.LineFraming.receive     bytes -> frames (or WebSocketFraming)
    protocol.codec.decode_command            a frame -> a command, checked
    session.session.Session.handle           allowed in this state, at this rate?
    routing.messages.Messages.send           the rule: into the recipient's log, and into the sender's own
    store.store.Store.append_both            one function call; in a cluster `append`, for one log after the other
      => Redis (store/functions/log.lua)     dedupe, append, publish to the nodes that host the owner's sessions
    store.redis_link.RedisLink.on_readable   replies and pushes on one link, in the order Redis made them
    routing.messages.Messages.on_entry       whose sessions are here?  (session.registry)
    session.tail.Tail.offer                  forward, duplicate or gap?  (session.cursor)
    wire.connection.Connection.flush         one send for each touched socket and turn

To a group: `store.groups.GroupStore.post` instead of `append_both`, and `session.fan_out` instead of a user's tails.

Everything that must survive lives in the store; a worker can be killed at any moment.

The import rule (tests/test_layers.py keeps it):

    protocol            sans-IO: imports nothing of the server but `model` and `errors`
    store               knows Redis; gives typed results to its callers
    routing, session    the rules; know neither sockets, nor Redis, nor JSON
    wire                sockets; knows sessions only as something that receives frames
    worker              the only place that puts the parts together
"""

__version__ = "0.1.0"
