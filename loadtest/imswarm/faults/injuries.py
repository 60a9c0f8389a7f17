"""How each fault is done: a context that begins with the injury and ends when it is mended. `catalogue` lists them.

It gives a test by which is known that the server is back: it is asked when all that was injured at the time is
mended, since one part may wait for another. What was killed, the server mends itself. A context MUST leave nothing
behind, however it is left.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.faults.crew import Crew
from imswarm.faults.plan import Leave, Reset, Restart, Return
from imswarm.faults.readers import slow_reader, stuck_reader
from imswarm.faults.victim import Victim

_SHARE = 0.4
_SHARE_AWAY = 0.125
_TINY_BYTES = 1
_REPLACED_SECONDS = 10.0  # longer than it takes to replace all workers


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault has to do with. `extras`: tokens and devices that are not in use; `users`: all who talk."""

    victim: Victim
    crew: Crew
    chance: random.Random
    extras: Iterator[tuple[str, str]]
    users: Sequence[str]


IsBack = Callable[[], bool]
Inflict = Callable[[Scene], AbstractContextManager[IsBack]]


def at_once() -> bool:
    """What is mended is back."""
    return True


@contextmanager
def kill_worker(scene: Scene) -> Iterator[IsBack]:
    victim = scene.victim
    killed = scene.chance.choice(victim.workers)
    with suppress(ProcessLookupError):  # another fault was faster
        os.kill(killed, signal.SIGKILL)
    yield lambda: killed not in victim.workers


@contextmanager
def freeze_worker(scene: Scene) -> Iterator[IsBack]:
    """It holds its connections and says nothing; then it goes on as if nothing had been."""
    with _stopped(scene.chance.choice(scene.victim.workers)):
        yield at_once


@contextmanager
def kill_store(scene: Scene) -> Iterator[IsBack]:
    """The server starts its own again by itself; of any other the operator takes care."""
    victim, killed = scene.victim, _store_of(scene.victim)
    os.kill(killed, signal.SIGKILL)
    try:
        yield lambda: victim.store not in (killed, None)
    finally:
        if victim.external is not None:
            victim.external.start()


@contextmanager
def freeze_store(scene: Scene) -> Iterator[IsBack]:
    with _stopped(_store_of(scene.victim)):
        yield at_once


@contextmanager
def cut_links(scene: Scene) -> Iterator[IsBack]:
    """The workers' links to the store, which are subscribers, too."""
    with scene.victim.store_client() as store:
        store.client_kill_filter(_type="pubsub")
    yield at_once


@contextmanager
def cut_off_worker(scene: Scene) -> Iterator[IsBack]:
    """What it says to the store waits, and so do the answers."""
    if scene.victim.proxy is None:
        raise DeploymentError("the store is not behind a proxy")
    with scene.victim.proxy.cut_off(scene.chance.choice(scene.victim.workers)):
        yield at_once


@contextmanager
def cut_off_worker_at_login(scene: Scene) -> Iterator[IsBack]:
    """While clients come back: their logins are among what waits, and take effect when they are in elsewhere."""
    with cut_off_worker(scene):
        scene.crew.order(Reset(_SHARE, scene.chance.getrandbits(32)))
        yield at_once


@contextmanager
def fill_store(scene: Scene) -> Iterator[IsBack]:
    """All memory that it may use is used."""
    with scene.victim.store_client() as store:
        before = store.config_get("maxmemory")["maxmemory"]
        store.config_set("maxmemory", _TINY_BYTES)
        try:
            yield at_once
        finally:
            store.config_set("maxmemory", before)


@contextmanager
def reset_clients(scene: Scene) -> Iterator[IsBack]:
    scene.crew.order(Reset(_SHARE, scene.chance.getrandbits(32)))
    yield at_once


@contextmanager
def restart_clients(scene: Scene) -> Iterator[IsBack]:
    scene.crew.order(Restart(_SHARE, scene.chance.getrandbits(32)))
    yield at_once


@contextmanager
def send_clients_away(scene: Scene) -> Iterator[IsBack]:
    """Some users go with all their devices: one half log out, the others just hang up."""
    users = _some_users(scene)
    with _away(scene, users[::2], says_so=True), _away(scene, users[1::2], says_so=False):
        yield at_once


@contextmanager
def kill_worker_for_good(scene: Scene) -> Iterator[IsBack]:
    """A worker is killed, and some users do not come back: it stood still when they went, and saw nothing of it."""
    victim = scene.victim
    killed = scene.chance.choice(victim.workers)
    with _stopped(killed), _away(scene, _some_users(scene), says_so=False):
        with suppress(ProcessLookupError):  # another fault was faster
            os.kill(killed, signal.SIGKILL)
        yield lambda: killed not in victim.workers


def _some_users(scene: Scene) -> list[str]:
    return scene.chance.sample(scene.users, max(2, round(_SHARE_AWAY * len(scene.users))))


@contextmanager
def _away(scene: Scene, users: Sequence[str], *, says_so: bool) -> Iterator[None]:
    scene.crew.order(Leave(tuple(users), says_so))
    try:
        yield
    finally:
        scene.crew.order(Return())


@contextmanager
def read_slowly(scene: Scene) -> Iterator[IsBack]:
    token, device = next(scene.extras)
    with slow_reader(Address(*scene.victim.run["tcp"]), token, device):
        yield at_once


@contextmanager
def read_nothing(scene: Scene) -> Iterator[IsBack]:
    token, device = next(scene.extras)
    with stuck_reader(Address(*scene.victim.run["tcp"]), token, device):
        yield at_once


@contextmanager
def restart_rolling(scene: Scene) -> Iterator[IsBack]:
    """Where the store is away a replacement fails, the present workers stay, and the operator asks again."""
    victim, old = scene.victim, set(scene.victim.workers)
    asked_until = 0.0

    def is_back() -> bool:
        nonlocal asked_until
        is_replaced = not old & set(victim.workers)
        if not is_replaced and time.monotonic() > asked_until:
            victim.signal_supervisor(signal.SIGHUP)
            asked_until = time.monotonic() + _REPLACED_SECONDS
        return is_replaced

    is_back()
    yield is_back


@contextmanager
def restart_server(scene: Scene) -> Iterator[IsBack]:
    """As a new version is installed: drained, stopped, started on the same data and ports."""
    server = scene.victim.own
    if server is None:
        raise DeploymentError("only a server that was started here can be started again")
    server.stop()
    try:
        yield at_once
    finally:
        server.start()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    with suppress(ProcessLookupError):  # another fault was faster
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have been given up meanwhile
            os.kill(pid, signal.SIGCONT)


def _store_of(victim: Victim) -> int:
    if victim.store is None:
        raise DeploymentError("the store was not started here")
    return victim.store
