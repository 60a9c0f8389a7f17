"""Contacts, blocks and presence on every store; where it can be, the same calls on the model, with the same answers."""

import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from trio.testing import trio_test

from imserver.errors import Blocked, ImError, NotAllowed, NotFound
from imserver.model import UserId
from imserver.protocol.contacts import BLOCK, SWITCHES, Event
from imserver.store import account_calls, calls, circle_calls
from imserver.store.calls import OWES
from imserver.store.circle_calls import OFFLINE, Settled, Shown, Whereabouts
from imserver.store.partitions import Hosting, user_keys
from tests.model_circle import Rosters
from tests.model_database import Database
from tests.store.deployment import Deployment
from tests.store.node import Node, at, message, opened

ORDER = b"online busy away offline"
STAMP = 1_795_000_000_000
ADD, REMOVE = str(SWITCHES[Event.ADD]), str(SWITCHES[Event.REMOVE])
WANTED, BLOCKS = str(SWITCHES[Event.ADD].mirrored()), str(BLOCK)


async def registered(node: Node, *names: str) -> tuple[UserId, ...]:
    users = tuple(UserId(name) for name in names)
    for user in users:
        await node.store.accounts.register(user, "hash")
    return users


async def befriend(node: Node, one: UserId, other: UserId) -> None:
    for user, partner in ((one, other), (other, one)):
        await node.store.circle.relate(user, partner, ADD, STAMP)
        await node.store.circle.relate(partner, user, WANTED, STAMP)


async def look(node: Node, *users: UserId) -> dict[UserId, Whereabouts]:
    found: dict[UserId, Whereabouts] = {}
    await node.store.circle.whereabouts(users, found.__setitem__, with_told=True)
    return found


async def refused(ask: Callable[[], Any]) -> ImError | None:
    try:
        await ask()
    except ImError as error:
        return error
    return None


# -- contacts


@trio_test
async def test_random_steps_have_the_same_results_as_on_the_model(deployment: Deployment, name: str) -> None:
    chance = random.Random(5)
    async with opened(deployment.url, "node") as node:
        users = await registered(node, f"{name}.a", f"{name}.b", f"{name}.c")
        database = Database(lambda *_: None)
        model = database.rosters = Rosters(database)
        for user in users:
            database.register(user, "")
        for _ in range(300):
            user, other = chance.sample(users, 2)
            switches = "".join(chance.choice("01----") for _ in range(4))
            stamp, note, most = STAMP + chance.randrange(40), chance.choice(["", 'a "note"']), chance.choice([0, 1, 5])
            if chance.random() < 0.2:
                groups = chance.choice([(), ("work", "é")])
                real = await refused(lambda: node.store.circle.describe(user, other, "Ö", groups, stamp))  # noqa: B023
                expected = model.describe(user, other, "Ö", groups, stamp)
            else:
                real = await refused(lambda: node.store.circle.relate(user, other, switches, stamp, note, most))  # noqa: B023
                expected = model.relate(user, other, switches, stamp, note, most)
            assert (type(real), str(real)) == (type(expected), str(expected))
            assert await node.store.circle.standing(user, other) == model.standing(user, other)
        for user in users:
            assert await node.store.circle.roster(user, 0, 0, 9) == model.roster(user, 0, 0, 9)
            assert await node.store.circle.blocked(user) == model.blocked(user)
            assert set(await node.store.circle.audience(user)) == set(model.audience(user))
            entries = [msgspec.json.decode(fields[b"e"]) for _, fields in deployment.log(user)]
            assert entries == [msgspec.json.decode(entry.content) for entry in database.accounts[user].log]


@trio_test
async def test_the_list_comes_in_pages_and_then_only_what_changed(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, *others = await registered(node, name, *(f"{name}.{number}" for number in range(7)))
        circle = node.store.circle
        for other in others:
            await circle.relate(user, other, ADD, STAMP)
        first = await circle.roster(user, 0, 0, 5)
        second = await circle.roster(user, 0, first.reached, 5)
        assert [other for other, _ in first.records + second.records] == others
        assert first.is_all and second.is_all
        assert await circle.roster(user, first.version, 0, 5) == (first.version, False, first.version, [])
        await circle.relate(user, others[0], REMOVE, STAMP + 1)
        await circle.describe(user, others[3], "D", ["x"], STAMP)
        changed = await circle.roster(user, first.version, 0, 5)
        assert [(other, record.wants, record.name) for other, record in changed.records] == [
            (others[0], False, None),
            (others[3], True, "D"),
        ]
        assert (await circle.roster(user, changed.version + 1, 0, 9)).is_all  # a version from elsewhere


@trio_test
async def test_records_of_contacts_that_are_gone_are_forgotten_in_time(deployment: Deployment, name: str) -> None:
    """Then a client that has an older version is given the whole list."""
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        circle = node.store.circle
        await circle.relate(user, UserId("stays"), ADD, STAMP)
        version = (await circle.roster(user, 0, 0, 1)).version
        for number in range(501):
            await circle.relate(user, UserId(f"x{number}"), ADD, STAMP)
            await circle.relate(user, UserId(f"x{number}"), REMOVE, STAMP + 1)
        page = await circle.roster(user, version, 0, 500)
        assert page.is_all
        assert len(page.records) == 1 + 501 - 250
        assert (await circle.roster(user, page.version - 1, 0, 500)).is_all is False
        assert (await circle.standing(user, UserId("stays"))).record.wants
        assert (await circle.standing(user, UserId("stays"))).listed == 1


@trio_test
async def test_a_full_list_takes_no_request(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        circle = node.store.circle
        await circle.relate(user, UserId("one"), WANTED, STAMP, most=1)
        with pytest.raises(NotAllowed, match="as many contacts"):
            await circle.relate(user, UserId("two"), WANTED, STAMP, most=1)
        await circle.relate(user, UserId("one"), ADD, STAMP, most=1)
        await circle.relate(user, UserId("one"), REMOVE, STAMP + 1, most=1)
        await circle.relate(user, UserId("two"), WANTED, STAMP, most=1)


@trio_test
async def test_who_is_blocked_appends_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, mallory = await registered(node, name, f"{name}.m")
        circle = node.store.circle
        before = message(mallory, user, "before")
        stored = await node.append(user, before)
        await circle.relate(user, mallory, BLOCKS, STAMP)
        assert isinstance(await node.append(user, message(mallory, user, "m1")), Blocked)
        assert await node.append(user, before) == calls.Appended(stored.at, None)  # type: ignore[union-attr]
        assert isinstance(await node.append(user, message("carol", user, "m1")), calls.Appended)
        if node.store.reaches_both:
            assert isinstance(await node.append_both(user, mallory, message(mallory, user, "m2")), Blocked)
            assert deployment.log(mallory) == []
        with pytest.raises(Blocked):
            await circle.relate(user, mallory, WANTED, STAMP + 1)
        await circle.relate(user, mallory, "--0-", STAMP + 1)
        assert b"guard" not in deployment.state(user)
        assert isinstance(await node.append(user, message(mallory, user, "m1")), calls.Appended)


@trio_test
async def test_only_contacts_may_write_where_a_user_wants_it(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        circle = node.store.circle
        await befriend(node, user, friend)
        assert await circle.privacy(user, "contacts", None) == ("contacts", "contacts")
        assert isinstance(await node.append(user, message("stranger", user, "m1")), NotAllowed)
        assert isinstance(await node.append(user, message(friend, user, "m1")), calls.Appended)
        assert isinstance(await node.append(user, message(user, user, "m1"), origin=b"d=n.1"), calls.Appended)
        assert isinstance(await node.append(user, message("robot", user, "m1", is_bot=True)), calls.Appended)
        pretended = message("stranger", user, '"bot":true,', '{"ev":"msg","bot":true}')
        assert isinstance(await node.append(user, pretended), NotAllowed)
        assert await circle.privacy(user, "everyone", "nobody") == ("everyone", "nobody")
        assert isinstance(await node.append(user, message("stranger", user, "m1")), calls.Appended)


@trio_test
async def test_erasing_leaves_no_key_with_the_name(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        await befriend(node, user, friend)
        await node.attach(user, "pad", b"node.1")
        await node.store.circle.settle(user, ORDER, shown=Shown(at("pad", b"node.1"), "away", "lunch"))
        await node.store.link_of(user).ask(account_calls.erase(user_keys(user)), account_calls.found)
        await node.detach(user, "pad", b"node.1")
        assert [key for key in deployment.all_keys() if key.endswith(b":" + user.encode())] == []
        assert isinstance(await refused(lambda: node.store.circle.relate(user, friend, WANTED, STAMP + 1)), NotFound)
        assert await node.store.circle.settle(user, ORDER) is None


# -- presence

DEVICES = ("d1", "d2", "d3")
SHOWS = ("online", "busy", "away", "invisible")


def together(shows: tuple[str, ...]) -> str:
    """What is documented, said otherwise: the first of the order that any device shows."""
    return next((show for show in ("online", "busy", "away") if show in shows), "offline")


@trio_test
async def test_devices_together(deployment: Deployment, name: str) -> None:
    """Every combination of what three devices show."""
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        await befriend(node, user, friend)
        circle = node.store.circle
        assert (await circle.settle(user, ORDER)) == Settled(OFFLINE, False)
        for device in DEVICES:
            await node.attach(user, device, b"node.1")
        for shows in itertools.product(SHOWS, repeat=len(DEVICES)):
            for device, show in zip(DEVICES, shows, strict=True):
                settled = await circle.settle(user, ORDER, shown=Shown(at(device, b"node.1"), show, device))
            assert settled is not None
            assert settled.told.show == together(shows)
            if settled.told.show != "offline":  # of equal ones the last that has logged in
                last = max(number for number, show in enumerate(shows) if show == settled.told.show)
                assert settled.told.status == DEVICES[last]


@trio_test
async def test_who_has_no_contacts_costs_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        await node.attach(user, "pad", b"node.1")
        before = deployment.state(user)
        assert await node.store.circle.settle(user, ORDER) is None
        assert deployment.state(user) == before
        await node.detach(user, "pad", b"node.1")
        hosting = Hosting(user_keys(user).partition, b"node")
        assert user.encode() not in await node.store.link_of(user).ask(calls.hosted(hosting))


@trio_test
async def test_a_device_that_was_there_shortly_ago_is_waited_for(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        await befriend(node, user, friend)
        circle = node.store.circle
        await node.attach(user, "phone", b"node.1")
        await node.attach(user, "pad", b"other.1")
        await circle.settle(user, ORDER, shown=Shown(at("pad", b"other.1"), "away", ""))
        await circle.tell(user, {}, "all")

        async def show(gone: bytes = b"") -> tuple[str, bool]:
            settled = await circle.settle(user, ORDER, gone)
            assert settled is not None
            return settled.told.show, settled.is_news

        await node.detach(user, "phone", b"node.1")
        assert await show() == ("online", False)
        await circle.settle(user, ORDER, shown=Shown(at("pad", b"other.1"), "busy", ""))
        assert await show(b"tablet=node.1") == ("online", False)
        assert await show(b"phone=other.1") == ("online", False), "it has been elsewhere since"
        assert await show(b"=other") == ("online", False)
        assert await show(b"phone=node.1") == ("busy", True)
        assert await show() == ("busy", True)  # until contacts have been told
        await circle.tell(user, {}, "all")
        assert await show() == ("busy", False)
        await node.detach(user, "pad", b"other.1")
        await node.attach(user, "phone", b"node.2")
        assert await show() == ("online", True)  # more is told at once
        await node.detach(user, "phone", b"node.2")
        assert await show(b"=node") == ("offline", True)


@trio_test
async def test_who_leaves_is_hosted_until_its_contacts_know(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        await befriend(node, user, friend)
        link, keys = node.store.link_of(user), user_keys(user)
        hosting = Hosting(keys.partition, b"node")

        async def is_hosted() -> bool:
            return user.encode() in await link.ask(calls.hosted(hosting))

        await node.attach(user, "pad", b"node.1")
        assert await link.ask(calls.detach(keys, hosting, at("pad", b"node.1"), None, 1.0)) == OWES
        assert await is_hosted()
        assert await link.ask(calls.clear(keys, hosting, 1.0)) == OWES
        assert await is_hosted()
        await node.attach(user, "pad", b"node.2")
        await node.store.circle.release(user, "node")
        assert await is_hosted()
        await link.ask(calls.detach(keys, hosting, at("pad", b"node.2"), None, 1.0))
        await node.store.circle.release(user, "node")
        assert not await is_hosted()


@trio_test
async def test_who_is_still_waited_for_at_a_node_is_hosted_there(deployment: Deployment, name: str) -> None:
    """An earlier place of it is not waited for any more: should the node die, somebody must tell of the later one."""
    async with opened(deployment.url, "node") as node:
        user, friend = await registered(node, name, f"{name}.f")
        await befriend(node, user, friend)
        link, keys, circle = node.store.link_of(user), user_keys(user), node.store.circle
        hosting = Hosting(keys.partition, b"node")
        for place in (b"node.1", b"node.2"):
            await node.attach(user, "pad", place)
            await circle.settle(user, ORDER)
            await node.detach(user, "pad", place)
        await circle.settle(user, ORDER, at("pad", b"node.1"))
        await circle.release(user, "node")
        assert user.encode() in await link.ask(calls.hosted(hosting))
        settled = await circle.settle(user, ORDER, b"pad")  # logged out, wherever
        assert settled is not None
        assert settled.told.show == "offline"
        await circle.release(user, "node")
        assert user.encode() not in await link.ask(calls.hosted(hosting))


@trio_test
async def test_contacts_are_told_at_their_nodes_once_for_each(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        names = [name, *(f"{name}.{number}" for number in range(6))]
        user, *friends = await registered(one, *names)
        for number, friend in enumerate(friends):
            await befriend(one, user, friend)
            if number < 4:
                await one.attach(friend, "pad", b"one.%d" % number if number % 2 else b"two.%d" % number)
        await one.attach(user, "pad", b"one.9")
        circle = one.store.circle
        await circle.settle(user, ORDER)
        found = await look(one, *friends)
        assert list(found) == friends or set(found) == set(friends)
        assert [found[friend].nodes for friend in friends] == [(b"two",), (b"one",), (b"two",), (b"one",), (), ()]
        by_node = {b"one": [friends[1], friends[3]], b"two": [friends[0], friends[2]]}
        await circle.tell(user, by_node, "all")
        await one.wait_told(lambda: bool(one.told))
        await two.wait_told(lambda: bool(two.told))
        assert one.told == [(user, friends[1], friends[3], "online")]
        assert two.told == [(user, friends[0], friends[2], "online")]
        await circle.tell(user, {b"two": [friends[0]]}, "offline")
        await two.wait_told(lambda: len(two.told) == 2)
        assert two.told[1] == (user, friends[0], "offline")
        assert (await look(one, user))[user].told.show == "online"


@trio_test
async def test_typing_reaches_contacts_only(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, friend, stranger = await registered(node, name, f"{name}.f", f"{name}.s")
        await befriend(node, user, friend)
        await node.attach(user, "pad", b"node.1")
        circle = node.store.circle
        circle.typing(stranger, user, is_on=True)
        circle.typing(friend, user, is_on=True)
        circle.typing(friend, UserId("nobody"), is_on=True)
        await node.wait_told(lambda: any(event.startswith("typing") for event in node.events))
        await circle.relate(user, friend, BLOCKS, STAMP)
        circle.typing(friend, user, is_on=False)
        await node.settle(user)
        assert [event for event in node.events if event.startswith("typing")] == [f"typing {friend} {user} True"]


def test_what_is_kept_is_read_as_it_was_written() -> None:
    text = b'10111 5 0 7 9\n"a \\n note"\n"name":"B","groups":["x"]'
    record = circle_calls.record(text)
    assert (record.wants, record.wanted, record.blocks, record.blocked) == (True, False, True, True)
    assert (record.stamp, record.is_known, record.note, record.name, record.groups) == (
        9,
        True,
        "a \n note",
        "B",
        ("x",),
    )
    assert circle_calls.record(None) == circle_calls.Record()
