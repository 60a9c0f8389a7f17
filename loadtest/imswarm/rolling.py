"""`imswarm rolling`: all workers are replaced under a steady load; what that costs those who talk.

The two of each pair are contacts, and nobody is away for as long as the grace: whoever is shown offline is so falsely.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imswarm.accounts import make_accounts, make_contacts, make_devices
from imswarm.client_process import Connect, Drain, Mark, ResumingPlan, Settle, Start
from imswarm.company import Company
from imswarm.connection import Address
from imswarm.deployment import OwnServer, serve_options
from imswarm.faults.incidents import count
from imswarm.faults.probe import Probes, probing
from imswarm.faults.victim import Victim
from imswarm.population import Account
from imswarm.processes import CpuMeter
from imswarm.report import Progress, Report, per
from imswarm.stats import Tally
from imswarm.swarm import Swarm

_WARM_UP_SECONDS = 2.0
_AFTERMATH_SECONDS = 3.0
_DRAIN_SECONDS = 30.0
_PROBE_DEVICES = 400
_KINDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RollingOptions:
    """`rate`: messages a second in all, in an open loop. `calm_seconds`: how long to measure before, to compare with.

    `drain_seconds`: the server's setting; it spreads its clients' return over half of it.
    """

    rate: float
    pairs: int
    body_bytes: int
    restarts: int
    calm_seconds: float
    workers: int
    processes: int
    drain_seconds: float


@dataclass(frozen=True, slots=True)
class _Span:
    """What happened in a time, and the CPU seconds of the clients."""

    tally: Tally
    seconds: float
    load_cpu_s: float

    def report(self) -> Report:
        delivered = self.tally.delivered
        return {
            "seconds": self.seconds,
            "sent_per_s": self.tally.sent / self.seconds,
            "deliveries_per_s": delivered / self.seconds,
            "delay_ms": self.tally.latency.summary_ms(),
            "generator_late_ms": self.tally.lateness.summary_ms(),
            "load_cpu_us_per_delivery": per(self.load_cpu_s * 1e6, delivered),
        }


def run_rolling(options: RollingOptions, progress: Progress) -> Report:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imswarm-", ignore_cleanup_errors=True)))
        progress.stage("starting the server")
        settings = {"IMSERVER_DRAIN_SECONDS": str(options.drain_seconds)}
        server = OwnServer(data, serve_options(options.workers, (0, 0, 0)), settings)
        stack.callback(server.stop)
        server.start()
        victim = Victim(data, server)
        tcp, http = (Address(*victim.run[name]) for name in ("tcp", "http"))
        accounts = make_accounts(victim.run["redis"], "rolling", 2 * options.pairs)
        make_contacts(victim.run["redis"], _pairs(accounts))
        swarm = stack.enter_context(Swarm(_plans(options, tcp, accounts), progress.show))
        progress.stage(f"logging {2 * options.pairs:,} sessions in")
        swarm.order(Connect())
        with probing(tcp, http, _probe_logins(victim)) as probes:
            calm, restarts = _talk(options, victim, swarm, progress)
        progress.stage("waiting for what is under way")
        outcome = swarm.order(Drain(_DRAIN_SECONDS)) + swarm.order(Settle())
        return _report(options, calm, restarts, outcome, swarm, probes)


def _plans(options: RollingOptions, target: Address, accounts: Sequence[Account]) -> list[ResumingPlan]:
    plans, first = [], 0
    for part in _shares(options):
        mine = tuple(accounts[2 * first : 2 * (first + part)])
        plans.append(ResumingPlan(Company({"tcp": target}, mine, 2 * first, part, options.body_bytes)))
        first += part
    return plans


def _pairs(accounts: Sequence[Account]) -> list[tuple[str, str]]:
    """The users who write to each other."""
    return [(one.user, other.user) for one, other in zip(accounts[::2], accounts[1::2], strict=True)]


def _shares(options: RollingOptions) -> list[int]:
    """The pairs of each process."""
    return [len(range(process, options.pairs, options.processes)) for process in range(options.processes)]


def _probe_logins(victim: Victim) -> list[tuple[str, str]]:
    devices = [(f"rolling-probe{number % 20}", f"p{number}") for number in range(_PROBE_DEVICES)]
    return [(account.token, account.device) for account in make_devices(victim.run["redis"], devices)]


def _talk(options: RollingOptions, victim: Victim, swarm: Swarm, progress: Progress) -> tuple[_Span, list[_Span]]:
    """The calm before, and each restart."""
    progress.stage(f"talking at {options.rate:,.0f} messages a second")
    swarm.order_each([Start(options.rate * part / options.pairs) for part in _shares(options)])
    swarm.let_run(_WARM_UP_SECONDS)
    swarm.order(Mark())
    calm = _span(swarm, lambda: swarm.let_run(options.calm_seconds))
    restarts = []
    for number in range(options.restarts):
        progress.stage(f"rolling restart {number + 1} of {options.restarts}")
        restarts.append(_span(swarm, lambda: _restart(victim, swarm)))
    return calm, restarts


def _span(swarm: Swarm, act: Callable[[], None]) -> _Span:
    meter, begin = CpuMeter({"load": swarm.pids}), time.monotonic()
    act()
    tally = swarm.order(Mark())
    return _Span(tally, time.monotonic() - begin, meter.spent()["load"])


def _restart(victim: Victim, swarm: Swarm) -> None:
    """Until every worker is another one, and the last clients of the old ones are back."""
    old = set(victim.workers)
    victim.signal_supervisor(signal.SIGHUP)
    victim.wait_until(lambda: not old & set(victim.workers), "every worker")
    victim.wait_until(lambda: not any(map(_lives, old)), "the end of the old workers")
    swarm.let_run(_AFTERMATH_SECONDS)


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _report(
    options: RollingOptions,
    calm: _Span,
    restarts: Sequence[_Span],
    outcome: Tally,
    swarm: Swarm,
    probes: Probes,
) -> Report:
    tallies = (calm.tally, *(span.tally for span in restarts), outcome)
    returns = sum(span.tally.logged_in for span in restarts)
    return {
        "scenario": "rolling",
        "rate_per_second": options.rate,
        "sessions": 2 * options.pairs,
        "workers": options.workers,
        "drain_seconds": options.drain_seconds,
        "before": calm.report(),
        "restarts": [span.report() for span in restarts],
        "sessions_moved": returns,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "reordered": outcome.reordered,
        "false_offline": sum(tally.shown_offline for tally in tallies),
        "contacts_shown": sum(span.tally.shown for span in restarts),
        **swarm.report_errors(),
        "probes": {
            "connects": probes.connects,
            "sent_elsewhere": probes.sent_elsewhere,
            "entry_ms": probes.entry.summary_ms(),
            "incidents": len(probes.incidents),
            "incident_kinds": dict(Counter(incident.why for incident in probes.incidents).most_common(_KINDS_SHOWN)),
            **count(probes.incidents),
        },
    }
