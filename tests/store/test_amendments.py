"""Amendments in every store: message and edits leave the logs with a deletion, and no edit comes after it."""

from trio.testing import trio_test

from imserver.errors import ImError, NotAllowed, NotFound
from imserver.model import START, GroupId, Position, UserId
from imserver.protocol.extras import Reference
from imserver.store.amending import Appends, Deletion, Gone
from imserver.store.calls import Appended, Bounds
from imserver.store.store import NOBODY
from imserver.store.stored import amendment, amendment_head, dedupe_of, group_event, head_of
from tests.store.deployment import Deployment
from tests.store.node import Node, Said, answer, message, neighbours, opened
from tests.store.test_groups import FIELDS

FAR = 86_400
FAR_OFF = Position(b"9999999999999-0")


def amending(ev: str, sender: str, to: str, of: str, message_id: str) -> Said:
    """By the author, of a message sent to `to`."""
    what = {"body": "y"} if ev == "edit" else {}
    head = amendment_head(ev, Reference(sender, "laptop", of), to)
    content, _ = amendment(head, sender, "laptop", to, message_id, stamp=1, **what)
    return Said(f"{sender}/laptop/{message_id}".encode(), content)


def deletion(sender: str, to: str, of: str, message_id: str) -> Said:
    return amending("delete", sender, to, of, message_id)


def appends_of(
    node: Node, sender: str, to: str, of: str, gone: dict[str, Position] | None = None, seen: Position = FAR_OFF
) -> Appends:
    """`gone`: where the message stands in each log, if it is a deletion. `seen`: what came behind it is looked at."""
    reference = Reference(sender, "laptop", of)
    heads = amendment_head("edit", reference, to), amendment_head("edit", reference, to, is_bot=True)
    there = None if gone is None else Deletion(heads, {log: Gone(seen, at, ()) for log, at in gone.items()})
    return node.store.amendments.of(dedupe_of(reference), there)


async def registered(node: Node, *users: str) -> None:
    for user in users:
        await node.store.accounts.register(UserId(user), f"hash of {user}")


async def said(node: Node, user: str, *ids: str) -> list[Position]:
    appended = [await node.append(user, message(user, user, id)) for id in ids]
    return [one.at for one in appended if isinstance(one, Appended)]


async def amend(node: Node, user: str, what: Said, appends: Appends) -> Appended | ImError:
    """In the user's own log."""
    appended: Appended | ImError = await answer(lambda then: appends.one(user, what.dedupe, what.content, NOBODY, then))
    return appended


async def delete(node: Node, user: str, what: Said, of: str, at: Position) -> Appended | ImError:
    return await amend(node, user, what, appends_of(node, user, user, of, {user: at}))


def ids(deployment: Deployment, log: str) -> list[str | None]:
    return [head_of(fields[b"e"]).id for _, fields in deployment.log(log)]


@trio_test
async def test_what_is_deleted_leaves_and_the_chain_goes_on(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1", "m2", "m3")
        what = deletion(name, name, "m2", "d1")
        deleted = await delete(node, name, what, "m2", ats[1])
        assert isinstance(deleted, Appended)
        assert deleted.prev == ats[2]
        assert ids(deployment, name) == ["m1", "m3", "d1"]
        assert [entry.prev for entry in await node.read(name, START)] == [START, ats[1], ats[2]]
        # Again: the same answer, and nothing else happens; nor does the message come back by being sent again.
        assert await delete(node, name, what, "m2", ats[0]) == Appended(deleted.at, None)
        assert await node.append(name, message(name, name, "m2")) == Appended(ats[1], None)
        assert ids(deployment, name) == ["m1", "m3", "d1"]


@trio_test
async def test_edits_go_with_the_message_whenever_they_come(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        [at] = await said(node, name, "m1")
        edits = [amending("edit", name, name, "m1", f"e{number}") for number in (1, 2, 3)]
        appends = appends_of(node, name, name, "m1")
        first = await amend(node, name, edits[0], appends)
        assert isinstance(first, Appended)
        await said(node, name, "m2")  # the log was read up to `first`
        await amend(node, name, edits[1], appends)
        heads = Deletion((edits[0].content[:30], b"none"), {name: Gone(first.at, at, [(first.at, edits[0].dedupe)])})
        deleting = node.store.amendments.of(f"{name}/laptop/m1".encode(), heads)
        assert isinstance(await amend(node, name, deletion(name, name, "m1", "d1"), deleting), Appended)
        for late in edits:
            assert isinstance(await amend(node, name, late, appends), NotFound)
        another = deletion(name, name, "m1", "d2")
        assert isinstance(await amend(node, name, another, deleting), NotFound)
        assert ids(deployment, name) == ["m2", "d1"]
        known = {f"{name}/laptop/{id}" for id in ("m1", "m2", "d1")} | {f"x:{name}/laptop/m1"}
        assert deployment.dedupe(name).keys() == {field.encode() for field in known}


@trio_test
async def test_the_field_of_an_edit_that_is_another_entrys_by_now_stays(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1", "m2")
        gone = Gone(FAR_OFF, ats[0], [(ats[0], f"{name}/laptop/m2".encode())])
        deleting = node.store.amendments.of(f"{name}/laptop/m1".encode(), Deletion((b"none", b"none"), {name: gone}))
        await amend(node, name, deletion(name, name, "m1", "d1"), deleting)
        assert await node.append(name, message(name, name, "m2")) == Appended(ats[1], None)


@trio_test
async def test_the_index_forgets_a_deleted_message_with_its_deletion(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1", "m2")
        await delete(node, name, deletion(name, name, "m2", "d1"), "m2", ats[1])
        await node.trim(name, Bounds(2, FAR, FAR))
        assert len(deployment.dedupe(name)) == 4
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
        edit = amending("edit", sender, recipient, "m1", "e1")
        appends = appends_of(node, sender, recipient, "m1")
        await answer(lambda then: appends.both(recipient, sender, edit.dedupe, edit.content, NOBODY, then))
        assert ids(deployment, sender) == ids(deployment, recipient) == ["m1", "e1"]
        gone = {log: Position(deployment.log(log)[0][0]) for log in (sender, recipient)}
        out = deletion(sender, recipient, "m1", "d1")
        appends = appends_of(node, sender, recipient, "m1", gone, seen=START)
        deleted = await answer(lambda then: appends.both(recipient, sender, out.dedupe, out.content, NOBODY, then))
        assert isinstance(deleted, Appended)
        assert ids(deployment, sender) == ids(deployment, recipient) == ["d1"]


@trio_test
async def test_a_refused_deletion_deletes_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = await said(node, name, "m1")
        gone = f"{name}.gone"
        appends, out = appends_of(node, name, gone, "m1", {gone: ats[0]}), deletion(name, gone, "m1", "d1")
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
        appends, out = appends_of(node, owner, group, "m1", {group: posted.at}), deletion(owner, group, "m1", "d1")

        async def by(user: str) -> Appended | ImError:
            result: Appended | ImError = await answer(
                lambda then: appends.group(group, user, out.dedupe, out.content, NOBODY, then)
            )
            return result

        assert isinstance(await by("stranger"), NotAllowed)
        assert ids(deployment, group) == [None, "m1"]
        assert isinstance(await by(owner), Appended)
        late, appends = amending("edit", owner, group, "m1", "e1"), appends_of(node, owner, group, "m1")
        refused = await answer(lambda then: appends.group(group, owner, late.dedupe, late.content, NOBODY, then))
        assert isinstance(refused, NotFound)
        assert ids(deployment, group) == [None, "d1"]
