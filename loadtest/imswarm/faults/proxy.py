"""A proxy before the store, which can cut one worker off from it without a word.

The worker's bytes are neither refused nor lost: they wait. After the mending they go on to the store, even
if the worker has long given up that connection: so the late writes of a worker that is believed to be dead
come, too, and must do no harm.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK = 65536


class StoreProxy:
    """Passes connections on from `port` to `target`. A thread for each direction of a connection."""

    def __init__(self, port: int, target: int) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port))
        self._state = threading.Condition()
        self._cut_off: int | None = None
        self._is_closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def cut_off(self, pid: int) -> Iterator[None]:
        """Nothing passes to or from this process, on connections that it has or makes."""
        self._set_cut_off(pid)
        try:
            yield
        finally:
            self._set_cut_off(None)

    def close(self) -> None:
        with self._state:
            self._is_closed = True
            self._state.notify_all()
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _set_cut_off(self, pid: int | None) -> None:
        with self._state:
            self._cut_off = pid
            self._state.notify_all()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, address = self._listener.accept()
                self._begin(client, owner_of(address[1]))

    def _begin(self, client: socket.socket, owner: int | None) -> None:
        try:
            store = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._state:
            self._sockets += [client, store]
        for ends in ((client, store), (store, client)):
            threading.Thread(target=self._pump, args=(*ends, owner), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, owner: int | None) -> None:
        with suppress(OSError):  # one end is gone
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(_CHUNK):
                self._wait_passable(owner)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _wait_passable(self, owner: int | None) -> None:
        with self._state:
            self._state.wait_for(lambda: self._is_closed or owner is None or owner != self._cut_off)


def owner_of(port: int) -> int | None:
    """The process of this user whose TCP socket (IPv4) has this local port; None if there is none."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    wanted = {f"socket:[{row[9]}]" for row in rows if row[9] != "0" and int(row[1].partition(":")[2], 16) == port}
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # ended meanwhile, or another user's
            folder = Path("/proc", process, "fd")
            if any(os.readlink(folder / name) in wanted for name in os.listdir(folder)):
                return int(process)
    return None
