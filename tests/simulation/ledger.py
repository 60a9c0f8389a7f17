"""All that was ever stored, and the judgement over a finished history: the delivery contract.

1. A message that was answered `ok` is in the recipient's log and in the sender's own, before the answer is given.
2. Every device of both has it, exactly once; all devices of a user see one identical log. What the store has cut off
   meanwhile may be missing, and then the device was told so. (And see `Device.may_never_hear_of`.)
3. A message without an answer is there once or not at all; in the sender's own log only if it is in the recipient's.
4. What one device says to one user is in one order, the order in which it was said, in every log. Excepted is what had
   the answer `unavailable`, or would have had it: its outcome is unknown, and a client that goes on does so knowingly.
5. Nothing is there that nobody sent.
6. What a failover takes away comes back from the clients that sent it: in the end it counts as if it had never gone.
"""

import json

from imserver.model import Entry, position_order
from tests.model_database import Database
from tests.simulation.device import Device, Key, order


class Ledger:
    """Reads the logs of the store as they grow, so that what is cut off stays known."""

    def __init__(self, database: Database, devices: list[Device]) -> None:
        self._database = database
        self._devices = {(device.user, device.name): device for device in devices}
        self._read_upto: dict[str, tuple[int, int]] = {}
        self.logs: dict[str, dict[str, Key]] = {device.user: {} for device in devices}
        self._keys: dict[str, set[Key]] = {device.user: set() for device in devices}
        self.lost: dict[str, dict[str, Key]] = {device.user: {} for device in devices}  # what failovers took away

    def read(self, user: str) -> dict[str, Key]:
        """Position -> message, all that ever were in the user's log."""
        log, upto = self.logs[user], self._read_upto.get(user, (0, 0))
        new: list[Entry] = []
        for entry in reversed(self._database.accounts[user].log):
            if position_order(entry.at) <= upto:
                break
            new.append(entry)
        for entry in reversed(new):
            key = self._checked(entry)
            assert key not in self._keys[user], f"stored twice in the log of {user}: {key}"
            self._keys[user].add(key)
            log[entry.at.decode()] = key
            self._read_upto[user] = position_order(entry.at)
        return log

    def kept(self, user: str) -> set[str]:
        """Positions of what has not been cut off."""
        return {entry.at.decode() for entry in self._database.accounts[user].log}

    def before_failover(self) -> dict[str, set[str]]:
        """To be given to `after_failover`."""
        for user in self.logs:
            self.read(user)
        return {user: self.kept(user) for user in self.logs}

    def after_failover(self, before: dict[str, set[str]]) -> None:
        for user, log in self.logs.items():
            for at in sorted(before[user] - self.kept(user)):
                self.lost[user][at] = key = log.pop(at)
                self._keys[user].discard(key)

    def _was_at(self, user: str, at: str) -> Key | None:
        return self.logs[user].get(at) or self.lost[user].get(at)

    def _checked(self, entry: Entry) -> Key:
        """No phantoms: whatever is there was said so."""
        said = json.loads(entry.content)
        sender, message_id = self._devices[(said["from"], said["device"])], said["id"]
        assert said["to"] == sender.sent.get(message_id), f"nobody sent {said}"
        assert said["body"] == sender.body(message_id), f"not as it was sent: {said}"
        return (said["from"], said["device"], message_id)

    def has(self, user: str, key: Key) -> bool:
        if user not in self.logs:
            return False
        self.read(user)
        return key in self._keys[user]

    # -- the judgement

    def on_confirmed(self, device: Device, message_id: str, at: str) -> None:
        """Stored, then acknowledged."""
        key, to = device.key(message_id), device.sent[message_id]
        was_lost = key in self.lost[to].values()
        assert self.has(to, key) or was_lost, f"{key} was confirmed, and {to} does not have it"
        self.read(device.user)
        assert self._was_at(device.user, at) == key, f"{key} was confirmed, and its sender does not have it there"

    def judge(self) -> None:
        for user in self.logs:
            self.read(user)
        for device in self._devices.values():
            self._judge_told(device)
            self._judge_sent(device)
            self._judge_order(device)

    def _judge_told(self, device: Device) -> None:
        log, kept = self.logs[device.user], self.kept(device.user)
        assert device.synced is not None, f"{device} was never told that it has all"
        for at, key in device.known.items():
            assert self._was_at(device.user, at) == key, f"{device} was told {key} at {at}, and the log is another"
        for at, key in log.items():
            if at not in device.known and not device.may_never_hear_of(key):
                assert at not in kept, f"{device} never got {key} at {at}"
                assert device.was_told_of_gap(at), (
                    f"{device} never got {key} at {at}, which was cut off, and wasn't told"
                )

    def _judge_sent(self, device: Device) -> None:
        answered = set(device.confirmed) | set(device.refused)
        assert answered | device.given_up == set(device.sent), f"{device} has no answer to all it sent"
        for message_id, to in device.sent.items():
            key = device.key(message_id)
            if message_id in device.refused:
                assert (to, device.refused[message_id]) == ("nobody", "not-found")
                assert not any(self.has(user, key) for user in self.logs), f"{key} was refused, and stored"
            elif message_id in device.confirmed:
                assert self.has(to, key), f"{key} was confirmed, and {to} has lost it"
                at = device.confirmed[message_id]
                assert self.logs[device.user].get(at) == key, f"{key} was confirmed, and its sender has lost it"
            elif self.has(device.user, key):
                # Who gives up a message that is half stored does not bring back what a failover takes of it.
                was_lost = key in self.lost[to].values()
                assert self.has(to, key) or was_lost, f"{device} shows {key} as sent, and {to} does not have it"

    def _judge_order(self, device: Device) -> None:
        unsure = device.unsure | device.given_up
        for user, log in self.logs.items():
            said = [key for key in device.said_to(user) if key[2] not in unsure]
            counted = set(said)
            for owner in {user: log, device.user: self.logs[device.user]}:
                stored = [key for _, key in sorted(self.logs[owner].items(), key=_by_position) if key in counted]
                assert stored == said, f"{device} said {said} to {user}, and the log of {owner} has {stored}"


def _by_position(item: tuple[str, Key]) -> tuple[int, ...]:
    return order(item[0])
