"""`imswarm login`: everybody logs in by token, as after a restart; logins per second and core."""

from __future__ import annotations

import time

from imswarm.bench import Bench, SwarmSize, Window
from imswarm.client_process import Disconnect
from imswarm.memberships import join_groups
from imswarm.report import Report, per
from imswarm.swarm import Swarm

_PAUSE_SECONDS = 1.0


def run_login(bench: Bench, size: SwarmSize, rounds: int, groups: int = 0) -> Report:
    """`rounds` times everybody logs in and is disconnected again; only the logins are measured.

    In the first round the devices are new, unless everybody is made a member of some `groups` before: then they have
    been there to join them. Raises AccountsError, DeploymentError, CannotMeasure and SwarmError.
    """
    accounts = bench.accounts(size)
    if groups:
        bench.progress.stage(f"{size.sessions:,} members join {groups} groups")
        join_groups(bench.deployment.target("tcp"), accounts, groups)
    with bench.swarm(size, accounts) as swarm:
        windows = [_round(bench, swarm, size) for _ in range(rounds)]
    return {
        "scenario": "login",
        "groups": groups,
        **bench.report_setting(size),
        **_report_window(sum(windows[1:], windows[0])),
        "rounds": [_report_window(window) for window in windows],
        **swarm.report_errors(),
    }


def _round(bench: Bench, swarm: Swarm, size: SwarmSize) -> Window:
    window = log_in(bench, swarm, size)
    log_out(swarm)
    return window


def log_in(bench: Bench, swarm: Swarm, size: SwarmSize) -> Window:
    """Everybody, measured. Raises CannotMeasure and SwarmError."""
    meter, begin = bench.meter(swarm), time.monotonic()
    tally = bench.log_in(swarm, size)
    return Window(tally, time.monotonic() - begin, meter.spent())


def log_out(swarm: Swarm) -> None:
    """Everybody, without a word; the server gets a moment to notice."""
    swarm.order(Disconnect())
    time.sleep(_PAUSE_SECONDS)


def _report_window(window: Window) -> Report:
    """Latency is from connecting to `synced`."""
    logins = window.tally.logged_in
    return {
        **window.report(),
        "logins": logins,
        "logins_per_s": logins / window.seconds,
        "logins_per_server_cpu_s": per(logins, window.cpu_s.get("server")),
        "logins_per_total_cpu_s": per(logins, window.total_cpu_s),
        "cpu_ms_per_login": None if window.total_cpu_s is None else per(window.total_cpu_s * 1000, logins),
        "latency_ms": window.tally.latency.summary_ms(),
    }
