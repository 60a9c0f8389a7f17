"""Messages that wait, on every store; where it can be, the same calls on the model, with the same answers."""

import random
from typing import Any

import pytest
from trio.testing import trio_test

from imserver.errors import Blocked, Conflict, ImError, NotFound
from imserver.model import Position, UserId
from imserver.store import account_calls
from imserver.store.calls import Appended
from imserver.store.later_calls import EVERYWHERE, LATE_SECONDS, MOST_BYTES, MOST_MESSAGES, Due, Saying, Waiting
from imserver.store.partitions import deployment_key, due_key, partition_of, user_keys
from tests.model_database import Database
from tests.store.deployment import Deployment
from tests.store.node import Node, Said, message, neighbours, opened
from tests.store.test_circle import registered

WHEN = 1_000
ORIGIN = b"-=later.0"
UNTIL = 10_000 + LATE_SECONDS


def saying(to: str, what: Said, mentions: tuple[str, ...] = ()) -> Saying:
    return Saying(to, len(what.content) - len('"hello"}'), list(mentions), what.content)


async def schedule(node: Node, user: UserId, message_id: str, when: int = WHEN, to: str = "") -> int:
    what = saying(to or user, message(user, to or user, message_id))
    return await node.store.later.schedule(user, "laptop", message_id, when, what)


async def result(asked: Any) -> Any:
    """The answer, or the error."""
    try:
        return await asked
    except ImError as error:
        return error


def same(model: Any, real: Any) -> None:
    if isinstance(model, ImError):
        assert (type(model), str(model)) == (type(real), str(real))
    else:
        assert model == real


@trio_test
@pytest.mark.parametrize("seed", range(4))
async def test_random_steps_have_the_same_results_as_on_the_model(deployment: Deployment, name: str, seed: int) -> None:
    chance = random.Random(seed)
    one, other = map(UserId, neighbours(f"{name}.{seed}"))
    partition = partition_of(one)
    async with opened(deployment.url, "node") as node:
        later = node.store.later
        deployment.oracle(one).delete(due_key(partition))  # other tests may have left something there
        database = Database(lambda *_: None)
        for user in await registered(node, one, other):
            database.register(user, "")
        known: list[Due] = []
        for number in range(150):
            user, message_id = chance.choice([one, other]), f"m{chance.randrange(6)} \"'"
            field = f"laptop/{message_id}"
            match chance.randrange(7):
                case 0 | 1 | 2:
                    when = chance.randrange(10)
                    what = saying("x", message(user, "x", message_id, body=f'"{number}\\n"'), ("x", "y"))
                    real = await result(later.schedule(user, "laptop", message_id, when, what))
                    same(database.delays.schedule(user, field, when, what), real)
                case 3:
                    real = await result(later.unschedule(user, "laptop", message_id, 10_000))
                    same(database.delays.unschedule(user, field, UNTIL), real)
                case 4:
                    now = chance.choice([3, 7, UNTIL])
                    known = await later.due(partition, now, 0, 10)
                    assert known == database.delays.due(partition, now, 0, 10)
                    assert await later.first(partition) == database.delays.first(partition)
                case 5 if known:
                    due, now = chance.choice(known), chance.choice([5, 10, UNTIL])
                    assert await later.begin_saying(due, now) == database.delays.begin(due, now)
                case 6 if known:
                    due, failed = chance.choice(known), chance.choice([None, Blocked("to: takes no messages")])
                    await later.end_saying(due, failed)
                    database.delays.end(due, failed)
            assert await later.waiting(user) == database.delays.waiting(user)
        assert await later.due(partition, UNTIL, 0, 100) == database.delays.due(partition, UNTIL, 0, 100)


@trio_test
@pytest.mark.parametrize("seed", range(4))
async def test_the_agenda_is_that_of_the_model(deployment: Deployment, name: str, seed: int) -> None:
    chance = random.Random(seed)
    async with opened(deployment.url, "node") as node:
        later, model = node.store.later, Database(lambda *_: None).delays
        deployment.oracle_of_partition(0).delete(deployment_key("agenda"))
        users = [UserId(f"{name}.{number}") for number in range(5)]
        claims: list[tuple[str, float]] = []
        for number in range(150):
            now = number / 3
            match chance.randrange(4):
                case 0:
                    user, when = chance.choice(users), chance.randrange(60)
                    await later.look_at(user, when)
                    model.look_at(partition_of(user), when)
                case 1:
                    claim = int(now) + 10 + chance.randrange(1, 1000) / 1000
                    taken = await later.take_due(now, claim, 3)
                    assert sorted(taken) == sorted(model.take(now, claim, 3))
                    claims += [(name, claim) for name in taken]
                case _ if claims:
                    name_, claim = chance.choice(claims)
                    following = chance.choice([None, int(now) + chance.randrange(9)])
                    await later.looked(name_, claim, following)
                    model.looked(name_, claim, following)
            found: Any = deployment.oracle_of_partition(0).zrange(deployment_key("agenda"), 0, -1, withscores=True)
            assert {key.decode(): when for key, when in found} == model.agenda


@trio_test
async def test_what_is_on_no_agenda_is_found(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        deployment.oracle_of_partition(0).delete(deployment_key("agenda"))
        await schedule(node, user, "m1")
        assert await node.store.later.take_due(WHEN, WHEN + 10.5, 1000) == [EVERYWHERE]
        await node.store.later.look_at_all()
        assert str(partition_of(user)) in await node.store.later.take_due(WHEN, WHEN + 10.25, 1000)


@trio_test
async def test_saying_it_twice_stores_it_once_and_tells_every_device(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        sender, recipient = neighbours(name)
        await registered(node, sender, recipient)
        await node.attach(UserId(sender), "laptop", b"node.1")
        what, later = message(sender, recipient, "m1"), node.store.later
        await schedule(node, UserId(sender), "m1", to=recipient)
        [due] = [one for one in await later.due(partition_of(sender), WHEN, 0, 1000) if one.user == sender]
        begun = await later.begin_saying(due, WHEN)
        assert begun is not None
        assert (begun.saying, begun.is_disabled) == (saying(recipient, what), False)
        assert due.dedupe == what.dedupe
        for _ in range(2):
            stored = await later.append_both(
                recipient, sender, due.dedupe, begun.saying.content, ORIGIN, begun.saying.again
            )
        assert stored == Appended(Position(deployment.log(sender)[0][0]), None)
        assert len(deployment.log(sender)) == len(deployment.log(recipient)) == 1
        await node.wait_told(lambda: bool(node.entries))
        assert [(log, origin) for log, _, origin in node.entries] == [(sender, ORIGIN)]
        with pytest.raises(Conflict, match="being said"):
            await later.unschedule(UserId(sender), "laptop", "m1", WHEN)
        await later.end_saying(due)
        assert await later.waiting(UserId(sender)) == []
        assert await schedule(node, UserId(sender), "m1", 5) == 5  # a late repeat: it has been said
        assert await later.waiting(UserId(sender)) == []


@trio_test
async def test_one_s_own_privacy_does_not_refuse_what_one_says(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        await node.store.circle.privacy(user, "contacts", None)
        what = message(user, "bob", "m1")
        assert isinstance(await node.store.later.append(user, what.dedupe, what.content, ORIGIN, 0), Appended)


@trio_test
async def test_a_disabled_account_is_told_of(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        (user,) = await registered(node, name)
        await schedule(node, user, "m1")
        deployment.oracle(user).hset(user_keys(user).account, "disabled", 1)
        begun = await node.store.later.begin_saying(Due(b"%012d %b laptop/m1" % (1, user.encode())), WHEN)
        assert begun is not None
        assert begun.is_disabled


@trio_test
async def test_no_more_than_so_many_and_so_much(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        many, much = await registered(node, f"{name}.a", f"{name}.b")
        for number in range(MOST_MESSAGES):
            await schedule(node, many, f"m{number}")
        with pytest.raises(Conflict, match="wait already"):
            await schedule(node, many, "more")
        await node.store.later.unschedule(many, "laptop", "m0", WHEN)
        await schedule(node, many, "more")
        large = Saying(many, 9, [], b"x" * (MOST_BYTES // 2))
        await node.store.later.schedule(much, "laptop", "m1", WHEN, large)
        with pytest.raises(Conflict, match="wait already"):
            await node.store.later.schedule(much, "laptop", "m2", WHEN, large)
        assert await node.store.later.waiting(much) == [Waiting(WHEN, 1, None, large.content)]


@trio_test
async def test_nothing_is_left_of_an_account_that_is_erased(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "node") as node:
        gone, stays = (UserId(user) for user in neighbours(name))
        await registered(node, gone, stays)
        for user in (gone, gone, stays):
            await schedule(node, user, f"m{random.random()}")
        await node.store.link_of(gone).ask(account_calls.erase(user_keys(gone)), account_calls.found)
        due = await node.store.later.due(partition_of(gone), WHEN, 0, 1000)
        assert [one.user for one in due if one.user in (gone, stays)] == [stays]
        assert user_keys(gone).waiting not in deployment.all_keys()
        with pytest.raises(NotFound):
            await schedule(node, gone, "m1")
