"""What every store must do: the embedded one, an instance, a cluster.

The calls go through the store as a worker uses it; redis-py looks independently at what came of them.
"""

from contextlib import AsyncExitStack

import msgspec
import pytest
from trio.testing import trio_test

from imserver.errors import BadCredentials, Conflict, Exists, ExpiredToken, NotAllowed, NotFound
from imserver.model import START, Entry, GroupId, Place, Position, UserId, position_order
from imserver.store import (
    account_calls,
    calls,
    circle_calls,
    conversation_calls,
    group_calls,
    moderation_calls,
    name_calls,
)
from imserver.store.account_calls import Login, Profile
from imserver.store.calls import Appended, Attached, Late, Replaced
from imserver.store.group_calls import Change
from imserver.store.moderation_calls import Report
from imserver.store.partitions import Hosting, deployment_key, due_key, group_keys, lease_keys, user_keys
from imserver.store.tries import Allowance, forget, forgive, tries_key, try_once
from tests.store.deployment import Deployment
from tests.store.node import Node, message, neighbours, opened
from tests.store.test_partitions import random_names


async def registered(node: Node, name: str) -> str:
    await node.store.accounts.register(UserId(name), f"hash of {name}")
    return name


# -- the log


@trio_test
async def test_entries_stand_in_the_order_of_the_appends_and_name_the_one_before(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        said = [await node.say(name, f"m{number}") for number in range(20)]
    assert [one.prev for one in said] == [START] + [one.at for one in said[:-1]]
    log = deployment.log(name)
    assert [at for at, _ in log] == [one.at for one in said]
    assert [fields[b"p"] for _, fields in log] == [one.prev for one in said]
    assert [msgspec.json.decode(fields[b"e"])["id"] for _, fields in log] == [f"m{number}" for number in range(20)]
    assert deployment.state(name)[b"last"] == said[-1].at


@trio_test
async def test_a_repeat_gives_the_first_position_and_is_stored_once(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        first, second = await node.say(name, "m1"), await node.say(name, "m2")
        assert await node.say(name, "m1") == Appended(first.at, None)
        assert await node.say(name, "m2") == Appended(second.at, None)
    assert len(deployment.log(name)) == 2


@trio_test
async def test_the_senders_own_copy_is_deduped_by_itself(deployment: Deployment, name: str) -> None:
    sender, recipient = f"{name}.a", f"{name}.b"
    async with opened(deployment.url, "node") as node:
        await registered(node, sender)
        await registered(node, recipient)
        what = message(sender, recipient, "m1")
        delivered, recorded = await node.append(recipient, what), await node.append(sender, what, b"node.1")
        assert isinstance(delivered, Appended)
        assert isinstance(recorded, Appended)
        assert await node.append(recipient, what) == Appended(delivered.at, None)
        assert await node.append(sender, what, b"node.9") == Appended(recorded.at, None)
    assert len(deployment.log(sender)) == len(deployment.log(recipient)) == 1


@trio_test
async def test_both_logs_at_once_are_as_one_after_the_other(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        sender, recipient = neighbours(name)
        for user in (sender, recipient):
            await registered(node, user)
            await node.attach(user, "laptop", b"node.1")
            await node.attach(user, "phone", b"node.2")
        what, origin = message(sender, recipient, "m1"), b"laptop=node.1"
        recorded = await node.append_both(recipient, sender, what, origin)
        assert recorded == Appended(Position(deployment.log(sender)[0][0]), START)
        for user in (sender, recipient):
            assert [fields for _, fields in deployment.log(user)] == [{b"p": START, b"e": what.content}]
        assert await node.append_both(recipient, sender, what, origin) == Appended(recorded.at, None)
        assert await node.append(recipient, what) == Appended(Position(deployment.log(recipient)[0][0]), None)
        assert await node.append(sender, what) == Appended(recorded.at, None)
        await node.settle(sender)
        told = [(user, where) for user, _, where in node.entries]
        assert told == [(recipient, b"-"), (sender, origin)]


@trio_test
async def test_both_logs_at_once_complete_what_is_half_done(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        sender, recipient = neighbours(name)
        await registered(node, sender)
        await registered(node, recipient)
        what = message(sender, recipient, "m1")
        await node.append(recipient, what)
        recorded = await node.append_both(recipient, sender, what)
        assert recorded == Appended(Position(deployment.log(sender)[0][0]), START)
        assert len(deployment.log(recipient)) == 1


@trio_test
async def test_both_logs_at_once_store_nothing_where_there_is_no_recipient(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        sender, nobody = neighbours(name)
        await registered(node, sender)
        assert isinstance(await node.append_both(nobody, sender, message(sender, nobody, "m1")), NotFound)
    assert deployment.log(sender) == []


@trio_test
async def test_on_a_single_instance_one_call_reaches_all_users(deployment: Deployment) -> None:
    async with opened(deployment.url, "node") as node:
        assert node.store.reaches_both == (not deployment.is_cluster)


@trio_test
async def test_the_same_id_of_another_device_or_sender_is_another_message(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        for what in (
            message("bob", name, "m1", device="a"),
            message("bob", name, "m1", device="b"),
            message("carol", name, "m1", device="a"),
            message("bob", name, "/", device="a"),
        ):
            appended = await node.append(name, what)
            assert isinstance(appended, Appended)
            assert appended.prev is not None
    assert len(deployment.log(name)) == 4


@trio_test
async def test_an_unknown_user_gets_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        assert isinstance(await node.append(name, message("bob", name, "m1")), NotFound)
        await node.ack(name, "laptop", b"1-1")
        await node.detach(name, "laptop", b"node.1", b"1-1")
        assert await node.trim(name, calls.Bounds(1, 1, 1)) == 0
        with pytest.raises(BadCredentials):
            await node.attach(name, "laptop", b"node.1")
    assert not [key for key in deployment.all_keys() if name.encode() in key]


@trio_test
async def test_reading_goes_in_pages_from_any_position(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        assert await node.read(name, START) == []
        ats = [(await node.say(name, f"m{number}")).at for number in range(10)]
        assert [entry.at for entry in await node.read(name, START, 4)] == ats[:4]
        assert [entry.at for entry in await node.read(name, ats[3], 4)] == ats[4:8]
        assert [entry.at for entry in await node.read(name, ats[7], 4)] == ats[8:]
        assert await node.read(name, ats[9], 4) == []
        assert [entry.prev for entry in await node.read(name, ats[3], 2)] == ats[3:5]


@trio_test
async def test_reading_back_gives_the_newest_first(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = [(await node.say(name, f"m{number}")).at for number in range(10)]

        async def back(before: bytes | None, count: int) -> list[bytes]:
            page: list[Entry] = await node.store.read_back(UserId(name), before, count)  # type: ignore[arg-type]
            return [entry.at for entry in page]

        assert await back(None, 4) == ats[:5:-1]
        assert await back(ats[6], 4) == ats[5:1:-1]
        assert await back(ats[2], 4) == ats[1::-1]
        assert await back(ats[0], 4) == []


@trio_test
async def test_a_body_of_any_kind_comes_back_as_it_was(deployment: Deployment, name: str) -> None:
    bodies = ['"\\",\\"body\\":\\""', '{"body":{"from":"x"}}', '"' + "ü€😀" * 1000 + '"', '{"a":' * 60 + "1" + "}" * 60]
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        for number, body in enumerate(bodies):
            await node.append(name, message("bob", name, f"m{number}", body))
        entries = await node.read(name, START)
        assert [entry.content.partition(b'"body":')[2][:-1].decode() for entry in entries] == bodies
        assert await node.trim(name, calls.Bounds(10_000, 86_400, 1), now=9e9) == len(bodies)
    assert deployment.dedupe(name) == {}


# -- publishing


@trio_test
async def test_only_nodes_that_host_a_session_are_told_each_once(deployment: Deployment, name: str) -> None:
    async with AsyncExitStack() as stack:
        one, two, none = [
            await stack.enter_async_context(opened(deployment.url, node)) for node in ("one", "two", "none")
        ]
        await registered(one, name)
        for node, device, place in ((one, "a", b"one.1"), (one, "b", b"one.2"), (two, "c", b"two.1")):
            await node.attach(name, device, place)
        said = await none.say(name, "m1")
        for node in (one, two, none):
            await node.settle(name)
        for node in (one, two):
            assert [(user, entry.at, entry.prev, origin) for user, entry, origin in node.entries] == [
                (name, said.at, START, b"-")
            ]
        assert none.entries == []


@trio_test
async def test_what_is_published_is_what_the_log_has(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        for number in range(5):
            await node.say(name, f"m{number}")
        await node.settle(name)
        assert [entry for _, entry, _ in node.entries] == await node.read(name, START)


@pytest.mark.parametrize(
    ("places", "origin", "told"),
    [
        ({"laptop": b"one.1"}, b"laptop=one.1", []),  # nobody but the sender is there
        ({"laptop": b"one.1", "phone": b"two.1"}, b"laptop=one.1", ["one", "two"]),
        ({"laptop": b"one.1"}, b"-", ["one"]),
        ({"phone": b"two.1"}, b"laptop=one.1", ["two"]),  # the sender has left meanwhile
        ({"laptop": b"one.12"}, b"laptop=one.1", ["one"]),  # a place is not its own beginning
        ({}, b"laptop=one.1", []),
    ],
)
@trio_test
async def test_the_origin_is_not_told_where_it_is_alone(
    deployment: Deployment, name: str, places: dict[str, bytes], origin: bytes, told: list[str]
) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        for device, place in places.items():
            await one.attach(name, device, place)
        await one.say(name, "m1", origin)
        await one.settle(name)
        await two.settle(name)
        assert [node.name for node in (one, two) if node.entries] == told


@trio_test
async def test_a_repeat_is_not_published(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        await node.say(name, "m1")
        await node.attach(name, "laptop", b"node.1")
        await node.say(name, "m1")
        await node.settle(name)
        assert node.entries == []


# -- the directory


@trio_test
async def test_a_session_learns_where_the_log_ends_and_what_its_device_has(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        assert await node.attach(name, "laptop", b"node.1") == Attached(START, None, "0.0")
        first, second = await node.say(name, "m1"), await node.say(name, "m2")
        await node.ack(name, "laptop", first.at)
        await node.detach(name, "laptop", b"node.1")
        assert await node.attach(name, "laptop", b"node.2") == Attached(second.at, first.at, "0.0")
        assert await node.attach(name, "phone", b"node.3") == Attached(second.at, None, "0.0")
    assert deployment.state(name)[b"on"] == b"laptop=node.2 phone=node.3"


@trio_test
async def test_detaching_keeps_the_others_and_the_cursor(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        said = await node.say(name, "m1")
        for device in ("a", "b", "c"):
            await node.attach(name, device, f"node.{device}".encode())
        await node.detach(name, "b", b"node.b", said.at)
        assert deployment.state(name)[b"on"] == b"a=node.a c=node.c"
        assert deployment.state(name)[b"c:b"] == said.at
        await node.detach(name, "a", b"node.a")
        await node.detach(name, "c", b"node.c")
        assert b"on" not in deployment.state(name)
        await node.detach(name, "c", b"node.c")  # again: nothing is there


@trio_test
async def test_a_device_has_one_session_the_newest(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        await one.attach(name, "laptop", b"one.1")
        await one.attach(name, "phone", b"one.2")
        await two.attach(name, "laptop", b"two.1")
        await one.wait_told(lambda: bool(one.expelled))
        assert one.expelled == [(name, b"laptop=one.1", "replaced")]
        await one.detach(name, "laptop", b"one.1")  # too late: the place is another's
        assert deployment.state(name)[b"on"] == b"phone=one.2 laptop=two.1"
        await two.settle(name)
        assert two.expelled == []


@trio_test
async def test_a_login_that_comes_late_does_not_push_out_a_newer_one(deployment: Deployment, name: str) -> None:
    """A network may hold a call back for as long as it likes."""
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        keys, link = user_keys(name), one.store.link_of(name)
        logins = await link.ask(calls.logins(keys, "laptop"))
        late = calls.attach(
            keys, Hosting(keys.partition, b"one"), Place(b"laptop=one.1"), calls.Right("0.0"), logins, 1.0
        )
        await two.attach(name, "phone", b"two.1")  # another device is another matter
        await two.attach(name, "laptop", b"two.2")
        with pytest.raises(Late):
            await link.ask(late, calls.attached)
        await two.detach(name, "laptop", b"two.2")
        with pytest.raises(Late):
            await link.ask(late, calls.attached)
        await two.settle(name)
        assert two.expelled == []
        assert deployment.state(name)[b"on"] == b"phone=two.1"


@trio_test
async def test_returning_after_a_lost_link_must_not_replace(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "one") as one, opened(deployment.url, "two") as two:
        await registered(one, name)
        await one.attach(name, "laptop", b"one.1")
        again = await one.attach_again(name, "laptop", b"one.1")
        assert again == Attached(START, None, "0.0")
        await two.attach(name, "laptop", b"two.1")
        assert isinstance(await one.attach_again(name, "laptop", b"one.1"), Replaced)
    assert deployment.state(name)[b"on"] == b"laptop=two.1"


@trio_test
async def test_attaching_twice_from_the_same_place_is_one_session(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        for _ in range(2):
            await node.attach(name, "laptop", b"node.1")
        await node.settle(name)
        assert node.expelled == []
    assert deployment.state(name)[b"on"] == b"laptop=node.1"


# -- cursors


@trio_test
async def test_a_cursor_moves_forward_never_back_never_past_the_end(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        ats = [(await node.say(name, f"m{number}")).at for number in range(3)]
        milliseconds, counter = position_order(ats[2])
        kept = []
        for upto in (ats[0], ats[1], ats[0], b"0-0", b"%d-%d" % (milliseconds, counter + 1), b"9" * 15 + b"-0", ats[2]):
            await node.ack(name, "laptop", upto)
            kept.append(deployment.state(name)[b"c:laptop"])
    assert kept == [ats[0], ats[1], ats[1], ats[1], ats[1], ats[1], ats[2]]


@trio_test
async def test_counters_of_positions_are_compared_as_numbers(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        deployment.oracle(name).hset(user_keys(name).state, mapping={"last": "7-10", "c:laptop": "7-9"})
        await node.ack(name, "laptop", b"7-10")
        assert deployment.state(name)[b"c:laptop"] == b"7-10"
        deployment.oracle(name).hset(user_keys(name).state, "c:laptop", "7-2")
        await node.ack(name, "laptop", b"10-0")
    assert deployment.state(name)[b"c:laptop"] == b"7-2"


# -- accounts


@trio_test
async def test_a_name_is_taken_once_and_the_same_call_can_be_repeated(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        assert await node.store.accounts.password_hash(UserId(name)) is None
        await node.store.accounts.register(UserId(name), "hash")
        await node.store.accounts.register(UserId(name), "hash")
        with pytest.raises(Exists):
            await node.store.accounts.register(UserId(name), "another")
        assert await node.store.accounts.password_hash(UserId(name)) == "hash"
        without_password = f"{name}.token"
        await node.store.accounts.register(UserId(without_password), "")
        with pytest.raises(Exists):
            await node.store.accounts.register(UserId(without_password), "")
    assert deployment.state(name) == {b"last": START}


@trio_test
async def test_a_session_learns_that_its_account_is_a_bots(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        robot = f"{name}.robot"
        await registered(node, name)
        making = account_calls.register(user_keys(robot), "", 1.0, name)
        await node.store.link_of(robot).ask(making, account_calls.registered)
        assert (await node.attach(robot, "bot", b"node.1")).is_bot
        assert not (await node.attach(name, "bot", b"node.2")).is_bot
        with pytest.raises(Exists):
            await node.store.link_of(robot).ask(making, account_calls.registered)


@trio_test
async def test_registering_again_keeps_the_log(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        said = await node.say(name, "m1")
        await registered(node, name)
    assert deployment.state(name)[b"last"] == said.at


@trio_test
async def test_revoking_a_device_or_all(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        keys, link = user_keys(name), node.store.link_of(name)
        await node.attach(name, "a", b"node.1", "0.0")
        await node.attach(name, "b", b"node.2", "0.0")
        await link.ask(account_calls.revoke(keys, "a"), account_calls.found)
        await node.settle(name)
        assert node.expelled == [(name, b"a=node.1", "revoked")]
        with pytest.raises(ExpiredToken):
            await node.attach(name, "a", b"node.3", "0.0")
        await node.detach(name, "a", b"node.1")
        assert (await node.attach(name, "b", b"node.2", "0.0")).generations == "0.0"
        assert (await node.attach(name, "a", b"node.4", None)).generations == "0.1"
        await link.ask(account_calls.revoke(keys, None), account_calls.found)
        await node.settle(name)
        assert sorted(node.expelled[1:]) == [(name, b"a=node.4", "revoked"), (name, b"b=node.2", "revoked")]
        for device, generations in (("a", "0.1"), ("b", "0.0")):
            with pytest.raises(ExpiredToken):
                await node.attach(name, device, b"node.5", generations)
        assert (await node.attach(name, "a", b"node.6", "1.1")).generations == "1.1"


@trio_test
async def test_revoking_and_erasing_nobody_is_told(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        keys, link = user_keys(name), node.store.link_of(name)
        for command in (account_calls.revoke(keys, None), account_calls.erase(keys)):
            with pytest.raises(NotFound):
                await link.ask(command, account_calls.found)
    assert not [key for key in deployment.all_keys() if name.encode() in key]


@trio_test
async def test_a_disabled_account_is_refused_and_still_gets_messages(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        deployment.oracle(name).hset(user_keys(name).account, "disabled", "1")
        for generations in (None, "0.0"):
            with pytest.raises(NotAllowed, match="disabled"):
                await node.attach(name, "laptop", b"node.1", generations)
        await node.say(name, "m1")
        deployment.oracle(name).hdel(user_keys(name).account, "disabled")
        assert (await node.attach(name, "laptop", b"node.1")).last == deployment.log(name)[0][0]


@trio_test
async def test_erasing_leaves_no_key_with_the_name(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        await node.attach(name, "laptop", b"node.1")
        said = await node.say(name, "m1")
        await node.ack(name, "laptop", said.at)
        await node.store.link_of(name).ask(account_calls.erase(user_keys(name)), account_calls.found)
        await node.settle(name)
        assert node.expelled == [(name, b"laptop=node.1", "revoked")]
        await node.detach(name, "laptop", b"node.1", said.at)  # the session says so as it closes
        await node.ack(name, "laptop", said.at)
        assert isinstance(await node.append(name, message("bob", name, "m2")), NotFound)
    assert not [key for key in deployment.all_keys() if name.encode() in key]


@trio_test
async def test_a_password_is_changed_where_it_is_still_the_old_one(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        accounts, user = node.store.accounts, UserId(name)
        for device, place in (("a", b"node.1"), ("b", b"node.2")):
            await node.attach(name, device, place)
        asking = Login(Place(b"a=node.1"), "0.0")
        for _ in range(2):
            await accounts.set_password(user, f"hash of {name}", "new", asking)
        await node.settle(name)
        assert node.expelled == [(name, b"b=node.2", "revoked")]
        with pytest.raises(Conflict):
            await accounts.set_password(user, f"hash of {name}", "newer", None)
        assert await accounts.password_hash(user) == "new"
        with pytest.raises(ExpiredToken):
            await node.attach(name, "b", b"node.3", "0.0")
        assert (await node.attach(name, "a", b"node.4", "0.0")).generations == "1.0"
        with pytest.raises(NotFound):
            await accounts.set_password(UserId(f"{name}.nobody"), "h", "i", None)


@trio_test
async def test_whoever_has_checked_a_password_comes_in_while_the_account_has_it(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        old = f"hash of {name}"
        await node.attach(name, "a", b"node.1", None, old)
        await node.store.accounts.set_password(UserId(name), old, "new", None)
        with pytest.raises(BadCredentials):
            await node.attach(name, "b", b"node.2", None, old)
        assert b"s:b" not in deployment.state(name)
        await node.attach(name, "b", b"node.2", None, "new")


@trio_test
async def test_a_revoked_session_does_not_bring_itself_back(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        accounts, user = node.store.accounts, UserId(name)
        for device, place in (("a", b"node.1"), ("b", b"node.2")):
            await node.attach(name, device, place)
        revoked, other = Login(Place(b"a=node.1"), "0.0"), Login(Place(b"b=node.2"), "0.0")
        await accounts.revoke(user, "a", other)
        for whom in (None, "b"):
            with pytest.raises(ExpiredToken):
                await accounts.revoke(user, whom, revoked)
        with pytest.raises(ExpiredToken):
            await accounts.set_password(user, f"hash of {name}", "new", revoked)
        assert await accounts.password_hash(user) == f"hash of {name}"
        with pytest.raises(ExpiredToken):
            await node.attach(name, "a", b"node.3", "0.0")
        for _ in range(2):  # each is a repeat, too
            await accounts.revoke(user, None, other)
            await accounts.revoke(user, "a", revoked)
        assert (await node.attach(name, "b", b"node.4", "0.0")).generations == "2.0"


@trio_test
async def test_devices_are_found_however_long_the_dedupe_index_is(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        accounts, user = node.store.accounts, UserId(name)
        for device in ("a", "b", "c"):
            await node.attach(name, device, b"node.1")
        for number in range(2000):
            deployment.oracle(name).hset(user_keys(name).state, f"l/s/{number}", "1-0")
        await node.detach(name, "b", b"node.1")
        await accounts.revoke(user, "c", Login(Place(b"a=node.1"), "0.0"))
        await node.detach(name, "c", b"node.1")
        for _ in range(2):
            await accounts.revoke(user, "c", Login(Place(b"a=node.1"), "0.0"))
        await accounts.name_device(user, "b", "the red one")
        fields = deployment.oracle(name).hgetall(user_keys(name).account)
        with pytest.raises(NotFound, match="device"):
            await accounts.name_device(user, "d", "none")
        with pytest.raises(NotFound, match="device"):
            await accounts.revoke(user, "d", Login(Place(b"a=node.1"), "0.0"))
        assert deployment.oracle(name).hgetall(user_keys(name).account) == fields
        deployment.oracle(name).config_resetstat()
        found = {device.device: device for device in await accounts.devices(user)}
        assert sorted(found) == ["a", "b"]
        assert "cmdstat_hscan" not in deployment.oracle(name).info("commandstats")
        assert (found["a"].connected, found["a"].seen) == (True, None)
        assert (found["b"].connected, found["b"].name) == (False, "the red one")
        left = found["b"].seen
        assert left is not None
        assert found["b"].created <= found["b"].login <= left


@trio_test
async def test_a_profile_has_a_version_and_shows_strangers_less(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        await registered(node, name)
        accounts, user, stranger = node.store.accounts, UserId(name), UserId(f"{name}.s")
        version = await accounts.set_profile(user, {"name": "N", "about": "A"})
        assert await accounts.set_profile(user, {"name": "N"}) == version
        assert await accounts.set_profile(user, {"avatar": "P"}) > version
        assert (await accounts.profile(user, user))[1:4] == ("N", "P", "A")
        answers = await accounts.profiles([user, stranger, user], stranger)
        assert isinstance(answers[0], Profile)
        assert answers[0][1:4] == ("N", "P", "")
        assert answers[2] == answers[0]
        assert isinstance(answers[1], NotFound)
        with pytest.raises(NotFound):
            await accounts.set_profile(stranger, {"name": "N"})


@trio_test
async def test_names_are_found_by_their_beginning(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        prefix = f"zz{name}."
        for rest in ("b", "a", "a1", "c"):
            await registered(node, prefix + rest)
        await registered(node, f"zy{name}")
        accounts = node.store.accounts
        assert await accounts.names_from(prefix, 10) == [prefix + rest for rest in ("a", "a1", "b", "c")]
        assert await accounts.names_from(prefix + "a", 10) == [f"{prefix}a", f"{prefix}a1"]
        assert await accounts.names_from(prefix, 2) == [f"{prefix}a", f"{prefix}a1"]
        await accounts.erase(UserId(f"{prefix}a"), Place(b""))
        assert await accounts.names_from(prefix + "a", 10) == [f"{prefix}a1"]
        assert not [key for key in deployment.all_keys() if f"{prefix}a".encode() == key.partition(b":")[2]]


@trio_test
async def test_tries_are_so_many_at_once_then_one_after_each_interval(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        tries, allowance = node.store.accounts.tries, Allowance(name, 3)
        assert [await tries.spend(allowance) for _ in range(3)] == [0.0] * 3
        for _ in range(2):
            assert 1100 < await tries.spend(allowance) <= 1200
        tries.forgive(allowance)
        assert await tries.spend(allowance) == 0.0
        assert await tries.spend(allowance) > 0.0
        left = deployment.oracle(name).pttl(tries_key(name))
        assert 3500_000 < left <= 3600_000
        for _ in range(4):
            tries.forgive(allowance)
        assert await tries.spend(allowance) == 0.0
        quick = Allowance(f"{name}.q", 3_600_000)  # one is back after each millisecond
        while await tries.spend(quick):
            pass


@trio_test
async def test_an_invitation_is_used_as_often_as_it_may(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        accounts, code = node.store.accounts, f"code-{name}"
        await node.store.link_of(code).ask(moderation_calls.make_invite(code, 2, 9_000_000_000))
        users = [UserId(f"{name}.{number}") for number in range(4)]
        await accounts.register(users[0], "hash", code)
        with pytest.raises(Exists):
            await accounts.register(users[0], "another", code)
        for _ in range(2):  # killed after the first step, and come again
            await node.store.link_of(code).ask(
                moderation_calls.use_invite(code, users[1]), moderation_calls.invite_used
            )
        await accounts.register(users[1], "hash", code)
        with pytest.raises(NotAllowed, match="used up"):
            await accounts.register(users[2], "hash", code)
        assert await accounts.password_hash(users[2]) is None
        await node.store.link_of(code).ask(moderation_calls.return_invite(code, users[1]))
        await accounts.register(users[3], "hash", code)
        await accounts.erase(users[3], Place(b""))
        with pytest.raises(NotAllowed):
            await accounts.register(users[2], "hash", code)
        over = f"over-{name}"
        await node.store.link_of(over).ask(moderation_calls.make_invite(over, 2, 1))
        with pytest.raises(NotAllowed):
            await accounts.register(users[2], "hash", over)


@trio_test
async def test_signing_keys_are_made_once_and_rotated(deployment: Deployment) -> None:
    key = deployment_key("keys")
    async with opened(deployment.url, "node") as node:
        link = node.store.link_of_deployment()
        await link.ask(calls.pack(b"DEL", key))
        assert await node.store.accounts.signing_keys("k1", "s1") == {"k1": "s1", "current": "k1"}
        assert await node.store.accounts.signing_keys("k2", "s2") == {"k1": "s1", "current": "k1"}
        for _ in range(2):
            rotated = account_calls.signing_keys(key, "k3", "s3", rotate=True)
            both = account_calls.signing_keys_known(await link.ask(rotated))
            assert both == {"k1": "s1", "k3": "s3", "current": "k3"}
        assert await node.store.accounts.signing_keys("k4", "s4") == both
        await link.ask(calls.pack(b"DEL", key))


# -- slots


@trio_test
async def test_every_call_stays_within_one_slot_for_all_names(deployment: Deployment) -> None:
    """A cluster refuses a call whose keys lie apart, or in a slot of another instance."""
    async with opened(deployment.url, "node") as node:
        for name in random_names(200):
            await node.store.accounts.register(UserId(name), "hash")
            await node.attach(name, "laptop", b"node.1")
            said = await node.say(name, "m1")
            await node.ack(name, "laptop", said.at)
            await node.trim(name, calls.Bounds(10, 10, 10))
            assert [entry.at for entry in await node.read(name, START)] == [said.at]
            await node.store.link_of(name).ask(account_calls.erase(user_keys(name)), account_calls.found)
        await node.settle(name)
        assert len(node.entries) == 200
        assert len(node.expelled) == 200


def test_every_function_declares_its_keys(deployment: Deployment) -> None:
    """Channels carry the tag of the keys, so they lie in the same slot."""
    keys = user_keys("alice")
    hosting, leases = Hosting(keys.partition, b"n"), lease_keys(keys.partition)
    group = group_keys("#g")
    group_hosting = Hosting(group.partition, b"n")
    for packed in (
        calls.clear(keys, hosting, 1.0),
        calls.renew(leases, b"n", 1.0),
        calls.leave(leases, b"n"),
        calls.take_dead(leases, 1.0, 1.0),
        calls.append(keys, b"d", b"c", b"-"),
        calls.append_both(keys, keys, b"d", b"c", b"-"),
        calls.attach(keys, hosting, Place(b"d=n.1"), calls.Right("0.0"), None, 1.0),
        calls.detach(keys, hosting, Place(b"d=n.1"), None, 1.0),
        calls.ack(keys, "d", START),
        calls.trim(keys, 1.0, calls.Bounds(1, 1, 1)),
        account_calls.register(keys, "h", 1.0),
        account_calls.revoke(keys, None),
        account_calls.erase(keys),
        account_calls.set_password(keys, "h", "i", None),
        account_calls.name_device(keys, "d", "n"),
        account_calls.set_profile(keys, 1, {"name": "n"}),
        account_calls.profile(keys, "bob"),
        name_calls.index_name("alice"),
        try_once(Allowance("alice", 1)),
        moderation_calls.make_invite("alice", 1, 1),
        moderation_calls.use_invite("alice", "u"),
        moderation_calls.return_invite("alice", "u"),
        moderation_calls.forget_invited("alice", "u"),
        moderation_calls.report(Report("alice", "bob", 1, "spam"), 1),
        moderation_calls.close_report("alice", "bob"),
        forgive(Allowance("alice", 1)),
        forget("alice"),
        name_calls.unindex_name("alice"),
        group_calls.post(group, b"d", b"c", b"-", b"s"),
        group_calls.post(group, b"d", b"c", b"-", b"s", 1),
        group_calls.create(group, "o", "t", b"c", {"name": "n"}),
        group_calls.change(group, Change("join", UserId("a"), UserId("a"), b"c", (1,))),
        group_calls.info(group, "a"),
        group_calls.follow(group, group_hosting, "a", START, 1),
        group_calls.typing(group, "a", 1, is_on=True),
        group_calls.follow_again(group, group_hosting),
        group_calls.announce(keys, GroupId("#g"), 1, 1),
        group_calls.enlist(keys, GroupId("#g"), START, "joined", b"c"),
        group_calls.ack(keys, "d", GroupId("#g"), START),
        conversation_calls.read(keys, "bob", START, Place(b"d=n.1")),
        conversation_calls.mark(keys, "read", "bob", conversation_calls.Mark(START, "d", "i")),
        conversation_calls.keep(keys, "d", START),
        conversation_calls.heard(keys, START, START),
        conversation_calls.arrange(keys, "bob", (b"1", b"-", b"-"), 1, Place(b"d=n.1")),
        conversation_calls.listed(keys, 0, 0, 1),
        circle_calls.relate(keys, "bob", "1---", 1),
        circle_calls.describe(keys, "bob", "B", [], 1),
        circle_calls.roster(keys, 0, 0, 1),
        circle_calls.privacy(keys, None, None),
        circle_calls.settle(keys, b"online offline"),
        circle_calls.tell(keys, {b"n": [UserId("bob")]}, "all"),
        circle_calls.whereabouts([keys, keys], with_told=True),
        circle_calls.release(keys, hosting),
        circle_calls.typing(keys, "bob", is_on=True),
    ):
        parts = packed.split(b"\r\n")[2::2]
        assert parts[0] == b"FCALL"
        count = int(parts[2])
        declared, arguments = parts[3 : 3 + count], parts[3 + count :]
        of_partition = {hosting.key, due_key(keys.partition), *leases}
        of_user = {*keys[1:7], keys.conversations, keys.changes, keys.expiring, keys.waiting, *of_partition}
        of_group = {group.state, group.log, group.members, group.expiring, group_hosting.key}
        of_names = {
            name_calls.names_key("alice").key,
            tries_key("alice"),
            moderation_calls.invite_key("alice"),
            moderation_calls.REPORTS,
        }
        assert any(set(declared) <= of_one for of_one in (of_user, of_group, of_names))
        assert not [part for part in arguments if part[:1] == b"{" and part[4:5] == b"}"]
    assert {shard.url for shard in deployment.shards} == {shard.url for shard in deployment.shards if shard.partitions}


@trio_test
async def test_entries_come_through_from_every_shard(deployment: Deployment) -> None:
    async with opened(deployment.url, "node") as node:
        now = node.reactor.now
        for link in node.store.links:
            link.proven_at = 0.0
        assert node.store.why_not_ready(now) != ""
        node.store.tick(now)
        while not all(link.proven_at for link in node.store.links):
            for link in node.store.links:
                await link.ask(calls.pack(b"PING"))
        assert node.store.why_not_ready(now) == ""
    assert len(node.store.links) == (3 if deployment.is_cluster else 1)
