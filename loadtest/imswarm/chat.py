"""`imswarm chat`: pairs of sessions talk, the rest is idle; throughput, cost, latency, correctness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imserver import profiling
from imserver.errors import SetupError
from imswarm.bench import Bench, SwarmSize, Talk, Window
from imswarm.children import SwarmError
from imswarm.client_process import Drain, Settle, Start
from imswarm.deployment import DeploymentError
from imswarm.report import Report, per, ratio
from imswarm.swarm import Swarm


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How the talking is measured.

    `rate_per_second` is that of all messages together in an open loop, None a closed loop;
    `latency_at` asks for a second window, in an open loop at this share of the first one's rate.
    """

    talk: Talk
    seconds: float
    warm_up_seconds: float
    drain_seconds: float
    rate_per_second: float | None
    latency_at: float | None
    profile: Path | None = None
    """Where to draw what the first worker spends its time with meanwhile."""


def run_chat(bench: Bench, size: SwarmSize, options: ChatOptions) -> Report:
    """Raises AccountsError, FloorError, DeploymentError, CannotMeasure and SwarmError."""
    bench.floor(size, 2 * options.talk.pairs)
    accounts = bench.accounts(size)
    base = bench.memory()
    with bench.swarm(size, accounts, options.talk) as swarm:
        bench.log_in(swarm, size)
        memory = bench.memory(swarm)
        windows = _talk(bench, swarm, size, options)
        outcome = swarm.order(Settle())
    bench.floor(size, 2 * options.talk.pairs)
    return {
        "scenario": "chat",
        **bench.report_setting(size),
        **_report_options(options),
        **report_window(windows[0]),
        **memory.report_growth(base, size.sessions),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        **swarm.report_errors(),
        "at_share": _report_at_share(options, windows),
        **_report_ratios(bench, windows[0]),
    }


def _talk(bench: Bench, swarm: Swarm, size: SwarmSize, options: ChatOptions) -> list[Window]:
    windows = [talk(bench, swarm, size, options, options.rate_per_second)]
    if options.latency_at is not None:
        rate = options.latency_at * windows[0].tally.delivered / windows[0].seconds
        if not rate:
            raise SwarmError("nothing was delivered, so that there is no rate to take a share of")
        windows.append(talk(bench, swarm, size, replace(options, profile=None), rate))
    return windows


def talk(bench: Bench, swarm: Swarm, size: SwarmSize, options: ChatOptions, rate: float | None) -> Window:
    """Warm up, measure, and wait until nothing is outstanding any more; `rate` None: in a closed loop."""
    loop = "in a closed loop" if rate is None else f"at {rate:,.0f} messages a second"
    bench.progress.stage(f"talking {loop}")
    swarm.order_each([Start(share) for share in _shares(options.talk.pairs, size.processes, rate)])
    swarm.let_run(options.warm_up_seconds)
    window = _watch(bench, swarm, options)
    swarm.order(Drain(options.drain_seconds))
    return window


def _watch(bench: Bench, swarm: Swarm, options: ChatOptions) -> Window:
    if options.profile is None:
        return bench.watch(swarm, options.seconds)
    if not bench.deployment.workers:
        raise DeploymentError("the server's workers are not known, so none can be looked into (give --data or --pids)")
    seconds = max(int(options.seconds), 1)
    try:
        profiler = profiling.start(bench.deployment.workers[0], seconds, options.profile)
        window = bench.watch(swarm, options.seconds)
        profiling.finish(profiler, seconds, options.profile)
    except SetupError as error:
        raise DeploymentError(str(error)) from error
    return window


def _shares(pairs: int, processes: int, rate: float | None) -> list[float | None]:
    """Each process's part of the rate, as its part of the pairs (dealt out in turn)."""
    if rate is None:
        return [None] * processes
    dealt = [len(range(process, pairs, processes)) for process in range(processes)]
    return [rate * part / pairs for part in dealt]


def _report_options(options: ChatOptions) -> Report:
    return {
        "active_pairs": options.talk.pairs,
        "window": options.talk.window if options.rate_per_second is None else None,
        "rate_per_second": options.rate_per_second,
        "body_bytes": options.talk.body_bytes,
    }


def report_window(window: Window) -> Report:
    """What was delivered, and what a delivery cost."""
    delivered = window.tally.delivered
    return {
        **window.report(),
        "deliveries": delivered,
        "deliveries_per_s": delivered / window.seconds,
        "deliveries_per_server_cpu_s": per(delivered, window.cpu_s.get("server")),
        "deliveries_per_total_cpu_s": per(delivered, window.total_cpu_s),
        "load_cpu_us_per_delivery": per(window.cpu_s["load"] * 1e6, delivered),
        "latency_ms": window.tally.latency.summary_ms(),
    }


def _report_at_share(options: ChatOptions, windows: list[Window]) -> Report | None:
    """Lateness is the generator's own part of the latency."""
    if options.latency_at is None:
        return None
    return {
        "share": options.latency_at,
        **report_window(windows[1]),
        "lateness_ms": windows[1].tally.lateness.summary_ms(),
    }


def _report_ratios(bench: Bench, window: Window) -> Report:
    floor, delivered = bench.floors.echoes_per_cpu_s, window.tally.delivered
    return {
        "floor": bench.floors.report(),
        "ratios": {
            "deliveries_per_server_cpu_s": ratio(per(delivered, window.cpu_s.get("server")), floor),
            "deliveries_per_total_cpu_s": ratio(per(delivered, window.total_cpu_s), floor),
        },
    }
