"""Judges what contacts were shown of one another. Pure.

- **false-offline**: a contact was shown offline though a device of it was there, or had been away for less than the
  grace.
- **false-online**: a contact was still shown, or was shown again, though all its devices had been gone for longer than
  that may take: `tell_seconds` where they had said so, else the grace or the lease, whichever is longer, and that.
- **untold**: a contact was there for as long, and who was there, too, was not shown it.

From the outside nobody knows the moment in which the server lets a device in, or sees it go. So a device is *certainly*
there from the answer to its login until its connection ends or it logs out, and *possibly* there from its attempt to
connect until all that is over; it is judged by the one or the other, whichever favours the server. So is the time that
one device gives the others of its user: where one of them has logged out, offline is right.

A fault may hinder the news: then the time begins anew when it is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from imswarm.court import Place, Verdict, Violation
from imswarm.evidence import Evidence
from imswarm.history import Dial, Gone, Here, Seen, Sighting

FALSE_OFFLINE, FALSE_ONLINE, UNTOLD = PRESENCE_KINDS = ("false-offline", "false-online", "untold")
_OFFLINE = "offline"
_SLACK_SECONDS = 1.0
"""So much later than the server a client may see that its connection has ended."""
_MOST_SHOWN = 20


class Terms(NamedTuple):
    """What the server promises: `tell_seconds` is what the telling itself may take."""

    grace_seconds: float
    lease_seconds: float
    tell_seconds: float = 2.0

    @property
    def longest_seconds(self) -> float:
        """Until everybody knows, whatever became of who should have told."""
        return max(self.grace_seconds, self.lease_seconds) + self.tell_seconds


class Hindrance(NamedTuple):
    """The time of a fault and its aftermath. `may_flap`: it excuses that somebody who is there is shown offline."""

    begin: float
    end: float
    may_flap: bool = False


@dataclass
class PresenceVerdict(Verdict):
    """`absences`: how often it was looked whether a contact that had gone was shown offline in time."""

    absences: int = 0


class _Stay(NamedTuple):
    """A device, or some device of a user, is there. `said`: it logged out; the places are of the lines that say so."""

    begin: float
    end: float
    said: bool
    came: Place | None
    went: Place | None


_AWAY_BEFORE = _Stay(-inf, -inf, True, None, None)


def _begin_of(stay: _Stay) -> float:
    return stay.begin


class _Shown(NamedTuple):
    time: float
    show: str
    place: Place


class _Session(NamedTuple):
    """A session and what it was shown, by contact."""

    stay: _Stay
    shown: Mapping[str, Sequence[_Shown]]

    def shown_at(self, user: str, time: float) -> _Shown | None:
        """What it was shown last; None: nothing, so the user is offline to it."""
        return next((each for each in reversed(self.shown.get(user, ())) if each.time <= time), None)


class _Absence(NamedTuple):
    """Between two stays. `said`: who left last; `is_told`: all who left lately had said so, `is_said`: one had."""

    last: _Stay
    end: float
    is_told: bool
    is_said: bool

    @property
    def begin(self) -> float:
        return self.last.end


def judge_presence(
    evidence: Evidence, contacts: Mapping[str, Collection[str]], terms: Terms, hindrances: Sequence[Hindrance]
) -> PresenceVerdict:
    """`contacts`: of each user. `hindrances`: those that may delay news, and those that may make them false."""
    return _Court(evidence, contacts, terms, hindrances).verdict()


class _Court:
    def __init__(
        self,
        evidence: Evidence,
        contacts: Mapping[str, Collection[str]],
        terms: Terms,
        hindrances: Sequence[Hindrance],
    ) -> None:
        self._evidence, self._contacts, self._terms = evidence, contacts, terms
        self._hindrances = sorted(hindrances)
        self._verdict = PresenceVerdict()
        self._devices = evidence.devices_by_user()
        self._sessions = [_sessions(device, each) for device, each in enumerate(evidence.sightings)]
        self._certain = {user: self._certain_stays(devices) for user, devices in self._devices.items()}
        self._possible = {user: self._possible_stays(devices) for user, devices in self._devices.items()}

    def _certain_stays(self, devices: Sequence[int]) -> list[_Stay]:
        stays = (session.stay for device in devices for session in self._sessions[device])
        return sorted(stays, key=_begin_of)

    def _possible_stays(self, devices: Sequence[int]) -> list[_Stay]:
        stays = (stay for device in devices for stay in _possible_stays(device, self._evidence.sightings[device]))
        return sorted(stays, key=_begin_of)

    def verdict(self) -> PresenceVerdict:
        for user in self._certain:
            absences = list(self._absences(self._certain[user]))
            possible = list(self._absences(self._possible[user]))
            for session in self._audience(user):
                self._judge_offline(user, absences, session)
                self._judge_online(user, possible[1:], session)  # before the first time nobody had heard of it
                self._judge_told(user, session)
        return self._verdict

    def _audience(self, user: str) -> Iterator[_Session]:
        for contact in self._contacts.get(user, ()):
            for device in self._devices.get(contact, ()):
                yield from self._sessions[device]

    def _absences(self, stays: Sequence[_Stay]) -> Iterator[_Absence]:
        """In which no device was there; the first one is before all of them came."""
        last, lately = _AWAY_BEFORE, self._terms.longest_seconds
        for stay in [*stays, _Stay(inf, inf, False, None, None)]:
            if stay.begin > last.end:
                gone = [each for each in stays if last.end - lately <= each.end <= last.end]
                yield _Absence(last, stay.begin, all(each.said for each in gone), any(each.said for each in gone))
            last = max(last, stay, key=lambda each: each.end)

    # -- what is judged

    def _judge_offline(self, user: str, absences: Sequence[_Absence], session: _Session) -> None:
        for shown in session.shown.get(user, ()):
            if shown.show != _OFFLINE or any(self._justifies(absence, shown.time) for absence in absences):
                continue
            if not any(fault.may_flap and fault.begin <= shown.time <= fault.end for fault in self._hindrances):
                stay = max((stay for stay in self._certain[user] if stay.begin <= shown.time), key=_begin_of)
                places = [stay.came, stay.went if stay.end <= shown.time else None, shown.place]
                self._break(FALSE_OFFLINE, f"{user} was shown offline, and was there", places)

    def _justifies(self, absence: _Absence, time: float) -> bool:
        wait = 0.0 if absence.is_said else self._terms.grace_seconds
        right = absence.begin + wait - _SLACK_SECONDS
        return right <= min(time, absence.end) and time <= self._due(absence.end, self._terms.tell_seconds)

    def _judge_online(self, user: str, absences: Sequence[_Absence], session: _Session) -> None:
        for absence in absences:
            seconds = self._terms.tell_seconds if absence.is_told else self._terms.longest_seconds
            due = self._due(absence.begin, seconds, self._terms.longest_seconds)
            begin, end = max(due, session.stay.begin), min(absence.end, session.stay.end)
            if begin >= end:
                continue
            self._verdict.absences += 1
            later = (each for each in session.shown.get(user, ()) if begin < each.time < end)
            shown = session.shown_at(user, begin)
            wrong = next((each for each in [shown, *later] if each is not None and each.show != _OFFLINE), None)
            if wrong is not None:
                why = f"{user} had been gone for {begin - absence.begin:.1f} s, and was still shown"
                self._break(FALSE_ONLINE, why, [wrong.place, absence.last.went])

    def _judge_told(self, user: str, session: _Session) -> None:
        """At the end of each time in which both were there."""
        for stay in self._certain[user]:
            begin, end = max(stay.begin, session.stay.begin), min(stay.end, session.stay.end)
            longest = self._terms.longest_seconds
            late = [fault.end + longest for fault in self._hindrances if fault.begin < end]
            if max(begin + longest, *late, -inf) >= end:
                continue
            shown = session.shown_at(user, end)
            if shown is None or shown.show == _OFFLINE:
                why = f"{user} had been there for {end - begin:.1f} s, and was not shown"
                self._break(UNTOLD, why, [stay.came, session.stay.came, shown.place if shown else None])

    def _due(self, since: float, seconds: float, seconds_anew: float | None = None) -> float:
        """So many seconds later; where a fault hindered it, after that again (or `seconds_anew` after)."""
        due, again = since + seconds, seconds if seconds_anew is None else seconds_anew
        for fault in self._hindrances:
            if fault.begin <= due and fault.end >= since:
                due = max(due, fault.end + again)
        return due

    def _break(self, kind: str, why: str, places: Iterable[Place | None]) -> None:
        self._verdict.counts[kind] += 1
        if self._verdict.counts[kind] <= _MOST_SHOWN:
            lines = [self._evidence.line(*place) for place in places if place is not None]
            lines.sort(key=lambda line: line[1].time)
            self._verdict.violations.append(Violation(kind, why, lines))


# -- from sightings to stays


def _sessions(device: int, sightings: Iterable[tuple[int, Sighting]]) -> list[_Session]:
    """From the answer to a login to the first sign that it is over."""
    sessions: list[_Session] = []
    here: tuple[float, Place] | None = None
    shown: dict[str, list[_Shown]] = defaultdict(list)

    def close(end: float, said: bool, went: Place | None) -> None:
        if here is not None:
            sessions.append(_Session(_Stay(here[0], end, said, here[1], went), shown))

    for number, line in sightings:
        match line:
            case Here():
                here, shown = (line.time, (device, number)), defaultdict(list)
            case Seen() if here is not None:
                shown[line.user].append(_Shown(line.time, line.show, (device, number)))
            case Gone():
                close(line.time, line.said, (device, number))
                here = None
    close(inf, said=False, went=None)
    return sessions


def _possible_stays(device: int, sightings: Iterable[tuple[int, Sighting]]) -> list[_Stay]:
    """From an attempt to connect to the last sign that it is over."""
    stays: list[_Stay] = []
    said = False
    for number, line in sightings:
        match line:
            case Dial():
                stays.append(_Stay(line.time, inf, False, (device, number), None))
                said = False
            case Gone() if stays:
                said = said or line.said
                stays[-1] = stays[-1]._replace(end=line.time, said=said, went=(device, number))
    return stays
