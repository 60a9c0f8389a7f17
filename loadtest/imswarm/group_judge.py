"""Judges what members were given of their groups' logs. Pure; beside `judge`, which judges users' own logs.

A group has one log: its messages, and who came and went. By it everybody is measured: who was a member between two of
its positions (or still is one) gets every message that stands between them, exactly once, in its order. Who has left
gives up what a device had not read: it got all up to some message, and nothing behind. Nobody gets what was said while
it was no member. The kinds of violations are those of `judge`.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import inf
from typing import NamedTuple

from imswarm.court import Court, Entry, Log, Place, Verdict
from imswarm.evidence import STORED, Evidence, is_group
from imswarm.history import Change

JOINED, PARTED = ("joined",), ("left", "kicked", "banned")

Groups = Mapping[str, Collection[str]]
"""Of each group the members that it had from the beginning on, who may leave it as well."""


class _Term(NamedTuple):
    """A membership: of what stands behind `begin` and before `end`."""

    begin: float
    end: float

    def has(self, at: int) -> bool:
        return self.begin < at < self.end


def judge_groups(evidence: Evidence, groups: Groups) -> Verdict:
    court = _GroupCourt(evidence)
    concerned: dict[str, array[int]] = defaultdict(lambda: array("I"))
    for message, to in enumerate(evidence.messages.to):
        if is_group(to):
            concerned[to].append(message)
    for group, founders in groups.items():
        court.judge(group, founders, concerned[group])
    return court.verdict


class _GroupCourt(Court):
    def judge(self, group: str, founders: Iterable[str], concerned: array[int]) -> None:
        terms = self._terms(group, founders)
        logs = {
            device: self._log_of(device, group, concerned)
            for device, (user, _) in enumerate(self._evidence.devices)
            if user in terms or group in self._evidence.deliveries[device]
        }
        truth = self._truth(logs)
        for device, log in logs.items():
            mine = terms.get(self._evidence.devices[device].user, [])
            self._judge_turns(device, log)
            self._judge_outside(device, log, mine)
            for term in mine:
                self._judge_missing(device, log, term, truth)
                if device not in self._guilty:
                    inside = {message: entry for message, entry in log.items() if term.has(entry.at)}
                    self._judge_chain(device, inside, group, None, term.has)

    def _terms(self, group: str, founders: Iterable[str]) -> dict[str, list[_Term]]:
        """Who was a member when, by the changes that anybody has seen in the group's log."""
        terms = {user: [_Term(-inf, inf)] for user in founders}
        for at, change in sorted(self._changes(group).items()):
            if change.user is None:
                continue
            mine = terms.setdefault(change.user, [])
            is_member = bool(mine) and mine[-1].end == inf
            if change.change in JOINED and not is_member:
                mine.append(_Term(at, inf))
            elif change.change in PARTED and is_member:
                mine[-1] = mine[-1]._replace(end=at)
        return terms

    def _changes(self, group: str) -> dict[int, Change]:
        """By position; two devices that have different ones at one place are told."""
        found: dict[int, tuple[Change, Place]] = {}
        for device, logs in enumerate(self._evidence.changes):
            for at, number in logs.get(group, {}).items():
                line = self._evidence.line(device, number)[1]
                assert isinstance(line, Change)
                known, place = found.setdefault(at, (line, (device, number)))
                if (known.change, known.user) != (line.change, line.user):
                    why = f"{self._name(device)} has another entry at one place of the log than others"
                    self._break("diverged", why, [place, (device, number)], device)
        return {at: change for at, (change, _) in found.items()}

    def _truth(self, logs: Mapping[int, Log]) -> dict[int, Entry]:
        """The log, by message: each stands where it stands for the first device that has it. In the log's order."""
        truth: dict[int, Entry] = {}
        message_at: dict[int, Entry] = {}
        for device, log in logs.items():
            for message, entry in log.items():
                first = truth.setdefault(message, entry)
                if first.at != entry.at:
                    self._break_places("it has two places in the log", first, entry, device)
                there = message_at.setdefault(entry.at, entry)
                if there.message != message:
                    self._break_places("two messages stand at one place of the log", there, entry, device)
        return dict(sorted(truth.items(), key=lambda item: item[1].at))

    def _break_places(self, why: str, one: Entry, other: Entry, device: int) -> None:
        names = f"one for {self._name(one.place[0])}, one for {self._name(device)}"
        self._break("diverged", f"{why}, {names}", [one.place, other.place], device)

    def _judge_outside(self, device: int, log: Log, terms: Collection[_Term]) -> None:
        for message, entry in log.items():
            if not any(term.has(entry.at) for term in terms):
                why = f"{self._name(device)} got what was said while its user was no member"
                self._break("phantom", why, [*self._evidence.said(message), entry.place], device)

    def _judge_missing(self, device: int, log: Log, term: _Term, truth: Mapping[int, Entry]) -> None:
        for message, having in self._due(device, log, term, truth):
            if message not in log:
                said = self._evidence.said(message)
                if self._evidence.messages.outcome[message] == STORED:
                    why = f"it was answered ok, and {self._name(device)} never got it"
                    self._break("lost", why, said, device)
                else:
                    why = f"{self._name(having.place[0])} got it, and {self._name(device)} never did"
                    self._break("diverged", why, [*said, having.place], device)

    def _due(self, device: int, log: Log, term: _Term, truth: Mapping[int, Entry]) -> Iterator[tuple[int, Entry]]:
        """The messages of the term that the device must have. What it said itself does not show what it was given."""
        end = term.end
        if end < inf:
            author = self._evidence.messages.author
            given = [entry.at for message, entry in log.items() if author[message] != device and term.has(entry.at)]
            end = max(given, default=term.begin)
        for message, entry in truth.items():
            if term.begin < entry.at <= end:
                yield message, entry
