"""Marks and switches on every store; where it can be, the same calls on the model, with the same answers."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from trio.testing import trio_test

from imserver.errors import ImError, NotFound
from imserver.model import START, Entry, Place, Position, UserId
from imserver.protocol.contacts import BLOCK, Switches
from imserver.session.forwarded import Recent
from imserver.store import account_calls
from imserver.store.conversation_calls import (
    Arranged,
    Forwarded,
    HasRead,
    Kind,
    Mark,
    Marked,
    Rearranged,
    Record,
    Unheard,
)
from imserver.store.partitions import user_keys
from tests.model_circle import Rosters
from tests.model_conversations import Conversations
from tests.model_database import Database, newer
from tests.session.test_forwarded import forward
from tests.store.deployment import Deployment
from tests.store.node import Node, Said, answer, message, opened
from tests.store.test_circle import registered

ORIGIN = Place(b"pad=elsewhere.1")
SILENT = b"-"


async def read(node: Node, user: UserId, partner: str, upto: bytes) -> Any:
    return await answer(partial(node.store.conversations.read, user, partner, Position(upto), ORIGIN))


async def keep(node: Node, user: UserId, upto: bytes, device: str = "pad", forwarded: Forwarded | None = None) -> Any:
    return await answer(partial(node.store.conversations.keep, user, device, Position(upto), forwarded))


async def heard(node: Node, user: UserId, reached: bytes, upto: bytes) -> Any:
    return await answer(partial(node.store.conversations.heard, user, Position(reached), Position(upto)))


async def mark(node: Node, sender: UserId, kind: Any, partner: UserId, what: Mark) -> None:
    await answer(partial(node.store.conversations.mark, sender, kind, partner, what))


async def record(node: Node, user: UserId, partner: str) -> Record:
    return (await node.store.conversations.records(user, [partner]))[0]


async def said(node: Node, user: str, what: Said) -> bytes:
    appended = await node.append(user, what)
    assert not isinstance(appended, ImError)
    return appended.at


class Both:
    """The store and the model, with the same entries at positions of their own."""

    def __init__(self, node: Node, users: Sequence[UserId]) -> None:
        self.node, self.users = node, users
        self.database = Database(lambda *_: None)
        self.database.rosters = Rosters(self.database)
        self.model = self.database.conversations = Conversations(self.database)
        self.real_at: dict[tuple[str, bytes], bytes] = {}  # by the model's
        for user in users:
            self.database.register(user, "")

    async def say(self, user: str, what: Said) -> None:
        model: Any = self.database.append(user, what.dedupe, what.content, SILENT)
        self.real_at[user, model.at] = await said(self.node, user, what)

    def real(self, user: str, position: Any) -> Any:
        return self.real_at.get((user, position), position)

    def forwarded(self, user: str, upto: Position, chance: random.Random) -> Forwarded | None:
        """What a session would name that has everything up to `upto`; from any earlier position on."""
        log = self.database.accounts[user].log
        since = chance.randrange(len(log))
        recent = Recent(self.real(user, log[since].prev))
        for each in log[since:]:
            if not newer(each.at, upto):
                forward(recent, Entry(self.real(user, each.at), each.prev, each.content))
        real = self.real(user, upto)
        return recent.take(real, real) if chance.random() < 0.7 and not newer(log[since].prev, upto) else None

    def as_real(self, owner: str, value: Any) -> Any:
        """An answer of the model, with the positions of the store: all of one log."""
        if isinstance(value, bytes):
            return self.real(owner, value)
        if isinstance(value, tuple):
            made = [self.as_real(owner, one) for one in value]
            return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
        return [self.as_real(owner, one) for one in value] if isinstance(value, list) else value


@trio_test
@pytest.mark.parametrize("seed", range(4))
async def test_random_steps_have_the_same_results_as_on_the_model(deployment: Deployment, name: str, seed: int) -> None:
    chance = random.Random(seed)
    async with opened(deployment.url, "node") as node:
        users = await registered(node, f"{name}.a", f"{name}.b", f"{name}.c")
        both = Both(node, users)
        user, b, c = users
        for number in range(120):
            partner = chance.choice([b, c])
            log = both.database.accounts[user].log
            upto = chance.choice(log).at if log else START
            match chance.randrange(6):
                case 0 | 1:
                    sender, to = chance.choice([(partner, user), (user, partner), (partner, user)])
                    await both.say(user, message(sender, to, f'm{number} "\\"', device=chance.choice(["x", "y"])))
                case 2:
                    real = await read(node, user, partner, both.real(user, upto))
                    assert real == both.as_real(user, both.model.read(user, partner, upto, ORIGIN))
                case 3:
                    forwarded = both.forwarded(user, upto, chance) if log else None
                    real = await keep(node, user, both.real(user, upto), forwarded=forwarded)
                    expected = both.model.keep(user, "pad", upto)
                    assert real.reached == both.as_real(user, expected.reached)
                    assert sorted(real.marks) == sorted(both.as_real(user, expected.marks))  # nobody waits for another
                    if expected.reached is not None and chance.random() < 0.5:
                        real = await heard(node, user, real.reached, both.real(user, upto))
                        assert real == both.as_real(user, both.model.heard(user, expected.reached, upto))
                case 4:
                    kind: Kind = chance.choice(("read", "delivered"))
                    what = Mark(Position(b"%d-0" % chance.randrange(9)), "d", "i d")
                    await mark(node, user, kind, partner, what)
                    both.model.mark(user, kind, partner, what)
                case 5:
                    archived = chance.choice([b"-", b"0", both.real(user, upto)])
                    wanted = (chance.choice([b"1", b"0", b"-"]), chance.choice([b"1", b"-"]), archived)
                    stamp = chance.randrange(1, 50)
                    real = await node.store.conversations.arrange(user, partner, wanted, stamp, ORIGIN)
                    assert real == both.model.arrange(user, partner, wanted, stamp, b"")
            assert await record(node, user, partner) == both.as_real(user, both.model.records(user, [partner])[0])
        page, expected_page = await node.store.conversations.listed(user, 0, 0, 9), both.model.listed(user, 0, 0, 9)
        assert page.is_all
        assert page.records == both.as_real(user, expected_page.records)


@trio_test
async def test_what_is_read_is_told_to_the_other_devices_and_names_the_message(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "node") as node, opened(deployment.url, "other") as other:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        await other.attach(alice, "phone", b"other.1")
        first = await said(node, alice, message(bob, alice, "one", is_bot=True))
        own = await said(node, alice, message(alice, bob, "own"))
        expected = Mark(Position(own), "laptop", "one")
        assert await read(node, alice, bob, own) == HasRead(Position(own), expected)
        assert await read(node, alice, bob, first) == HasRead(Position(own), expected)  # it never moves back
        await other.wait_told(lambda: bool(other.marks))
        await other.settle(alice)
        assert other.marks == [Marked(alice, ORIGIN, "read", alice, bob, Position(own), expected)]


@trio_test
async def test_nobody_reads_behind_the_end_of_the_log(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        only = await said(node, alice, message(bob, alice, "one"))
        assert (await read(node, alice, bob, b"999999999999999-0")).upto == only
        assert isinstance(await read(node, UserId(f"{name}.nobody"), bob, only), NotFound)


@trio_test
async def test_a_mark_comes_to_the_devices_of_the_sender_once(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        await node.attach(alice, "pad", b"node.1")
        first, second = Mark(Position(b"5-1"), "pad", "a b"), Mark(Position(b"9-0"), "pad", "c")
        for what in (first, first, second, first):
            await mark(node, alice, "delivered", bob, what)
        await mark(node, alice, "read", bob, first)
        await mark(node, alice, "read", bob, second)
        await mark(node, alice, "delivered", bob, Mark(Position(b"8-0"), "pad", "d"))  # it has been read
        await node.settle(alice)
        assert [(what.kind, what.mark) for what in node.marks if isinstance(what, Marked)] == [
            ("delivered", first),
            ("delivered", second),
            ("read", first),
            ("read", second),
        ]
        assert await record(node, alice, bob) == Record(None, second, second)


@trio_test
async def test_who_is_blocked_is_told_nothing_and_tells_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        only = await said(node, alice, message(bob, alice, "one"))
        await node.store.circle.relate(alice, bob, str(BLOCK), 1)
        assert (await read(node, alice, bob, only)).mark is None
        await mark(node, alice, "read", bob, Mark(Position(b"5-1"), "pad", "a"))
        assert (await record(node, alice, bob)).read_by is None
        assert await keep(node, alice, only) == Unheard(None, [])
        await node.store.circle.relate(alice, bob, str(Switches(blocks=False)), 2)
        assert (await read(node, alice, bob, only)).mark is not None


@trio_test
async def test_senders_are_remembered_as_told_only_when_they_were(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob, carol = await registered(node, f"{name}.a", f"{name}.b", f"{name}.c")
        await said(node, alice, message(bob, alice, "b1"))
        await said(node, alice, message(carol, alice, "c1"))
        second = await said(node, alice, message(bob, alice, "b2"))
        unheard = await keep(node, alice, second)
        assert {sender: mark.id for sender, mark in unheard.marks} == {bob: "b2", carol: "c1"}
        assert await keep(node, alice, second, "phone") == unheard  # nobody has said that they were told
        assert await heard(node, alice, second, second) == Unheard(None, [])
        assert await keep(node, alice, second, "phone") == Unheard(None, [])
        own = await said(node, alice, message(alice, bob, "a1"))
        assert await keep(node, alice, own) == Unheard(None, [])
        third = await said(node, alice, message(bob, alice, "b3"))
        assert [mark.id for _, mark in (await keep(node, alice, third)).marks] == ["b3"]
        assert deployment.state(alice)[b"c:pad"] == third


@trio_test
async def test_where_senders_are_named_the_log_is_not_looked_into(deployment: Deployment, name: str) -> None:
    """Nobody whose messages may stand behind the watermark is left out for that."""
    async with opened(deployment.url, "node") as node:
        alice, bob, carol = await registered(node, f"{name}.a", f"{name}.b", f"{name}.c")
        first = Position(await said(node, alice, message(bob, alice, "b1")))
        second = Position(await said(node, alice, message(carol, alice, "c1")))
        named = Forwarded(first, second, [(alice, Mark(second, "pad", "own")), (carol, Mark(second, "pad", "named"))])

        async def kept() -> list[str]:
            return [mark.id for _, mark in (await keep(node, alice, second, forwarded=named)).marks]

        assert await kept() == ["c1", "b1"], "nobody has been told yet: it is looked for"
        await heard(node, alice, first, first)
        assert await kept() == ["named"]
        await node.store.circle.relate(alice, carol, str(BLOCK), 1)
        assert await kept() == []
        assert deployment.state(alice)[b"kept"] == second
        beyond = Mark(Position(b"999999999999999-0"), "pad", "b9")
        unheard = await keep(node, alice, beyond.upto, forwarded=Forwarded(second, beyond.upto, [(bob, beyond)]))
        assert unheard == Unheard(None, []), "what is not in the log was not kept"
        assert deployment.state(alice)[b"kept"] != beyond.upto


@trio_test
async def test_a_long_backlog_is_looked_through_in_steps(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        for number in range(450):
            last = await said(node, alice, message(bob, alice, f"m{number}"))
        told, unheard = [], await keep(node, alice, last)
        while unheard.reached is not None:
            told += [mark.id for _, mark in unheard.marks]
            unheard = await heard(node, alice, unheard.reached, last)
        assert told == ["m199", "m399", "m449"]


@trio_test
async def test_a_late_repeat_arranges_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        await node.attach(alice, "phone", b"node.1")
        arrange = node.store.conversations.arrange
        end = await said(node, alice, message(bob, alice, "one"))
        on = await arrange(alice, bob, (b"1", b"-", b"now"), 5, ORIGIN)
        assert on == Arranged(muted=True, archived=Position(end))
        off = await arrange(alice, bob, (b"0", b"1", b"-"), 6, ORIGIN)
        await said(node, alice, message(bob, alice, "two"))
        assert await arrange(alice, bob, (b"1", b"-", b"now"), 5, ORIGIN) == off
        await node.settle(alice)
        assert node.marks == [Rearranged(alice, ORIGIN, bob, on), Rearranged(alice, ORIGIN, bob, off)]
        assert await record(node, alice, bob) == Record(arranged=off, stamp=6)
        with pytest.raises(NotFound):
            await arrange(UserId(f"{name}.nobody"), bob, (b"1", b"-", b"-"), 5, ORIGIN)


@trio_test
async def test_the_list_comes_in_pages_and_then_only_what_changed(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, *others = await registered(node, *(f"{name}.{number}" for number in range(6)))
        listed = node.store.conversations.listed
        for other in others:
            await mark(node, alice, "read", other, Mark(Position(b"1-0"), "d", "i"))
        first = await listed(alice, 0, 0, 3)
        second = await listed(alice, 0, first.reached, 3)
        assert [partner for partner, _ in first.records + second.records] == others
        assert (await listed(alice, first.version, 0, 3)).records == []
        await mark(node, alice, "read", others[1], Mark(Position(b"2-0"), "d", "i"))
        changed = await listed(alice, first.version, 0, 3)
        assert [partner for partner, _ in changed.records] == [others[1]]
        assert not changed.is_all


@trio_test
async def test_conversations_that_changed_least_lately_are_forgotten(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (alice,) = await registered(node, name)
        link = node.store.link_of(alice)
        keys = user_keys(alice)
        await mark(node, alice, "read", UserId("x0"), Mark(Position(b"1-0"), "d", "i"))
        version = (await node.store.conversations.listed(alice, 0, 0, 1)).version
        oracle = deployment.oracle(alice)
        oracle.hset(keys.conversations, mapping={f"x{number}": b"\n\n\n\n\n" for number in range(1, 10_000)})
        oracle.zadd(keys.changes, {f"x{number}": version + number for number in range(1, 10_000)})
        oracle.hset(keys.conversations, "=v", version + 10_000)
        await mark(node, alice, "read", UserId("new"), Mark(Position(b"1-0"), "d", "i"))
        assert link.up
        assert oracle.zcard(keys.changes) == 10_001 - 500
        assert await node.store.conversations.records(alice, ["x0"]) == [Record()]
        assert (await node.store.conversations.listed(alice, version + 3, 0, 1)).is_all
        assert not (await node.store.conversations.listed(alice, version + 600, 0, 1)).is_all


@trio_test
async def test_nothing_is_left_of_an_account_that_is_erased(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        alice, bob = await registered(node, f"{name}.a", f"{name}.b")
        only = await said(node, alice, message(bob, alice, "one"))
        await read(node, alice, bob, only)
        keys = user_keys(alice)
        await node.store.link_of(alice).ask(account_calls.erase(keys), account_calls.found)
        await mark(node, alice, "read", bob, Mark(Position(b"1-0"), "d", "i"))
        assert await heard(node, alice, only, only) == Unheard(None, [])
        assert not {*keys[1:7], keys.conversations, keys.changes} & deployment.all_keys()
