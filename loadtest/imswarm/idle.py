"""`imswarm idle`: sessions that only keep themselves alive; what they cost in memory and CPU.

A few of them may talk meanwhile: what is sent among a million must come as it does among a hundred.
"""

from __future__ import annotations

import time

from imswarm.bench import Bench, SwarmSize, Window
from imswarm.chat import ChatOptions, report_window, talk
from imswarm.client_process import Settle
from imswarm.report import Report, per, ratio
from imswarm.swarm import Swarm

FLOOR_ACTIVE = 200


def run_idle(bench: Bench, size: SwarmSize, options: ChatOptions) -> Report:
    """`options`: how a few talk meanwhile.

    Raises AccountsError, FloorError, DeploymentError, CannotMeasure and SwarmError.
    """
    bench.floor(size, FLOOR_ACTIVE)
    accounts = bench.accounts(size)
    base = bench.memory()
    with bench.swarm(size, accounts, options.talk) as swarm:
        empty, begin = bench.memory(swarm), time.monotonic()
        logins = bench.log_in(swarm, size)
        login_seconds = time.monotonic() - begin
        memory = bench.memory(swarm)
        window = _hold(bench, swarm, size, options)
        memory_at_end = bench.memory(swarm)
        outcome = swarm.order(Settle())
    bench.floor(size, FLOOR_ACTIVE)
    return {
        "scenario": "idle",
        **bench.report_setting(size),
        "pairs": options.talk.pairs,
        "logins_per_s": size.sessions / login_seconds,
        "turned_away": logins.turned_away,
        **report_window(window),
        **_report_keepalives(window),
        **memory.report_growth(base, size.sessions),
        "load_bytes_per_session": (memory.load - empty.load) / size.sessions,
        "load_bytes_per_process": empty.load / size.processes,
        "at_end": memory_at_end.report_growth(base, size.sessions),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        **swarm.report_errors(),
        **_report_ratios(bench, window),
    }


def _hold(bench: Bench, swarm: Swarm, size: SwarmSize, options: ChatOptions) -> Window:
    bench.progress.stage(f"holding {size.sessions:,} sessions")
    if options.rate_per_second:
        return talk(bench, swarm, size, options, options.rate_per_second)
    return bench.watch(swarm, options.seconds)


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
    """Little is delivered, so that only the keepalives can be set against the floor."""
    keepalives_per_cpu_s = per(window.tally.keepalives, window.cpu_s.get("server"))
    return {
        "floor": bench.floors.report(),
        "ratios": {
            "keepalives_per_server_cpu_s": ratio(keepalives_per_cpu_s, bench.floors.echoes_per_cpu_s),
        },
    }
