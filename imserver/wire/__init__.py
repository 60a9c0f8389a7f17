"""Sockets. The hot path lives here: one task for all of a worker's connections, plain functions behind it.

poller      epoll (kqueue where there is none)
reactor     a batch of ready sockets, then one flush
listener    new connections
relayed     what a load balancer passes on, until it has said whose it is
connection  one client: bytes -> frames -> commands, and back, over TCP or WebSocket
http        the HTTP port: the WebSocket's handshake, the web client, health
"""
