"""A history in columns: all that the judge and the figures need of it, at some 300 bytes a message.

A million messages are five million lines. As objects they would take gigabytes; so each becomes a
row of numbers, and refers to its line by number, to be shown if it matters. Messages are rows of one
table, deliveries rows of a table for each device.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence

from imswarm.history import Begin, Change, Deliver, Device, Fail, History, Invoke, Line, Ok, Sighting, Unknown

_NEVER = -1
_COUNTER_BITS = 20
START = 0
"""What stands before the first entry of a log (`0-0`)."""
UNTOLD = (1 << 64) - 1
"""It was not told what stands before an entry."""

SENT, STORED, REFUSED, GIVEN_UP = range(4)
"""What a sender knows of a message: no answer yet, `Ok`, `Fail`, `Unknown`."""


def position_number(position: str) -> int:
    """A number in the order of the positions `<milliseconds>-<counter>`."""
    milliseconds, _, counter = position.partition("-")
    return (int(milliseconds) << _COUNTER_BITS) + int(counter)


def is_group(name: str) -> bool:
    return name.startswith("#")


def owner_of_log(to: str, sender: str, user: str) -> str | None:
    """In whose log the user is given a message: in a group's, or its own; None: in none."""
    if is_group(to):
        return to
    return user if user in (to, sender) else None


class Messages:
    """Every message that was sent, numbered; a column for each of its properties."""

    def __init__(self) -> None:
        self.author = array("I")  # the number of the device
        self.to: list[str] = []  # names are shared: one pointer each
        self.content = array("I")
        self.line = array("q")  # of its Invoke
        self.time = array("d")
        self.outcome = bytearray()
        self.answer_line = array("q")
        self.answer_time = array("d")
        self.at = array("Q")  # in the sender's own log, or in the group's

    def __len__(self) -> int:
        return len(self.to)

    def add(self, author: int, line: int, invoke: Invoke) -> int:
        self.author.append(author)
        self.to.append(sys.intern(invoke.to))
        self.content.append(invoke.content)
        self.line.append(line)
        self.time.append(invoke.time)
        self.outcome.append(SENT)
        self.answer_line.append(_NEVER)
        self.answer_time.append(0.0)
        self.at.append(START)
        return len(self.to) - 1

    def answered(self, message: int, outcome: int, line: int, answer: Ok | Fail | Unknown) -> None:
        self.outcome[message] = outcome
        self.answer_line[message] = line
        self.answer_time[message] = answer.time
        if isinstance(answer, Ok):
            self.at[message] = position_number(answer.at)


class Deliveries:
    """What one device was given of one log, in its order."""

    def __init__(self) -> None:
        self.message = array("I")
        self.line = array("q")
        self.time = array("d")
        self.at = array("Q")
        self.prev = array("Q")

    def __len__(self) -> int:
        return len(self.message)

    def add(self, message: int, line: int, delivery: Deliver) -> None:
        self.message.append(message)
        self.line.append(line)
        self.time.append(delivery.time)
        self.at.append(position_number(delivery.at))
        self.prev.append(UNTOLD if delivery.prev is None else position_number(delivery.prev))


_NOTHING = Deliveries()


class Stray:
    """A line that belongs to no message as it was sent."""

    def __init__(self, why: str, lines: Sequence[tuple[int, int]], kind: str = "phantom") -> None:
        self.kind = kind
        self.why = why
        self.lines = lines  # the number of the device, the number of its line


class Evidence:
    """Reads a history, twice: first what was sent and answered, then what was delivered."""

    def __init__(self, history: History) -> None:
        self.devices = list(history)
        self.messages = Messages()
        self.strays: list[Stray] = []
        self.starts = [START] * len(self.devices)  # behind which entry of its log each device was given all
        self.sightings: list[list[tuple[int, Sighting]]] = [[] for _ in self.devices]  # with the numbers of the lines
        # Entries that are no messages, by log: position, number of the line.
        self.changes: list[dict[str, dict[int, int]]] = [
            {} for _ in self.devices
        ]  # by log: position, number of the line
        self._history = history
        self._ids: dict[tuple[str, str], dict[str, int]] = {}
        for number, device in enumerate(self.devices):
            self._read_sendings(number, device)
        self.deliveries = [self._read_deliveries(number, device) for number, device in enumerate(self.devices)]

    def deliveries_of(self, device: int, log: str) -> Deliveries:
        return self.deliveries[device].get(log, _NOTHING)

    def line(self, device: int, number: int) -> tuple[Device, Line]:
        """A line and whose it is."""
        name = self.devices[device]
        return name, self._history[name][number]

    def devices_by_user(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, device in enumerate(self.devices):
            found.setdefault(device.user, []).append(number)
        return found

    def delayed(self) -> Iterator[tuple[int, int, float, float]]:
        """Each delivery to a recipient, which is no group: device, message, when sent, when delivered (seconds)."""
        for device, (user, _) in enumerate(self.devices):
            deliveries = self.deliveries_of(device, user)
            for message, time in zip(deliveries.message, deliveries.time, strict=True):
                if self.messages.to[message] == user:
                    yield device, message, self.messages.time[message], time

    # -- reading

    def _read_sendings(self, number: int, device: Device) -> None:
        ids = self._ids[device] = {}
        for line_number, line in enumerate(self._history[device]):
            match line:
                case Deliver():
                    pass
                case Invoke():
                    self._note_invoke(number, ids, line_number, line)
                case Ok() | Fail() | Unknown():
                    self._note_answer(number, ids, line_number, line)
                case Begin():
                    self.starts[number] = position_number(line.at)
                case Change():
                    self.changes[number].setdefault(line.log, {}).setdefault(position_number(line.at), line_number)
                case _:
                    self.sightings[number].append((line_number, line))

    def _note_invoke(self, device: int, ids: dict[str, int], number: int, line: Invoke) -> None:
        if line.id in ids:
            first = self.messages.line[ids[line.id]]
            self.strays.append(Stray("two messages of a device have one id", [(device, first), (device, number)]))
            return
        ids[line.id] = self.messages.add(device, number, line)

    def _note_answer(self, device: int, ids: dict[str, int], number: int, line: Ok | Fail | Unknown) -> None:
        message = ids.get(line.id)
        if message is None:
            self.strays.append(Stray("an answer to what was not sent", [(device, number)]))
        elif self.messages.outcome[message] != SENT:
            before = [(device, self.messages.line[message]), (device, self.messages.answer_line[message])]
            self.strays.append(Stray("answered twice", [*before, (device, number)], "doubled"))
        else:
            outcome = STORED if isinstance(line, Ok) else REFUSED if isinstance(line, Fail) else GIVEN_UP
            self.messages.answered(message, outcome, number, line)

    def _read_deliveries(self, number: int, device: Device) -> dict[str, Deliveries]:
        """By whose log it is: the user's, or a group's."""
        found: dict[str, Deliveries] = {}
        for line_number, line in enumerate(self._history[device]):
            if isinstance(line, Deliver):
                message = self._ids.get((line.sender, line.device), {}).get(line.id)
                if message is None:
                    self.strays.append(Stray("nobody sent it", [(number, line_number)]))
                    continue
                self._check_delivery(number, device, message, line_number, line)
                log = owner_of_log(self.messages.to[message], line.sender, device.user)
                if log is not None:
                    found.setdefault(log, Deliveries()).add(message, line_number, line)
        return found

    def _check_delivery(self, number: int, device: Device, message: int, line_number: int, line: Deliver) -> None:
        to, content = self.messages.to[message], self.messages.content[message]
        why = None
        if (line.to, line.content) != (to, content):
            why = "it is not what was sent"
        elif self.messages.outcome[message] == REFUSED:
            why = "it was refused, and delivered nevertheless"
        elif owner_of_log(to, line.sender, device.user) is None:
            why = f"it is none of {device.user}'s"
        if why is not None:
            self.strays.append(Stray(why, [*self.said(message), (number, line_number)]))

    def said(self, message: int) -> Iterable[tuple[int, int]]:
        """The lines that its sender wrote of a message: one, or two with the answer."""
        author, answer = self.messages.author[message], self.messages.answer_line[message]
        lines = [(author, self.messages.line[message])]
        return lines if answer == _NEVER else [*lines, (author, answer)]
