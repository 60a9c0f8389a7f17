"""What is measured every second of a run: traffic, latency, CPU of each process, memory, the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from imswarm.deployment import Deployment
from imswarm.processes import CannotMeasure, cpu_seconds
from imswarm.report import Report
from imswarm.stats import Tally

_SAMPLE_SECONDS = 1.0
_MEMORY_SECONDS = 5.0
"""To add up a large process's memory takes milliseconds of CPU."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What happened in `seconds` until `time` (from the beginning of the run). `cores`: how many a process used.

    `tally` None: while people log in nobody is asked. Bytes are None where they are not known, or were not read.
    """

    time: float
    seconds: float
    sessions: int
    tally: Tally | None
    cores: Mapping[str, float]
    server_bytes: int | None
    redis_bytes: int
    redis_commands: int

    def report(self) -> Report:
        return {
            "s": self.time,
            "sessions": self.sessions,
            "cores": dict(self.cores),
            "server_bytes": self.server_bytes,
            "redis_bytes": self.redis_bytes,
            "redis_commands_per_s": self.redis_commands / self.seconds,
            **({} if self.tally is None else self._traffic(self.tally)),
        }

    def _traffic(self, tally: Tally) -> Report:
        return {
            "sent_per_s": tally.sent / self.seconds,
            "deliveries_per_s": tally.delivered / self.seconds,
            "latency_ms": tally.latency.summary_ms(),
            "presence_ms": tally.presence.summary_ms(),
            "entry_ms": tally.entry.summary_ms(),
            "presence_told_per_s": tally.presence.count / self.seconds,
        }


class CpuSampler:
    """Cores used by each process since it was last asked; one that has come meanwhile counts from its beginning."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._asked = time.monotonic()

    def cores(self, pids: Mapping[str, int]) -> dict[str, float]:
        now = time.monotonic()
        seconds, self._asked = max(now - self._asked, 1e-6), now
        used = {}
        for name, pid in pids.items():
            with suppress(CannotMeasure):  # it has ended
                spent = cpu_seconds(pid)
                used[name] = (spent - self._seen.get(pid, 0.0)) / seconds
                self._seen[pid] = spent
        return used


class Recorder:
    def __init__(self, deployment: Deployment) -> None:
        self.samples: list[Sample] = []
        self.sessions = 0
        self._deployment = deployment
        self._cpu = CpuSampler()
        self._began = self._last = time.monotonic()
        self._memory_due = 0.0
        self._commands = deployment.redis_commands()
        self._cpu.cores(_names(deployment, []))  # what they used until now

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def look(self, clients: list[int], sessions: int) -> None:
        """Called often while people come in; measures once a second."""
        self.sessions = sessions
        if time.monotonic() - self._last >= _SAMPLE_SECONDS:
            self.sample(clients, None)

    def sample(self, clients: list[int], tally: Tally | None) -> None:
        deployment = self._deployment.refreshed()
        now, commands = time.monotonic(), deployment.redis_commands()
        server_bytes = None
        if now >= self._memory_due:
            self._memory_due = now + _MEMORY_SECONDS
            with suppress(CannotMeasure):  # a worker has just been killed
                server_bytes = deployment.server_memory_bytes()
        self.samples.append(
            Sample(
                time=now - self._began,
                seconds=now - self._last,
                sessions=self.sessions,
                tally=tally,
                cores=self._cpu.cores(_names(deployment, clients)),
                server_bytes=server_bytes,
                redis_bytes=deployment.redis_memory_bytes(),
                redis_commands=max(commands - self._commands, 0),
            )
        )
        self._last, self._commands = now, commands


def _names(deployment: Deployment, clients: list[int]) -> dict[str, int]:
    groups = {"worker": deployment.workers, "store": deployment.redis, "clients": clients}
    names = {f"{group} {number}": pid for group, pids in groups.items() for number, pid in enumerate(pids)}
    return names | {f"supervisor {number}": pid for number, pid in enumerate(deployment.supervisor)}
