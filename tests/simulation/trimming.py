"""The store cuts a log, as its bounds tell it to: the oldest entries leave the dedupe index, then the log.

The dedupe window is the server's promise that a repeat which comes within it is recognized. So the simulation cuts off
only what no repeat is on its way of: no copy of the send, no call of a lost link, and nothing that its sender would
still repeat. What happens beyond the window is a known hole (tests/simulation/planted.py).
"""

from imserver.model import position_order
from imserver.store.calls import Bounds
from tests.model_database import Database
from tests.simulation.device import Device, Key
from tests.simulation.ledger import Ledger


def trim(database: Database, user: str, ledger: Ledger, devices: list[Device], *, most: int, late: bool) -> int:
    """Cuts off up to `most` entries. Returns how many. `late`: calls of lost links may still come."""
    log, kept = ledger.read(user), ledger.kept(user)
    awaited = awaited_by(devices, ledger)
    settled: list[str] = []
    for at in log:
        if late or len(settled) == most or log[at] in awaited:
            break
        if at in kept:
            settled.append(at)
    if not settled:
        return 0
    end = position_order(settled[-1].encode())[0] + 1
    bounds = Bounds(most_entries=1 << 30, longest_age_seconds=0, dedupe_seconds=0)
    database.trim(user, end, bounds)
    return len(settled)


def awaited_by(devices: list[Device], ledger: Ledger) -> set[Key]:
    """Messages of which a repeat may still come: also of what a failover has taken away, and its sender will bring."""
    copies = {device.key(message_id) for device in devices for message_id, count in device.copies.items() if count}
    lost = {
        device.key(message_id)
        for device in devices
        for message_id, to in device.kept.items()
        if not all(ledger.has(user, device.key(message_id)) for user in (to, device.user))
    }
    return copies | lost | {device.key(message_id) for device in devices for message_id in device.outbox}
