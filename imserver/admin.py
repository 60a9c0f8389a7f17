"""What an operator does to the accounts and tokens of a deployment: the commands of `imserver user|token|node`.

Works on the store directly, through the same functions as the workers, with Redis's synchronous client: whether a
server runs does not matter. Sessions that must close are told through the same channels.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import redis

from imserver.config import Settings
from imserver.errors import BadRequest, Conflict, ImError, NotFound, Unavailable
from imserver.model import DeviceId, GroupId, UserId, parse_device, parse_user
from imserver.protocol.contacts import SWITCHES, Event
from imserver.protocol.groups import RULES
from imserver.security import tokens
from imserver.security.passwords import hash_now
from imserver.store import account_calls, calls, circle_calls, embedded, group_calls
from imserver.store.calls import Packed
from imserver.store.group_calls import Change
from imserver.store.leases import NodeInfo
from imserver.store.partitions import UserKeys, deployment_key, group_keys, lease_keys, user_keys
from imserver.store.shards import Shard, find_shards
from imserver.store.stored import group_event

BOT_TOKEN_SECONDS = 3650 * 86_400  # nobody is there to log in again; it can be revoked at any time
_PIPELINE = 500  # accounts imported at a time


class AccountInfo(NamedTuple):
    """`created`: unix seconds."""

    user: UserId
    created: int
    disabled: bool
    is_bot: bool
    owner: str | None = None  # of a bot


class ImportLine(msgspec.Struct, forbid_unknown_fields=True):
    """One account to import. With neither `password` nor `hash` it logs in by token only."""

    user: str
    password: str | None = None
    hash: str | None = None  # argon2id, as the store keeps it


@contextmanager
def open_admin(settings: Settings) -> Iterator["Admin"]:
    """Commands for the store that these settings name: a Redis, or the embedded one, started if it does not run.

    Raises SetupError where the store can't be used.
    """
    url = settings.redis or embedded.running_store_url(settings.data)
    if url:
        yield from _with_admin(url, settings)
    else:
        with embedded.temporary_store(settings) as url:
            yield from _with_admin(url, settings)


def _with_admin(url: str, settings: Settings) -> Iterator["Admin"]:
    admin = Admin(find_shards(url), settings)
    try:
        admin.load_functions()
        yield admin
    except redis.RedisError as error:
        raise Unavailable(f"the store can't do this: {error}") from error
    finally:
        admin.close()


class Admin:
    """Raises ImError from every method; its str() can be shown."""

    def __init__(self, shards: list[Shard], settings: Settings) -> None:
        self.settings = settings
        self._clients = [redis.Redis.from_url(shard.url) for shard in shards]
        self._by_partition: dict[int, redis.Redis] = {
            partition: client
            for client, shard in zip(self._clients, shards, strict=True)
            for partition in shard.partitions
        }

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def load_functions(self) -> None:
        """A deployment that no worker has touched yet does not have them."""
        for client in self._clients:
            client.function_load(calls.library(), replace=True)

    def ask(self, keys: UserKeys, *commands: Packed) -> list[Any]:
        """The replies, in order; all over one connection to the shard that has these keys."""
        return _send(self._by_partition[keys.partition], list(commands))

    def _ask(self, keys: UserKeys, command: Packed) -> Any:
        return self.ask(keys, command)[0]

    # -- users

    def user_add(self, user: str, password: str) -> None:
        """Raises Exists."""
        name = parse_user(user)
        keys = user_keys(name)
        _raise_if(
            account_calls.registered(self._ask(keys, account_calls.register(keys, self._hash(password), time.time())))
        )

    def user_set_password(self, user: str, password: str) -> None:
        """Tokens given out before stop working, and sessions are closed. Raises NotFound, and Conflict for a bot."""
        if self.account(user).is_bot:
            raise Conflict(f"user: {user} is a bot, which logs in by token only")
        self._set(user, "password", self._hash(password))
        self.token_revoke(user, None)

    def user_disable(self, user: str) -> None:
        """No login any more, and sessions are closed; messages are still kept for it. Raises NotFound."""
        self._set(user, "disabled", "1")
        self.token_revoke(user, None)

    def user_enable(self, user: str) -> None:
        """Raises NotFound."""
        keys = self._known(user)
        self._by_partition[keys.partition].hdel(keys.account, "disabled")

    def user_delete(self, user: str) -> None:
        """The account, its log and all it kept; it leaves its groups and the lists of its contacts. Raises NotFound."""
        name = parse_user(user)
        keys = self._known(name)
        for group in group_calls.groups_listed(self._ask(keys, group_calls.listed(keys)))[0]:
            self._leave_group(name, group)
        self._leave_lists(name, keys)
        _raise_if(account_calls.found(self._ask(keys, account_calls.erase(keys))))

    def _leave_group(self, user: UserId, group: GroupId) -> None:
        """As if by itself: where it owned the group, it goes to another member, or is closed."""
        content = group_event(group, RULES["leave"].change, user=user, by=user)
        leaving = group_calls.change(group_keys(group), Change("leave", user, user, content))
        self._ask(user_keys(group), leaving)

    def _leave_lists(self, name: UserId, keys: UserKeys) -> None:
        """Before the account is gone: whoever is interrupted finds its contacts again."""
        gone, stamp = str(SWITCHES[Event.REMOVE].mirrored()), int(time.time() * 1000)
        for other in circle_calls.related_users(self._ask(keys, circle_calls.whole_roster(keys))):
            other_keys = user_keys(other)
            record = circle_calls.standing_known(self._ask(other_keys, circle_calls.standing(other_keys, name))).record
            self._ask(other_keys, circle_calls.relate(other_keys, name, gone, max(stamp, record.stamp + 1)))

    def user_list(self, prefix: str = "") -> Iterator[AccountInfo]:
        """In no order: a walk over all keys of the store, a little at a time."""
        for client in self._clients:
            for key in client.scan_iter(match="{???}a:" + prefix + "*", count=1000):
                user = UserId(key.decode().partition("}a:")[2])
                if (account := _account(user, client, key)) is not None:
                    yield account

    def account(self, user: str) -> AccountInfo:
        """Raises NotFound."""
        name = parse_user(user)
        keys = user_keys(name)
        account = _account(name, self._by_partition[keys.partition], keys.account)
        if account is None:
            raise NotFound(f"there is no user {name}")
        return account

    def user_import(self, lines: Iterable[str]) -> int:
        """JSON objects, one a line (ImportLine); returns how many accounts were new. Existing ones are left alone."""
        new, batch = 0, []
        for number, line in enumerate(lines, 1):
            if line.strip():
                batch.append(self._parse_import(number, line))
            if len(batch) == _PIPELINE:
                new += self._import(batch)
                batch = []
        return new + self._import(batch)

    def _parse_import(self, number: int, line: str) -> tuple[UserId, str]:
        try:
            parsed = msgspec.json.decode(line, type=ImportLine)
            user = parse_user(parsed.user)
        except (msgspec.DecodeError, ImError) as error:
            raise BadRequest(f"line {number}: {error}") from None
        if parsed.password is not None:
            return user, self._hash(parsed.password)
        return user, parsed.hash or ""

    def _import(self, accounts: list[tuple[UserId, str]]) -> int:
        by_client: dict[int, list[Packed]] = {}
        for user, password_hash in accounts:
            keys = user_keys(user)
            client = self._clients.index(self._by_partition[keys.partition])
            by_client.setdefault(client, []).append(account_calls.register(keys, password_hash, time.time()))
        answers = [
            answer for client, commands in by_client.items() for answer in _send(self._clients[client], commands)
        ]
        return sum(answer[0] == b"ok" for answer in answers)

    # -- bots

    def bot_add(self, name: str, owner: str | None = None) -> None:
        """An account without a password, marked as a bot. Raises Exists, and NotFound where there is no such owner."""
        keys = user_keys(parse_user(name))
        known_owner = account_calls.NO_OWNER if owner is None else self.account(owner).user
        making = account_calls.register(keys, "", time.time(), known_owner)
        _raise_if(account_calls.registered(self._ask(keys, making)))

    def bot_delete(self, name: str) -> None:
        """As `user_delete`. Raises NotFound, also for an account that is no bot."""
        if not self.account(name).is_bot:
            raise NotFound(f"{name} is no bot")
        self.user_delete(name)

    # -- tokens

    def token_mint(self, user: str, device: str, lifetime_seconds: int | None = None) -> str:
        """A token that logs this device in without a password; a bot's is good for ten years. Raises NotFound."""
        if lifetime_seconds is None:
            is_bot = self.account(user).is_bot
            lifetime_seconds = BOT_TOKEN_SECONDS if is_bot else self.settings.token_lifetime_seconds
        return self.tokens_mint([(user, device)], lifetime_seconds)[0]

    def tokens_mint(self, devices: Sequence[tuple[str, str]], lifetime_seconds: int) -> list[str]:
        """The same for many users and devices, in their order. Raises NotFound."""
        signing = self._signing_keys(rotate=False)
        expires = int(time.time()) + lifetime_seconds
        minted: list[str] = []
        for start in range(0, len(devices), _PIPELINE):
            batch = [(parse_user(user), parse_device(device)) for user, device in devices[start : start + _PIPELINE]]
            generations = self._generations(batch)
            minted += (tokens.sign(signing, *each, expires, generations[each]) for each in batch)
        return minted

    def _generations(self, devices: list[tuple[UserId, DeviceId]]) -> dict[tuple[UserId, DeviceId], str]:
        """What the tokens of these users' devices carry. Raises NotFound."""
        by_client: dict[int, list[tuple[UserId, DeviceId]]] = {}
        for each in devices:
            client = self._by_partition[user_keys(each[0]).partition]
            by_client.setdefault(self._clients.index(client), []).append(each)
        found = {}
        for number, part in by_client.items():
            pipeline = self._clients[number].pipeline(transaction=False)
            for user, device in part:
                pipeline.hmget(user_keys(user).account, "created", "generation", f"generation:{device}")
            for (user, device), (created, *generations) in zip(part, pipeline.execute(), strict=True):
                if created is None:
                    raise NotFound(f"there is no user {user}")
                found[user, device] = ".".join(map(_text, generations))
        return found

    def token_revoke(self, user: str, device: str | None) -> None:
        """All tokens of the user, or of one device, given out so far; their sessions are closed. Raises NotFound."""
        name = parse_user(user)
        keys = user_keys(name)
        device_id = None if device is None else parse_device(device)
        _raise_if(account_calls.found(self._ask(keys, account_calls.revoke(keys, device_id))))

    def token_rotate(self) -> str:
        """New tokens are signed with a new key, whose id is returned; old ones stay good until they expire."""
        return self._signing_keys(rotate=True)[tokens.CURRENT]

    def _signing_keys(self, *, rotate: bool) -> dict[str, str]:
        command = account_calls.signing_keys(deployment_key("keys"), *tokens.new_key(), rotate=rotate)
        return account_calls.signing_keys_known(_send(self._by_partition[0], [command])[0])

    # -- nodes

    def nodes(self) -> list[NodeInfo]:
        """The workers that are alive."""
        client, keys = self._by_partition[0], lease_keys(0)
        now: Any = client.time()
        alive: Any = client.zrangebyscore(keys.nodes, now[0] * 1000 + now[1] // 1000, "+inf")
        infos: Any = client.hgetall(keys.infos)
        return [msgspec.json.decode(infos[node], type=NodeInfo) for node in alive if node in infos]

    # -- helpers

    def _hash(self, password: str) -> str:
        settings = self.settings
        return hash_now(password, memory_kib=settings.password_memory_kib, rounds=settings.password_rounds)

    def _known(self, user: str) -> UserKeys:
        name = parse_user(user)
        keys = user_keys(name)
        if not self._by_partition[keys.partition].exists(keys.account):
            raise NotFound(f"there is no user {name}")
        return keys

    def _set(self, user: str, field: str, value: str) -> None:
        keys = self._known(user)
        self._by_partition[keys.partition].hset(keys.account, field, value)


def _send(client: "redis.Redis", commands: list[Packed]) -> list[Any]:
    """Packed commands over a connection of the synchronous client, which has no method for ready-made bytes."""
    if not commands:
        return []
    connection = client.connection_pool.get_connection()
    try:
        connection.send_packed_command(commands)  # type: ignore[no-untyped-call]
        return [connection.read_response() for _ in commands]
    finally:
        client.connection_pool.release(connection)


def _account(user: UserId, client: "redis.Redis", key: bytes) -> AccountInfo | None:
    fields: Any = client.hmget(key, "created", "disabled", "bot")
    created, disabled, bot = fields
    if created is None:
        return None
    owner = None if bot in (None, account_calls.NO_OWNER.encode()) else bot.decode()
    return AccountInfo(user, int(created), disabled is not None, bot is not None, owner)


def _raise_if(error: ImError | None) -> None:
    if error is not None:
        raise error


def _text(generation: Any) -> str:
    return "0" if generation is None else str(generation.decode())
