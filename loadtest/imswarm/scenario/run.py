"""`imswarm run`: a scenario file, played against a server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise

from imswarm.accounts import make_accounts, make_devices
from imswarm.client_process import Connect, Drain, Gather, Mark, ResumingPlan, Settle, Start
from imswarm.company import Company, Habits
from imswarm.connection import Address
from imswarm.deployment import Deployment, DeploymentError
from imswarm.faults.readers import stuck_reader
from imswarm.population import Account
from imswarm.processes import Cores, used_memory_share
from imswarm.report import Progress, Report
from imswarm.resuming import INCIDENTS
from imswarm.scenario.bottleneck import RULE, bottleneck, mean_cores, shares_of
from imswarm.scenario.samples import Recorder, Sample
from imswarm.scenario.script import Event, Scenario
from imswarm.stats import Tally
from imswarm.swarm import Swarm

_SAMPLE_SECONDS = 1.0
_KINDS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scenario is played."""

    name: str
    deployment: Deployment
    cores: Cores
    processes: int
    prefix: str
    progress: Progress


def run_scenario(scenario: Scenario, stage: Stage) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    people, progress = scenario.people, stage.progress
    progress.stage(f"making {people.sessions:,} accounts")
    accounts = make_accounts(stage.deployment.redis_url, stage.prefix, people.sessions)
    base = stage.deployment.server_memory_bytes(), stage.deployment.redis_memory_bytes()
    recorder = Recorder(stage.deployment)
    with ExitStack() as stack:

        def show(sessions: int, delivered: int) -> None:
            progress.show(sessions, delivered)
            if is_entering:
                recorder.look(swarm.pids, sessions)
            recorder.sessions = sessions

        is_entering = False
        swarm = stack.enter_context(Swarm(_plans(scenario, stage, accounts), show))
        is_entering = True
        progress.stage(f"logging {people.sessions:,} sessions in, {people.logins_per_second:,.0f} a second")
        entering = swarm.order(Connect())
        progress.stage("making groups and contacts")
        entering += swarm.order(Gather())
        is_entering = False
        recorder.sample(swarm.pids, None)
        memory = stage.deployment.server_memory_bytes(), recorder.samples[-1].redis_bytes
        progress.stage(f"{stage.name}: {scenario.measure.seconds:g} s")
        measured = _measure(scenario, stage, swarm, recorder, stack, accounts)
        progress.stage("waiting for what is under way")
        rest = swarm.order(Drain(scenario.measure.drain_seconds))
        outcome = swarm.order(Settle())
    return {
        **_report_setting(scenario, stage),
        "entry_ms": entering.entry.summary_ms(),
        **_report_memory(base, memory, people.sessions),
        **_report_measured(measured, stage.cores),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        **_report_errors(swarm, scenario, entering + rest + outcome),
        "timeline": [sample.report() for sample in recorder.samples],
    }


def _plans(scenario: Scenario, stage: Stage, accounts: Sequence[Account]) -> list[ResumingPlan]:
    """Each process has its part of everybody, in one piece; pairs and groups lie within it."""
    bounds = [len(accounts) * part // stage.processes for part in range(stage.processes + 1)]
    plans = []
    for first, end in pairwise(bounds):
        company = _company(scenario, stage, tuple(accounts[first:end]), first)
        plans.append(ResumingPlan(company, stage.cores.load))
    return plans


def _company(scenario: Scenario, stage: Stage, accounts: tuple[Account, ...], first: int) -> Company:
    people, talk, groups = scenario.people, scenario.talk, scenario.groups
    count, hour = len(accounts), 3600 / scenario.speed
    in_groups = int(count * groups.share) // groups.members * groups.members if groups else 0
    return Company(
        targets=_targets(stage.deployment, people.websocket_share),
        accounts=accounts,
        first=first,
        pairs=int(count * talk.share) // 2 if talk else 0,
        body_bytes=scenario.body_bytes,
        websockets=round(count * people.websocket_share),
        groups=in_groups // groups.members if groups else 0,
        group_size=groups.members if groups else 0,
        contacts=people.contacts,
        logins_per_second=people.logins_per_second / stage.processes,
        habits=Habits(
            group_messages=in_groups * groups.per_hour / hour if groups else 0.0,
            presence_changes=count * scenario.presence.per_hour / hour if scenario.presence else 0.0,
            departures=count * scenario.leaving.per_hour / hour if scenario.leaving else 0.0,
            away_seconds=scenario.leaving.away_seconds if scenario.leaving else 0.0,
        ),
    )


def _targets(deployment: Deployment, websocket_share: float) -> dict[str, Address]:
    wanted = (["tcp"] if websocket_share < 1 else []) + (["ws"] if websocket_share > 0 else [])
    return {transport: deployment.target(transport) for transport in wanted}


def _measure(
    scenario: Scenario,
    stage: Stage,
    swarm: Swarm,
    recorder: Recorder,
    stack: ExitStack,
    accounts: Sequence[Account],
) -> list[Sample]:
    """The samples of the time that counts."""
    swarm.order_each([Start(rate) for rate in _talk_rates(scenario, stage)])
    swarm.let_run(scenario.measure.warm_up_seconds)
    if scenario.readers:
        _let_readers_in(scenario.readers.stuck, stage, accounts, stack)
    recorder.sample(swarm.pids, swarm.order(Mark()))
    before, event = len(recorder.samples), scenario.event
    end = recorder.now + scenario.measure.seconds
    event_at = recorder.now + event.at_seconds if event else float("inf")
    while (left := end - recorder.now) > 0:
        swarm.let_run(min(_SAMPLE_SECONDS, left))
        recorder.sample(swarm.pids, swarm.order(Mark()))
        if event and recorder.now >= event_at:
            event_at = float("inf")
            _happen(event, stage)
    return recorder.samples[before:]


def _talk_rates(scenario: Scenario, stage: Stage) -> list[float]:
    """One to one, of each process."""
    talk = scenario.talk
    sessions = scenario.people.sessions / stage.processes
    rate = sessions * talk.share * talk.per_hour * scenario.speed / 3600 if talk else 0.0
    return [rate] * stage.processes


def _let_readers_in(count: int, stage: Stage, accounts: Sequence[Account], stack: ExitStack) -> None:
    devices = [(accounts[number % len(accounts)].user, f"stuck{number}") for number in range(count)]
    target = stage.deployment.target("tcp")
    for login in make_devices(stage.deployment.redis_url, devices):
        stack.enter_context(stuck_reader(target, login.token, login.device))


def _happen(event: Event, stage: Stage) -> None:
    workers = stage.deployment.refreshed().workers
    if not workers:
        raise DeploymentError(f"{event.kind}: the server's workers are not known (give --data or --pids)")
    stage.progress.stage(event.kind)
    for pid in workers[: max(round(event.share * len(workers)), 1)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# -- telling


def _report_setting(scenario: Scenario, stage: Stage) -> Report:
    return {
        "scenario": stage.name,
        "about": scenario.about.strip(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "sessions": scenario.people.sessions,
        "speed": scenario.speed,
        "workers": len(stage.deployment.workers) or None,
        "load_processes": stage.processes,
        "server_cores": sorted(stage.cores.server or ()) or "any",
        "load_cores": sorted(stage.cores.load or ()) or "any",
    }


def _report_memory(base: tuple[int | None, int], full: tuple[int | None, int], sessions: int) -> Report:
    server = None if base[0] is None or full[0] is None else (full[0] - base[0]) / sessions
    return {"bytes_per_session": server, "redis_bytes_per_session": (full[1] - base[1]) / sessions}


def _report_measured(samples: Sequence[Sample], cores: Cores) -> Report:
    tally = sum((sample.tally for sample in samples if sample.tally), Tally())
    seconds = sum(sample.seconds for sample in samples)
    used = mean_cores(sample.cores for sample in samples)
    shares = shares_of(used, cores, len(os.sched_getaffinity(0)), used_memory_share())
    found = bottleneck(shares, tally.delivered / seconds)
    server = sum(cores for name, cores in used.items() if name.startswith("worker"))
    store = sum(cores for name, cores in used.items() if name.startswith("store"))
    return {
        "seconds": seconds,
        "sent_per_s": tally.sent / seconds,
        "deliveries_per_s": tally.delivered / seconds,
        "server_cores_used": server,
        "redis_cores_used": store,
        "cpu_us_per_delivery": (server + store) * seconds * 1e6 / tally.delivered if tally.delivered else None,
        "latency_ms": tally.latency.summary_ms(),
        "waited_for_their_reader": tally.waited,
        "presence_changes_per_s": tally.presence_changes / seconds,
        "presence_told_per_s": tally.presence.count / seconds,
        "presence_ms": tally.presence.summary_ms(),
        "departures": tally.departures,
        "logins": tally.logged_in,
        "reentry_ms": tally.entry.summary_ms(),
        "shed": tally.shed,
        "lateness_ms": tally.lateness.summary_ms(),
        "fewest_sessions": min(sample.sessions for sample in samples),
        "resources": shares,
        "bottleneck": {"resource": found.resource, "share": found.share, "text": found.text, "rule": RULE},
    }


def _report_errors(swarm: Swarm, scenario: Scenario, outside: Tally) -> Report:
    """Connections that end, or cannot be made, are no errors where the scenario kills workers."""
    incidents = {kind: count for kind, count in swarm.errors.items() if kind.startswith(INCIDENTS)}
    excused = incidents if scenario.event else {}
    kinds = {kind: count for kind, count in swarm.errors.most_common() if kind not in excused}
    return {
        "shed_outside": outside.shed,
        "incidents": sum(incidents.values()),
        "errors": sum(kinds.values()),
        "error_kinds": dict(list(kinds.items())[:_KINDS_SHOWN]),
    }
