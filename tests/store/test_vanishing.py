"""What vanishes, in every store: from its time on no reader is given it, and a trim takes it out of the log."""

import time
from functools import partial

import trio
from trio.testing import trio_test

from imserver.model import START, Entry, GroupId, Position, UserId
from imserver.store import calls
from imserver.store.calls import Appended, Bounds
from imserver.store.store import NOBODY
from imserver.store.stored import expires_of, group_event
from tests.store.deployment import Deployment
from tests.store.node import OUT_OF_INDEX, PATIENCE_SECONDS, Node, Said, answer, message, neighbours, opened, vanishing
from tests.store.test_groups import FIELDS

PAST, FAR = 1_700_000_000, 9_000_000_000  # unix seconds
REMOVED = b'{"ev":"removed"}'


async def registered(node: Node, *users: str) -> None:
    for user in users:
        await node.store.accounts.register(UserId(user), f"hash of {user}")


async def said(node: Node, user: str, *what: Said) -> list[Position]:
    appended = [await node.append(user, one) for one in what]
    return [one.at for one in appended if isinstance(one, Appended)]


def expiring(deployment: Deployment, log: str) -> dict[bytes, float]:
    found = deployment.oracle(log).zrange(deployment.keys(log).expiring, 0, -1, withscores=True)
    return dict(found)  # type: ignore[arg-type]


def places(deployment: Deployment, log: str) -> list[bytes]:
    return [at for at, _ in deployment.log(log)]


@trio_test
async def test_no_reader_is_given_it_and_the_chain_is_whole(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        one, two, three = (message(name, name, id) for id in ("m1", "m2", "m3"))
        first, second, third = await said(node, name, one, vanishing(two, PAST), vanishing(three, FAR))
        kept = [Entry(first, START, one.content), Entry(second, first, REMOVED)]
        kept.append(Entry(third, second, vanishing(three, FAR).content))
        assert await node.read(name, START) == kept
        assert await node.store.read_on(name, START, 10) == kept
        assert await node.store.read_back(name, None, 10) == kept[::-1]
        assert places(deployment, name) == [first, second, third]  # it may be sent again yet


@trio_test
async def test_a_trim_takes_it_out_at_its_time(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        soon = int(time.time()) + 100
        kept, gone = await said(node, name, message(name, name, "m1"), vanishing(message(name, name, "m2"), soon))
        await node.trim(name, Bounds(100, 86_400, 600), now=soon - 1)
        assert expiring(deployment, name) == {}
        await node.trim(name, OUT_OF_INDEX, now=soon - 1)
        assert expiring(deployment, name) == {gone: soon}
        assert places(deployment, name) == [kept, gone]
        await node.trim(name, OUT_OF_INDEX, now=soon)
        assert places(deployment, name) == [kept]
        assert expiring(deployment, name) == {}
        assert deployment.state(name)[b"last"] == gone
        assert await answer(partial(node.store.cut_of, name)) is None  # nothing was lost


@trio_test
async def test_what_the_bounds_take_before_is_forgotten(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, *(vanishing(message(name, name, f"m{number}"), FAR) for number in range(5)))
        await node.trim(name, OUT_OF_INDEX, now=time.time() + 1)
        assert set(expiring(deployment, name)) == set(ats)
        await node.trim(name, Bounds(2, 86_400, 600))
        assert set(expiring(deployment, name)) == set(ats[3:])
        cut = await answer(partial(node.store.cut_of, name))
        assert ats[2] < cut <= ats[3]


@trio_test
async def test_reading_it_removes_it_where_nobody_appends(deployment: Deployment, name: str) -> None:
    bounds = Bounds(1_000_000, 86_400, 0)
    count = calls.TRIM_STEPS + 10
    async with opened(deployment.url, "node", bounds=bounds) as node:
        await registered(node, name)
        await said(node, name, *(message(name, name, f"p{number}") for number in range(count)))
        await said(node, name, vanishing(message(name, name, "m"), PAST))
        with trio.fail_after(PATIENCE_SECONDS):
            while len(places(deployment, name)) > count:
                assert len(await node.store.read_back(name, None, 3)) == 3
        assert expiring(deployment, name) == {}


@trio_test
async def test_sent_again_it_vanishes_as_at_first(deployment: Deployment, name: str) -> None:
    sender, recipient = neighbours(name)
    async with opened(deployment.url, "node") as node:
        await registered(node, sender, recipient)
        what = message(sender, recipient, "m1")
        received = await node.append(recipient, vanishing(what, FAR))
        assert isinstance(received, Appended)
        assert await node.append(recipient, vanishing(what, FAR + 9)) == Appended(received.at, None, FAR)
        # Half done before: it vanishes from the sender's log when it does from the recipient's.
        both = await node.append_both(recipient, sender, vanishing(what, FAR + 9))
        assert isinstance(both, Appended)
        assert both.prev == START
        assert [expires_of(fields[b"e"]) for _, fields in deployment.log(sender)] == [FAR]
        again = await node.append_both(recipient, sender, vanishing(what, FAR + 9))
        assert again == Appended(both.at, None, FAR)
        # Also what the index has forgotten.
        for user in (sender, recipient):
            await node.trim(user, OUT_OF_INDEX, now=time.time() + 1)
        length = len(what.content) - len(b'"hello"}')
        assert await node.append_both(recipient, sender, vanishing(what, FAR + 9), again=length) == again


@trio_test
async def test_in_a_group(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        group, owner = GroupId(f"#{name}"), UserId(name)
        await registered(node, name)
        made = group_event(group, "created", user=owner)
        await node.store.groups.create(group, owner, "t", made, FIELDS | {"open": 1})
        what = vanishing(message(owner, group, "m1"), PAST)
        content = what.content.replace(b'{"ev":"msg"', b'{"ev":"msg","log":"%b"' % group.encode())
        post = partial(node.store.groups.post, group, owner, what.dedupe, content, NOBODY)
        posted = await answer(post)
        assert await answer(post) == Appended(posted.at, None, PAST)
        read = await answer(partial(node.store.groups.read, group, START, 10))
        assert read[1].content == b'{"ev":"removed","log":"%b"}' % group.encode()
        await node.trim(group, OUT_OF_INDEX, now=time.time() + 1)
        assert len(deployment.log(group)) == 1
