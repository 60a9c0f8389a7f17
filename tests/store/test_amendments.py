"""Deletions in every store: message and edits leave the logs in the step in which the entry that says so comes in."""

from collections.abc import Mapping, Sequence

from trio.testing import trio_test

from imserver.errors import ImError, NotAllowed, NotFound
from imserver.model import START, GroupId, Position, UserId
from imserver.protocol.extras import Reference
from imserver.store.calls import Appended, Bounds
from imserver.store.deletions import Appends
from imserver.store.store import NOBODY
from imserver.store.stored import amendment, amendment_head, group_event, head_of
from tests.store.deployment import Deployment
from tests.store.node import Node, Said, answer, message, neighbours, opened
from tests.store.test_groups import FIELDS

FAR = 86_400


def deletion(sender: str, to: str, of: str, message_id: str) -> Said:
    """By the author, of a message sent to `to`."""
    reference = Reference(sender, "laptop", of)
    content, _ = amendment(amendment_head("delete", reference, to), sender, "laptop", to, message_id, stamp=1)
    return Said(f"{sender}/laptop/{message_id}".encode(), content)


async def registered(node: Node, *users: str) -> None:
    for user in users:
        await node.store.accounts.register(UserId(user), f"hash of {user}")


async def said(node: Node, user: str, *ids: str) -> list[Position]:
    appended = [await node.append(user, message(user, user, id)) for id in ids]
    return [one.at for one in appended if isinstance(one, Appended)]


async def delete(node: Node, user: str, what: Said, gone: Sequence[Position]) -> Appended | ImError:
    appends: Appends = node.store.deletions.of({user: gone})
    appended: Appended | ImError = await answer(lambda then: appends.one(user, what.dedupe, what.content, NOBODY, then))
    return appended


def ids(deployment: Deployment, log: str) -> list[str | None]:
    return [head_of(fields[b"e"]).id for _, fields in deployment.log(log)]


@trio_test
async def test_what_is_deleted_leaves_and_the_chain_goes_on(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1", "m2", "m3", "m4")
        what = deletion(name, name, "m2", "d1")
        deleted = await delete(node, name, what, ats[1:3])
        assert isinstance(deleted, Appended)
        assert deleted.prev == ats[3]
        assert ids(deployment, name) == ["m1", "m4", "d1"]
        assert [entry.prev for entry in await node.read(name, START)] == [START, ats[2], ats[3]]
        # Again: the same answer, and nothing else happens; nor does the message come back by being sent again.
        assert await delete(node, name, what, ()) == Appended(deleted.at, None)
        assert await node.append(name, message(name, name, "m2")) == Appended(ats[1], None)
        assert ids(deployment, name) == ["m1", "m4", "d1"]


@trio_test
async def test_the_index_forgets_a_deleted_message_with_its_deletion(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1", "m2")
        await delete(node, name, deletion(name, name, "m2", "d1"), ats[1:])
        await node.trim(name, Bounds(2, FAR, FAR))
        assert len(deployment.dedupe(name)) == 3
        await said(node, name, "m3", "m4")
        await node.trim(name, Bounds(2, FAR, FAR))
        assert ids(deployment, name) == ["m3", "m4"]
        assert sorted(deployment.dedupe(name)) == sorted(f"{name}/laptop/{id}".encode() for id in ("m3", "m4"))


@trio_test
async def test_out_of_both_logs_at_once(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        sender, recipient = neighbours(name)
        await registered(node, sender, recipient)
        what = message(sender, recipient, "m1")
        await node.append_both(recipient, sender, what)
        gone: Mapping[str, Sequence[Position]] = {
            log: [Position(deployment.log(log)[0][0])] for log in (sender, recipient)
        }
        appends, out = node.store.deletions.of(gone), deletion(sender, recipient, "m1", "d1")
        deleted = await answer(lambda then: appends.both(recipient, sender, out.dedupe, out.content, NOBODY, then))
        assert isinstance(deleted, Appended)
        assert ids(deployment, sender) == ids(deployment, recipient) == ["d1"]


@trio_test
async def test_a_refused_deletion_deletes_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1")
        gone = f"{name}.gone"
        appends, out = node.store.deletions.of({gone: ats, name: ats}), deletion(name, gone, "m1", "d1")
        refused = await answer(lambda then: appends.one(gone, out.dedupe, out.content, NOBODY, then))
        assert isinstance(refused, NotFound)
        assert ids(deployment, name) == ["m1"]


@trio_test
async def test_in_a_group_only_by_who_may_post(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        group, owner = GroupId(f"#{name}"), UserId(name)
        await registered(node, name)
        await node.store.groups.create(
            group, owner, "t", group_event(group, "created", user=owner), FIELDS | {"open": 1}
        )
        what = message(owner, group, "m1")
        posted = await answer(
            lambda then: node.store.groups.post(group, owner, what.dedupe, what.content, NOBODY, then)
        )
        appends, out = node.store.deletions.of({group: [posted.at]}), deletion(owner, group, "m1", "d1")

        async def by(user: str) -> Appended | ImError:
            result: Appended | ImError = await answer(
                lambda then: appends.group(group, user, out.dedupe, out.content, NOBODY, then)
            )
            return result

        assert isinstance(await by("stranger"), NotAllowed)
        assert ids(deployment, group) == [None, "m1"]
        assert isinstance(await by(owner), Appended)
        assert ids(deployment, group) == [None, "d1"]
