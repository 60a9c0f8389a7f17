"""What all scenarios share: the server under test, the floor beside it, logging in a swarm."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imswarm.accounts import make_accounts
from imswarm.children import SwarmError
from imswarm.client_process import IMSERVER, Connect, Dialect, Mark, Plan
from imswarm.connection import Address
from imswarm.deployment import Deployment
from imswarm.floor import FloorResult, Program, measure_floor
from imswarm.population import Account, Crowd
from imswarm.processes import Cores, CpuMeter, kernel_memory_bytes, total_memory_bytes
from imswarm.report import Progress, Report
from imswarm.stats import Tally
from imswarm.swarm import Swarm
from imswarm.traffic import Conversation, Pair

_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SwarmSize:
    """How many sessions, over which transport, from how many processes.

    `concurrency` bounds the logins under way at once, of all processes together.
    """

    sessions: int
    transport: str
    processes: int
    concurrency: int
    prefix: str


@dataclass(frozen=True, slots=True)
class Talk:
    """How many pairs of the swarm talk, and how; see `traffic.Conversation`."""

    pairs: int
    window: int
    body_bytes: int
    ack: bool


@dataclass(slots=True)
class Floors:
    """The floor, measured before and after the scenario; without a program: not at all."""

    program: Program | None
    seconds: float
    results: list[FloorResult] = field(default_factory=list)

    def measure(self, connections: int, active: int, cores: Cores) -> None:
        if self.program is not None:
            result = measure_floor(self.program, connections, active, self.seconds, cores)
            self.results.append(result)

    @property
    def echoes_per_cpu_s(self) -> float | None:
        """The mean; None if not measured."""
        figures = [result.echoes_per_cpu_s for result in self.results]
        return sum(figures) / len(figures) if figures else None

    def report(self) -> Report | None:
        if not self.results:
            return None
        first = self.results[0]
        return {
            "language": first.language,
            "connections": first.connections,
            "active": first.active,
            "frame_bytes": first.frame_bytes,
            "echoes_per_cpu_s": self.echoes_per_cpu_s,
            "each": [result.echoes_per_cpu_s for result in self.results],
        }


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in a span of time, and the CPU seconds each group of processes spent on it."""

    tally: Tally
    seconds: float
    cpu_s: Mapping[str, float]

    def __add__(self, other: Window) -> Window:
        cpu_s = {group: spent + other.cpu_s[group] for group, spent in self.cpu_s.items()}
        return Window(self.tally + other.tally, self.seconds + other.seconds, cpu_s)

    @property
    def total_cpu_s(self) -> float | None:
        """Of the workers and of Redis; None if either is not known."""
        server, redis = self.cpu_s.get("server"), self.cpu_s.get("redis")
        return None if server is None or redis is None else server + redis

    def report(self) -> Report:
        return {
            "seconds": self.seconds,
            "server_cpu_s": self.cpu_s.get("server"),
            "supervisor_cpu_s": self.cpu_s.get("supervisor"),
            "redis_cpu_s": self.cpu_s.get("redis"),
            "load_cpu_s": self.cpu_s["load"],
        }


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; None where they are not known. `kernel`: of the machine, `load`: of the client processes."""

    server: int | None
    redis: int
    kernel: int
    load: int

    def report_growth(self, base: Memory, sessions: int) -> Report:
        """What each session added since `base`."""
        server = None if self.server is None or base.server is None else self.server - base.server
        return {
            "bytes_per_session": None if server is None else server / sessions,
            "redis_bytes_per_session": (self.redis - base.redis) / sessions,
            "kernel_bytes_per_session": (self.kernel - base.kernel) / sessions,
            "load_bytes_per_session": (self.load - base.load) / sessions,
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """The server under test and what is measured beside it."""

    deployment: Deployment
    cores: Cores
    floors: Floors
    progress: Progress
    dialect: Dialect = IMSERVER

    def report_setting(self, size: SwarmSize) -> Report:
        return {
            "transport": size.transport,
            "sessions": size.sessions,
            "workers": len(self.deployment.workers) or None,
            "load_processes": size.processes,
            "server_cores": sorted(self.cores.server or ()) or "any",
            "load_cores": sorted(self.cores.load or ()) or "any",
        }

    def accounts(self, size: SwarmSize) -> list[Account]:
        self.progress.stage(f"making {size.sessions:,} accounts")
        return make_accounts(self.deployment.redis_url, size.prefix, size.sessions)

    def floor(self, size: SwarmSize, active: int) -> None:
        if self.floors.program is not None:
            self.progress.stage("measuring the floor")
            self.floors.measure(size.sessions, active, self.cores)

    def memory(self, swarm: Swarm | None = None) -> Memory:
        """When what is only passing has passed."""
        time.sleep(_SETTLE_SECONDS)
        load = total_memory_bytes(swarm.pids) if swarm else 0
        deployment = self.deployment
        return Memory(deployment.server_memory_bytes(), deployment.redis_memory_bytes(), kernel_memory_bytes(), load)

    def swarm(self, size: SwarmSize, accounts: Sequence[Account], talk: Talk | None = None) -> Swarm:
        target = self.deployment.target(size.transport)
        return Swarm(_plans(self, size, target, accounts, talk), self.progress.show)

    def log_in(self, swarm: Swarm, size: SwarmSize) -> Tally:
        """Log everybody in; raises SwarmError if not everybody gets in."""
        self.progress.stage(f"logging {size.sessions:,} sessions in")
        tally = swarm.order(Connect())
        if tally.logged_in < size.sessions:
            reasons = ", ".join(f"{reason} ({n})" for reason, n in tally.errors.most_common(3))
            raise SwarmError(f"{tally.logged_in:,} of {size.sessions:,} logged in: {reasons}")
        return tally

    def watch(self, swarm: Swarm, seconds: float) -> Window:
        """Let it run for so long; what happened meanwhile."""
        swarm.order(Mark())
        meter, begin = self.meter(swarm), time.monotonic()
        swarm.let_run(seconds)
        tally = swarm.order(Mark())
        return Window(tally, time.monotonic() - begin, meter.spent())

    def meter(self, swarm: Swarm) -> CpuMeter:
        return CpuMeter({**self.deployment.groups, "load": swarm.pids})


def _plans(
    bench: Bench, size: SwarmSize, target: Address, accounts: Sequence[Account], talk: Talk | None
) -> list[Plan]:
    """The first accounts are the pairs', two by two; pairs and idle sessions are dealt out."""
    talk = talk or Talk(0, 1, 0, False)
    plans: list[Plan] = []
    first = 0
    for process in range(size.processes):
        mine = range(process, talk.pairs, size.processes)
        talking = [account for pair in mine for account in accounts[2 * pair : 2 * pair + 2]]
        idle = accounts[2 * talk.pairs + process :: size.processes]
        concurrency = max(size.concurrency // size.processes, 1)
        crowd = Crowd(size.transport, target, (*talking, *idle), first, concurrency)
        pairs = tuple(Pair(number, 2 * seat, 2 * seat + 1) for seat, number in enumerate(mine))
        conversation = Conversation(pairs, talk.window, talk.body_bytes, talk.ack)
        plans.append(Plan(crowd, conversation, bench.cores.load, bench.dialect))
        first += len(crowd.accounts)
    return plans
