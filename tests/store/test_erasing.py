"""A user who has everything is erased: no key, field, member or entry has the name, but for what others hold."""

import re
import time
from functools import partial
from typing import Any

import pytest
from trio.testing import trio_test

from imserver.errors import NotFound
from imserver.model import GroupId, Place, UserId
from imserver.store import conversation_calls, moderation_calls
from imserver.store.account_calls import Login
from imserver.store.erasing import erasing
from imserver.store.group_calls import Change
from imserver.store.later_calls import Saying
from imserver.store.moderation_calls import Report, allowance_of_reports
from imserver.store.partitions import user_keys
from imserver.store.store import NOBODY
from imserver.store.stored import group_event, own_event
from imserver.store.tries import Allowance
from tests.store.deployment import Deployment
from tests.store.node import OUT_OF_INDEX, Node, answer, message, opened, vanishing
from tests.store.test_circle import STAMP, WANTED, befriend

FAR = 9_000_000_000  # unix seconds
# What others hold of a user: their logs and dedupe indexes, their lists of contacts and conversations, the members of
# their groups (a ban).
OF_OTHERS = re.compile(rb"\{...\}[lukvcdm]:#?other")


def contents(client: Any, key: bytes) -> Any:
    """Of a key of any type."""
    read = {
        b"string": lambda: client.get(key),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
        b"list": lambda: client.lrange(key, 0, -1),
    }
    return read[client.type(key)]()


def places_of(deployment: Deployment, name: str) -> set[bytes]:
    """Keys in which the name is, itself or in what they hold."""
    return {
        key
        for client in deployment.clients
        for key in client.scan_iter(count=1000)
        if name.encode() in key + repr(contents(client, key)).encode()
    }


async def with_everything(node: Node, user: UserId, other: UserId) -> None:
    accounts, circle, groups = node.store.accounts, node.store.circle, node.store.groups
    code = f"code.{other}"
    await node.store.link_of(code).ask(moderation_calls.make_invite(code, 2, FAR))
    for name in (user, other):
        await accounts.register(name, "hash", code)
    await accounts.moderation.report(Report(user, other, 1, "spam"), 100)
    await accounts.moderation.report(Report(other, user, 1, "spam"), 100)
    await accounts.tries.spend(Allowance(allowance_of_reports(user), 5))
    place = Place(b"laptop=node.1")
    await node.attach(user, "laptop", b"node.1")
    await accounts.name_device(user, "laptop", f"the one of {user}")
    await node.attach(user, "phone", b"node.2")
    await node.detach(user, "phone", b"node.2")
    await accounts.revoke(user, "phone", Login(place, "0.0"))
    await accounts.revoke(user, None, Login(place, "0.0"))
    await accounts.set_profile(user, {"name": user, "avatar": user, "about": user})
    await befriend(node, user, other)
    await circle.relate(user, other, "--1-", STAMP + 3)
    await circle.relate(user, UserId(f"{other}.2"), WANTED, STAMP + 4)
    await circle.describe(user, other, "O", ["work"], 5)
    said = await node.say(user, "m1")
    await node.append(user, vanishing(message(user, user, "m2"), FAR))
    await node.trim(user, OUT_OF_INDEX, now=time.time() + 1)
    await circle.privacy(user, "contacts", "nobody")
    await accounts.tries.spend(Allowance(user, 5))
    await node.append(other, message(user, other, "m1"))
    await node.ack(user, "laptop", said.at)
    await node.store.later.schedule(user, "laptop", "m2", FAR, Saying(other, 9, [user], b"..."))
    await node.store.link_of(user).ask(conversation_calls.read(user_keys(user), other, said.at, place))
    alone, shared, closed = (GroupId(f"#{other}.{kind}") for kind in ("alone", "shared", "closed"))
    for group, owner in ((alone, user), (shared, other), (closed, other)):
        await groups.announce(owner, group, 100, 100)
        created = group_event(group, "created", user=owner)
        at = await groups.create(group, owner, "t", created, {"name": "G", "open": 1})
        await groups.enlist(owner, group, at, "joined", own_event(group, "joined", at))
        vanishes = vanishing(message(owner, group, "m1"), FAR)
        await answer(partial(groups.post, group, owner, vanishes.dedupe, vanishes.content, NOBODY))
        await node.trim(group, OUT_OF_INDEX, now=time.time() + 1)
    for group, action, actor, what in ((shared, "join", user, "joined"), (closed, "invite", other, "invited")):
        content = group_event(group, what, user=user)
        changed = await groups.change(group, Change(action, actor, user, content, (9,)))
        await groups.enlist(user, group, changed.at, what, own_event(group, what, changed.at))


@trio_test
async def test_erasing_leaves_nothing_but_what_others_hold(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        user, other = UserId(f"erased.{name}"), UserId(f"other.{name}")
        await with_everything(node, user, other)
        own = {key[5:7] for key in places_of(deployment, user) if not OF_OTHERS.match(key)}
        expected = b"u: l: a: k: v: g: c: d: i: h: t: j: w: e: du re"
        assert own >= set(expected.split())
        await node.store.accounts.erase(user, Place(b"laptop=node.1"))
        await node.detach(user, "laptop", b"node.1")  # the session goes last, and says so
        left = places_of(deployment, user)
        assert not [key for key in left if not OF_OTHERS.match(key)]
        assert not [key for key in left if b"m:" in key], "a member or invited"
        assert not [key for key in left if key.endswith(b".alone")], "a group whose only member it was"
        with pytest.raises(NotFound):
            await node.store.accounts.erase(user, Place(b""))
        assert (await node.store.circle.standing(other, user)).record.wanted is False


@trio_test
async def test_an_erasing_that_was_interrupted_anywhere_can_be_repeated(deployment: Deployment, name: str) -> None:
    """A worker dies after each step in turn: the account is there until all others are done."""
    async with opened(deployment.url, "node") as node:
        user, other = UserId(f"erased.{name}"), UserId(f"other.{name}")
        await with_everything(node, user, other)
        done = 0
        while await node.store.accounts.password_hash(user) is not None:
            done += 1
            steps, reply = erasing(user, STAMP + 10), None
            try:
                for _ in range(done):
                    step = steps.send(reply)
                    reply = await node.store.link_of(step.owner).ask(step.command)
            except StopIteration:
                raise AssertionError("all is done, and the account is there") from None
        assert done > 5
        await node.detach(user, "laptop", b"node.1")
        assert not [key for key in places_of(deployment, user) if not OF_OTHERS.match(key)]
