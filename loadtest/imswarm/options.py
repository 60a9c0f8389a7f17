"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click

from imswarm.connection import Address

Command = Callable[..., None]
Options = tuple[Callable[[Command], Command], ...]

POSITIVE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0.1)
_MOST = 64


class _AddressType(click.ParamType[Any]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            self.fail(f"{value!r} is not HOST:PORT with a port from 1 to 65535", param, ctx)
        return Address(host.strip("[]"), int(port))


class _PidsType(click.ParamType[Any]):
    name = "PID,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        pids = str(value).split(",")
        if not all(pid.isdecimal() for pid in pids):
            self.fail(f"{value!r} is not a list of process ids like 311,312", param, ctx)
        return tuple(map(int, pids))


class _NamesType(click.ParamType[Any]):
    name = "NAME,..."

    def __init__(self, known: Collection[str]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(str(value).split(","))
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"{', '.join(unknown)}: not among {', '.join(self._known)}", param, ctx)
        return names


class _NumbersType(click.ParamType[Any]):
    name = "N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",") if value else []
        if not all(part.isdecimal() and 0 < int(part) <= _MOST for part in parts):
            self.fail(f"{value!r} is not a list of numbers from 1 to {_MOST} like 1,2,4", param, ctx)
        return tuple(map(int, parts))


def numbers() -> click.ParamType[Any]:
    """The type of a list of small numbers, separated by commas; it may be empty."""
    return _NumbersType()


def names_of(known: Collection[str]) -> click.ParamType[Any]:
    """The type of a list of these names, separated by commas."""
    return _NamesType(known)


DIRECTORY = click.Path(file_okay=False, exists=True, path_type=Path)


def option(name: str, *more: Any, **settings: Any) -> Callable[[Command], Command]:
    """An option whose default, if it has one, is shown in the help."""
    shown = settings.get("default") not in (None, ())
    return click.option(name, *more, show_default=shown, **settings)


JSON = option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")

TARGET: Options = (
    option(
        "--data",
        type=DIRECTORY,
        help="Attach to the running server that has this data directory.",
    ),
    option("--tcp", type=_AddressType(), help="Attach to a running server; needs --redis."),
    option("--http", type=_AddressType(), help="The same, for --transport ws."),
    option(
        "--redis",
        "redis_url",
        help="Store of the server attached to, or for the one started here (default: embedded).",
    ),
    option("--pids", type=_PidsType(), default=(), help="Workers of the server attached to."),
    option(
        "--pin/--no-pin",
        default=None,
        help="Server and store on the lower half of the cores, load on the upper half; "
        "by default if the server is started here.",
    ),
    JSON,
)

WORKERS: Options = (
    option(
        "--workers", type=POSITIVE, help="Workers of the server started here; by default as few as hold the sessions."
    ),
)

SIZE: Options = (
    option("--sessions", type=POSITIVE, default=1000),
    option("--transport", type=click.Choice(["tcp", "ws"]), default="tcp"),
    option("--processes", type=POSITIVE, help="Client processes; by default as few as hold the sessions."),
    option("--concurrency", type=POSITIVE, default=64, help="Logins under way at once."),
    option("--prefix", default="swarm", help="Accounts are named PREFIX0, PREFIX1, ..."),
)

FLOOR: Options = (
    option("--floor/--no-floor", default=True, help="Measure the machine's own limit beside it."),
    option("--floor-seconds", type=SECONDS, default=3.0, help="Twice: before and after."),
)


def with_options(*groups: Options) -> Callable[[Command], Command]:
    """Give a command these options, in this order in its help."""
    every = [option for group in groups for option in group]

    def decorate(command: Command) -> Command:
        for apply in reversed(every):
            command = apply(command)
        return command

    return decorate
