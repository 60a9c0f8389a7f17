"""Judges a whole history against what the server promises. Pure.

- **lost**: a message was answered `ok`, and a device of its recipient or of its sender's user never got it
  (on the sending device the answer stands for it).
- **doubled**: a device got a message twice.
- **reordered**: a device got an entry after a newer one; or what one device sent to one user stands in
  another order in the log. (What it gave up without an answer has no place in that order: it may be stored at any
  time, or never, and only who repeats it until it is answered is promised more.)
- **phantom**: a device got what nobody sent, or what was sent otherwise, to others, or refused.
- **diverged**: the devices of one user disagree: a message without an answer came to some of them only, an
  entry stands at two places, or a device went on past an entry that the log has.

Every violation comes with its smallest counter-example: the few lines that suffice to see it.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from imswarm.evidence import GIVEN_UP, STORED, UNTOLD, Evidence
from imswarm.history import Device, History, Line, shown

KINDS = ("lost", "doubled", "reordered", "phantom", "diverged")
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


def judge(history: History) -> Verdict:
    """What is wrong with this history; nothing if all is well."""
    return judge_evidence(Evidence(history))


def judge_evidence(evidence: Evidence) -> Verdict:
    """The same, where the history has been read already."""
    return _Court(evidence).verdict()


class _Entry(NamedTuple):
    """One place of a device's log. `prev` is not told for the device's own messages."""

    at: int
    message: int
    prev: int
    place: Place


class _Court:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._verdict = Verdict()
        self._guilty: set[int] = set()  # devices with a violation: what follows from it is not told again

    def verdict(self) -> Verdict:
        for stray in self._evidence.strays:
            owner = self._evidence.devices[stray.lines[-1][0]]
            self._break(stray.kind, f"{owner}: {stray.why}", stray.lines, stray.lines[-1][0])
        concerned = self._messages_by_user()
        for user, devices in self._evidence.devices_by_user().items():
            self._judge_user(devices, concerned.get(user, array("I")))
        return self._verdict

    def _messages_by_user(self) -> dict[str, array[int]]:
        """The messages sent to or by each user."""
        messages, devices = self._evidence.messages, self._evidence.devices
        found: dict[str, array[int]] = defaultdict(lambda: array("I"))
        for message, (author, to) in enumerate(zip(messages.author, messages.to, strict=True)):
            found[to].append(message)
            if devices[author].user != to:
                found[devices[author].user].append(message)
        return found

    def _break(self, kind: str, why: str, places: Iterable[Place], device: int) -> None:
        self._guilty.add(device)
        self._verdict.counts[kind] += 1
        if self._verdict.counts[kind] <= _MOST_SHOWN:
            lines = [self._evidence.line(*place) for place in places]
            self._verdict.violations.append(Violation(kind, why, lines))

    # -- one user

    def _judge_user(self, devices: Sequence[int], concerned: array[int]) -> None:
        logs = {device: self._log_of(device, concerned) for device in devices}
        for device, log in logs.items():
            self._judge_turns(device, log)
        for device, log in logs.items():
            self._judge_places(device, log, logs)
        for device, log in logs.items():
            self._judge_missing(device, log, logs, concerned)
        for device, log in logs.items():
            if device not in self._guilty:
                self._judge_chain(device, log)

    def _log_of(self, device: int, concerned: array[int]) -> dict[int, _Entry]:
        """By message: what the device was given, and its own messages that were answered; in the log's order."""
        entries = {entry.message: entry for entry in self._own(device, concerned)}
        deliveries = self._evidence.deliveries[device]
        newest: _Entry | None = None
        columns = (deliveries.at, deliveries.message, deliveries.prev, deliveries.line)
        for at, message, prev, line in zip(*columns, strict=True):
            entry = _Entry(at, message, prev, (device, line))
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

    def _own(self, device: int, concerned: array[int]) -> Iterator[_Entry]:
        messages = self._evidence.messages
        for message in concerned:
            if messages.author[message] == device and messages.outcome[message] == STORED:
                yield _Entry(messages.at[message], message, UNTOLD, (device, messages.answer_line[message]))

    def _break_doubled(self, device: int, first: _Entry, again: _Entry) -> None:
        invoke = next(iter(self._evidence.said(first.message)))
        self._break("doubled", f"{self._name(device)} got it twice", [invoke, first.place, again.place], device)

    def _judge_turns(self, device: int, log: dict[int, _Entry]) -> None:
        """What one device sent to one user, and did not give up, stands in the order in which it was sent."""
        messages = self._evidence.messages
        latest: dict[tuple[int, str], _Entry] = {}
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

    def _judge_places(self, device: int, log: dict[int, _Entry], logs: dict[int, dict[int, _Entry]]) -> None:
        """Each entry stands where it stands for the first device of the user that has it."""
        for other, others in logs.items():
            if other == device:
                return
            for message, entry in log.items():
                theirs = others.get(message)
                if theirs is not None and theirs.at != entry.at:
                    why = f"it has two places in the log, one for {self._name(other)}, one for {self._name(device)}"
                    self._break("diverged", why, [theirs.place, entry.place], device)
            self._judge_same_place(device, log, others)

    def _judge_same_place(self, device: int, log: dict[int, _Entry], others: dict[int, _Entry]) -> None:
        there = {entry.at: entry for entry in others.values()}
        for entry in log.values():
            theirs = there.get(entry.at)
            if theirs is not None and theirs.message not in log and entry.message not in others:
                why = f"{self._name(theirs.place[0])} and {self._name(device)} have different entries at one place"
                self._break("diverged", why, [theirs.place, entry.place], device)

    def _judge_missing(
        self, device: int, log: dict[int, _Entry], logs: dict[int, dict[int, _Entry]], concerned: array[int]
    ) -> None:
        messages = self._evidence.messages
        for message in concerned:
            if message in log:
                continue
            if messages.outcome[message] == STORED:
                why = f"it was answered ok, and {self._name(device)} never got it"
                self._break("lost", why, self._evidence.said(message), device)
                continue
            having = next((others[message] for others in logs.values() if message in others), None)
            if having is not None:
                why = f"{self._name(having.place[0])} got it, and {self._name(device)} never did"
                self._break("diverged", why, [*self._evidence.said(message), having.place], device)

    def _judge_chain(self, device: int, log: dict[int, _Entry]) -> None:
        """Each entry says what stands before it: that is what the device must have had before it."""
        before: _Entry | None = None
        for entry in log.values():
            had = self._evidence.starts[device] if before is None else before.at
            if entry.prev not in (UNTOLD, had):
                why = f"{self._name(device)} never had what stands before this entry"
                self._break("diverged", why, [*([before.place] if before else []), entry.place], device)
                return
            before = entry

    def _name(self, device: int) -> str:
        return str(self._evidence.devices[device])
