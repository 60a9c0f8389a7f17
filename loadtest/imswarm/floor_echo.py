"""The floor where there is no C compiler: what `floor.c` does, in Python.

    python -m imswarm.floor_echo serve
    python -m imswarm.floor_echo load PORT CONNECTIONS ACTIVE FRAME_BYTES

What each prints and reads is described in `floor.c`.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import sys

_BATCH = 256
_CHUNK = 16384
_BACKLOG = 4096
_STDIN = 0


def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    peers: dict[int, socket.socket] = {}
    poller = select.epoll()
    poller.register(listener.fileno(), select.EPOLLIN)
    poller.register(_STDIN, select.EPOLLIN)
    while True:
        for descriptor, _ in poller.poll(-1, _BATCH):
            if descriptor in peers:
                _echo(peers, descriptor)
            elif descriptor == _STDIN:
                return
            else:
                _accept(listener, poller, peers)


def _accept(listener: socket.socket, poller: select.epoll, peers: dict[int, socket.socket]) -> None:
    peer, _ = listener.accept()
    peer.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peers[peer.fileno()] = peer
    poller.register(peer.fileno(), select.EPOLLIN)


def _echo(peers: dict[int, socket.socket], descriptor: int) -> None:
    try:
        data = peers[descriptor].recv(_CHUNK)
        if data:
            peers[descriptor].send(data)
            return
    except ConnectionError:
        pass
    peers.pop(descriptor).close()


def load(port: int, connections: int, active: int, frame_bytes: int) -> None:
    frame = bytes(frame_bytes)
    peers = _connect(port, connections)
    poller = select.epoll()
    for descriptor in (*peers, _STDIN):
        poller.register(descriptor, select.EPOLLIN)
    for peer in list(peers.values())[:: connections // active][:active]:
        peer.send(frame)
    print("ready", flush=True)
    received = 0
    while True:
        for descriptor, _ in poller.poll(-1, _BATCH):
            if descriptor == _STDIN:
                if not os.read(_STDIN, 1):
                    return
                print(received // frame_bytes, flush=True)
                continue
            peer = peers[descriptor]
            received += len(peer.recv(frame_bytes, socket.MSG_WAITALL))
            peer.send(frame)


def _connect(port: int, connections: int) -> dict[int, socket.socket]:
    peers = {}
    for _ in range(connections):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peers[peer.fileno()] = peer
    return peers


def main(arguments: list[str]) -> None:
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    match arguments:
        case ["serve"]:
            serve()
        case ["load", port, connections, active, frame_bytes]:
            load(int(port), int(connections), int(active), int(frame_bytes))
        case _:
            sys.exit("usage: floor_echo serve | load PORT CONNECTIONS ACTIVE FRAME_BYTES")


if __name__ == "__main__":
    main(sys.argv[1:])
