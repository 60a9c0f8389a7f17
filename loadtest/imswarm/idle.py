"""`imswarm idle`: sessions that only keep themselves alive; what they cost in memory and CPU."""

from __future__ import annotations

from imswarm.bench import Bench, SwarmSize, Window
from imswarm.report import Report, per, ratio

FLOOR_ACTIVE = 200


def run_idle(bench: Bench, size: SwarmSize, seconds: float) -> Report:
    """Raises AccountsError, FloorError, DeploymentError, CannotMeasure and SwarmError."""
    bench.floor(size, FLOOR_ACTIVE)
    accounts = bench.accounts(size)
    base = bench.memory()
    with bench.swarm(size, accounts) as swarm:
        bench.log_in(swarm, size)
        memory = bench.memory()
        bench.progress.stage(f"holding {size.sessions:,} sessions")
        window = bench.watch(swarm, seconds)
        memory_at_end = bench.memory()
    bench.floor(size, FLOOR_ACTIVE)
    return {
        "scenario": "idle",
        **bench.report_setting(size),
        **window.report(),
        **_report_keepalives(window),
        **memory.report_growth(base, size.sessions),
        "at_end": memory_at_end.report_growth(base, size.sessions),
        "deliveries_per_s": 0.0,
        "deliveries_per_server_cpu_s": None,
        "deliveries_per_total_cpu_s": None,
        "latency_ms": window.tally.latency.summary_ms(),
        "lost": 0,
        "duplicated": 0,
        "reordered": 0,
        **swarm.report_errors(),
        **_report_ratios(bench, window),
    }


def _report_keepalives(window: Window) -> Report:
    """`server_core_percent` of one core, all workers together."""
    server_cpu_s = window.cpu_s.get("server")
    share = None if server_cpu_s is None else server_cpu_s / window.seconds
    return {
        "server_core_percent": None if share is None else 100 * share,
        "keepalives": window.tally.keepalives,
        "keepalives_per_server_cpu_s": per(window.tally.keepalives, server_cpu_s),
    }


def _report_ratios(bench: Bench, window: Window) -> Report:
    """Nothing is delivered, so that only the keepalives can be set against the floor."""
    keepalives_per_cpu_s = per(window.tally.keepalives, window.cpu_s.get("server"))
    return {
        "floor": bench.floors.report(),
        "ratios": {
            "keepalives_per_server_cpu_s": ratio(keepalives_per_cpu_s, bench.floors.echoes_per_cpu_s),
        },
    }
