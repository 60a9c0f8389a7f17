"""The settings of `imserver hooks`, from one TOML file. What is wrong is told with its name and what is allowed."""

import base64
import binascii
import re
import tomllib
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from imclient.address import Address, parse_url
from msgspec import Meta

from imserver.endpoints import HostPort, parse_host_port
from imserver.errors import BadRequest, SetupError
from imserver.model import DeviceId, parse_address

DEVICE_PREFIX = "hook-"
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
_SECRET = re.compile(r"whsec_([A-Za-z0-9+/]+=*)")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,59}")


class HookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[hook]]`. Files are named from the directory of the settings file."""

    name: str
    account: str
    token: str = ""
    token_file: str = ""
    url: str
    secret: str | list[str] = ""
    secret_file: str = ""
    ca: str = ""  # trusts the certificates in this file only; empty: those of the system
    events: tuple[Literal["msg", "edit", "delete", "reaction", "group", "contact"], ...] = ("msg",)
    conversations: tuple[str, ...] = ()  # users and groups; empty: all
    own: bool = False
    bots: bool = False
    timeout_seconds: Seconds = 10.0  # for the whole of one POST
    park_after_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 900.0
    parked_retry_seconds: Seconds = 300.0
    give_up_seconds: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0  # 0: never

    @property
    def device(self) -> DeviceId:
        return DeviceId(DEVICE_PREFIX + self.name)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server: str = "tcp://127.0.0.1:7400"
    ca: str = ""
    admin: str = "127.0.0.1:7491"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    hook: list[HookSettings] = []


class Config(msgspec.Struct, frozen=True):
    """`directory`: from where files are named."""

    directory: Path
    server: str
    ca: str
    admin: HostPort
    log_level: str
    hooks: list[HookSettings]

    def address(self, hook: HookSettings) -> Address:
        """Where the server is, for the hook's account."""
        return _address(self.server, hook.account)

    def path(self, name: str) -> Path:
        return self.directory / name

    def token(self, hook: HookSettings) -> str:
        """Read each time that it is needed: a file may have a new one. Raises SetupError."""
        return hook.token or _read(self.path(hook.token_file)).strip()

    def secrets(self, hook: HookSettings) -> list[bytes]:
        """The newest first; each of them signs. Raises SetupError."""
        if hook.secret_file:
            texts = _read(self.path(hook.secret_file)).split()
        else:
            texts = [hook.secret] if isinstance(hook.secret, str) else hook.secret
        return [_secret(text, hook) for text in texts]


def load(path: Path) -> Config:
    """Raises SetupError."""
    try:
        file = msgspec.convert(tomllib.loads(_read(path)), _File)
        config = Config(
            path.absolute().parent, file.server, file.ca, parse_host_port(file.admin), file.log_level, file.hook
        )
    except ValueError as error:  # not TOML, not what is allowed, or no address
        raise SetupError(f"{path}: {error}") from None
    wrong = list(_wrong(config))
    if wrong:
        raise SetupError("\n".join(f"{path}: {each}" for each in wrong))
    return config


def _wrong(config: Config) -> Iterator[str]:
    if not config.hooks:
        yield "no hook; allowed is one [[hook]] or more"
    names = [hook.name for hook in config.hooks]
    for number, hook in enumerate(config.hooks):
        if hook.name in names[:number]:
            yield f"hook {hook.name}: there are two of that name"
        try:
            _check(config, hook)
        except (BadRequest, SetupError) as error:
            yield f"hook {hook.name}: {error}"


def _check(config: Config, hook: HookSettings) -> None:
    if _NAME.fullmatch(hook.name) is None:
        raise SetupError("name: allowed are 1 to 59 of A-Z a-z 0-9 . _ -")
    if config.address(hook).user != hook.account:
        raise SetupError(f"account: {hook.account!r} is not written as names are, in lower case")
    for one, other in (("token", "token_file"), ("secret", "secret_file")):
        if bool(getattr(hook, one)) == bool(getattr(hook, other)):
            raise SetupError(f"{one}: allowed is either {one} or {other}")
    if not config.token(hook):
        raise SetupError("token_file: it is empty")
    if not config.secrets(hook):
        raise SetupError("secret: there is none")
    _check_url(hook.url)
    for name in hook.conversations:
        if parse_address(name, "conversations") != name:
            raise SetupError(f"conversations: {name!r} is not written as names are, in lower case")


def _address(server: str, account: str) -> Address:
    scheme, mark, place = server.partition("://")
    if not mark or "@" in place:
        raise SetupError(f"server: {server!r}; allowed is SCHEME://HOST:PORT with tcp, tls, ws or wss")
    return parse_url(f"{scheme}://{account}@{place}")


def _check_url(url: str) -> None:
    """What people say to each other does not cross a network unencrypted."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SetupError(f"url: {url!r} is not a URL: {error}") from None
    is_plain = parts.scheme == "http" and host is not None and _is_loopback(host)
    if not host or parts.username is not None or not (parts.scheme == "https" or is_plain):
        raise SetupError(f"url: {url!r}; allowed is https://HOST/..., or http:// to this machine")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(text: str, hook: HookSettings) -> bytes:
    found = _SECRET.fullmatch(text)
    try:
        secret = base64.b64decode(found[1], validate=True) if found else b""
    except binascii.Error:
        secret = b""
    if not 24 <= len(secret) <= 64:
        field = "secret_file" if hook.secret_file else "secret"
        raise SetupError(f"{field}: allowed is whsec_ and 24 to 64 bytes in base64")
    return secret


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SetupError(f"{path} can't be read: {why}") from None
