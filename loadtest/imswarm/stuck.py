"""`imswarm stuck`: what clients that read nothing cost the server's memory and everybody else's delay.

Pairs talk at a steady rate, or all talk in one group; after a while as many devices as told log in as their users, are
sent all that was ever said and all that is said now, and take none of it. The same load is measured before, while they
arrive, and with them, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add

from imswarm.accounts import make_accounts, make_devices
from imswarm.client_process import Connect, Drain, Gather, Mark, ResumingPlan, Settle, Start
from imswarm.company import Company, Habits
from imswarm.connection import Address
from imswarm.deployment import Deployment, started
from imswarm.faults.readers import stuck_reader
from imswarm.population import Account
from imswarm.processes import CpuMeter, total_memory_bytes
from imswarm.report import Progress, Report
from imswarm.stats import Tally
from imswarm.swarm import Swarm

_DRAIN_SECONDS = 30.0
_SAMPLE_SECONDS = 0.5
_SETTLE_SECONDS = 1.0  # after readers have gone


@dataclass(frozen=True, slots=True)
class StuckOptions:
    """`readers`: how many read nothing; `rate`: messages a second in all; `seconds`: each measured.

    `group`: the users of all pairs talk in one group. `rounds`: without readers and with them, so many times.
    """

    readers: int
    pairs: int
    group: bool
    rate: float
    body_bytes: int
    seconds: float
    rounds: int
    workers: int


@dataclass(frozen=True, slots=True)
class _Span:
    tally: Tally
    seconds: float
    most_bytes: int
    server_cpu_s: float

    def __add__(self, other: _Span) -> _Span:
        return _Span(
            self.tally + other.tally,
            self.seconds + other.seconds,
            max(self.most_bytes, other.most_bytes),
            self.server_cpu_s + other.server_cpu_s,
        )

    def report(self) -> Report:
        return {
            "deliveries_per_s": self.tally.delivered / self.seconds,
            "delay_ms": self.tally.latency.summary_ms(),
            "server_mb": self.most_bytes / 1e6,
            "server_core_percent": 100 * self.server_cpu_s / self.seconds,
        }


def run_stuck(options: StuckOptions, progress: Progress) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    with ExitStack() as stack:
        progress.stage("starting the server")
        deployment = stack.enter_context(started(options.workers, None, None))
        accounts = make_accounts(deployment.redis_url, "stuck", 2 * options.pairs)
        logins = _logins(options, deployment, accounts)
        target = deployment.target("tcp")
        swarm = stack.enter_context(Swarm([ResumingPlan(_company(options, target, accounts))], progress.show))
        swarm.order(Connect())
        swarm.order(Gather())
        swarm.order(Start(options.rate))
        progress.stage("talking")
        swarm.let_run(options.seconds)  # what the readers will be sent first
        swarm.order(Mark())
        empty = total_memory_bytes(deployment.workers)
        rounds = [_round(options, swarm, deployment, logins, progress) for _ in range(options.rounds)]
        without, arriving, with_them = (reduce(add, spans) for spans in zip(*rounds, strict=True))
        outcome = swarm.order(Drain(_DRAIN_SECONDS)) + swarm.order(Settle())
        return _report(options, empty, (without, arriving, with_them), outcome, swarm)


def _company(options: StuckOptions, target: Address, accounts: Sequence[Account]) -> Company:
    if not options.group:
        return Company({"tcp": target}, tuple(accounts), 0, options.pairs, options.body_bytes)
    return Company(
        {"tcp": target},
        tuple(accounts),
        first=0,
        pairs=0,
        body_bytes=options.body_bytes,
        groups=1,
        group_size=len(accounts),
        habits=Habits(group_messages=options.rate),
    )


def _round(
    options: StuckOptions, swarm: Swarm, deployment: Deployment, logins: Sequence[Account], progress: Progress
) -> tuple[_Span, _Span, _Span]:
    """Without the readers, while they arrive, and with them; they are gone afterwards."""
    progress.stage("talking")
    swarm.let_run(_SETTLE_SECONDS)
    swarm.order(Mark())
    without = _watch(swarm, deployment, options.seconds)
    progress.stage(f"talking, with {options.readers} readers that are stuck")
    with ExitStack() as stack:
        for login in logins:
            stack.enter_context(stuck_reader(deployment.target("tcp"), login.token, login.device))
        arriving = _watch(swarm, deployment, options.seconds)  # as much of the log as is kept for them is read
        return without, arriving, _watch(swarm, deployment, options.seconds)


def _logins(options: StuckOptions, deployment: Deployment, accounts: Sequence[Account]) -> list[Account]:
    """The stuck devices, dealt out to the users."""
    devices = [(accounts[number % len(accounts)].user, f"stuck{number}") for number in range(options.readers)]
    return make_devices(deployment.redis_url, devices)


def _watch(swarm: Swarm, deployment: Deployment, seconds: float) -> _Span:
    meter = CpuMeter({"server": deployment.workers})
    begin, most = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        swarm.let_run(_SAMPLE_SECONDS)
        most = max(most, total_memory_bytes(deployment.workers))
    tally = swarm.order(Mark())
    return _Span(tally, time.monotonic() - begin, most, meter.spent()["server"])


def _report(
    options: StuckOptions, empty: int, spans: tuple[_Span, _Span, _Span], outcome: Tally, swarm: Swarm
) -> Report:
    """`empty`: bytes of the server before any reader came."""
    without, arriving, with_them = spans
    return {
        "scenario": "stuck",
        "readers": options.readers,
        "group": options.group,
        "rate_per_second": options.rate,
        "body_bytes": options.body_bytes,
        "without": without.report(),
        "arriving": arriving.report(),
        "with": with_them.report(),
        "server_growth_mb": (max(arriving.most_bytes, with_them.most_bytes) - empty) / 1e6,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        **swarm.report_errors(),
    }
