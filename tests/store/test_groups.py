"""Groups on every store: what the functions do is what the model does, step by step; and what following promises."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from trio.testing import trio_test

from imserver.errors import Conflict, Exists, ImError, NotAllowed, NotFound, Unavailable
from imserver.model import START, Entry, GroupId, Position, UserId
from imserver.protocol.groups import LETTERS, RULES
from imserver.store.calls import Appended, Bounds
from imserver.store.group_calls import Change, Changed, Followed, GroupGone, GroupInfo
from imserver.store.groups import MOST_SHARING
from imserver.store.partitions import group_keys
from imserver.store.store import NOBODY
from imserver.store.stored import group_event, own_event
from tests.model_database import Database
from tests.store.deployment import Deployment
from tests.store.node import Node, Said, answer, message, opened

FIELDS: dict[str, str | int] = {"name": "Room", "topic": "", "open": 0, "history": "joined", "posting": "all"}
STEPS = 150


def group_message(sender: str, group: str, message_id: str) -> Said:
    return message(sender, group, message_id)


async def outcome_of(call: Any) -> Any:
    try:
        return await call
    except ImError as error:
        return error


class Both:
    """The same done to the real store and to the model; positions are translated by their places in the logs."""

    def __init__(self, node: Node, oracle: Deployment, users: list[str], group: str, seed: int) -> None:
        self.node, self.oracle, self.users = node, oracle, [UserId(user) for user in users]
        self.group = GroupId(group)
        self.model = Database(lambda *_: None)
        self.chance = random.Random(seed)
        self.real_of: dict[bytes, Position] = {}
        self.numbers = 0

    # -- steps

    async def step(self) -> None:
        kind = self.chance.choice(
            ["post"] * 3 + ["change"] * 8 + ["create", "announce", "enlist", "enlist", "ack", "follow", "info"]
        )
        model, real = await getattr(self, f"_{kind}")()
        self._note()
        assert self._as_modelled(real) == self._plain(model), kind

    def _user(self) -> UserId:
        return self.chance.choice(self.users)

    async def _create(self) -> Any:
        self.numbers += 1
        owner, token = self._user(), f"t{self.numbers}"
        fields = FIELDS | {"open": self.chance.randrange(2), "posting": self.chance.choice(["all", "admins"])}
        content = group_event(self.group, "created", user=owner)
        model = self.model.groups.create(self.group, owner, token, content, fields)
        return model, await outcome_of(self.node.store.groups.create(self.group, owner, token, content, fields))

    async def _post(self) -> Any:
        sender, number = self._user(), self.chance.randrange(20)
        said = group_message(sender, self.group, f"m{number}")
        mentions = self.chance.sample(self.users, self.chance.choice([0, 0, 1, 3]))
        arguments = (self.group, sender, said.dedupe, said.content, NOBODY)
        model = self.model.groups.post(*arguments, 0, mentions)
        real = await answer(lambda then: self.node.store.groups.post(*arguments, then, 0, mentions))
        return model, real

    async def _change(self) -> Any:
        action = self.chance.choice(sorted(RULES))
        actor = self._user()
        target = actor if action in ("join", "leave", "set") else self._user()
        arguments: tuple[Any, ...] = ()
        if action in ("join", "add"):
            arguments = (4,)
        elif action == "role":
            arguments = (self.chance.choice(list(LETTERS.values())),)
        elif action == "set":
            arguments = ("open", self.chance.randrange(2), "posting", self.chance.choice(["all", "admins"]))
        what = Change(action, actor, target, group_event(self.group, action, user=target, by=actor), arguments)
        return self.model.groups.change(self.group, what), await outcome_of(
            self.node.store.groups.change(self.group, what)
        )

    async def _announce(self) -> Any:
        user, made = self._user(), self.chance.choice([None, 3])
        model = self.model.groups.announce(user, self.group, 5, made)
        return model, await outcome_of(self.node.store.groups.announce(user, self.group, 5, made))

    async def _enlist(self) -> Any:
        """Anything, as of any position: as if calls came late."""
        user, what = self._user(), self.chance.choice(["joined", "invited", "gone"])
        at = self.chance.choice([entry.at for entry in self.model.read(self.group, START, 1000)] or [START])
        content = b'{"ev":"group","change":"%b"}' % what.encode()
        model = self.model.groups.enlist(user, self.group, at, what, content)
        real = await outcome_of(self.node.store.groups.enlist(user, self.group, self._real(at), what, content))
        return model, real

    async def _ack(self) -> Any:
        user = self._user()
        at = self.chance.choice([entry.at for entry in self.model.read(self.group, START, 1000)] or [START])
        model = self.model.groups.ack(user, "pad", self.group, at)
        real = await answer(lambda then: self.node.store.groups.ack(user, "pad", self.group, self._real(at), then))
        return model, real

    async def _follow(self) -> Any:
        user, most = self._user(), self.chance.choice([2, 1000])
        cursor = self.chance.choice([entry.at for entry in self.model.read(self.group, START, 1000)] or [START])
        model = self.model.groups.follow(self.group, self.node.name, user, cursor, most)
        real = await answer(
            lambda then: self.node.store.groups.follow(self.group, user, self._real(cursor), most, then)
        )
        return model, real

    async def _info(self) -> Any:
        user = self._user()
        return self.model.groups.info(self.group, user), await outcome_of(self.node.store.groups.info(self.group, user))

    # -- comparing

    def _note(self) -> None:
        """What stands at the same place of a log has the same position, under two names."""
        for owner in (self.group, *self.users):
            modelled, real = self.model.read(owner, START, 10_000), self.oracle.log(owner)
            assert [entry.content for entry in modelled] == [fields[b"e"] for _, fields in real]
            if owner == self.group:  # all positions that are told are of its log
                self.real_of |= {entry.at: Position(at) for entry, (at, _) in zip(modelled, real, strict=True)}

    def _real(self, position: Position) -> Position:
        return self.real_of.get(position, position)

    def _as_modelled(self, real: Any) -> Any:
        return self._plain(real, {real: model for model, real in self.real_of.items()})

    def _plain(self, value: Any, names: dict[Position, bytes] | None = None) -> Any:
        """Positions by the model's names; of a group that is gone only that it is."""
        known = (names or {}).keys() | self.real_of.keys()
        match value:
            case GroupGone():
                return "gone"
            case ImError():
                return type(value), str(value)
            case Followed() if value.since is None and value.end not in known:
                return "gone"
            case Changed() if value.at not in known:  # the last one has left
                return "gone"
            case Changed() | Followed() | GroupInfo():
                return [self._plain(part, names) for part in value]
            case Appended():
                return [self._plain(value.at, names), self._plain(value.prev, names)]
            case bytes() if names is not None:
                return names.get(Position(value), value)
            case _:
                return value


@pytest.mark.parametrize("seed", range(3))
@trio_test
async def test_the_functions_do_what_the_model_does(deployment: Deployment, name: str, seed: int) -> None:
    async with opened(deployment.url, "node") as node:
        users = [f"{name}.{number}" for number in range(5)]
        both = Both(node, deployment, users, f"#{name}", seed)
        for user in users:
            await node.store.accounts.register(UserId(user), "")
            both.model.register(user, "")
        for _ in range(STEPS):
            await both.step()
        for user in both.users:
            assert set((await node.store.groups.listed(user))[0]) == set(both.model.groups.listed(user)[0])
        known = both.model.groups.groups.get(both.group)
        if known is not None:
            members: dict[str, str] = {}
            cursor: str | None = "0"
            while cursor is not None:
                cursor, page = await node.store.groups.members(both.group, cursor, 2)
                members.update(page)
            assert members == {user: standing for user, (standing, _) in known.members.items()}


async def made(node: Node, name: str, *members: str, **fields: str | int) -> GroupId:
    """A group with these members, the first of them its owner; their lists know it."""
    group, (owner, *others) = GroupId(f"#{name}"), [UserId(member) for member in members]
    for user in (owner, *others):
        await node.store.accounts.register(user, "")
    at = await node.store.groups.create(group, owner, "token", group_event(group, "created"), FIELDS | fields)
    await node.store.groups.enlist(owner, group, at, "joined", own_event(group, "joined", at))
    for user in others:
        change = Change("add", owner, user, group_event(group, "joined", user=user), (1000,))
        at = (await node.store.groups.change(group, change)).at
        await node.store.groups.enlist(user, group, at, "joined", own_event(group, "joined", at))
    return group


async def post(
    node: Node, group: GroupId, sender: str, message_id: str, origin: bytes = NOBODY, mentions: Sequence[str] = ()
) -> Appended:
    said = group_message(sender.split(maxsplit=1)[0], group, message_id)
    arguments = (group, sender, said.dedupe, said.content, origin)
    posted = await answer(lambda then: node.store.groups.post(*arguments, then, 0, mentions))
    assert isinstance(posted, Appended)
    return posted


async def follow(node: Node, group: GroupId, user: str, cursor: Position = START, most: int = 1000) -> Followed:
    followed = await answer(lambda then: node.store.groups.follow(group, UserId(user), cursor, most, then))
    assert isinstance(followed, Followed)
    return followed


def of_group(node: Node, group: str) -> list[Entry]:
    return [entry for log, entry, _ in node.entries if log == group]


@trio_test
async def test_a_message_comes_once_to_each_node_that_hosts_followers(deployment: Deployment, name: str) -> None:
    async with (
        opened(deployment.url, "n1") as one,
        opened(deployment.url, "n2") as two,
        opened(deployment.url, "n3") as three,
    ):
        group = await made(one, name, f"{name}.a", f"{name}.b", f"{name}.c")
        for node, user in ((one, "a"), (one, "b"), (two, "c")):
            await follow(node, group, f"{name}.{user}")
        posted = await post(one, group, f"{name}.a", "m1")
        for node in (one, two, three):
            await node.settle(group)
        assert [entry.at for entry in of_group(one, group)] == [posted.at]
        assert [entry.at for entry in of_group(two, group)] == [posted.at]
        assert of_group(three, group) == []


@trio_test
async def test_who_unfollows_hears_nothing_more_and_who_follows_again_does(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        await follow(node, group, f"{name}.a")
        node.store.groups.unfollow(group)
        first = await post(node, group, f"{name}.a", "m1")
        end = await answer(lambda then: node.store.groups.follow_again(group, then))
        second = await post(node, group, f"{name}.a", "m2")
        await node.settle(group)
    assert end == first.at
    assert [entry.at for entry in of_group(node, group)] == [second.at]


@trio_test
async def test_a_dead_nodes_followers_are_cleared_by_the_set_of_what_it_hosts(
    deployment: Deployment, name: str
) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        await follow(node, group, f"{name}.a")
        tag = deployment.keys(group).state.partition(b"}")[0] + b"}"
        assert group.encode() in deployment.oracle(group).smembers(tag + b"h:n1")
        node.store.groups.unfollow(group)
        await node.settle(group)
        assert group.encode() not in deployment.oracle(group).smembers(tag + b"h:n1")
        assert b"on" not in deployment.state(group)


@trio_test
async def test_a_device_far_behind_is_told_how_far(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        entries = [await post(node, group, f"{name}.a", f"m{number}") for number in range(12)]
        near = await follow(node, group, f"{name}.a", entries[1].at, most=10)
        far = await follow(node, group, f"{name}.a", entries[0].at, most=10)
    assert (near.start, near.surplus, near.end) == (entries[1].at, 0, entries[-1].at)
    assert (far.start, far.surplus) == (entries[0].at, 11)


@trio_test
async def test_a_mention_is_noted_for_members_and_found_by_who_was_away(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        a, b, stranger = (UserId(f"{name}.{letter}") for letter in "abs")
        group = await made(node, name, a, b)
        first = await post(node, group, a, "m1")
        mentioning = await post(node, group, a, "m2", mentions=[b, stranger])
        assert (await node.store.groups.info(group, b)).mentioned == mentioning.at
        last = [await post(node, group, a, f"m{number}") for number in range(3, 6)][-1]
        assert (await follow(node, group, b, first.at, most=2)).mentioned == mentioning.at
        assert (await follow(node, group, b, first.at, most=10)).mentioned is None  # it is among what is given
        assert (await follow(node, group, b, mentioning.at, most=2)).mentioned is None  # had before
        assert await post(node, group, a, "m2", mentions=[a]) == Appended(mentioning.at, None)
        infos = [await node.store.groups.info(group, user) for user in (a, stranger)]
        assert [info.mentioned for info in infos] == [None, None]
        newest = await post(node, group, b, "m6", mentions=[a, b])
        assert newest.prev == last.at
        assert [(await node.store.groups.info(group, user)).mentioned for user in (a, b)] == [newest.at] * 2
        await node.store.groups.change(group, Change("leave", b, b, group_event(group, "left", user=b)))
        assert b"@" + b.encode() not in deployment.oracle(group).hgetall(group_keys(group).members)
        assert [user for user, _ in (await node.store.groups.members(group, "0", 100))[1]] == [a]


@trio_test
async def test_a_cursor_from_elsewhere_hides_nothing(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        posted = await post(node, group, f"{name}.a", "m1")
        assert (await follow(node, group, f"{name}.a", Position(b"99999999999999-0"))).start == posted.at


@trio_test
async def test_a_groups_log_is_trimmed_as_a_users_is(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        for number in range(10):
            await post(node, group, f"{name}.a", f"m{number}")
        await node.trim(group, Bounds(3, 86_400, 600))
        assert len(deployment.log(group)) == 3
        assert len(deployment.dedupe(group)) == 3
        assert (await post(node, group, f"{name}.a", "m9")).prev is None


@trio_test
async def test_a_stored_message_of_someone_thrown_out_meanwhile_is_answered(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        a, b = UserId(f"{name}.a"), UserId(f"{name}.b")
        group = await made(node, name, a, b)
        posted = await post(node, group, b, "m1")
        await node.store.groups.change(group, Change("kick", a, b, group_event(group, "kicked", user=b)))
        assert await post(node, group, b, "m1") == Appended(posted.at, None)
        said = group_message(b, group, "m2")
        refused = await answer(lambda then: node.store.groups.post(group, b, said.dedupe, said.content, NOBODY, then))
        assert isinstance(refused, NotFound)


@trio_test
async def test_what_was_said_in_a_former_membership_is_not_said_in_a_later_one(
    deployment: Deployment, name: str
) -> None:
    """A worker that was cut off says it late, when its sender was told that it is refused, and is a member again."""
    async with opened(deployment.url, "n1") as node:
        a, b = UserId(f"{name}.a"), UserId(f"{name}.b")
        group = await made(node, name, a, b)
        first = (await follow(node, group, b)).since
        assert first is not None
        await post(node, group, f"{b} {first.decode()}", "m1")
        await node.store.groups.change(group, Change("kick", a, b, group_event(group, "kicked", user=b)))
        add = Change("add", a, b, group_event(group, "joined", user=b), (1000,))
        second = (await node.store.groups.change(group, add)).at
        for membership in (first.decode(), "-"):
            said = group_message(b, group, "m2")
            arguments = (group, f"{b} {membership}", said.dedupe, said.content, NOBODY)
            assert isinstance(await answer(lambda then: node.store.groups.post(*arguments, then)), Unavailable)  # noqa: B023
            assert (await post(node, group, f"{b} {membership}", "m1")).prev is None
        assert (await post(node, group, f"{b} {second.decode()}", "m2")).prev is not None


@trio_test
async def test_readers_at_the_same_place_share_a_page(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        group = await made(node, name, f"{name}.a")
        posted = [await post(node, group, f"{name}.a", f"m{number}") for number in range(3)]
        pages: list[list[Entry]] = []
        before = node.store.link_of(group).in_flight
        for _ in range(5):
            node.store.groups.read(group, posted[0].at, 10, pages.append)  # type: ignore[arg-type]
        assert node.store.link_of(group).in_flight == before + 1
        await node.settle(group)
        assert [[entry.at for entry in page] for page in pages] == [[posted[1].at, posted[2].at]] * 5
        pages.clear()
        readers = 2 * MOST_SHARING + 1
        for _ in range(readers):
            node.store.groups.read(group, posted[0].at, 10, pages.append)  # type: ignore[arg-type]
        assert node.store.link_of(group).in_flight == before + 3, "not so many at once that others wait for long"
        await node.settle(group)
        assert [[entry.at for entry in page] for page in pages] == [[posted[1].at, posted[2].at]] * (
            2 * MOST_SHARING + 1
        )
        node.store.groups.read(group, posted[1].at, 10, pages.append)  # type: ignore[arg-type]
        await node.settle(group)
        assert [entry.at for entry in pages[-1]] == [posted[2].at]


@trio_test
async def test_typing_is_told_where_members_of_a_small_group_are(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as one, opened(deployment.url, "n2") as two:
        alice, bob, stranger = (UserId(f"{name}.{letter}") for letter in "abs")
        group = await made(one, name, alice, bob)
        say = one.store.groups.typing
        say(alice, group, 50, is_on=True)  # nobody is there
        await follow(two, group, bob)
        say(stranger, group, 50, is_on=True)
        say(alice, group, 1, is_on=True)
        say(alice, GroupId(f"#{name}.none"), 50, is_on=True)
        say(alice, group, 2, is_on=False)
        change = Change("set", alice, alice, group_event(group, "set"), ("posting", "admins"))
        await one.store.groups.change(group, change)
        say(bob, group, 50, is_on=True)  # who may not post
        say(alice, group, 50, is_on=True)
        await two.wait_told(lambda: f"typing {alice} {group} True" in two.events)
        assert [event for event in two.events if event.startswith("typing")] == [
            f"typing {alice} {group} False",
            f"typing {alice} {group} True",
        ]
        assert [event for event in one.events if event.startswith("typing")] == []


@trio_test
async def test_limits(deployment: Deployment, name: str) -> None:
    async with opened(deployment.url, "n1") as node:
        a, b = UserId(f"{name}.a"), UserId(f"{name}.b")
        group = await made(node, name, a, open=1)
        await node.store.accounts.register(b, "")
        with pytest.raises(Conflict):
            await node.store.groups.change(group, Change("join", b, b, b"{}", (1,)))
        with pytest.raises(Conflict):
            await node.store.groups.announce(a, GroupId(f"#{name}.2"), 1)
        await node.store.groups.announce(b, GroupId(f"#{name}.2"), 5, 1)
        with pytest.raises(Conflict):
            await node.store.groups.announce(b, GroupId(f"#{name}.3"), 5, 1)
        with pytest.raises(NotFound):
            await node.store.groups.announce(UserId(f"{name}.nobody"), group, 5)
        with pytest.raises(Exists):
            await node.store.groups.create(group, b, "other", b"{}", FIELDS)
        with pytest.raises(NotAllowed):
            await node.store.groups.change(group, Change("set", b, b, b"{}", ("name", "x")))
