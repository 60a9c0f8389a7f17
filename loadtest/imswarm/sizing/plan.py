"""From needs to machines and dollars. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from imswarm.sizing.model import Coefficients, Needs, People, SizingError, needs

_MONTH_HOURS = 730
_GB = 1e9


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dollars_per_hour`: what one costs, whoever asks for it."""

    name: str
    cores: Annotated[int, Meta(ge=1)]
    memory_gb: Annotated[float, Meta(gt=0)]
    dollars_per_hour: Annotated[float, Meta(ge=0)]


class Reserve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How full anything may be in the busiest hour.

    `spare_hosts`: more hosts than needed, which may be away at the same time. A store needs memory beside its data
    while it rewrites its file.
    """

    cpu: Annotated[float, Meta(gt=0, le=1)] = 0.6
    memory: Annotated[float, Meta(gt=0, le=1)] = 0.8
    redis_memory: Annotated[float, Meta(gt=0, le=1)] = 0.5
    spare_hosts: Annotated[int, Meta(ge=0)] = 1
    replicas: Annotated[int, Meta(ge=0)] = 1
    """Of each shard."""


class Balancer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HAProxy with TLS: measured, see docs/operations.md."""

    session_bytes: float = 20_000.0
    sessions_most: float = 500_000.0
    """Of one instance: what one machine's ports, and one restart, should be made to bear."""


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price file."""

    date: str
    source: str
    host: Machine
    store: Machine
    balancer: Machine
    dollars_per_gb_out: Annotated[float, Meta(ge=0)]
    reserve: Reserve = Reserve()
    haproxy: Balancer = Balancer()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`limits`: what decides the number of each kind of machine. Dollars are of a month."""

    people: People
    needs: Needs
    hosts: int
    workers: int
    shards: int
    store_machines: int
    balancers: int
    network_mbit: float
    limits: Mapping[str, str]
    dollars: Mapping[str, float]

    @property
    def dollars_total(self) -> float:
        return sum(self.dollars.values())


def plan(people: People, known: Coefficients, prices: Prices) -> Plan:
    wanted = needs(people, known)
    reserve, host, store, haproxy = prices.reserve, prices.host, prices.store, prices.haproxy
    room = host.memory_gb * _GB * reserve.memory - host.cores * known.worker_bytes
    hosts, host_limit = _most(
        {"CPU": wanted.server_cores / (host.cores * reserve.cpu), "memory": wanted.server_bytes / room}
    )
    shards, shard_limit = _most(
        {
            "CPU": wanted.redis_cores / reserve.cpu,  # a store has one thread
            "memory": wanted.redis_bytes / (store.memory_gb * _GB * reserve.redis_memory / store.cores),
        }
    )
    balancers, balancer_limit = _most(
        {
            "sessions": wanted.sessions / haproxy.sessions_most,
            "memory": wanted.sessions * haproxy.session_bytes / (prices.balancer.memory_gb * _GB * reserve.memory),
        }
    )
    hosts += reserve.spare_hosts
    copies = 1 + reserve.replicas
    # A replica never lies on its primary's machine.
    machines = max(ceil(shards * copies / store.cores), copies)
    out_gb = wanted.network_bytes_per_second * _BUSY_HOURS * 3600 * 30.4 / _GB
    return Plan(
        people=people,
        needs=wanted,
        hosts=hosts,
        workers=hosts * host.cores,
        shards=shards,
        store_machines=machines,
        balancers=max(balancers, 2),
        network_mbit=wanted.network_bytes_per_second * 8 / 1e6,
        limits={"hosts": host_limit, "shards": shard_limit, "balancers": balancer_limit},
        dollars={
            "hosts": hosts * host.dollars_per_hour * _MONTH_HOURS,
            "store": machines * store.dollars_per_hour * _MONTH_HOURS,
            "balancers": max(balancers, 2) * prices.balancer.dollars_per_hour * _MONTH_HOURS,
            "traffic": out_gb * prices.dollars_per_gb_out,
        },
    )


_BUSY_HOURS = 12
"""A day's traffic, in hours like the busiest: its mean is about half of that."""


def _most(wanted: Mapping[str, float]) -> tuple[int, str]:
    """Whole machines, and what asks for most of them."""
    limit, count = max(wanted.items(), key=lambda item: item[1])
    return max(ceil(count), 1), limit


def read_prices(path: Path) -> Prices:
    """Raises SizingError."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Prices)
    except (OSError, ValueError) as error:
        raise SizingError(f"{path}: {error}") from error
