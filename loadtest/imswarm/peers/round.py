"""One contender, started, measured once, and stopped."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

from imswarm.bench import Bench, Floors, SwarmSize, Talk, Window
from imswarm.chat import ChatOptions, talk
from imswarm.client_process import Settle
from imswarm.deployment import Deployment
from imswarm.login import log_in, log_out
from imswarm.peers.contenders import Contender
from imswarm.peers.sessions import BY_PASSWORD
from imswarm.processes import Cores, total_memory_bytes
from imswarm.report import Progress, per

_FIRST_LOGINS = 50
"""Before memory is read for the first time: what a server loads for its first client is nobody's session."""
_PASSWORD_LOGINS, _PASSWORDS_AT_ONCE = 20, 2
"""A password costs a good part of a CPU second, on purpose, and a login may take 10 s."""
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PeersOptions:
    """How each contender is measured; `rate_per_second` is that of the latency's open loop."""

    sessions: int
    pairs: int
    processes: int
    window: int
    body_bytes: int
    seconds: float
    warm_up_seconds: float
    rate_per_second: float
    rounds: int

    @property
    def size(self) -> SwarmSize:
        return SwarmSize(self.sessions, "tcp", self.processes, 64, "swarm")


@dataclass(frozen=True, slots=True)
class Figures:
    """What one round says of one contender. CPU is that of all its processes together."""

    messages_per_cpu_s: float | None
    messages_per_s: float
    bytes_per_session: float
    logins_per_cpu_s: float | None
    password_logins_per_cpu_s: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    lost: int
    duplicated: int
    reordered: int
    errors: Counter[str]


def measure(contender: Contender, options: PeersOptions, cores: Cores, progress: Progress) -> Figures:
    """Raises AccountsError, DeploymentError, CannotMeasure and SwarmError."""
    progress.stage(f"{contender.name}: starting")
    with contender.start(cores.server) as deployment:
        bench = Bench(deployment, cores, Floors(None, 0.0), progress, contender.dialect)
        return _measure(contender, bench, options)


def _measure(contender: Contender, bench: Bench, options: PeersOptions) -> Figures:
    size, chat = options.size, _chat_options(contender, options)
    accounts = contender.accounts(bench.deployment, size.prefix, size.sessions)
    _log_in_first(bench, replace(size, sessions=min(_FIRST_LOGINS, size.sessions)), contender)
    base = _memory(bench.deployment)
    with bench.swarm(size, accounts, chat.talk) as swarm:
        logins = log_in(bench, swarm, size)
        memory = _memory(bench.deployment)
        log_out(swarm)
        logins += log_in(bench, swarm, size)
        closed = talk(bench, swarm, size, chat, None)
        opened = talk(bench, swarm, size, chat, options.rate_per_second)
        outcome = swarm.order(Settle())
    latency = opened.tally.latency.summary_ms()
    return Figures(
        messages_per_cpu_s=per(closed.tally.delivered, _spent(closed)),
        messages_per_s=closed.tally.delivered / closed.seconds,
        bytes_per_session=(memory - base) / size.sessions,
        logins_per_cpu_s=per(logins.tally.logged_in, _spent(logins)),
        password_logins_per_cpu_s=_password_logins_per_cpu_s(contender, bench, size),
        latency_p50_ms=latency["p50"],
        latency_p99_ms=latency["p99"],
        lost=outcome.lost,
        duplicated=outcome.duplicated,
        reordered=outcome.reordered,
        errors=swarm.errors,
    )


def _chat_options(contender: Contender, options: PeersOptions) -> ChatOptions:
    return ChatOptions(
        talk=Talk(options.pairs, options.window, options.body_bytes, contender.acknowledges),
        seconds=options.seconds,
        warm_up_seconds=options.warm_up_seconds,
        drain_seconds=15.0,
        rate_per_second=None,
        latency_at=None,
    )


def _log_in_first(bench: Bench, size: SwarmSize, contender: Contender) -> None:
    accounts = contender.accounts(bench.deployment, "first", size.sessions)
    with bench.swarm(size, accounts) as swarm:
        bench.log_in(swarm, size)
        log_out(swarm)


def _password_logins_per_cpu_s(contender: Contender, bench: Bench, size: SwarmSize) -> float | None:
    if contender.password_accounts is None:
        return None
    few = replace(size, sessions=_PASSWORD_LOGINS, concurrency=_PASSWORDS_AT_ONCE)
    accounts = contender.password_accounts(bench.deployment, "password", few.sessions)
    by_password = replace(bench, dialect=BY_PASSWORD)
    with by_password.swarm(few, accounts) as swarm:
        window = log_in(by_password, swarm, few)
    return per(window.tally.logged_in, _spent(window))


def _spent(window: Window) -> float:
    """CPU seconds of everything but the load."""
    return sum(spent for group, spent in window.cpu_s.items() if group != "load")


def _memory(deployment: Deployment) -> int:
    """Of all processes, when what is only passing has passed."""
    time.sleep(_SETTLE_SECONDS)
    return total_memory_bytes(deployment.pids)
