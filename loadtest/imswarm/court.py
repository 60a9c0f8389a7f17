"""What judges of histories have in common: how a log of one device is read, what can be wrong with it alone. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from imswarm.evidence import GIVEN_UP, STORED, UNTOLD, Evidence
from imswarm.history import Device, Line, shown

_MOST_SHOWN = 20

Place = tuple[int, int]
"""The number of a device, the number of a line in its history."""


class Violation(NamedTuple):
    """`lines` show that `why` is so."""

    kind: str
    why: str
    lines: Sequence[tuple[Device, Line]]

    def __str__(self) -> str:
        begin = min((line.time for _, line in self.lines), default=0.0)
        return "\n".join([f"{self.kind}: {self.why}", *(shown(device, line, begin) for device, line in self.lines)])


@dataclass
class Verdict:
    """How often the promise was broken, by kind, and the first counter-examples of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """What was judged by another court counts here, too."""
        self.counts += other.counts
        self.violations += other.violations


class Entry(NamedTuple):
    """One place of a device's log. `prev` is not told for the device's own messages."""

    at: int
    message: int
    prev: int
    place: Place


Log = dict[int, Entry]
"""By message, in the order of the log."""


class Court:
    def __init__(self, evidence: Evidence) -> None:
        self.verdict = Verdict()
        self._evidence = evidence
        self._guilty: set[int] = set()  # devices with a violation: what follows from it is not told again

    def _break(self, kind: str, why: str, places: Iterable[Place], device: int) -> None:
        self._guilty.add(device)
        self.verdict.counts[kind] += 1
        if self.verdict.counts[kind] <= _MOST_SHOWN:
            lines = [self._evidence.line(*place) for place in places]
            self.verdict.violations.append(Violation(kind, why, lines))

    def _log_of(self, device: int, owner: str, concerned: array[int]) -> Log:
        """By message: what the device was given, and its own messages that were answered; in the log's order."""
        entries = {entry.message: entry for entry in self._own(device, concerned)}
        deliveries = self._evidence.deliveries_of(device, owner)
        newest: Entry | None = None
        columns = (deliveries.at, deliveries.message, deliveries.prev, deliveries.line)
        for at, message, prev, line in zip(*columns, strict=True):
            entry = Entry(at, message, prev, (device, line))
            if message in entries:
                self._break_doubled(device, entries[message], entry)
                continue
            entries[message] = entry
            if newest is not None and at <= newest.at:
                why = f"{self._name(device)} got an entry after a newer one"
                self._break("reordered", why, [newest.place, entry.place], device)
            else:
                newest = entry
        return dict(sorted(entries.items(), key=lambda item: item[1].at))

    def _own(self, device: int, concerned: array[int]) -> Iterator[Entry]:
        messages = self._evidence.messages
        for message in concerned:
            if messages.author[message] == device and messages.outcome[message] == STORED:
                yield Entry(messages.at[message], message, UNTOLD, (device, messages.answer_line[message]))

    def _break_doubled(self, device: int, first: Entry, again: Entry) -> None:
        invoke = next(iter(self._evidence.said(first.message)))
        self._break("doubled", f"{self._name(device)} got it twice", [invoke, first.place, again.place], device)

    def _judge_turns(self, device: int, log: Log) -> None:
        """What one device sent to one user, and did not give up, stands in the order in which it was sent."""
        messages = self._evidence.messages
        latest: dict[tuple[int, str], Entry] = {}
        for entry in log.values():
            if messages.outcome[entry.message] == GIVEN_UP:
                continue
            talk = messages.author[entry.message], messages.to[entry.message]
            before = latest.get(talk)
            if before is not None and messages.line[before.message] > messages.line[entry.message]:
                invokes = [(talk[0], messages.line[message]) for message in (entry.message, before.message)]
                why = f"{self._name(device)} has them in another order than they were sent in"
                self._break("reordered", why, [*invokes, before.place, entry.place], device)
            else:
                latest[talk] = entry

    def _judge_chain(
        self, device: int, log: Log, owner: str, start: int | None, is_inside: Callable[[int], bool] = lambda at: True
    ) -> None:
        """Each entry says what stands before it: that is what the device must have had before it.

        Where it is not known behind which entry it `start`s, the first one may say what it likes. `is_inside`: whether
        an entry that is no message belongs to what is looked at, as those of `log` do.
        """
        all_changes = self._evidence.changes[device].get(owner, {})
        changes = {at: line for at, line in all_changes.items() if is_inside(at)}
        places = {at: (device, line) for at, line in changes.items()} | {
            entry.at: entry.place for entry in log.values()
        }
        prevs = {entry.at: entry.prev for entry in log.values()}
        before = start
        for at in sorted(places):
            if before is not None and prevs.get(at, UNTOLD) not in (UNTOLD, before):
                why = f"{self._name(device)} never had what stands before this entry"
                self._break("diverged", why, [*([places[before]] if before in places else []), places[at]], device)
                return
            before = at

    def _name(self, device: int) -> str:
        return str(self._evidence.devices[device])
