"""How each fault is done: a context that begins with the injury and ends when it is mended. `catalogue` lists them.

What was killed is mended by the server itself; the context ends when it is back. A context MUST leave
nothing behind, however it is left.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.faults.crew import Crew
from imswarm.faults.plan import Reset, Restart
from imswarm.faults.readers import slow_reader, stuck_reader
from imswarm.faults.victim import Victim

_SHARE = 0.4
_TINY_BYTES = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault has to do with. `extras`: tokens and devices that are not in use."""

    victim: Victim
    crew: Crew
    chance: random.Random
    extras: Iterator[tuple[str, str]]


Inflict = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def kill_worker(scene: Scene) -> Iterator[None]:
    victim = scene.victim
    killed = scene.chance.choice(victim.workers)
    os.kill(killed, signal.SIGKILL)
    yield
    victim.wait_until(lambda: killed not in victim.workers, "a worker")


@contextmanager
def freeze_worker(scene: Scene) -> Iterator[None]:
    """It holds its connections and says nothing; then it goes on as if nothing had been."""
    with _stopped(scene.chance.choice(scene.victim.workers)):
        yield


@contextmanager
def kill_store(scene: Scene) -> Iterator[None]:
    """The server starts its own again by itself; of any other the operator takes care."""
    victim, killed = scene.victim, _store_of(scene.victim)
    os.kill(killed, signal.SIGKILL)
    try:
        yield
    finally:
        victim.wait_until(lambda: victim.store != killed, "the end of the store")
        if victim.external is not None:
            victim.external.start()
    victim.wait_until(lambda: victim.store is not None, "the store")


@contextmanager
def freeze_store(scene: Scene) -> Iterator[None]:
    with _stopped(_store_of(scene.victim)):
        yield


@contextmanager
def cut_links(scene: Scene) -> Iterator[None]:
    """The workers' links to the store, which are subscribers, too."""
    with scene.victim.store_client() as store:
        store.client_kill_filter(_type="pubsub")
    yield


@contextmanager
def cut_off_worker(scene: Scene) -> Iterator[None]:
    """What it says to the store waits, and so do the answers."""
    if scene.victim.proxy is None:
        raise DeploymentError("the store is not behind a proxy")
    with scene.victim.proxy.cut_off(scene.chance.choice(scene.victim.workers)):
        yield


@contextmanager
def cut_off_worker_at_login(scene: Scene) -> Iterator[None]:
    """While clients come back: their logins are among what waits, and take effect when they are in elsewhere."""
    with cut_off_worker(scene):
        scene.crew.order(Reset(_SHARE, scene.chance.getrandbits(32)))
        yield


@contextmanager
def fill_store(scene: Scene) -> Iterator[None]:
    """All memory that it may use is used."""
    with scene.victim.store_client() as store:
        before = store.config_get("maxmemory")["maxmemory"]
        store.config_set("maxmemory", _TINY_BYTES)
        try:
            yield
        finally:
            store.config_set("maxmemory", before)


@contextmanager
def reset_clients(scene: Scene) -> Iterator[None]:
    scene.crew.order(Reset(_SHARE, scene.chance.getrandbits(32)))
    yield


@contextmanager
def restart_clients(scene: Scene) -> Iterator[None]:
    scene.crew.order(Restart(_SHARE, scene.chance.getrandbits(32)))
    yield


@contextmanager
def read_slowly(scene: Scene) -> Iterator[None]:
    token, device = next(scene.extras)
    with slow_reader(Address(*scene.victim.run["tcp"]), token, device):
        yield


@contextmanager
def read_nothing(scene: Scene) -> Iterator[None]:
    token, device = next(scene.extras)
    with stuck_reader(Address(*scene.victim.run["tcp"]), token, device):
        yield


@contextmanager
def restart_rolling(scene: Scene) -> Iterator[None]:
    victim, old = scene.victim, set(scene.victim.workers)
    victim.signal_supervisor(signal.SIGHUP)
    yield
    victim.wait_until(lambda: not old & set(victim.workers), "every worker")


@contextmanager
def restart_server(scene: Scene) -> Iterator[None]:
    """As a new version is installed: drained, stopped, started on the same data and ports."""
    server = scene.victim.own
    if server is None:
        raise DeploymentError("only a server that was started here can be started again")
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
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
