"""The run: talk, break and mend, let heal, judge, report."""

from __future__ import annotations

import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from imswarm.accounts import make_devices
from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.evidence import Evidence
from imswarm.faults.crew import Crew
from imswarm.faults.figures import Figures, Injury, figures_of
from imswarm.faults.injuries import FAULTS, Scene, possible
from imswarm.faults.plan import DEVICE_PREFIX, Begin, End, Mark, Plan, Quiet, Seat, address_url
from imswarm.faults.schedule import schedule
from imswarm.faults.victim import Victim, own_victim
from imswarm.history import Device, read_history
from imswarm.judge import Verdict, judge_evidence
from imswarm.report import Progress

_WARM_UP_SECONDS = 2.0
_BEGIN_SECONDS = 30.0
_EXTRA_DEVICES = 200


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """What the command's options say.

    `data`: of a running server; else one is started with `workers`. `keep`: where histories and the server's files
    are left behind.
    """

    seed: int
    faults: int
    pause_seconds: float
    only: tuple[str, ...]
    users: int
    devices: int
    rate: float
    window: int
    body_bytes: int
    processes: int
    workers: int
    heal_seconds: float
    behind_proxy: bool = False
    data: Path | None = None
    keep: Path | None = None
    mistake: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `missing`: who has not got what in the end; `troubles`: what nobody expected; in words."""

    seconds: float
    figures: Figures
    verdict: Verdict
    missing: Sequence[str]
    troubles: Sequence[str]

    @property
    def is_good(self) -> bool:
        return not (self.verdict.counts or self.missing or self.troubles)

    @property
    def faults(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(Counter(injury.kind for injury in self.figures.injuries))


def run_faults(options: FaultOptions, progress: Progress) -> Outcome:
    """Raises DeploymentError, AccountsError and SwarmError where the run can't be done."""
    with ExitStack() as stack:
        directory = stack.enter_context(_directory(options.keep))
        histories = directory / "histories"
        histories.mkdir()
        progress.stage("finding the server")
        victim = stack.enter_context(_victim(options, directory))
        kinds = _kinds(options, victim)
        talk = _Talk(options, victim, histories)
        crew = stack.enter_context(Crew(talk.plans, progress.show))
        run = _Run(options, talk, crew, progress)
        injuries, seconds = run.break_and_mend(victim, schedule(options.seed, options.faults, kinds))
        missing = run.let_heal()
        progress.stage("judging the histories")
        evidence = Evidence(read_history(histories))
        return Outcome(seconds, figures_of(evidence, injuries), judge_evidence(evidence), missing, crew.troubles)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    """An empty directory that is deleted afterwards, or kept. Raises DeploymentError."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="imswarm-", ignore_cleanup_errors=True) as directory:
            yield Path(directory)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise DeploymentError(f"{keep} is not empty")
    yield keep


def _victim(options: FaultOptions, directory: Path) -> AbstractContextManager[Victim]:
    if options.data is not None:
        return nullcontext(Victim(options.data))
    return own_victim(directory, options.workers, behind_proxy=options.behind_proxy)


def _kinds(options: FaultOptions, victim: Victim) -> Sequence[str]:
    kinds = possible(victim)
    impossible = [kind for kind in options.only if kind not in kinds]
    if impossible:
        raise DeploymentError(f"this server can't be given: {', '.join(impossible)}")
    return options.only or kinds


class _Talk:
    """Who talks to whom. The names are new in every run: a history begins with the user's first entry."""

    def __init__(self, options: FaultOptions, victim: Victim, histories: Path) -> None:
        prefix = f"f{secrets.token_hex(3)}-"
        self.users = [f"{prefix}{number}" for number in range(options.users)]
        names = [f"{DEVICE_PREFIX}{number}" for number in range(options.devices)]
        extras = [f"extra{number}" for number in range(_EXTRA_DEVICES)]
        wanted = [(user, name) for user in self.users for name in names]
        wanted += [(self.users[number % options.users], extra) for number, extra in enumerate(extras)]
        run = victim.run
        accounts = make_devices(run["redis"], wanted)
        tokens = {Device(account.user, account.device): account.token for account in accounts}
        self._extras = iter([(tokens[Device(*pair)], pair[1]) for pair in wanted[-_EXTRA_DEVICES:]])
        addresses = {"tcp": Address(*run["tcp"]), "ws": Address(*run["http"])}
        seats = [
            self._seat(device, number, tokens[device], addresses)
            for number, device in enumerate(Device(user, name) for user in self.users for name in names)
        ]
        self.plans = [
            _plan(options, seats[part :: options.processes], histories, part) for part in range(options.processes)
        ]

    def _seat(self, device: Device, number: int, token: str, addresses: dict[str, Address]) -> Seat:
        scheme = ("tcp", "ws")[number % len(addresses)]
        place, size = self.users.index(device.user), len(self.users)
        partners = {self.users[(place + step) % size] for step in (1, -1, size // 2)} - {device.user}
        return Seat(device, address_url(scheme, device.user, addresses[scheme]), token, tuple(sorted(partners)))

    def next_extra(self) -> tuple[str, str]:
        """Token and name of a device that nobody has used."""
        return next(self._extras)

    def marks(self) -> tuple[tuple[Device, str], ...]:
        """To every user from a device of another one."""
        device = f"{DEVICE_PREFIX}0"
        return tuple((Device(user, device), self.users[number - 1]) for number, user in enumerate(self.users))


def _plan(options: FaultOptions, seats: Sequence[Seat], histories: Path, part: int) -> Plan:
    return Plan(
        seats=tuple(seats),
        directory=histories,
        rate_per_second=options.rate / options.processes,
        window=options.window,
        body_bytes=options.body_bytes,
        mistake=options.mistake if part == 0 else None,
    )


class _Run:
    def __init__(self, options: FaultOptions, talk: _Talk, crew: Crew, progress: Progress) -> None:
        self._options, self._talk, self._crew, self._progress = options, talk, crew, progress
        self._numbers = count(1)

    def break_and_mend(self, victim: Victim, kinds: Sequence[str]) -> tuple[list[Injury], float]:
        """The faults as they happened, and how long everybody talked, in seconds."""
        self._progress.stage("logging in")
        missing = self._crew.order(Begin(), _BEGIN_SECONDS)
        if missing:
            raise DeploymentError(f"not everybody could log in: {'; '.join(missing[:5])}")
        began = time.monotonic()
        self._progress.stage("talking")
        self._crew.let_run(_WARM_UP_SECONDS)
        scene = Scene(victim, self._crew, random.Random(self._options.seed), self._talk.next_extra)
        injuries = [self._injure(scene, kind) for kind in kinds]
        return injuries, time.monotonic() - began

    def _injure(self, scene: Scene, kind: str) -> Injury:
        fault = FAULTS[kind]
        self._progress.stage(f"fault {next(self._numbers)} of {self._options.faults}: {kind}")
        begin = time.monotonic()
        with fault.inflict(scene):
            self._crew.let_run(fault.seconds)
        mended = time.monotonic()
        self._crew.let_run(self._options.pause_seconds)
        return Injury(kind, begin, mended)

    def let_heal(self) -> list[str]:
        """Until everybody has everything, or the deadline; who has not, in words."""
        seconds = self._options.heal_seconds
        self._progress.stage("letting it heal")
        missing = self._crew.order(Quiet(seconds), seconds)
        missing += self._crew.order(Mark(self._talk.marks(), seconds), seconds)
        return missing + self._crew.order(End(), _BEGIN_SECONDS)
