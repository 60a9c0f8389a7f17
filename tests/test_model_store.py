"""The model of the store against a real one: random calls have equal results and publish the same."""

import json
import random
import socket
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hiredis
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imserver.errors import ImError
from imserver.model import START, DeviceId, Entry, Place, Position, UserId, position_order
from imserver.protocol.extras import Reference
from imserver.store import account_calls, amending, calls
from imserver.store.account_calls import Login, Profile
from imserver.store.amending import Deletion, Gone, What
from imserver.store.calls import Appended, Attached, Bounds, Right, pack
from imserver.store.partitions import Hosting, UserKeys, channel_prefix, user_keys
from imserver.store.stored import Sender, amendment, amendment_head, dedupe_of, with_extras
from tests.conftest import required
from tests.model_database import Database, Published
from tests.store.redis_process import wait_until

NODES = ("n1", "n2")
USERS = ("ann", "ben")
NEVER, ALWAYS = 8_999_999_999, 1  # ages in seconds, seen from NOW
NOW = 9_000_000_000.0  # unix seconds, after every position

NEVER_USED = [(b"1-0", b"1-0"), (b"99999999999999-0", b"99999999999999-0")]


class Connection:
    """One RESP3 connection: calls, and what is published on it."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._reader = hiredis.Reader()
        self._pushes: list[bytes] = []
        self.call(pack("HELLO", "3"))

    def call(self, command: bytes) -> Any:
        self._sock.sendall(command)
        while True:
            while (reply := self._reader.gets()) is not False:
                if not isinstance(reply, hiredis.PushNotification):
                    return reply
                if reply[0] == b"smessage":
                    self._pushes.append(reply[2])
            self._reader.feed(self._sock.recv(65536))

    def pushes(self) -> list[bytes]:
        """All that has been published so far: it comes before the answer to a ping."""
        self.call(pack("PING"))
        pushes, self._pushes = self._pushes, []
        return pushes

    def subscribe(self, channel: bytes) -> None:
        self._sock.sendall(pack("SSUBSCRIBE", channel))

    def close(self) -> None:
        self._sock.close()


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@contextmanager
def running(program: Path, directory: Path) -> Iterator[Path]:
    path = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(directory)]
    process = subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: can_connect(path), "redis-server listens")
        yield path
    finally:
        process.kill()
        process.wait()


class Real:
    """The same calls as `Database`, on a real server, and what they publish to two nodes."""

    def __init__(self, path: Path) -> None:
        self._caller = Connection(path)
        self._nodes = {node: Connection(path) for node in NODES}
        for node, connection in self._nodes.items():
            for partition in {user_keys(user).partition for user in USERS}:
                connection.subscribe(channel_prefix(partition) + node.encode())
        self.load(calls.library())

    def load(self, library: str) -> None:
        self._caller.call(pack("FUNCTION", "LOAD", "REPLACE", library))

    def forget(self) -> None:
        self._caller.call(pack("FLUSHALL"))

    def close(self) -> None:
        for connection in (self._caller, *self._nodes.values()):
            connection.close()

    def ask(self, command: bytes, parse: Callable[[Any], Any] = lambda reply: reply) -> Any:
        return parse(self._caller.call(command))

    def published(self) -> list[tuple[str, bytes]]:
        return [(node, push) for node, connection in self._nodes.items() for push in connection.pushes()]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with running(required("redis-server"), tmp_path_factory.mktemp("store")) as path:
        store = Real(path)
        yield store
        store.close()


class Step(NamedTuple):
    """One call, with all the arguments that any call may want."""

    call: str
    user: str
    device: str
    place: bytes
    number: int
    flag: bool


def vanishing(step: Step, content: bytes) -> bytes:
    """Some do, of which some have expired."""
    return with_extras(content, {"expires": int(NOW) - 1 + 2 * step.flag}) if step.number > 5 else content


def at(step: Step) -> Place:
    """The place of the step's device."""
    return Place(step.device.encode() + b"=" + step.place)


def hosting(step: Step, keys: UserKeys) -> Hosting:
    return Hosting(keys.partition, step.place.partition(b".")[0])


CALLS = [
    *(
        "delete",
        "edit",
        "edit",
        "both",
        "both",
        "append",
        "append",
        "append",
        "append",
        "append",
        "append",
        "append",
        "read",
        "read_back",
    ),
    *("attach", "attach", "attach", "again", "detach", "clear", "ack", "ack", "trim", "register", "revoke", "erase"),
    *("password", "name", "devices", "profile"),
]
DEVICES = ("pad", "phone")
# One is the beginning of another, and one node has two.
PLACES = (b"n1.1", b"n1.12", b"n2.1")
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(CALLS),
        st.sampled_from(USERS),
        st.sampled_from(DEVICES),
        st.sampled_from(PLACES),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=40,
)


class Pair:
    """The same step on both; positions of the real one by the model's."""

    def __init__(self, real: Real) -> None:
        self.real = real
        self.real.forget()
        self.real.published()
        self.published: list[tuple[str, bytes]] = []
        self.model = Database(self._publish)
        # Positions of each user's log, the model's and the real one's; two logs may use the same.
        self.positions: dict[str, list[tuple[bytes, bytes]]] = defaultdict(lambda: NEVER_USED[:])
        self.asked: dict[tuple[str, str], str] = {}  # generations with which a session of a device has revoked others
        for user in USERS:
            self.model.register(user, "h")
            self.real.ask(account_calls.register(user_keys(user), "h", 0.0))

    def _publish(self, user: str, node: str, what: Published) -> None:
        if what.entry is None:
            text = b"x %b %b %b" % (what.user.encode(), what.origin, what.why.encode())
        else:
            at, prev, content = what.entry.at, what.entry.prev, what.entry.content
            text = b"e %b %b %b %b %b" % (what.user.encode(), at, prev, what.origin, content)
        self.published.append((node, text))

    def position(self, step: Step) -> tuple[Position, Position]:
        """A position that was handed out, or none that can be: the model's and the real one's."""
        known = self.positions[step.user]
        model, real = known[step.number % len(known)]
        return Position(model), Position(real)

    def step(self, step: Step) -> None:
        getattr(self, f"do_{step.call}")(step, user_keys(step.user))
        self.compare_published()

    def compare(self, user: str, model: Any, real: Any) -> None:
        """Positions of the real one are translated; errors are equal when they say the same."""
        if isinstance(model, ImError) or isinstance(real, ImError):
            assert (type(model), str(model)) == (type(real), str(real))
        elif isinstance(model, Appended):
            assert self.modelled(user, real.at) == model.at
            assert (real.prev and self.modelled(user, real.prev)) == model.prev
            assert real.expires == model.expires
        elif isinstance(model, Attached):
            cursor = real.cursor and self.modelled(user, real.cursor)
            assert Attached(self.modelled(user, real.last), cursor, real.generations) == model
        elif isinstance(model, list):
            assert [self.translated(user, entry) for entry in real] == model

    def modelled(self, user: str, position: bytes) -> Position:
        return Position(next((model for model, real in self.positions[user] if real == position), position))

    def translated(self, user: str, entry: Entry) -> Entry:
        return Entry(self.modelled(user, entry.at), self.modelled(user, entry.prev), entry.content)

    def compare_published(self) -> None:
        published, self.published = self.published, []
        assert sorted((node, self._translated_push(push)) for node, push in self.real.published()) == sorted(published)

    def _translated_push(self, push: bytes) -> bytes:
        if not push.startswith(b"e "):
            return push
        kind, user, at, prev, rest = push.split(b" ", 4)
        name = user.decode()
        return b" ".join([kind, user, self.modelled(name, at), self.modelled(name, prev), rest])

    # -- the calls

    def do_append(self, step: Step, keys: Any) -> None:
        sender = Sender(UserId("cat"), DeviceId(step.device))
        dedupe, content = (
            sender.dedupe(str(step.number)),
            sender.content(step.user, str(step.number), msgspec.Raw(b'"x"')),
        )
        origin = at(step) if step.flag else b"-"
        again = len(content) - len(b'"x"}') if step.place == b"n2.1" else 0
        content = vanishing(step, content)
        model = self.model.append(step.user, dedupe, content, origin, again)
        real = self.real.ask(calls.append(keys, dedupe, content, origin, again), calls.appended)
        if isinstance(model, Appended) and model.prev is not None:
            assert isinstance(real, Appended)
            self.positions[step.user].append((model.at, real.at))
        self.compare(step.user, model, real)

    def do_edit(self, step: Step, keys: Any) -> None:
        """Of a message that is there, or not; now and then under an id that another edit has."""
        of, message_id = Reference("cat", step.device, str(step.number)), f"e{step.number % 3}"
        content, again = amendment(
            amendment_head("edit", of, step.user), "cat", step.device, step.user, message_id, stamp=1, body="y"
        )
        self._amend(step, of, message_id, content, again)

    def do_delete(self, step: Step, keys: Any) -> None:
        """A message, with its edits; where there is none, whatever stands at the position."""
        of = Reference("cat", step.device, str(step.number))
        model, real = self.position(step)
        account = self.model.accounts.get(step.user)
        known = account.seen.get(dedupe_of(of)) if account is not None else None
        if known is not None:
            model, real = known, Position(dict(self.positions[step.user])[known])
        head = amendment_head("edit", of, step.user)
        edits = [it for it in (account.log if account is not None else []) if it.content.startswith(head)]
        edits = edits[: step.number % 2]  # the rest has come since the log was read
        seen = max((it.at for it in edits), key=position_order, default=model)
        fields = [(it.at, f"cat/{step.device}/{json.loads(it.content)['id']}".encode()) for it in edits]
        to_real = dict(self.positions[step.user])
        real_fields = [(Position(to_real[at]), field) for at, field in fields]
        deletions = (
            Deletion((head, b"none"), {step.user: Gone(seen, model, fields)}),
            Deletion((head, b"none"), {step.user: Gone(Position(to_real[seen]), real, real_fields)}),
        )
        content, again = amendment(
            amendment_head("delete", of, step.user), "cat", step.device, step.user, f"d{step.number}", stamp=1
        )
        self._amend(step, of, f"d{step.number}", content, again, deletions)

    def _amend(
        self,
        step: Step,
        of: Reference,
        message_id: str,
        content: bytes,
        again: int,
        deletions: tuple[Deletion, Deletion] | tuple[None, None] = (None, None),
    ) -> None:
        """`deletions`: the model's and the real one."""
        again = again if step.place == b"n2.1" else 0
        dedupe, origin = f"cat/{step.device}/{message_id}".encode(), at(step) if step.flag else b"-"
        model = self.model.append_amendment(
            step.user,
            dedupe,
            dedupe_of(of),
            deletions[0],
            lambda: self.model.append(step.user, dedupe, content, origin, again),
        )
        command = amending.append(step.user, What(dedupe_of(of), deletions[1], dedupe, content, origin, again))
        real = self.real.ask(command, calls.appended)
        if isinstance(model, Appended) and model.prev is not None:
            assert isinstance(real, Appended)
            self.positions[step.user].append((model.at, real.at))
        self.compare(step.user, model, real)

    def do_both(self, step: Step, keys: Any) -> None:
        """From the step's user to the other one."""
        other = next(user for user in USERS if user != step.user)
        sender = Sender(UserId(step.user), DeviceId(step.device))
        dedupe, number = sender.dedupe(str(step.number)), str(step.number)
        content, origin = vanishing(step, sender.content(other, number, msgspec.Raw(b'"x"'))), at(step)
        stood = {user: self._end(user) for user in USERS}
        model = self.model.append_both(other, step.user, dedupe, content, origin)
        real = self.real.ask(calls.append_both(user_keys(other), keys, dedupe, content, origin), calls.appended)
        for user in USERS:
            if self._end(user) != stood[user]:
                newest = self.real.ask(calls.read_back(user_keys(user), None, 1), calls.entries)[0]
                self.positions[user].append((self._end(user), newest.at))
        self.compare(step.user, model, real)

    def _end(self, user: str) -> Position:
        """Where the model's log ends."""
        account = self.model.accounts.get(user)
        return account.last if account else START

    def do_read(self, step: Step, keys: Any) -> None:
        model, real = self.position(step)
        count = 1 + step.number % 3
        found = self.real.ask(calls.read(keys, real, count), calls.entries)
        self.compare(step.user, self.model.read(step.user, model, count), found)

    def do_read_back(self, step: Step, keys: Any) -> None:
        model, real = self.position(step) if step.flag else (None, None)
        count = 1 + step.number % 3
        found = self.real.ask(calls.read_back(keys, real, count), calls.entries)
        self.compare(step.user, self.model.read_back(step.user, model, count), found)

    def do_attach(self, step: Step, keys: Any) -> None:
        logins = self.model.logins(step.user, step.device)
        known = self.real.ask(calls.logins(keys, step.device))
        assert int((known or b"0").split()[0]) == logins
        is_late = step.number == 9
        known_token = self.asked.get((step.user, step.device), "0.0")
        token = Right(f"{step.number % 2}.0" if step.number < 3 else known_token)
        right = token if step.flag else Right(password_hash="hi"[step.number % 2])
        self._attach(step, keys, right, logins + is_late, b"99 0" if is_late else known)

    def do_again(self, step: Step, keys: Any) -> None:
        generations = f"{step.number % 2}.0"
        model = self.model.attach(step.user, at(step), Right(generations), None)
        command = calls.attach_again(keys, hosting(step, keys), at(step), generations)
        self.compare(step.user, model, self.real.ask(command, calls.attached))

    def _attach(
        self,
        step: Step,
        keys: Any,
        right: Right,
        logins: int,
        known: bytes | None,
    ) -> None:
        model = self.model.attach(step.user, at(step), right, logins)
        command = calls.attach(keys, hosting(step, keys), at(step), right, known, 1.0)
        self.compare(step.user, model, self.real.ask(command, calls.attached))

    def do_detach(self, step: Step, keys: Any) -> None:
        model, real = self.position(step) if step.flag else (None, None)
        self.model.detach(step.user, at(step), model)
        self.real.ask(calls.detach(keys, hosting(step, keys), at(step), real, NOW))

    def do_clear(self, step: Step, keys: Any) -> None:
        """Its node is dead: whoever is hosted there is cleared."""
        dead = hosting(step, keys)
        hosted = self.real.ask(calls.hosted(dead))
        assert (step.user.encode() in hosted) or not self.model.is_hosted(step.user, dead.node.decode())
        self.model.clear(step.user, dead.node.decode())
        self.real.ask(calls.clear(keys, dead, NOW))

    def do_ack(self, step: Step, keys: Any) -> None:
        model, real = self.position(step)
        self.model.ack(step.user, step.device, model)
        self.real.ask(calls.ack(keys, step.device, real))

    def do_trim(self, step: Step, keys: Any) -> None:
        bounds = Bounds(step.number, ALWAYS if step.flag else NEVER, ALWAYS if step.place == b"n1.1" else NEVER)
        passed = self.model.trim(step.user, int(NOW * 1000), bounds)
        assert self.real.ask(calls.trim(keys, NOW, bounds)) == passed

    def do_register(self, step: Step, keys: Any) -> None:
        password = "h" if step.flag else ""
        model = self.model.register(step.user, password)
        self.compare(
            step.user, model, self.real.ask(account_calls.register(keys, password, 0.0), account_calls.registered)
        )

    def do_revoke(self, step: Step, keys: Any) -> None:
        device = step.device if step.flag else None
        asking = self._asking(step)
        model = self.model.revoke(step.user, device, asking)
        self.compare(step.user, model, self.real.ask(account_calls.revoke(keys, device, asking), account_calls.revoked))

    def _asking(self, step: Step) -> Login | None:
        """A login that may be good: mostly it is."""
        account = self.model.accounts.get(step.user)
        if step.number <= 4 or account is None:
            return None
        generations = "0.0" if step.number >= 8 else account.generations(step.device)
        self.asked[step.user, step.device] = generations
        return Login(at(step), generations)

    def do_password(self, step: Step, keys: Any) -> None:
        old, new = ("h", "i") if step.flag else ("i", "h")
        revoking = self._asking(step)
        model = self.model.set_password(step.user, old, new, revoking)
        command = account_calls.set_password(keys, old, new, revoking)
        self.compare(step.user, model, self.real.ask(command, account_calls.password_set))

    def do_name(self, step: Step, keys: Any) -> None:
        model = self.model.name_device(step.user, step.device, str(step.number))
        command = account_calls.name_device(keys, step.device, str(step.number))
        self.compare(step.user, model, self.real.ask(command, account_calls.device_found))

    def do_devices(self, step: Step, keys: Any) -> None:
        if step.user not in self.model.accounts:
            return
        account = self.real.ask(account_calls.account_fields(keys))
        found = account_calls.devices(account, self.real.ask(account_calls.device_fields(keys, account)))
        known = [(device.device, device.name, device.connected) for device in found]
        assert sorted(known) == [(one.device, one.name, one.connected) for one in self.model.devices(step.user)]
        assert all(
            (device.seen is None) == (device.device not in self.model.accounts[step.user].left or device.connected)
            for device in found
        )

    def do_profile(self, step: Step, keys: Any) -> None:
        if step.user not in self.model.accounts:
            return
        fields = {("name", "avatar", "about")[step.number % 3]: step.device}
        self.model.set_profile(step.user, fields)
        before, after = (
            self.real.ask(account_calls.set_profile(keys, 1000, fields), account_calls.profile_set) for _ in range(2)
        )
        assert before == after
        for viewer in USERS:
            asked = account_calls.profile(keys, None if viewer == step.user else viewer)
            real, model = self.real.ask(asked, account_calls.profile_known), self.model.profile(step.user, viewer)
            assert isinstance(model, Profile)
            assert real[1:] == model[1:]

    def do_erase(self, step: Step, keys: Any) -> None:
        model = self.model.erase(step.user)
        self.compare(step.user, model, self.real.ask(account_calls.erase(keys), account_calls.found))
        self.positions[step.user] = NEVER_USED[:]  # a new log may use the same


def play(real: Real, steps: list[Step]) -> None:
    """The same on both, and then the same is there."""
    pair = Pair(real)
    for step in steps:
        pair.step(step)
    for user in USERS:
        for device in DEVICES:
            pair.step(Step("attach", user, device, b"n2.1", 0, False))
        pair.step(Step("read", user, "pad", b"", 0, False))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_model_does_what_the_store_does(real: Real, steps: list[Step]) -> None:
    play(real, steps)


def test_nothing_is_before_the_start(real: Real) -> None:
    keys = user_keys("ann")
    assert real.ask(calls.read_back(keys, START, 10), calls.entries) == []


# -- planted faults: each is found by the random calls


FAULTS = {
    "a message that the index has forgotten is not looked for": (
        "if at then return known_at(log, at, content) end",
        "",
    ),
    "a message of which the recipient has a part already is not recorded": (
        "if REFUSALS[received] then return received end",
        "if not received[2] then return received end",
    ),
    "the beginning of a place is taken for the place": (
        "on ~= origin then",
        "not string.find(on, origin, 1, true) then",
    ),
    "a cursor goes back": ("and (not cursor or newer(position, cursor))", ""),
    "a cursor goes past the end": ("not newer(position, last) and", ""),
    "an old session takes its place again": (
        "if args[3] == 'again' then return { former and 'replaced' or 'cleared' } end",
        "",
    ),
    "a late login pushes out a newer one": ("if args[4] ~= (state[4] or '0') then return { 'late' } end", ""),
    "a session that was cleared puts itself back": (
        "if args[3] == 'again' then return { former and 'replaced' or 'cleared' } end",
        "if args[3] == 'again' and former then return { 'replaced' } end",
    ),
    "a user with another session at the node is not hosted there any more": (
        "if not string.find(on, '=' .. node .. '.', 1, true) then",
        "if true then",
    ),
    "a session that left long ago throws out its successor": ("if former == place then", "if former then"),
    "nobody hears that it is replaced": ("expel(keys[1], former, 'replaced')", ""),
    "a trimmed entry stays in the index": (
        "for _, field in ipairs(dedupe_fields(entry[2][4])) do redis.call('HDEL', keys[1], field) end",
        "",
    ),
    "what has expired stays in the log": ("remove_expired(keys[2], keys[3], math.floor(now / 1000))", ""),
    "what is sent again vanishes later": (
        "tonumber(entry and expires_of(entry[2][4]) or expires)",
        "tonumber(expires)",
    ),
    "what is deleted stays in the log": ("redis.call('XDEL', log, position)", ""),
    "an edit that crosses the deletion stays": ("remove_crossing(state, log, seen, { args[6], args[7] })", ""),
    "what is deleted is edited": ("if known[2] and not known[1] then return DELETED end", ""),
    "the index knows edits that are gone": (
        "if redis.call('HGET', state, field) == position then redis.call('HDEL', state, field) end",
        "",
    ),
    "what is deleted is known for ever": (", 'x:' .. field_of(entry.of) }", " }"),
    "a spared token is not good": ("and account[5] ~= device .. ' ' .. args[2] then", "then"),
    "a spared token outlives its device": (
        "(device == '' or string.match(spared, '^[^ ]+') == device)",
        "device == ''",
    ),
    "whoever asks is told to go": ("if place ~= asking and (device", "if (device"),
    "a changed password is changed again": ("if known ~= args[1] then return { 'changed' } end", ""),
    "a repeat of a new password is refused": ("if known == args[2] then return { 'ok' } end", ""),
    "whoever has checked the old password comes in": ("args[6] ~= redis.call('HGET', keys[2], 'password')", "false"),
    "a revoked session brings itself back": ("not are_good(keys[2], own, args[3]) then return", "false then return"),
    "an invented device is revoked": ("not is_known(keys[2], device)", "false"),
    "a repeat of revoking oneself is refused": ("and own ~= device and", "and"),
    "a revoked session changes the password": ("if answer[1] == 'ok' then redis", "if answer then redis"),
    "strangers read everything": ("shows_all and known[5] or ''", "known[5] or ''"),
    "an entry names a wrong one before it": ("'p', prev,", "'p', '0-0',"),
}


def test_long_runs_of_random_calls_are_equal(real: Real) -> None:
    play_random(real)


@pytest.mark.parametrize("name", FAULTS)
def test_finds_planted_faults(real: Real, name: str) -> None:
    right, wrong = FAULTS[name]
    source = calls.library()
    assert right in source
    real.load(source.replace(right, wrong))
    try:
        with pytest.raises(AssertionError):
            play_random(real)
    finally:
        real.load(source)


def play_random(real: Real) -> None:
    for seed in range(300):
        chance = random.Random(seed)
        play(
            real,
            [
                Step(
                    chance.choice(CALLS),
                    chance.choice(USERS),
                    chance.choice(DEVICES),
                    chance.choice(PLACES),
                    chance.randrange(10),
                    chance.random() < 0.5,
                )
                for _ in range(90)
            ],
        )
