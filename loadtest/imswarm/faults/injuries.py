"""The faults: each a context that begins with the injury and ends when it is mended.

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
from imswarm.faults.cluster_injuries import failover, failover_asked, failover_behind, move_slots
from imswarm.faults.crew import Crew
from imswarm.faults.plan import Reset, Restart
from imswarm.faults.readers import slow_reader, stuck_reader
from imswarm.faults.victim import LEASE_SECONDS, PATIENCE_SECONDS, Victim

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
    victim, killed = scene.victim, _store_of(scene.victim)
    os.kill(killed, signal.SIGKILL)
    yield
    victim.wait_until(lambda: victim.store not in (killed, None), "the store")


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
def replace_workers(scene: Scene) -> Iterator[None]:
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
    yield
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
        raise DeploymentError("the store is not the server's own")
    return victim.store


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault; it lasts `seconds` before it is mended. `needs`: what the server must be."""

    name: str
    inflict: Inflict
    seconds: float
    needs: frozenset[str] = frozenset()


_STORE, _OWN, _PROXY = frozenset({"store"}), frozenset({"own"}), frozenset({"proxy"})
_CLUSTER = frozenset({"cluster"})

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-worker", kill_worker, 0.0),
        Fault("freeze-worker", freeze_worker, PATIENCE_SECONDS * 0.4),
        Fault("freeze-worker-long", freeze_worker, PATIENCE_SECONDS * 1.5),
        Fault("kill-store", kill_store, 0.0, _STORE),
        Fault("freeze-store", freeze_store, 1.0, _STORE),
        Fault("freeze-store-long", freeze_store, 3.5, _STORE),
        Fault("cut-links", cut_links, 0.0),
        Fault("cut-off-worker", cut_off_worker, 1.0, _PROXY),
        Fault("cut-off-worker-long", cut_off_worker, LEASE_SECONDS * 1.4, _PROXY),
        Fault("cut-off-worker-at-login", cut_off_worker_at_login, LEASE_SECONDS * 1.4, _PROXY),
        Fault("failover", failover, 1.0, _CLUSTER),
        Fault("failover-behind", failover_behind, 1.0, _CLUSTER),
        Fault("failover-asked", failover_asked, 0.0, _CLUSTER),
        Fault("move-slots", move_slots, 0.0, _CLUSTER),
        Fault("full-store", fill_store, 1.0),
        Fault("reset-clients", reset_clients, 0.0),
        Fault("restart-clients", restart_clients, 0.0),
        Fault("slow-reader", read_slowly, 2.0),
        Fault("stuck-reader", read_nothing, 3.0),
        Fault("replace-workers", replace_workers, 0.0),
        Fault("restart-server", restart_server, 0.0, _OWN),
    )
}


def possible(victim: Victim) -> list[str]:
    """The faults that this server can be given, by name."""
    has = {"own"} if victim.own is not None else set()
    has |= {"store"} if victim.store is not None else set()
    has |= {"proxy"} if victim.proxy is not None else set()
    has |= {"cluster"} if victim.cluster is not None else set()
    return [fault.name for fault in FAULTS.values() if fault.needs <= has]
