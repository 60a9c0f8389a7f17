"""`imswarm storm`: much of a server is killed while everybody is connected; how all come back."""

from __future__ import annotations

import http.client
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from imswarm.accounts import make_accounts
from imswarm.bench import SwarmSize
from imswarm.children import Children, SwarmError
from imswarm.deployment import Deployment, DeploymentError, OwnServer, attached, serve_options
from imswarm.population import Account, Crowd
from imswarm.processes import CannotMeasure, cpu_seconds
from imswarm.report import Progress, Report
from imswarm.storm.figures import Moments, storm_figures
from imswarm.storm.process import Connect, News, Plan, Quiet, Record, Settle, Talk, client_main

EVENTS = ("kill-worker", "kill-store")
_POLL_SECONDS = 0.01
_LOGIN_SECONDS = 120.0
_STATUS_SECONDS = 10.0
_NEWS_UNTIL_SEEN = 3
"""One may be on its way, and one about to be told by a process that has not looked at its sockets since."""
_FRESH_NS = 500_000_000
"""A message that is missing for a shorter time is under way."""


@dataclass(frozen=True, slots=True)
class StormOptions:
    """What the command's options say. `data`: of a running server; else one is started with `workers`."""

    event: str
    pairs: int
    rate: float
    body_bytes: int
    before_seconds: float
    after_seconds: float
    longest_seconds: float
    workers: int
    data: Path | None = None


def run_storm(options: StormOptions, size: SwarmSize, progress: Progress) -> Report:
    """Raises AccountsError, DeploymentError and SwarmError."""
    progress.stage("starting the server")
    with _server(options) as data:
        deployment = attached(data)
        progress.stage("making accounts")
        accounts = make_accounts(deployment.redis_url, size.prefix, size.sessions)
        storm = _Storm(options, size, progress, _plans(options, size, deployment, accounts))
        try:
            moments = storm.blow(data)
            records = storm.settle()
        finally:
            storm.stop()
        figures = storm_figures(records, moments)
        status = _status(data)
    return {
        "scenario": "storm",
        "event": options.event,
        "sessions": size.sessions,
        "transport": size.transport,
        "workers": len(status["workers"]),
        "pairs": options.pairs,
        "rate_per_s": options.rate,
        **figures,
        "cpu_s": storm.cpu_s,
        "logins_refused": _sums(status, "logins_refused"),
        "shed": _sums(status, "shed"),
    }


@contextmanager
def _server(options: StormOptions) -> Iterator[Path]:
    """The data directory of the server under test. Raises DeploymentError."""
    if options.data is not None:
        yield options.data
        return
    with tempfile.TemporaryDirectory(prefix="imswarm-", ignore_cleanup_errors=True) as directory:
        server = OwnServer(Path(directory), serve_options(options.workers, (0, 0, 0)), {})
        try:
            server.start()
            yield Path(directory)
        finally:
            server.stop()


def _plans(options: StormOptions, size: SwarmSize, deployment: Deployment, accounts: list[Account]) -> list[Plan]:
    """Pairs lie spread over the sessions, the two of one far apart; who meets which worker is up to the kernel."""
    plans, first, parts = [], 0, size.processes
    for part in range(parts):
        own = accounts[len(accounts) * part // parts : len(accounts) * (part + 1) // parts]
        pairs = options.pairs * (part + 1) // parts - options.pairs * part // parts
        crowd = Crowd(
            transport=size.transport,
            target=deployment.target(size.transport),
            accounts=tuple(own),
            first=first,
            concurrency=max(1, size.concurrency // parts),
        )
        first += len(own)
        half = len(own) // 2
        couples = tuple((pair * half // pairs, half + pair * half // pairs) for pair in range(pairs))
        plans.append(Plan(crowd, couples, options.rate / parts, options.body_bytes))
    return plans


class _Storm:
    def __init__(self, options: StormOptions, size: SwarmSize, progress: Progress, plans: list[Plan]) -> None:
        self._options, self._size, self._progress = options, size, progress
        self._children = Children(client_main, plans)
        self._news: dict[Any, News] = {}
        self._records: dict[Any, Record] = {}
        self.cpu_s: dict[str, float] = {}

    def stop(self) -> None:
        self._children.stop()

    # -- what happens

    def blow(self, data: Path) -> Moments:
        """Everybody comes in, talks; something is killed; until all is well again."""
        self._progress.stage("logging in")
        self._order(Connect())
        if not self._wait(self._all_live, _LOGIN_SECONDS):
            raise SwarmError(f"only {self._live} of {self._size.sessions} sessions could log in")
        self._progress.stage("talking")
        self._order(Talk())
        self._wait(lambda: False, self._options.before_seconds)
        self._progress.stage(self._options.event)
        killed, answered = self._kill(data)
        before = self._cpu_seconds(data)
        self._wait_news()
        if not self._wait(self._all_well, self._options.longest_seconds):
            raise SwarmError(
                f"after {self._options.longest_seconds:g} s {self._live} of {self._size.sessions} sessions are live, "
                f"and a message is missing since {self._missing_seconds:.1f} s; see {data}/server.log"
            )
        recovered = time.monotonic_ns()
        self.cpu_s = {what: spent - before.get(what, 0.0) for what, spent in self._cpu_seconds(data).items()}
        self._progress.stage("looking whether it stays so")
        self._wait(lambda: False, self._options.after_seconds)
        return Moments(killed, answered, recovered)

    def settle(self) -> list[Record]:
        """What everybody saw, once everything is delivered."""
        self._order(Quiet())
        self._wait_news()
        self._wait(lambda: self._all_live() and self._missing_since is None, self._options.longest_seconds)
        self._order(Settle())
        self._wait(lambda: len(self._records) == len(self._children.pipes), self._options.longest_seconds)
        return list(self._records.values())

    def _kill(self, data: Path) -> tuple[int, int | None]:
        """When, and when the store answered again."""
        if self._options.event == "kill-worker":
            pid = max(_status(data)["workers"], key=lambda worker: worker["gauges"].get("sessions", 0))["pid"]
            killed = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            if not self._wait(lambda: not Path(f"/proc/{pid}").exists(), self._options.longest_seconds):
                raise DeploymentError(f"process {pid} was killed and is not gone")
            return killed, None
        run = json.loads((data / "run.json").read_text())
        if run["redis_pid"] is None:
            raise DeploymentError("kill-store needs the embedded store, which is started again when it is killed")
        killed = time.monotonic_ns()
        os.kill(run["redis_pid"], signal.SIGKILL)
        if not self._wait(lambda: _answers(run["redis"]), self._options.longest_seconds):
            raise DeploymentError(f"the store did not come back within {self._options.longest_seconds:g} s")
        return killed, time.monotonic_ns()

    # -- how it stands

    def _cpu_seconds(self, data: Path) -> dict[str, float]:
        """Of each process so far; one that is not listed yet has spent nothing, and one that is gone is not listed."""
        run = json.loads((data / "run.json").read_text())
        pids = {f"worker {worker['number']}": worker["pid"] for worker in run["workers"]}
        pids |= {"store": run["redis_pid"]} if run["redis_pid"] else {}
        pids |= {f"clients {number}": pid for number, pid in enumerate(self._children.pids)}
        seconds = {}
        for name, pid in pids.items():
            with suppress(CannotMeasure):
                seconds[name] = cpu_seconds(pid)
        return seconds

    def _wait_news(self) -> None:
        """From each process, of a time at which it has seen what happened before this call."""
        for _ in range(_NEWS_UNTIL_SEEN):
            self._news.clear()
            while len(self._news) < len(self._children.pipes):
                self._hear()

    def _order(self, order: object) -> None:
        for pipe in self._children.pipes:
            pipe.send(order)

    def _wait(self, is_so: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() >= end:
                return False
            self._hear()
        return True

    def _hear(self) -> None:
        waiting = [pipe for pipe in self._children.pipes if pipe not in self._records]
        for pipe, message in self._children.receive(_POLL_SECONDS) if waiting else ():
            (self._records if isinstance(message, Record) else self._news)[pipe] = message
        self._progress.show(self._live, sum(news.delivered for news in self._news.values()))

    @property
    def _live(self) -> int:
        return sum(news.live for news in self._news.values())

    def _all_live(self) -> bool:
        return self._live == self._size.sessions

    @property
    def _missing_since(self) -> int | None:
        return min((news.missing_since for news in self._news.values() if news.missing_since), default=None)

    @property
    def _missing_seconds(self) -> float:
        since = self._missing_since
        return 0.0 if since is None else (time.monotonic_ns() - since) / 1e9

    def _all_well(self) -> bool:
        return self._all_live() and self._missing_seconds * 1e9 < _FRESH_NS


def _answers(url: str) -> bool:
    """Whether the store does what it is asked; while it reads its file, it does not."""
    try:
        with redis.Redis.from_url(url, socket_timeout=1.0) as client:
            client.get("nothing")
    except redis.RedisError:
        return False
    return True


def _status(data: Path) -> dict[str, Any]:
    """What the server says of itself. Raises DeploymentError."""
    host, port = json.loads((data / "run.json").read_text())["admin"]
    connection = http.client.HTTPConnection(host, port, timeout=_STATUS_SECONDS)
    try:
        connection.request("GET", "/status")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, ValueError) as error:
        raise DeploymentError(f"the server does not tell its status: {error}") from error
    finally:
        connection.close()
    return found


def _sums(status: dict[str, Any], name: str) -> dict[str, int]:
    """Of all workers that run now."""
    sums: dict[str, int] = {}
    for worker in status["workers"]:
        for kind, count in worker.get(name, {}).items():  # a server of another version may not tell
            sums[kind] = sums.get(kind, 0) + count
    return sums
