"""What an operator does to the accounts and tokens of a deployment: the commands of `imserver user|token|node`.

Works on the store directly, through the same functions as the workers, with Redis's synchronous client: whether a
server runs does not matter. Sessions that must close are told through the same channels.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import redis

from imserver.config import Settings
from imserver.errors import Conflict, ImError, NotFound, Unavailable
from imserver.importing import NewAccount, accounts_in
from imserver.model import DeviceId, UserId, parse_device, parse_user
from imserver.protocol.contacts import Switches
from imserver.security import tokens
from imserver.security.passwords import hash_now
from imserver.store import account_calls, calls, circle_calls, embedded, name_calls
from imserver.store.calls import Packed, pack
from imserver.store.erasing import erasing
from imserver.store.leases import NodeInfo
from imserver.store.name_calls import names_key
from imserver.store.partitions import UserKeys, deployment_key, lease_keys, user_keys
from imserver.store.shards import Shard, find_shards

BOT_TOKEN_SECONDS = 3650 * 86_400  # nobody is there to log in again; it can be revoked at any time
_BATCH = 200  # accounts handled at a time


class AccountInfo(NamedTuple):
    """`created`: unix seconds."""

    user: UserId
    created: int
    disabled: bool
    is_bot: bool
    owner: str | None = None  # of a bot


class Imported(NamedTuple):
    """Accounts that are new, and that were there already."""

    new: int
    known: int


def _ignore(done: Imported) -> None:
    """Nobody wants to know how far it is."""


def _batch(accounts: Iterator[tuple[int, NewAccount]]) -> tuple[list[NewAccount], ImError | None]:
    """The next ones, and what is wrong with the one behind them."""
    batch: list[NewAccount] = []
    try:
        batch.extend(account for _, account in islice(accounts, _BATCH))
    except ImError as error:
        return batch, error
    return batch, None


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

    def ask_deployment(self, command: Packed) -> Any:
        """About what belongs to no user."""
        return _send(self._by_partition[0], [command])[0]

    def scan(self, pattern: str) -> Iterator[bytes]:
        """Keys in no order: a walk over all keys of the store, a little at a time."""
        for client in self._clients:
            yield from client.scan_iter(match=pattern, count=1000)

    def delete(self, keys: UserKeys, key: bytes) -> bool:
        """Whether it was there; on the shard that has `keys`."""
        return bool(self._by_partition[keys.partition].delete(key))

    # -- users

    def user_add(self, user: str, password: str) -> None:
        """Raises Exists."""
        self._register(parse_user(user), self._hash(password))

    def _register(self, user: UserId, password_hash: str, bot: str | None = None) -> None:
        """Raises Exists. The index first: see names.lua."""
        keys = user_keys(user)
        self._ask(user_keys(names_key(user).owner), name_calls.index_name(user))
        making = account_calls.register(keys, password_hash, time.time(), bot)
        _raise_if(account_calls.registered(self._ask(keys, making)))

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
        self._known(name)
        steps = erasing(name, int(time.time() * 1000))
        reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as stop:
                _raise_if(stop.value)
                return
            reply = self._ask(user_keys(step.owner), step.command) if step.owner else self.ask_deployment(step.command)

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

    def user_import(self, lines: Iterable[str], progress: Callable[[Imported], None] = _ignore) -> Imported:
        """Of the form that `importing` reads. Raises BadRequest that names the line; those before it are in the store.

        Accounts that exist are left alone, so an import that ended can be repeated: what it had done costs little.
        """
        done = Imported(0, 0)
        accounts = accounts_in(lines)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            while True:
                batch, error = _batch(accounts)
                new = self._import(batch, threads)
                done = Imported(done.new + new, done.known + len(batch) - new)
                progress(done)
                if error is not None:
                    raise error
                if not batch:
                    return done

    def _import(self, accounts: list[NewAccount], threads: Executor) -> int:
        """How many were new. Only of those a password is hashed."""
        keys = [user_keys(account.user) for account in accounts]
        there = self._ask_all([(one, pack(b"EXISTS", one.account)) for one in keys])
        missing = [(one, account) for one, account, known in zip(keys, accounts, there, strict=True) if not known]
        hashes = threads.map(self._hash_of, [account for _, account in missing])
        self._index([account.user for _, account in missing])
        commands = [
            (one, account_calls.register(one, known, time.time()))
            for (one, _), known in zip(missing, hashes, strict=True)
        ]
        return sum(answer[0] == b"ok" for answer in self._ask_all(commands))

    def _index(self, names: Sequence[str]) -> None:
        self._ask_all([(user_keys(names_key(name).owner), name_calls.index_name(name)) for name in names])

    def user_reindex(self) -> int:
        """How many names: all are put into the index that `search` reads."""
        names, count = (account.user for account in self.user_list()), 0
        while batch := list(islice(names, _BATCH)):
            self._index(batch)
            count += len(batch)
        return count

    def _hash_of(self, account: NewAccount) -> str:
        return account.hash or "" if account.password is None else self._hash(account.password)

    def _ask_all(self, asked: Sequence[tuple[UserKeys, Packed]]) -> list[Any]:
        """The answers in the same order; each shard is asked once."""
        answers: list[Any] = [None] * len(asked)
        for client in self._clients:
            mine = [number for number, (keys, _) in enumerate(asked) if self._by_partition[keys.partition] is client]
            for number, answer in zip(mine, _send(client, [asked[number][1] for number in mine]), strict=True):
                answers[number] = answer
        return answers

    # -- contacts

    def contact_add(self, one: str, other: str) -> None:
        """They are contacts of one another, as if one had asked and the other accepted. Raises NotFound, Blocked."""
        stamp = int(time.time() * 1000)
        mutual = str(Switches(wants=True, wanted=True))
        for user, partner in ((one, other), (other, one)):
            keys = self._known(user)
            _raise_if(
                circle_calls.related(self._ask(keys, circle_calls.relate(keys, parse_user(partner), mutual, stamp)))
            )

    def log_end(self, user: str) -> str:
        """The position of the newest entry of the user's log. Raises NotFound."""
        keys = self._known(user)
        position: Any = self._by_partition[keys.partition].hget(keys.state, "last")
        return str(position.decode())

    # -- bots

    def bot_add(self, name: str, owner: str | None = None) -> None:
        """An account without a password, marked as a bot. Raises Exists, and NotFound where there is no such owner."""
        known_owner = account_calls.NO_OWNER if owner is None else self.account(owner).user
        self._register(parse_user(name), "", known_owner)

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
        for start in range(0, len(devices), _BATCH):
            batch = [(parse_user(user), parse_device(device)) for user, device in devices[start : start + _BATCH]]
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
        """All tokens of the user, or of one device, also one that has not come yet. Raises NotFound."""
        name = parse_user(user)
        keys = user_keys(name)
        device_id = None if device is None else parse_device(device)
        _raise_if(account_calls.revoked(self._ask(keys, account_calls.revoke(keys, device_id))))

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
