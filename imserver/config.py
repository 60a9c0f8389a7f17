"""Every setting: type, unit (in its name), bounds, default, reason. And how settings are read.

Sources, later ones win: the defaults here, TOML files, the environment (`IMSERVER_WORKERS=4`), the command line
(`--workers 4`). Reading is a pure function of these; what is wrong is told all at once, each with its name, where it
came from, its value and what is allowed. A worker gets the settings from its supervisor as JSON: `Settings` goes there
and back through msgspec as it is.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from imserver.endpoints import HostPort, hide_password, parse_directory, parse_host_port, parse_network, parse_redis_url
from imserver.errors import SetupError


class ConfigError(SetupError):
    """One or more settings can't be used; `str()` says which and why, a line each."""


def data_directory(environ: Mapping[str, str]) -> str:
    """Where the user's programs keep their data: XDG_DATA_HOME (its specification says to ignore a relative one)."""
    base = environ.get("XDG_DATA_HOME", "")
    home = environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(base if os.path.isabs(base) else os.path.join(home, ".local", "share"), "imserver")


def _own_data_directory() -> str:
    return data_directory(os.environ)


Durability = Literal["process", "replica", "disk"]
Listen = Annotated[HostPort, Meta(extra={"allowed": "HOST:PORT or [IPV6]:PORT, port 0 to 65535"})]
KIB: Final = 1024
DAY: Final = 86_400


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a server. `load` makes a checked one; the constructor itself checks nothing."""

    # Loopback by default: who wants to be reached from elsewhere says so.
    tcp: Annotated[Listen, Meta(description="where desktop clients connect")] = HostPort("127.0.0.1", 7400)
    http: Annotated[Listen, Meta(description="where browsers connect: web client, WebSocket, health")] = HostPort(
        "127.0.0.1", 7480
    )
    # The admin port asks nobody for a password.
    admin: Annotated[Listen, Meta(description="metrics and status; keep it private")] = HostPort("127.0.0.1", 7490)
    # From these networks nobody can come in without saying on whose behalf, so name the load balancers' own addresses.
    proxy_protocol_from: Annotated[
        tuple[str, ...],
        Meta(
            description="networks of the load balancers: connections from there begin with a PROXY protocol header",
            extra={"allowed": "a list of networks or addresses, like 10.0.0.0/28 or fd00::1; in text, with commas"},
        ),
    ] = ()
    redis: Annotated[
        str,
        Meta(
            description="the store; of a cluster, some nodes; empty: an embedded one, kept in `data`",
            extra={"allowed": "redis://HOST:PORT/DB, rediss://..., unix:///PATH, several with commas, or empty"},
        ),
    ] = ""
    data: Annotated[
        str, Meta(description="the server's own files; the embedded store's, too", extra={"allowed": "a directory"})
    ] = msgspec.field(default_factory=_own_data_directory)
    # The default costs no fsync: the death of a process is common, the power failing without a replica is rare.
    durability: Annotated[
        Durability,
        Meta(description="what acknowledged messages survive: a killed process; the primary; the power failing"),
    ] = "process"
    workers: Annotated[int, Meta(ge=0, le=1024, description="worker processes; 0: one per core")] = 0
    # Closed by default, as with ejabberd and Prosody: spammers find an open server.
    registration: Annotated[
        Literal["closed", "loopback", "invited", "open"],
        Meta(description="who may make an account: nobody, clients on this machine, who has a code, everybody"),
    ] = "closed"
    # Off by default: who is there is nobody's business unless the operator says so.
    search: Annotated[
        Literal["off", "contacts", "all"],
        Meta(description="who is found by the beginning of the name: nobody, contacts of contacts, everybody"),
    ] = "off"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least important line that is logged")
    ] = "info"

    # Far more than a person types; pictures and files don't travel in frames.
    max_frame_bytes: Annotated[int, Meta(ge=KIB, le=16 * KIB**2, description="the largest frame a client may send")] = (
        64 * KIB
    )
    login_timeout_seconds: Annotated[int, Meta(ge=1, le=600, description="how long a client may take to log in")] = 10
    # Home routers and mobile networks forget an idle connection after minutes. A load balancer's own idle timeout
    # (`timeout tunnel` in ops/haproxy.cfg) must be longer than twice this.
    ping_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="a session idle for so long is pinged; silent for twice that, closed")
    ] = 60
    # Four of the largest frames, or some 1,500 short messages; a session that needs more catches up from its log.
    out_buffer_bytes: Annotated[
        int, Meta(ge=2 * KIB, le=64 * KIB**2, description="unsent bytes kept for one session; at least two frames")
    ] = 256 * KIB
    stuck_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="a client that reads nothing for so long is closed")
    ] = 60
    in_flight_sends: Annotated[
        int, Meta(ge=1, le=100_000, description="unanswered sends of one session; at that many it isn't read")
    ] = 64
    # More than a client under development needs to show its mistake, fewer than a fuzzer wants.
    max_bad_frames: Annotated[int, Meta(ge=1, le=1_000_000, description="bad frames until a session is closed")] = 20
    # Meant to stop floods, not people: a fast importer or a bot in a busy group stays below.
    rate_per_second: Annotated[
        float, Meta(ge=0.1, le=1_000_000, description="cost units a session may spend for ever; most commands cost 1")
    ] = 1000.0
    rate_burst: Annotated[int, Meta(ge=1, le=10_000_000, description="cost units a session may spend at once")] = 2000
    # Larger means fewer system calls, but a busy client keeps the others of its batch waiting for longer.
    read_chunk_bytes: Annotated[int, Meta(ge=KIB, le=KIB**2, description="bytes read from a socket at a time")] = (
        64 * KIB
    )
    page_entries: Annotated[int, Meta(ge=1, le=10_000, description="entries fetched by one read of a log")] = 128
    # Enough that the store always has the next one at hand, few enough that a message never waits for long behind them.
    logins_at_once: Annotated[
        int, Meta(ge=1, le=10_000, description="logins under way at once, per worker and shard; others wait in line")
    ] = 64
    # To wait is cheaper than to come back, but clients have a patience, of 30 s or more, and the time is an estimate.
    login_wait_seconds: Annotated[
        float, Meta(ge=0.1, le=60, description="who would wait longer in line is told when to come back")
    ] = 10.0
    login_retry_seconds: Annotated[
        float, Meta(ge=1, le=3600, description="the longest time after which a refused login is told to come back")
    ] = 30.0
    sessions_max: Annotated[
        int, Meta(ge=0, le=10_000_000, description="sessions of one worker; 0: as many as descriptors allow")
    ] = 0

    # A month on holiday finds all its messages, and no log grows without limit.
    log_max_entries: Annotated[int, Meta(ge=1, le=100_000_000, description="entries kept in one log")] = 10_000
    log_max_age_seconds: Annotated[int, Meta(ge=1, le=3650 * DAY, description="how long an entry is kept")] = 30 * DAY
    # Longer than a client goes on repeating a send over broken connections; 50 to 100 bytes of store per message.
    dedupe_seconds: Annotated[int, Meta(ge=1, le=30 * DAY, description="how long a repeated send is recognized")] = 600

    # Two days to see one's mistake; what was said long ago stays said.
    edit_seconds: Annotated[
        int, Meta(ge=0, le=3650 * DAY, description="for how long one may edit a message of one's own; 0: never")
    ] = 2 * DAY
    delete_seconds: Annotated[
        int, Meta(ge=0, le=3650 * DAY, description="for how long one may delete a message of one's own; 0: never")
    ] = 2 * DAY

    # Only an owner's leaving looks at all of them.
    group_members_max: Annotated[int, Meta(ge=1, le=10_000_000, description="members of one group")] = 100_000
    # At each login every one of them is asked how far its log goes.
    groups_per_user_max: Annotated[int, Meta(ge=1, le=100_000, description="groups one user may be in")] = 500
    groups_made_max: Annotated[int, Meta(ge=0, le=1_000_000, description="groups one user may ever make")] = 1000
    # More than a person reads; what is left out, `history` has.
    group_backlog_entries: Annotated[
        int, Meta(ge=1, le=100_000, description="entries of a group sent to a device that was away; with more, none")
    ] = 1000
    # As many as can know each other's typing; each notice is told to all of them.
    group_typing_members: Annotated[
        int, Meta(ge=0, le=1000, description="in a group with more members nobody is told who types")
    ] = 50
    # A list that a person can still look through; 0.6 MB of store for the largest.
    contacts_max: Annotated[int, Meta(ge=1, le=100_000, description="contacts and blocked users of one user")] = 5000
    # More than somebody asks who has just moved in; too few for a spammer.
    contact_requests_per_hour: Annotated[
        int, Meta(ge=1, le=100_000, description="contact requests that one user may make in an hour")
    ] = 60
    # Who has forgotten which of ten passwords it was gets in; who guesses needs a day and a half for a list of 1,000.
    wrong_passwords_per_hour: Annotated[
        int, Meta(ge=1, le=1_000_000, description="wrong passwords for one user in an hour, on all workers together")
    ] = 30
    # A whole office may be behind one address.
    wrong_passwords_per_address_hour: Annotated[
        int, Meta(ge=1, le=1_000_000, description="wrong passwords from one address (of IPv6: a /64) in an hour")
    ] = 300
    registrations_per_address_hour: Annotated[
        int, Meta(ge=1, le=1_000_000, description="accounts made from one address (of IPv6: a /64) in an hour")
    ] = 20
    reports_per_hour: Annotated[
        int, Meta(ge=1, le=100_000, description="reports that one user may make in an hour")
    ] = 20
    reports_max: Annotated[int, Meta(ge=1, le=100_000, description="open reports; with more, none is taken")] = 10_000
    # A phone that changes networks is back before; XMPP clients take 30 to 60 seconds for it.
    presence_grace_seconds: Annotated[
        float,
        Meta(ge=0, le=600, description="a user whose connection is lost stays as it was to its contacts for so long"),
    ] = 30.0

    token_lifetime_seconds: Annotated[int, Meta(ge=1, le=3650 * DAY, description="how long a login token is good")] = (
        30 * DAY
    )
    # RFC 9106's second recommendation: 64 MiB, three rounds.
    password_memory_kib: Annotated[int, Meta(ge=KIB, le=4 * KIB**2, description="argon2id memory per password")] = (
        64 * KIB
    )
    password_rounds: Annotated[int, Meta(ge=1, le=100, description="argon2id passes per password")] = 3
    password_threads: Annotated[int, Meta(ge=1, le=64, description="passwords hashed at once, per worker")] = 2

    # Redis Cluster takes a primary for dead after its cluster-node-timeout, by default 15 s too.
    store_timeout_seconds: Annotated[
        float, Meta(ge=0.1, le=600, description="a store call without answer for so long has failed")
    ] = 15.0
    store_in_flight: Annotated[
        int, Meta(ge=1, le=1_000_000, description="unanswered calls of one link; at that many clients aren't read")
    ] = 10_000
    # Longer than a cluster takes to replace a primary, so that nobody has to move for that.
    lease_seconds: Annotated[
        float, Meta(ge=4, le=600, description="a worker not heard of for so long is dead: its sessions are offline")
    ] = 20.0
    probe_seconds: Annotated[
        float, Meta(ge=0.1, le=60, description="how often a worker proves that delivery works; less than the lease")
    ] = 2.0
    drain_seconds: Annotated[
        float, Meta(ge=0, le=3600, description="time over which a stopping worker sends its clients elsewhere")
    ] = 10.0


class Setting(NamedTuple):
    """One setting, described: what `imserver config` prints."""

    name: str
    type: Any
    default: object
    meaning: str
    allowed: str


class Loaded(NamedTuple):
    """Settings, and where each came from."""

    settings: Settings
    sources: dict[str, str]


def load(files: Iterable[Path], environ: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """Read and check all settings: see `load_with_sources`."""
    return load_with_sources(files, environ, options).settings


def load_with_sources(files: Iterable[Path], environ: Mapping[str, str], options: Mapping[str, object]) -> Loaded:
    """Read and check all settings.

    `files` are TOML files, later ones win; `environ` is the environment; `options` maps names of settings to what the
    command line said (None: nothing). Raises ConfigError that names everything wrong.
    """
    known = {setting.name: setting for setting in settings_table()}
    values: dict[str, object] = {"data": data_directory(environ)}
    sources = dict.fromkeys(known, "default")
    wrong: list[str] = []
    for given in _given(files, environ, options):
        try:
            values[given.name] = _checked(given, known)
            sources[given.name] = given.source
        except ConfigError as error:
            wrong.append(str(error))
    settings = Settings(**values)  # type: ignore[arg-type]  # each was checked against its field
    wrong = wrong or list(_contradictions(settings))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Loaded(settings, sources)


def settings_table() -> list[Setting]:
    """All settings in the order of their declaration."""
    return [_described(field) for field in msgspec.structs.fields(Settings)]


def shown(value: object) -> object:
    """`value` as it is written in a settings file; the password of a URL stays hidden."""
    if isinstance(value, HostPort):
        return str(value)
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return hide_password(value) if isinstance(value, str) else value


_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    "tcp": parse_host_port,
    "http": parse_host_port,
    "admin": parse_host_port,
    "redis": parse_redis_url,
    "data": parse_directory,
}
_LIST_PARSERS: Final = {"proxy_protocol_from": parse_network}  # of one item
_UNITS: Final = {
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_kib": "KiB",
    "_entries": "entries",
    "_second": "a second",
    "_hour": "an hour",
}


def _described(field: msgspec.structs.FieldInfo) -> Setting:
    plain, *metas = get_args(field.type)
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    meaning = next(meta.description for meta in metas if meta.description)
    return Setting(field.name, field.type, default, meaning, _allowed(field.name, plain, metas))


def _allowed(name: str, plain: object, metas: list[Meta]) -> str:
    for meta in metas:
        if meta.extra:
            return str(meta.extra["allowed"])
        if meta.ge is not None:
            unit = next((f" {unit}" for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
            kind = "integer, " if plain is int else ""
            return f"{kind}{meta.ge} to {meta.le}{unit}"
    return " | ".join(get_args(plain))


# What stands in the environment under our prefix without being a setting: what `ops/serve` reads, and what Kubernetes
# puts into every pod beside a service named "imserver".
_NOT_SETTINGS = re.compile(r"VENV|PYTHON|SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_.*")
_PREFIX: Final = "IMSERVER_"


class _Given(NamedTuple):
    """What a source says about a setting. `typed`: the source knows numbers from text, so text is no number."""

    name: str
    value: object
    source: str
    typed: bool


def _given(files: Iterable[Path], environ: Mapping[str, str], options: Mapping[str, object]) -> Iterator[_Given]:
    for path in files:
        for name, value in _read_toml(path).items():
            yield _Given(name, value, str(path), typed=True)
    for variable, text in environ.items():
        name = variable.removeprefix(_PREFIX)
        if name != variable and not _NOT_SETTINGS.fullmatch(name):
            yield _Given(name.lower(), text, variable, typed=False)
    for name, value in options.items():
        if value is not None:
            yield _Given(name, value, f"--{name.replace('_', '-')}", typed=False)


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings file {path}: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError(f"settings file {path}: {error}") from error


def _checked(given: _Given, known: Mapping[str, Setting]) -> object:
    setting = known.get(given.name)
    if setting is None:
        raise ConfigError(f"{given.name} ({given.source}): no such setting; {_nearest(given.name, known)}")
    try:
        return _converted(given, setting)
    except ValueError as error:  # msgspec.ValidationError is one
        value = repr(shown(given.value))
        raise ConfigError(f"{given.name} = {value} ({given.source}): allowed is {setting.allowed}") from error


def _converted(given: _Given, setting: Setting) -> object:
    if parse_item := _LIST_PARSERS.get(given.name):
        items = given.value.split(",") if isinstance(given.value, str) else given.value
        return tuple(parse_item(item.strip()) for item in msgspec.convert(items, list[str]) if item.strip())
    parse = _PARSERS.get(given.name)
    value = msgspec.convert(given.value, str if parse else setting.type, strict=given.typed)
    return parse(value) if parse else value


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_").lower(), known)
    return f"nearest: {', '.join(near)}" if near else "`imserver config` prints all"


def _contradictions(settings: Settings) -> Iterator[str]:
    """What no setting shows alone."""
    if settings.out_buffer_bytes < 2 * settings.max_frame_bytes:
        yield (
            f"out_buffer_bytes = {settings.out_buffer_bytes}: allowed is at least twice max_frame_bytes, "
            f"{2 * settings.max_frame_bytes}"
        )
    if settings.probe_seconds >= settings.lease_seconds:
        yield (
            f"probe_seconds = {settings.probe_seconds}: allowed is less than lease_seconds, {settings.lease_seconds}, "
            "so that a worker notices a dead link before others take it for dead"
        )
    if settings.durability == "replica" and not settings.redis:
        yield "durability = replica: the embedded store has no replica; allowed is process | disk, or give --redis"
    taken: dict[HostPort, str] = {}
    for name, address in (("tcp", settings.tcp), ("http", settings.http), ("admin", settings.admin)):
        other = taken.setdefault(address, name)
        if other != name and address.port != 0:
            yield f"{name} = {address}: {other} listens there; allowed is an address of its own"
