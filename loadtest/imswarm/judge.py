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
from collections import defaultdict
from collections.abc import Sequence

from imswarm.court import Court, Log, Verdict, Violation
from imswarm.evidence import STORED, Evidence, is_group
from imswarm.history import History

__all__ = ["KINDS", "Verdict", "Violation", "judge", "judge_evidence"]

KINDS = ("lost", "doubled", "reordered", "phantom", "diverged")


def judge(history: History) -> Verdict:
    """What is wrong with this history; nothing if all is well."""
    return judge_evidence(Evidence(history))


def judge_evidence(evidence: Evidence) -> Verdict:
    """The same, where the history has been read already."""
    court = _UserCourt(evidence)
    court.judge()
    return court.verdict


class _UserCourt(Court):
    """The logs of users."""

    def judge(self) -> None:
        for stray in self._evidence.strays:
            owner = self._evidence.devices[stray.lines[-1][0]]
            self._break(stray.kind, f"{owner}: {stray.why}", stray.lines, stray.lines[-1][0])
        concerned = self._messages_by_user()
        for user, devices in self._evidence.devices_by_user().items():
            self._judge_user(user, devices, concerned.get(user, array("I")))

    def _messages_by_user(self) -> dict[str, array[int]]:
        """The messages sent to or by each user."""
        messages, devices = self._evidence.messages, self._evidence.devices
        found: dict[str, array[int]] = defaultdict(lambda: array("I"))
        for message, (author, to) in enumerate(zip(messages.author, messages.to, strict=True)):
            found[to].append(message)
            if devices[author].user != to and not is_group(to):
                found[devices[author].user].append(message)
        return found

    def _judge_user(self, user: str, devices: Sequence[int], concerned: array[int]) -> None:
        logs = {device: self._log_of(device, user, concerned) for device in devices}
        for device, log in logs.items():
            self._judge_turns(device, log)
        for device, log in logs.items():
            self._judge_places(device, log, logs)
        for device, log in logs.items():
            self._judge_missing(device, log, logs, concerned)
        for device, log in logs.items():
            if device not in self._guilty:
                self._judge_chain(device, log, user, self._evidence.starts[device])

    def _judge_places(self, device: int, log: Log, logs: dict[int, Log]) -> None:
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

    def _judge_same_place(self, device: int, log: Log, others: Log) -> None:
        there = {entry.at: entry for entry in others.values()}
        for entry in log.values():
            theirs = there.get(entry.at)
            if theirs is not None and theirs.message not in log and entry.message not in others:
                why = f"{self._name(theirs.place[0])} and {self._name(device)} have different entries at one place"
                self._break("diverged", why, [theirs.place, entry.place], device)

    def _judge_missing(self, device: int, log: Log, logs: dict[int, Log], concerned: array[int]) -> None:
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
