"""The faults of a cluster: primaries are replaced, slots move. And what may be lost by them.

The cluster elects a replica by itself. Whoever was killed comes back as a replica, so that it can go on for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imswarm.cluster import Cluster
from imswarm.deployment import DeploymentError

if TYPE_CHECKING:
    from imswarm.faults.injuries import IsBack, Scene

_MOVED_PARTITIONS = 8


@contextmanager
def failover(scene: Scene) -> Iterator[IsBack]:
    """A primary is killed; its replica is elected; then the killed one comes back."""
    cluster = _cluster_of(scene)
    primary = scene.chance.choice(cluster.primaries())
    primary.kill()
    try:
        cluster.wait_replaced(primary)
        yield cluster.is_healed
    finally:
        primary.start()


@contextmanager
def failover_asked(scene: Scene) -> Iterator[IsBack]:
    """A replica asks to take its primary's place, as before maintenance."""
    cluster = _cluster_of(scene)
    cluster.fail_over(scene.chance.choice(cluster.primaries()))
    yield cluster.is_healed


@contextmanager
def move_slots(scene: Scene) -> Iterator[IsBack]:
    """Some partitions, one after the other, go to another primary, and stay there."""
    cluster = _cluster_of(scene)
    for _ in range(_MOVED_PARTITIONS):
        cluster.move_partition(scene.chance.getrandbits(32))
    yield cluster.is_healed


def _cluster_of(scene: Scene) -> Cluster:
    if scene.victim.cluster is None:
        raise DeploymentError("the store is not a cluster that was started here")
    return scene.victim.cluster


def tolerated(durability: str, faults: Iterable[str]) -> frozenset[str]:
    """The kinds of violation that the run may show, since nothing else was promised.

    A replica that is elected may lack the last of what its primary had answered: some of it was seen by some
    devices, and what is sent again is not recognized. Pure.
    """
    if durability != "replica" and "failover" in faults:
        return frozenset({"lost", "doubled", "diverged"})
    return frozenset()
