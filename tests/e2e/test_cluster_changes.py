"""A cluster that changes in the middle of traffic. The long form is `imswarm faults --store cluster`."""

from collections.abc import Iterator
from typing import Any

import pytest
from imswarm.cluster import PORTS, Cluster, running_cluster
from imswarm.faults.victim import free_ports

from imserver.store.partitions import partition_of
from tests.conftest import required
from tests.e2e.traffic import Traffic, assert_survived
from tests.server import Server

QUICK: dict[str, Any] = {"drain_seconds": 1, "probe_seconds": 0.3}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with running_cluster(required("redis-server"), directory, free_ports(PORTS)) as it:
        yield it


def connections(traffic: Traffic) -> set[int]:
    return {device.connections for device in traffic.devices}


def test_nothing_acknowledged_dies_with_a_primary(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    def kill_and_start() -> None:
        primary = cluster.primaries()[0]
        primary.kill()
        cluster.wait_replaced(primary)
        primary.start()
        cluster.wait_healed()

    data = tmp_path_factory.mktemp("server") / "data"
    with Server(data, "--redis", ",".join(node.url for node in cluster.nodes), durability="replica", **QUICK) as server:
        assert_survived(server, kill_and_start)
        assert "the cluster has changed" in server.log


def test_users_stay_connected_while_slots_move_and_primaries_are_exchanged(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def exchange_and_move() -> None:
        cluster.fail_over(cluster.primaries()[0])
        for name in ("one0", "other0", "one1", "other1"):
            cluster.move_partition(partition_of(name))
        cluster.wait_healed()

    data = tmp_path_factory.mktemp("server") / "data"
    with Server(data, "--redis", cluster.nodes[0].url, **QUICK) as server:
        traffic = assert_survived(server, exchange_and_move)
        assert "the cluster has changed" in server.log
    assert connections(traffic) == {1}
