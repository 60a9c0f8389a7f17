"""Which sockets are ready: epoll, or kqueue behind the same few methods.

`selectors` would serve both, at a few hundred nanoseconds of Python for each event; on Linux this costs none.
"""

import select
import sys
from typing import Protocol

READ = 1
WRITE = 4
_FAILED = 8 | 16  # EPOLLERR | EPOLLHUP: reported unasked; reading then tells what it is


class Poller(Protocol):
    def fileno(self) -> int:
        """A descriptor that is readable while any other is ready."""

    def register(self, fd: int, events: int) -> None: ...
    def modify(self, fd: int, events: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """The ready descriptors with READ and WRITE bits (other bits: read to find out)."""

    def close(self) -> None: ...


if sys.platform == "linux":
    assert select.EPOLLIN == READ
    assert select.EPOLLOUT == WRITE
    EXCLUSIVE = select.EPOLLEXCLUSIVE  # of several processes that wait on a listener, wake one

    def new_poller() -> Poller:
        return select.epoll()

else:
    EXCLUSIVE = 0

    class _KqueuePoller:
        """Level-triggered, like the epoll above."""

        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self._wanted: dict[int, int] = {}

        def fileno(self) -> int:
            return self._kqueue.fileno()

        def register(self, fd: int, events: int) -> None:
            self._wanted[fd] = 0
            self.modify(fd, events)

        def modify(self, fd: int, events: int) -> None:
            before, self._wanted[fd] = self._wanted[fd], events
            changes = [
                select.kevent(fd, kind, select.KQ_EV_ADD if events & bit else select.KQ_EV_DELETE)
                for bit, kind in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE))
                if (events ^ before) & bit
            ]
            if changes:
                self._kqueue.control(changes, 0)

        def unregister(self, fd: int) -> None:
            self.modify(fd, 0)
            del self._wanted[fd]

        def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
            ready = self._kqueue.control(None, maxevents, timeout)
            return [(event.ident, READ if event.filter == select.KQ_FILTER_READ else WRITE) for event in ready]

        def close(self) -> None:
            self._kqueue.close()

    def new_poller() -> Poller:
        return _KqueuePoller()
