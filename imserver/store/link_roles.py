"""Whom a link deals with."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink


class LinkReactor(Protocol):
    """What a link needs of the reactor."""

    now: float

    def add(self, fd: int, handler: Any) -> None: ...
    def remove(self, fd: int) -> None: ...
    def want(self, fd: int, *, read: bool, write: bool) -> None: ...
    def touch_link(self, link: "RedisLink") -> None: ...
    def batch(self) -> AbstractContextManager[None]: ...


class LinkOwner(Protocol):
    """Whom a link tells what happens."""

    def on_up(self, link: "RedisLink", *, in_new_epoch: bool) -> None:
        """`in_new_epoch`: the shard may have lost what it acknowledged before."""

    def on_down(self, link: "RedisLink") -> None:
        """It was lost, or could not be made: with each attempt."""

    def on_push(self, message: bytes) -> None: ...
    def on_saturated(self, link: "RedisLink") -> None: ...
    def on_relieved(self, link: "RedisLink") -> None: ...
