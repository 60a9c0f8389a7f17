"""The run: talk, break and mend, let heal, judge, report."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.evidence import Evidence
from imswarm.faults.catalogue import excuses, may_overlap, possible
from imswarm.faults.cluster_injuries import tolerated
from imswarm.faults.course import Course, Limit
from imswarm.faults.crew import Crew
from imswarm.faults.figures import Figures, Injury, figures_of
from imswarm.faults.incidents import Incident, hindrances, unexcused
from imswarm.faults.injuries import Scene
from imswarm.faults.plan import Begin, End, Mark, Plan, Quiet, Seat
from imswarm.faults.probe import Probes, probing
from imswarm.faults.schedule import Step, steps
from imswarm.faults.talk import Talk
from imswarm.faults.victim import EMBEDDED, Victim, own_victim
from imswarm.group_judge import judge_groups
from imswarm.history import read_history
from imswarm.judge import Verdict, judge_evidence
from imswarm.presence_judge import PresenceVerdict, judge_presence
from imswarm.report import Progress

_WARM_UP_SECONDS = 2.0
_BEGIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """What the command's options say.

    `overlap`: how likely it is that a second fault begins during the first. `minutes`: break nothing more after them.
    `data`: of a running server; else one is started with `workers` and `store`. `keep`: where histories and the
    server's files are left behind.
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
    overlap: float = 0.0
    minutes: float | None = None
    store: str = EMBEDDED
    durability: str = "process"
    data: Path | None = None
    keep: Path | None = None
    mistake: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    `presence`: what was wrong with what contacts were shown. `planned`: how many faults there should have been.
    `incidents`: all that clients met; `unspared`: those that no fault excuses. `missing`: who has not got what in the
    end; `troubles`: what nobody expected; in words.
    """

    seconds: float
    planned: int
    figures: Figures
    verdict: Verdict
    presence: PresenceVerdict
    probes: Probes
    incidents: Sequence[Incident]
    unspared: Sequence[Incident]
    missing: Sequence[str]
    troubles: Sequence[str]
    tolerated: frozenset[str] = frozenset()  # kinds of violation and trouble that were not ruled out by any promise

    @property
    def wrong(self) -> int:
        """How much went wrong that should not."""
        counts = self.verdict.counts
        violations = sum(count for kind, count in counts.items() if kind not in self.tolerated)
        troubles = sum(not any(kind in text for kind in self.tolerated) for text in self.troubles)
        return violations + self.presence.counts.total() + len(self.unspared) + len(self.missing) + troubles

    @property
    def is_good(self) -> bool:
        return not self.wrong

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
        plan = _steps(options, victim)
        talk = Talk(victim, options.users, options.devices)
        crew = stack.enter_context(Crew(_plans(options, talk.seats, histories), progress.show))
        run = _Run(options, talk, crew, progress)
        injuries, probes, seconds = run.break_and_mend(victim, plan)
        missing = run.let_heal()
        progress.stage("judging the histories")
        evidence = Evidence(read_history(histories))
        figures = figures_of(evidence, injuries)
        incidents = [*crew.incidents, *probes.incidents]
        return Outcome(
            seconds=seconds,
            planned=options.faults,
            figures=figures,
            verdict=_judge(evidence, talk),
            presence=_judge_presence(evidence, talk, victim, figures.injuries),
            probes=probes,
            incidents=incidents,
            unspared=unexcused(incidents, figures.injuries, excuses()),
            missing=missing,
            troubles=crew.troubles,
            tolerated=tolerated(options.durability, {injury.kind for injury in injuries}),
        )


def _judge(evidence: Evidence, talk: Talk) -> Verdict:
    verdict = judge_evidence(evidence)
    verdict.add(judge_groups(evidence, talk.groups.founders))
    return verdict


def _judge_presence(evidence: Evidence, talk: Talk, victim: Victim, injuries: Sequence[Injury]) -> PresenceVerdict:
    if victim.terms is None:
        return PresenceVerdict()
    return judge_presence(evidence, talk.contacts, victim.terms, hindrances(injuries, excuses()))


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
    return own_victim(directory, options.workers, options.store, options.durability)


def _steps(options: FaultOptions, victim: Victim) -> list[Step]:
    return steps(options.seed, options.faults, _kinds(options, victim), options.overlap, may_overlap)


def _kinds(options: FaultOptions, victim: Victim) -> Sequence[str]:
    kinds = possible(victim)
    impossible = [kind for kind in options.only if kind not in kinds]
    if impossible:
        raise DeploymentError(f"this server can't be given: {', '.join(impossible)}")
    return options.only or kinds


def _plans(options: FaultOptions, seats: Sequence[Seat], histories: Path) -> list[Plan]:
    return [_plan(options, seats[part :: options.processes], histories, part) for part in range(options.processes)]


def _plan(options: FaultOptions, seats: Sequence[Seat], histories: Path, part: int) -> Plan:
    return Plan(
        seats=tuple(seats),
        directory=histories,
        rate_per_second=options.rate / options.processes,
        window=options.window,
        body_bytes=options.body_bytes,
        seed=options.seed,
        mistake=options.mistake if part == 0 else None,
    )


class _Run:
    def __init__(self, options: FaultOptions, talk: Talk, crew: Crew, progress: Progress) -> None:
        self._options, self._talk, self._crew, self._progress = options, talk, crew, progress

    def break_and_mend(self, victim: Victim, plan: Sequence[Step]) -> tuple[list[Injury], Probes, float]:
        """The faults as they happened, what new clients met, and how long everybody talked, in seconds."""
        self._progress.stage("logging in")
        missing = self._crew.order(Begin(), _BEGIN_SECONDS)
        if missing:
            raise DeploymentError(f"not everybody could log in: {'; '.join(missing[:5])}")
        began = time.monotonic()
        self._progress.stage("talking")
        minutes = self._options.minutes
        limit = Limit() if minutes is None else Limit(minutes * 60)

        def let_run(seconds: float) -> None:
            self._crew.let_run(seconds, lambda: limit.is_over)

        tcp, http = (Address(*victim.run[name]) for name in ("tcp", "http"))
        scene = Scene(victim, self._crew, random.Random(self._options.seed), self._talk.extras, self._talk.users)
        with limit.heeding_interrupts(), probing(tcp, http, self._talk.probes) as probes:
            let_run(_WARM_UP_SECONDS)
            injuries = Course(scene, let_run, limit, self._progress).run(plan, self._options.pause_seconds)
        return injuries, probes, time.monotonic() - began

    def let_heal(self) -> list[str]:
        """Until everybody has everything, or the deadline; who has not, in words."""
        seconds = self._options.heal_seconds
        self._progress.stage("letting it heal")
        missing = self._crew.order(Quiet(seconds), seconds)
        missing += self._crew.order(Mark(self._talk.marks(), seconds), seconds)
        return missing + self._crew.order(End(), _BEGIN_SECONDS)
