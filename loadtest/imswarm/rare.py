"""`imswarm rare`: what rare requests cost the delay of messages: with and without them, in turn, in one run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from imswarm.bench import Bench, SwarmSize, Talk, Window
from imswarm.chat import report_window
from imswarm.client_process import Drain, Gather, Mark, Plan, Settle, Start
from imswarm.population import Crowd
from imswarm.rare_talk import RareRequests
from imswarm.report import Report, per
from imswarm.stats import Tally
from imswarm.swarm import Swarm

_ASKED_RISE_MS = 5.0
MANY_CONTACT_REQUESTS = {"IMSERVER_CONTACT_REQUESTS_PER_HOUR": "100000"}  # of the server started for the run


@dataclass(frozen=True, slots=True)
class RareOptions:
    """`rate`: messages a second in all; `rare_rate`: requests a second of all `askers`; `seconds`: of each half."""

    talk: Talk
    rate: float
    askers: int
    rare_rate: float
    rounds: int
    seconds: float
    warm_up_seconds: float
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class _Round:
    without: Window
    with_them: Window
    asked: Tally

    @property
    def rise_ms(self) -> float | None:
        before, after = (window.tally.latency.percentile_ms(99) for window in (self.without, self.with_them))
        return None if before is None or after is None else after - before

    def __add__(self, other: _Round) -> _Round:
        return _Round(self.without + other.without, self.with_them + other.with_them, self.asked + other.asked)


def run_rare(bench: Bench, size: SwarmSize, options: RareOptions) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    asking = replace(size, sessions=options.askers, prefix=f"{size.prefix}rare")
    accounts, askers = bench.accounts(size), bench.accounts(asking)
    crowd = Crowd(size.transport, bench.deployment.target(size.transport), tuple(askers), size.sessions, 64)
    plan = Plan(crowd, RareRequests(f"rare{time.time_ns():x}"), bench.cores.load, bench.dialect)
    with bench.swarm(size, accounts, options.talk) as chat, Swarm([plan], bench.progress.show) as rare:
        bench.log_in(chat, size)
        bench.log_in(rare, asking)
        bench.progress.stage("groups are made, and something is said")
        rare.order(Gather())
        chat.order(Start(options.rate))
        chat.let_run(options.warm_up_seconds)
        rounds = [_round(bench, chat, rare, options, number) for number in range(1, options.rounds + 1)]
        chat.order(Drain(options.drain_seconds))
        outcome = chat.order(Settle()) + rare.order(Settle())
    return _report(bench, size, options, rounds, outcome, chat, rare)


def _round(bench: Bench, chat: Swarm, rare: Swarm, options: RareOptions, number: int) -> _Round:
    """First without, then with them: what drifts over the run is in both alike."""
    bench.progress.stage(f"round {number} of {options.rounds}: without rare requests")
    without = bench.watch(chat, options.seconds)
    bench.progress.stage(f"round {number} of {options.rounds}: {options.rare_rate:,.0f} rare requests a second")
    rare.order(Start(options.rare_rate))
    chat.let_run(options.warm_up_seconds)
    rare.order(Mark())
    with_them = bench.watch(chat, options.seconds)
    asked = rare.order(Mark())
    rare.order(Drain(options.drain_seconds))
    return _Round(without, with_them, asked)


def _report(
    bench: Bench,
    size: SwarmSize,
    options: RareOptions,
    rounds: list[_Round],
    outcome: Tally,
    chat: Swarm,
    rare: Swarm,
) -> Report:
    whole = rounds[0]
    for one in rounds[1:]:
        whole += one
    errors, rare_errors = chat.report_errors(), rare.report_errors()
    return {
        "scenario": "rare",
        **bench.report_setting(size),
        "pairs": options.talk.pairs,
        "rate_per_second": options.rate,
        "body_bytes": options.talk.body_bytes,
        "askers": options.askers,
        "rare_per_second": options.rare_rate,
        "rounds": options.rounds,
        "without": report_window(whole.without),
        "with": {**report_window(whole.with_them), "lateness_ms": whole.with_them.tally.lateness.summary_ms()},
        "rare": {
            "answered_per_s": per(whole.asked.answered, whole.with_them.seconds),
            "shed": whole.asked.shed,
            "latency_ms": whole.asked.latency.summary_ms(),
            "lateness_ms": whole.asked.lateness.summary_ms(),
        },
        "p99_rise_ms": whole.rise_ms,
        "p99_rise_ms_of_each": [one.rise_ms for one in rounds],
        "p99_rise_ms_asked": _ASKED_RISE_MS,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        "errors": errors["errors"] + rare_errors["errors"],
        "error_kinds": {**errors["error_kinds"], **rare_errors["error_kinds"]},
    }
