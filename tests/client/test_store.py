"""A client with a store, against the real server, on trio and on asyncio; killed, cut off, and alone."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.to_thread
import imclient
import pytest
from imclient.events import OWN_LOG
from imclient.file import File

from tests.client.program import ROOT, tcp_url
from tests.client.test_library import on_both, register
from tests.server import Server

TALKER = Path(__file__).parent / "talker.py"
LIVES = 8
SHARE = 30  # of the messages to a program come in each of its lives
MESSAGES = SHARE * (LIVES + 1)  # each way


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "alice.db"


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@on_both
def test_what_is_queued_while_the_server_is_away_is_sent_by_the_next_run(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice, bob = name("alice"), name("bob")
    enter = partial(imclient.connect, tcp_url(server, alice), store=store)

    async def first() -> None:
        await register(server, alice, bob)
        async with enter(password="secret") as me, imclient.connect(tcp_url(server, bob), password="secret") as b:
            await me.people.add(bob)
            await b.people.accept(alice)
            await me.send(bob, "before")
            await b.send(alice, "hello")
            assert (await anext(me.messages())).body == "hello"
            await me.people.read()

    async def away() -> None:
        async with enter() as me:
            assert me.state is not imclient.State.LIVE
            assert list(me.people.contacts) == [bob]
            page = await me.history(bob)
            assert page.local
            assert [(m.sender, m.body) for m in page.messages] == [(alice, "before"), (bob, "hello")]
            assert [(c.partner, c.last.body) for c in await me.local.conversations()] == [(bob, "hello")]
            ids.extend([await me.queue(bob, body) for body in ("one", "two")])
            with anyio.move_on_after(0.05):
                await me.send(bob, "never mind")
            assert me.unsent == len(ids)

    async def again() -> None:
        async with enter() as me, imclient.connect(tcp_url(server, bob), password="secret") as b:
            messages = b.messages()
            received = [m for m in [await anext(messages) for _ in range(7)] if m.sender == alice]
            assert [m.body for m in received] == ["before", "one", "two", "one", "two", "three"]
            assert [m.id for m in received[1:5]] == ids
            await me.wait_sent()
            page = await me.history(bob)
            assert not page.local
            kept = await me.local.history(bob)
            assert [(m.at, m.id, m.body) for m in kept.messages] == [(m.at, m.id, m.body) for m in page.messages]

    async def third() -> None:
        async with enter() as me:
            await me.queue(bob, "three")

    ids: list[str] = []
    anyio.run(first, backend=loop)
    with stopped(server):
        anyio.run(away, backend=loop)
        anyio.run(away, backend=loop)  # what an earlier run has queued stays
        anyio.run(third, backend=loop)
    anyio.run(again, backend=loop)


@on_both
def test_a_store_is_one_programs_and_one_devices(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice = name("alice")
    enter = partial(imclient.connect, tcp_url(server, alice), store=store)

    async def main() -> None:
        await register(server, alice)
        async with enter(password="secret", device="desk") as me:
            with pytest.raises(imclient.SetupError, match="in use by another program"):
                async with enter():
                    pass
        with pytest.raises(imclient.BadRequest, match="the store is that of the device desk, not of phone"):
            async with enter(device="phone"):
                pass
        async with enter() as me:
            assert me.device == "desk"
            await me.wait_synced()

    anyio.run(main, backend=loop)


@on_both
def test_a_program_that_is_killed_again_and_again_loses_and_doubles_nothing(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    """Alice's program is killed while both talk, and once the server's workers are, too."""
    alice, bob = name("alice"), name("bob")
    command = [sys.executable, str(TALKER), tcp_url(server, alice), str(store), bob, str(MESSAGES), loop]
    chance = random.Random(loop)
    printed: list[int] = []

    def live(lines: int | None) -> None:
        """One life of the program, cut short after so many lines; None: to the end."""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
        ) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout, 1):
                printed.append(int(line))
                if count == lines:
                    process.kill()

    async def main() -> None:
        await register(server, alice, bob)
        async with imclient.connect(tcp_url(server, bob), password="secret") as b:
            for life in range(LIVES):
                await queue(b, alice, range(life * SHARE, (life + 1) * SHARE))
                await anyio.to_thread.run_sync(live, chance.randrange(1, SHARE))
                if life == LIVES // 2:
                    await anyio.to_thread.run_sync(server.kill_workers)
            await queue(b, alice, range(LIVES * SHARE, MESSAGES))
            await anyio.to_thread.run_sync(live, None)
            async with imclient.connect(tcp_url(server, alice), store=store) as me:
                await me.wait_sent()  # what the last life had only queued
            messages = b.messages()
            received = [(await anext(messages)).body for _ in range(MESSAGES)]
        assert received == list(map(str, range(MESSAGES)))

    anyio.run(main, backend=loop)
    # Each line is one that was taken: at least once, and in order but for where a life began anew.
    assert set(printed) == set(range(MESSAGES))
    assert sum(later < earlier for earlier, later in pairwise(printed)) <= LIVES
    file = File(store, f"{alice}@{server.tcp[0]}:{server.tcp[1]}")
    assert file.load().outbox == []
    page = file.history(bob, None, 10 * MESSAGES)
    for who in (alice, bob):
        assert [m.body for m in page.messages if m.sender == who] == list(map(str, range(MESSAGES)))
    file.close()


async def queue(me: imclient.Client, to: str, numbers: range) -> None:
    for number in numbers:
        await me.queue(to, str(number))


@on_both
def test_what_the_server_was_told_is_in_the_file(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice, bob = name("alice"), name("bob")

    async def main() -> None:
        await register(server, alice, bob)
        async with imclient.connect(tcp_url(server, bob), password="secret") as b:
            await b.send(alice, "one")
            await b.send(alice, "two")
            await b.send(alice, "three")
        async with imclient.connect(tcp_url(server, alice), password="secret", store=store, device="desk") as me:
            messages = me.messages()
            first, second = await anext(messages), await anext(messages)
            assert second in (await me.local.history(bob)).messages
            assert me.cursors == {OWN_LOG: first.at}
            me.ack(second)
        # Without the store, it goes on where the server knows that the device was: behind what was acknowledged.
        async with imclient.connect(tcp_url(server, alice), password="secret", device="desk") as me:
            assert (await anext(me.messages())).body == "three"

    anyio.run(main, backend=loop)
    file = File(store, f"{alice}@{server.tcp[0]}:{server.tcp[1]}")
    saved = file.load()
    assert saved.cursors[OWN_LOG] == saved.done[-1][1]
    file.close()


FULL = """
import resource, sys, anyio, imclient

async def main(url, store):
    async with imclient.connect(url, password="secret", store=store) as me:
        await me.wait_synced()
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, most))
        while True:
            await me.queue(me.user, "x" * 20_000)

anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
"""


@on_both
def test_a_file_that_cannot_be_written_ends_the_session(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice = name("alice")
    anyio.run(register, server, alice)
    done = subprocess.run(
        [sys.executable, "-c", FULL, tcp_url(server, alice), str(store), loop],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"SetupError: {store} can't be used: " in done.stderr.splitlines()[-1]


@on_both
def test_what_was_changed_is_in_the_file_as_well(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice, bob = name("alice"), name("bob")

    async def main() -> None:
        await register(server, alice, bob)
        async with imclient.connect(tcp_url(server, alice), password="secret", store=store) as me:
            kept = await me.send(bob, "one")
            gone = await me.send(bob, "two")
            await me.edit(kept, "won")
            await me.delete(gone)
            page = await me.local.history(bob)
            assert [(m.id, m.body) for m in page.messages] == [(kept.id, "one")]
            [edited, deleted] = page.amendments
            assert isinstance(edited, imclient.Edited)
            assert (edited.of.id, edited.body) == (kept.id, "won")
            assert isinstance(deleted, imclient.Deleted)
            told = (await me.history(bob)).amendments
            assert [(it.id, it.stamp) for it in told] == [(it.id, it.stamp) for it in (edited, deleted)]

    anyio.run(main, backend=loop)


@on_both
def test_groups_are_kept_and_read_on_by_the_next_run(
    server: Server, name: Callable[[str], str], store: Path, loop: str
) -> None:
    alice, bob = name("alice"), name("bob")

    async def main() -> None:
        await register(server, alice, bob)
        enter = partial(imclient.connect, tcp_url(server, alice), password="secret", store=store)
        async with imclient.connect(tcp_url(server, bob), password="secret") as b:
            async with enter() as me:
                group = await me.groups.create("Tea", members=[bob])
                await me.send(group, "one")
                await b.send(group, "two")
                two = await anext(me.messages())
                assert two.body == "two"
                me.ack(two)
            await b.send(group, "three")
            async with enter() as me:
                assert (await anext(me.messages())).body == "three"
                page = await me.local.history(group)
                assert [(m.sender, m.body) for m in page.messages] == [(alice, "one"), (bob, "two"), (bob, "three")]
                assert [c.partner for c in await me.local.conversations()] == [group]

    anyio.run(main, backend=loop)
    file = File(store, f"{alice}@{server.tcp[0]}:{server.tcp[1]}")
    assert len(file.load().cursors) == 1 + 1  # the own log, and the group's
    file.close()
