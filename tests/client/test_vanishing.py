"""What vanishes, on the client's side: threads and files forget it in time; all devices show the same."""

from collections.abc import Callable
from pathlib import Path

import anyio
import imclient
import trio
from hypothesis import given
from hypothesis import strategies as st
from imclient.amendments import Edited, Reacted
from imclient.core import Replica
from imclient.events import OWN_LOG, Message
from imclient.file import File
from imclient.journal import Kept
from imclient.keeping import Keeper
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity
from imclient.text import Transcript
from imclient.thread import Thread
from trio.testing import MockClock

from imserver.model import DeviceId, UserId
from imserver.protocol.extras import Reference
from tests.client.program import tcp_url
from tests.client.test_file import ACCOUNT
from tests.client.test_library import on_both, register
from tests.server import Server


def message(id: str, expires: int | None) -> Message:
    return Message(at=f"{ord(id)}-0", sender="bob", device="d", to="alice", id=id, body=id, expires=expires)


def edit(id: str, stamp: int, expires: int | None) -> Edited:
    of, at = Reference("bob", "d", id), f"{1000 + stamp}-0"
    return Edited(
        at=at, of=of, sender="bob", device="d", to="alice", id=f"e{stamp}", stamp=stamp, body=at, expires=expires
    )


EXPIRES = {"a": 5, "b": 9, "c": None}
KNOWN: list[Message | Edited] = [
    *(message(id, expires) for id, expires in EXPIRES.items()),
    *(edit(id, stamp, expires) for id, expires in EXPIRES.items() for stamp in (1, 2)),
]


@given(st.permutations(KNOWN), st.lists(st.sampled_from([*KNOWN, 3, 5, 7]), max_size=12), st.sampled_from([4, 5, 8, 9]))
def test_devices_that_know_the_same_show_the_same_at_any_time(
    order: list[Message | Edited], more: list[Message | Edited | int], now: int
) -> None:
    """In whatever order they came to know it, how often, and whenever they have looked at the clock in between."""
    device, other = Thread(), Thread()
    for what in (*more, *order):
        if isinstance(what, int):
            device.expire(min(what, now))
        else:
            device.add(what)
    for known in KNOWN:
        other.add(known)
    device.expire(now)
    other.expire(now)
    assert device.lines() == other.lines()
    assert [line.message.id for line in other.lines()] == [id for id, at in EXPIRES.items() if at is None or at > now]
    due = [at for at in EXPIRES.values() if at is not None and at > now]
    assert device.next_expiry == other.next_expiry == min(due, default=None)


def test_nothing_of_it_is_left() -> None:
    thread, of = Thread(), Reference("bob", "d", "a")
    thread.add(message("a", 5))
    thread.add(Reacted(at="9-0", of=of, sender="alice", device="d", to="bob", id="r", stamp=9, emoji="+"))
    assert thread.expire(4) == []
    assert thread.expire(5) == [of]
    assert thread.line(of) is None
    assert thread.expire(6) == []


def test_a_file_forgets_it_in_time_and_by_itself(tmp_path: Path) -> None:
    now = 1000.0
    file = File(tmp_path / "alice.db", ACCOUNT, lambda: now)
    kept = [Kept(OWN_LOG, what.at, what) for what in (message("a", 1060), edit("a", 1, 1060), message("b", None))]
    assert file.write(kept, {OWN_LOG: "1001-0"}, {}) == 60
    page = file.history("bob", None, 10)
    assert [what.id for what in (*page.messages, *page.amendments)] == ["a", "b", "e1"]
    now = 1059.5
    assert file.write([], {OWN_LOG: "1001-0"}, {}) == 0.5
    now = 1060.0
    page = file.history("bob", None, 10)
    assert [what.id for what in (*page.messages, *page.amendments)] == ["b"]
    assert file.write([], {OWN_LOG: "1001-0"}, {}) is None
    file.close()


def test_a_running_client_has_its_file_forget_in_time(tmp_path: Path) -> None:
    """Nothing else happens; the clock is one that jumps to what is waited for."""
    clock = MockClock(autojump_threshold=0)
    file = File(tmp_path / "alice.db", ACCOUNT, lambda: 1000.0 + clock.current_time())
    keeper = Keeper(file, file.load())
    identity = Identity(user=UserId("alice"), device=DeviceId("d"), password="secret")
    outbox = Outbox("run", keeper.journal)
    replica = Replica(identity, Reader({}, 1 << 20, keeper.journal), outbox, lambda: 0.5, keeper.journal)
    gone = trio.Event()

    def kept() -> int:
        [(count,)] = file._sqlite.execute("SELECT count(*) FROM entries")
        return int(count)

    def told(events: object) -> None:  # after each write
        if clock.current_time() > 0 and not kept():
            gone.set()

    keeper.start(replica, told)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.run)
            keeper.journal.add(Kept(OWN_LOG, "97-0", message("a", 1500)))
            await keeper.flush()
            assert kept() == 1
            await gone.wait()
            assert clock.current_time() >= 500
            nursery.cancel_scope.cancel()
        await keeper.aclose()

    trio.run(main, clock=clock)


@on_both
def test_both_sides_and_the_file_know_when(
    server: Server, name: Callable[[str], str], tmp_path: Path, loop: str
) -> None:
    async def main() -> None:
        alice, bob = name("alice"), name("bob")
        await register(server, alice, bob)
        mine = imclient.connect(tcp_url(server, alice), password="secret", store=tmp_path / "alice.db")
        async with mine as a, imclient.connect(tcp_url(server, bob), password="secret") as b:
            sent = await a.send(bob, "psst", ttl=3600)
            assert sent.expires is not None
            assert (await anext(b.messages())).expires == sent.expires
            await a.edit(sent, "hush")
            page = await a.history(bob)
            [kept], [edited] = page.messages, page.amendments
            assert kept.expires == sent.expires
            assert isinstance(edited, Edited)
            assert edited.expires == sent.expires
            local = await a.local.history(bob)
            assert local.messages == [kept]
            assert [what.expires for what in local.amendments if isinstance(what, Edited)] == [sent.expires]

    anyio.run(main, backend=loop)


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = File(tmp_path / "alice.db", ACCOUNT, lambda: 1000.0)
    file._sqlite.execute("DROP INDEX expiring")
    file.close()
    file = File(tmp_path / "alice.db", ACCOUNT, lambda: 1000.0)
    assert file.write([Kept(OWN_LOG, "97-0", message("a", 1003))], {}, {}) == 3
    file.close()


def test_the_terminal_says_when() -> None:
    line = Transcript("alice", "d", colours=False).line(message("a", 1_795_479_920), "bob")
    assert "bob: a (vanishes on " in line
    assert "vanishes" not in Transcript("alice", "d", colours=False).line(message("a", None), "bob")
