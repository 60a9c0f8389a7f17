"""What all commands of `imserver` share: options for settings, errors for people, times."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imserver.config import ConfigError, Loaded, load_with_sources, settings_table
from imserver.errors import ImError

if TYPE_CHECKING:
    from imserver.admin import Admin

Command = Callable[..., None]
METAVARS = {
    "tcp": "HOST:PORT",
    "http": "HOST:PORT",
    "admin": "HOST:PORT",
    "redis": "URL",
    "data": "DIR",
    "workers": "N",
}


class WrongSetting(click.ClickException):
    """Told like a wrong option, and with its exit code."""

    exit_code = 2


class Program(click.Group):
    """Shows the errors that are meant for people without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise WrongSetting(str(error)) from error
        except ImError as error:
            raise click.ClickException(str(error)) from error


def setting_options(*names: str) -> Callable[[Command], Command]:
    """`--config` and an option for each setting in `names`, unchecked here: all sources are checked together."""
    known = {setting.name: setting for setting in settings_table()}

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            metavar = METAVARS.get(name, known[name].allowed.replace(" ", ""))
            command = click.option(f"--{name.replace('_', '-')}", metavar=metavar, help=known[name].meaning)(command)
        text = "settings in TOML; of several files later ones win"
        return click.option("--config", "files", metavar="FILE", type=Path, multiple=True, help=text)(command)

    return decorate


server_options = setting_options("tcp", "http", "admin", "redis", "data", "workers", "registration", "log_level")
store_options = setting_options("redis", "data")


def loaded(options: dict[str, Any]) -> Loaded:
    """The settings from all sources; raises ConfigError. Takes the settings out of `options`."""
    return load_with_sources(options.pop("files"), os.environ, options)


def opened(options: dict[str, Any]) -> "AbstractContextManager[Admin]":
    """The administration of the deployment that the options name; raises ConfigError."""
    settings = loaded(options).settings
    from imserver.admin import open_admin

    return open_admin(settings)


def utc(seconds: float) -> str:
    """A point in time, given in unix seconds, as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
