"""`imswarm calibrate`: what everything costs on this machine, and how far the sum of it is from runs of other sizes.

One worker with its embedded store. Messages are measured at half of the rate that a closed loop reaches, since that is
how full a server should be: work comes in batches, which are larger, hence cheaper, where there is more of it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from imswarm.bench import Bench, Floors, Memory, SwarmSize, Talk, Window
from imswarm.chat import ChatOptions, talk
from imswarm.children import SwarmError
from imswarm.deployment import Deployment, started
from imswarm.login import log_in, log_out
from imswarm.population import Account
from imswarm.processes import Cores, CpuMeter, memory_bytes
from imswarm.report import Progress, Report
from imswarm.scenario.run import Stage, run_scenario
from imswarm.scenario.script import Groups, Leaving, Measure, People, Presence, Scenario
from imswarm.scenario.script import Talk as Talking
from imswarm.sizing.model import Check, Coefficients, Cost
from imswarm.swarm import Swarm

_PING_SECONDS = 2
_HALF = 0.5
_CHECKED = (0.1, 0.25, 0.75)
"""Shares of the closed loop's rate at which the model is held against a run."""
_NO_TALK = Talk(0, 1, 0, False)


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """`sessions`: of the runs for memory and logins; groups and presence are measured with a fifth of them."""

    sessions: int
    pairs: int
    seconds: float


def calibrate(options: CalibrateOptions, cores: Cores, progress: Progress) -> Coefficients:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    costs: dict[str, Cost] = {}
    progress.stage("starting a server")
    with started(1, None, cores.server, {"IMSERVER_PING_SECONDS": str(_PING_SECONDS)}) as deployment:
        one = _OneWorker(Bench(deployment, cores, Floors(None, 0.0), progress), options)
        sizes, most_per_s, checks = one.measure(costs)
        machine = _machine(deployment)
    costs |= _groups(options, cores, progress)
    costs["presence_told"] = _presence(options, cores, progress)
    checks.append(_office(options, cores, progress))
    progress.stage(f"done; a closed loop reached {most_per_s:,.0f} messages a second")
    return Coefficients(
        date=time.strftime("%Y-%m-%d", time.gmtime()), machine=machine, costs=costs, checks=checks, **sizes
    )


def _machine(deployment: Deployment) -> dict[str, str | int]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    return {
        "cpu": cpu.partition(":")[2].strip() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "store": Path(f"/proc/{deployment.redis[0]}/comm").read_text().strip() if deployment.redis else "unknown",
    }


class _OneWorker:
    """What is measured on one server: memory, logins, keepalive, messages."""

    def __init__(self, bench: Bench, options: CalibrateOptions) -> None:
        self._bench, self._options = bench, options
        self._size = SwarmSize(options.sessions, "tcp", 1, 64, "swarm")
        self._idle: Mapping[str, float] = {}  # cores while nobody is there

    def measure(self, costs: dict[str, Cost]) -> tuple[dict[str, float], float, list[Check]]:
        """Fills `costs`; sizes in bytes by their names, the rate of a closed loop, and the checks."""
        bench, size = self._bench, self._size
        empty = bench.memory()
        accounts = bench.accounts(size)
        with_accounts = bench.memory()
        worker_bytes = memory_bytes(bench.deployment.workers[0])
        self._idle = self._watch_idle()
        with bench.swarm(size, accounts, self._talk) as swarm:
            log_in(bench, swarm, size)
            inside = bench.memory(swarm)
            log_out(swarm)
            passed = _loopback_bytes()
            again = log_in(bench, swarm, size)
            costs["login"] = self._cost(again, "login", _loopback_bytes() - passed)
            bench.progress.stage("keepalive")
            costs["keepalive"] = self._with_network(swarm, "keepalive")
            most_per_s, message, message_bytes = self._messages(swarm, costs["keepalive"])
            costs["message"] = message
        sizes = self._sizes(empty, with_accounts, inside)
        sizes |= {"worker_bytes": float(worker_bytes), "message_bytes": message_bytes}
        sizes["idle_worker_cores"] = sum(self._idle.values())
        return sizes, most_per_s, [self._check(share, most_per_s, accounts) for share in _CHECKED]

    @property
    def _talk(self) -> Talk:
        return Talk(self._options.pairs, 1, 74, True)

    def _sizes(self, empty: Memory, with_accounts: Memory, inside: Memory) -> dict[str, float]:
        sessions = self._options.sessions
        growth = inside.report_growth(with_accounts, sessions)
        return {
            "account_bytes": (with_accounts.redis - empty.redis) / sessions,
            "session_server_bytes": max(growth["bytes_per_session"] or 0.0, 0.0),
            "session_redis_bytes": max(growth["redis_bytes_per_session"], 0.0),
            "session_kernel_bytes": max(growth["kernel_bytes_per_session"], 0.0) / 2,  # the other end is a client's
        }

    def _watch_idle(self) -> dict[str, float]:
        self._bench.progress.stage("nobody is there")
        meter, begin = CpuMeter(self._bench.deployment.groups), time.monotonic()
        time.sleep(self._options.seconds)
        passed = time.monotonic() - begin
        return {group: spent / passed for group, spent in meter.spent().items() if group != "supervisor"}

    def _with_network(self, swarm: Swarm, what: str) -> Cost:
        before = _loopback_bytes()
        window = self._bench.watch(swarm, max(self._options.seconds, 2.0 * _PING_SECONDS))
        return self._cost(window, what, _loopback_bytes() - before)

    def _cost(self, window: Window, what: str, network: float, beside: Cost | None = None) -> Cost:
        """Of one event of this window; `beside`: of a keepalive, of which there were some, too."""
        tally = window.tally
        count = {"login": tally.logged_in, "keepalive": tally.keepalives, "message": tally.delivered}[what]
        if not count:
            raise SwarmError(f"no {what} happened while it was to be measured: give more --seconds")
        others = tally.keepalives if beside else 0

        def each(group: str, per_other: float) -> float:
            spent = window.cpu_s[group] - self._idle.get(group, 0.0) * window.seconds
            return max(spent * 1e6 - others * per_other, 0.0) / count

        other = beside or Cost(server_us=0.0, redis_us=0.0)
        return Cost(
            server_us=each("server", other.server_us),
            redis_us=each("redis", other.redis_us),
            network_bytes=max(network - others * other.network_bytes, 0.0) / count,
        )

    def _messages(self, swarm: Swarm, keepalive: Cost) -> tuple[float, Cost, float]:
        """The rate of a closed loop; cost of a message at half of it, and bytes of the store."""
        bench, size, options = self._bench, self._size, self._chat(0.0)
        closed = talk(bench, swarm, size, options, None)
        most_per_s = closed.tally.delivered / closed.seconds
        stored, sent = bench.deployment.redis_memory_bytes(), _loopback_bytes()
        half = talk(bench, swarm, size, self._chat(0.0), most_per_s * _HALF)
        grown, passed = bench.deployment.redis_memory_bytes() - stored, _loopback_bytes() - sent
        cost = self._cost(half, "message", passed, keepalive)
        return most_per_s, cost, max(grown, 0) / half.tally.delivered

    def _chat(self, warm_up_seconds: float) -> ChatOptions:
        return ChatOptions(self._talk, self._options.seconds, warm_up_seconds, 15.0, None, None)

    def _check(self, share: float, most_per_s: float, accounts: list[Account]) -> Check:
        """A smaller crowd, another rate."""
        bench, sessions = self._bench, max(int(self._options.sessions * share), 2 * self._options.pairs)
        size = replace(self._size, sessions=sessions)
        with bench.swarm(size, accounts[:sessions], self._talk) as swarm:
            bench.log_in(swarm, size)
            window = talk(bench, swarm, size, self._chat(1.0), share * most_per_s)
        return Check(
            what=f"pairs at {share:.0%} of the closed loop's rate",
            sessions=sessions,
            per_second={
                "message": window.tally.delivered / window.seconds,
                "keepalive": window.tally.keepalives / window.seconds,
            },
            measured_cores=(window.total_cpu_s or 0.0) / window.seconds,
        )


def _loopback_bytes() -> int:
    """Everything that passed over loopback; the embedded store has a Unix socket."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.partition(":")[2].split()[0])


# -- groups, presence: by scenarios


def _play(scenario: Scenario, what: str, cores: Cores, progress: Progress) -> Report:
    settings = {"IMSERVER_CONTACT_REQUESTS_PER_HOUR": "100000"}
    with started(1, None, cores.server, settings) as deployment:
        return run_scenario(scenario, Stage(what, deployment, cores, 1, "swarm", progress))


def _people(options: CalibrateOptions, **more: int) -> People:
    return People(sessions=max(options.sessions // 5, 80), logins_per_second=500, **more)


def _groups(options: CalibrateOptions, cores: Cores, progress: Progress) -> dict[str, Cost]:
    """A post and a delivery, from small groups and large ones: two equations."""
    rows = []
    for members in (4, 40):
        scenario = Scenario(
            about="groups",
            people=_people(options),
            groups=Groups(members=members, per_hour=3600 * 4 / members),
            measure=Measure(seconds=options.seconds, warm_up_seconds=1.0),
        )
        report = _play(scenario, f"groups of {members}", cores, progress)
        posts, deliveries = report["sent_per_s"], report["deliveries_per_s"]
        rows.append((posts, deliveries, report["server_cores_used"] * 1e6, report["redis_cores_used"] * 1e6))
    (p1, d1, s1, r1), (p2, d2, s2, r2) = rows
    determinant = p1 * d2 - p2 * d1

    def solved(one: float, two: float) -> tuple[float, float]:
        return max((one * d2 - two * d1) / determinant, 0.0), max((p1 * two - p2 * one) / determinant, 0.0)

    (post_server, delivery_server), (post_redis, delivery_redis) = solved(s1, s2), solved(r1, r2)
    return {
        "group_post": Cost(server_us=post_server, redis_us=post_redis, network_bytes=_POST_BYTES),
        "group_delivery": Cost(server_us=delivery_server, redis_us=delivery_redis, network_bytes=_PUSH_BYTES),
    }


_POST_BYTES, _PUSH_BYTES = 480.0, 420.0
"""Request and reply, and push, of a message of 74 bytes, with TCP's headers: reckoned, as is what presence needs."""
_PRESENCE_BYTES = 180.0


def _presence(options: CalibrateOptions, cores: Cores, progress: Progress) -> Cost:
    scenario = Scenario(
        about="presence",
        people=_people(options, contacts=12),
        presence=Presence(per_hour=360),
        measure=Measure(seconds=options.seconds, warm_up_seconds=1.0),
    )
    report = _play(scenario, "presence", cores, progress)
    told = report["presence_told_per_s"]
    return Cost(
        server_us=report["server_cores_used"] * 1e6 / told,
        redis_us=report["redis_cores_used"] * 1e6 / told,
        network_bytes=_PRESENCE_BYTES,
    )


def _office(options: CalibrateOptions, cores: Cores, progress: Progress) -> Check:
    """Everything at once, against which the sum is held."""
    people = _people(options, contacts=12)
    members, speed = 10, 60.0
    scenario = Scenario(
        about="everything",
        people=people,
        speed=speed,
        talk=Talking(per_hour=15),
        groups=Groups(members=members, per_hour=4),
        presence=Presence(per_hour=6),
        leaving=Leaving(per_hour=0.5, away_seconds=1),
        measure=Measure(seconds=max(options.seconds, 5.0), warm_up_seconds=1.0),
    )
    report = _play(scenario, "an office day", cores, progress)
    posts = people.sessions * 4 * speed / 3600
    return Check(
        what="an office day, sixty times as fast",
        sessions=people.sessions,
        per_second={
            "message": people.sessions * 15 * speed / 3600,
            "group_post": posts,
            "group_delivery": posts * (members - 1),
            "presence_told": report["presence_told_per_s"],
            "login": report["logins"] / report["seconds"],
        },
        measured_cores=report["server_cores_used"] + report["redis_cores_used"],
    )
