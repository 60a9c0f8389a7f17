"""`imswarm group`: all sessions are members of one group; what a delivery costs, beside one between two people."""

from __future__ import annotations

from dataclasses import dataclass, replace

from imswarm.bench import Bench, SwarmSize, Talk, Window
from imswarm.chat import report_window
from imswarm.client_process import Drain, Gather, Plan, Settle, Start
from imswarm.group_talk import GroupConversation
from imswarm.population import Crowd
from imswarm.report import Report, per, ratio
from imswarm.swarm import Swarm

_PAIRS_PREFIX = "pair"


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """`pairs`: who talk one to one first, for comparison."""

    group: str
    senders: int
    window: int
    body_bytes: int
    pairs: int
    seconds: float
    warm_up_seconds: float
    drain_seconds: float


def run_group(bench: Bench, size: SwarmSize, options: GroupOptions) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    pairs = _pairs(bench, size, options)
    accounts = bench.accounts(size)
    conversation = GroupConversation(options.group, options.senders, options.window, options.body_bytes)
    crowd = Crowd(size.transport, bench.deployment.target(size.transport), tuple(accounts), 0, size.concurrency)
    with Swarm([Plan(crowd, conversation, bench.cores.load, bench.dialect)], bench.progress.show) as swarm:
        bench.log_in(swarm, size)
        bench.progress.stage(f"{size.sessions:,} members join")
        swarm.order(Gather())
        window = _window(bench, swarm, options, "a group talks")
        outcome = swarm.order(Settle())
    group, paired = report_window(window), report_window(pairs)
    names = ("deliveries_per_server_cpu_s", "deliveries_per_total_cpu_s")
    return {
        "scenario": "group",
        **bench.report_setting(size),
        "senders": options.senders,
        "window": options.window,
        "body_bytes": options.body_bytes,
        "messages_per_s": per(window.tally.sent, window.seconds),
        **group,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        **swarm.report_errors(),
        "one_to_one": {name: paired[name] for name in (*names, "deliveries_per_s")},
        "ratios_to_one_to_one": {name: ratio(group[name], paired[name]) for name in names},
    }


def _pairs(bench: Bench, size: SwarmSize, options: GroupOptions) -> Window:
    talking = replace(size, sessions=2 * options.pairs, prefix=_PAIRS_PREFIX)
    accounts = bench.accounts(talking)
    talk = Talk(options.pairs, 1, options.body_bytes, False)
    with bench.swarm(talking, accounts, talk) as swarm:
        bench.log_in(swarm, talking)
        return _window(bench, swarm, options, "pairs talk")


def _window(bench: Bench, swarm: Swarm, options: GroupOptions, what: str) -> Window:
    bench.progress.stage(what)
    swarm.order(Start(None))
    swarm.let_run(options.warm_up_seconds)
    window = bench.watch(swarm, options.seconds)
    swarm.order(Drain(options.drain_seconds))
    return window
