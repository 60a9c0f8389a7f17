"""The faults of a cluster: primaries are replaced, slots move. And what may be lost by them.

The cluster elects a replica by itself. Whoever was killed comes back as a replica, so that it can go on for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imswarm.cluster import Cluster, ClusterNode
from imswarm.deployment import DeploymentError

if TYPE_CHECKING:
    from imswarm.faults.injuries import IsBack, Scene

_MOVED_PARTITIONS = 8
_BEHIND_SECONDS = 0.4  # less than the node time-out


@contextmanager
def failover(scene: Scene) -> Iterator[IsBack]:
    """A primary is killed; its replica is elected; then the killed one comes back."""
    primary = scene.chance.choice(_cluster_of(scene).primaries())
    primary.kill()
    with _replaced(scene, primary) as is_back:
        yield is_back


@contextmanager
def failover_behind(scene: Scene) -> Iterator[IsBack]:
    """The same; the replica lacks what the primary answered in the last moment before."""
    cluster = _cluster_of(scene)
    primary = scene.chance.choice(cluster.primaries())
    with cluster.left_behind(primary):
        scene.crew.let_run(_BEHIND_SECONDS)
        primary.kill()
    with _replaced(scene, primary) as is_back:
        yield is_back


@contextmanager
def _replaced(scene: Scene, killed: ClusterNode) -> Iterator[IsBack]:
    cluster = _cluster_of(scene)
    try:
        cluster.wait_replaced(killed)
        yield cluster.is_healed
    finally:
        killed.start()


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
    """The kinds of violation and trouble that the run may show, since nothing else was promised.

    A replica that is elected may lack the last of what its primary had answered: some of it was seen by some
    devices, and what is sent again is not recognized; who reads on may be told of a gap. Pure.
    """
    if durability != "replica" and {"failover", "failover-behind"} & set(faults):
        return frozenset({"lost", "doubled", "diverged", "truncated"})
    return frozenset()
