"""A scenario file: TOML, every value checked, what is wrong told by its name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from imswarm.shipped import shipped
from imswarm.stamps import STAMP_BYTES

DIRECTORY = shipped("scenarios")

Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0.1)]


class ScenarioError(Exception):
    """The file can't be used; the text says why."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a scenario file."""


class People(_Table, frozen=True):
    sessions: Annotated[int, Meta(ge=2, le=1_000_000)]  # their numbers have six digits in what they say
    websocket_share: Share = 0.0
    contacts: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Of each session's user, all of them online."""
    logins_per_second: Rate = 500.0


class Talk(_Table, frozen=True):
    """Two by two. Rates are of each session that takes part."""

    per_hour: Rate
    share: Share = 1.0
    """Of the sessions, who talk."""


class Groups(_Table, frozen=True):
    per_hour: Rate
    """Messages of each member."""
    members: Annotated[int, Meta(ge=2, le=10_000)]
    share: Share = 1.0
    """Of the sessions, who are in a group (each in one)."""


class Presence(_Table, frozen=True):
    per_hour: Rate
    """Changes of each session."""


class Leaving(_Table, frozen=True):
    per_hour: Rate
    """Logouts of each session."""
    away_seconds: Seconds


class Readers(_Table, frozen=True):
    """Further devices of the users, which read nothing of what they are sent."""

    stuck: Count


class Event(_Table, frozen=True):
    """What is done to the server while it is measured. `share`: of its workers, which get SIGKILL all at once."""

    kind: Literal["kill-workers"]
    at_seconds: Seconds
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Measure(_Table, frozen=True):
    seconds: Seconds
    warm_up_seconds: Seconds = 3.0
    drain_seconds: Seconds = 30.0


class Server(_Table, frozen=True):
    """Of the server started for the run. `settings`: those of imserver."""

    workers: Count = 1
    settings: dict[str, str | int | float] = {}


class Scenario(_Table, frozen=True):
    """A whole file. `speed`: all rates an hour are multiplied by it, so that a day can pass in minutes."""

    about: str
    people: People
    measure: Measure
    server: Server = Server()
    speed: Rate = 1.0
    body_bytes: Annotated[int, Meta(ge=STAMP_BYTES, le=60_000)] = 74
    talk: Talk | None = None
    groups: Groups | None = None
    presence: Presence | None = None
    leaving: Leaving | None = None
    readers: Readers | None = None
    event: Event | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The settings of the server, as it reads them."""
        return {f"IMSERVER_{name.upper()}": str(value) for name, value in self.server.settings.items()}


def known_scenarios() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def find_scenario(name: str) -> Path:
    """A file, or the name of one in `loadtest/scenarios`. Raises ScenarioError."""
    own, known = Path(name), DIRECTORY / f"{name}.toml"
    if name.endswith(".toml") and own.is_file():
        return own
    if known.is_file():
        return known
    raise ScenarioError(f"there is no scenario {name}: neither a file {name} nor one of {', '.join(known_scenarios())}")


def load_scenario(path: Path) -> Scenario:
    """Raises ScenarioError."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Scenario)
    except (OSError, ValueError) as error:  # msgspec.ValidationError is one, and names the field
        raise ScenarioError(f"{path}: {error}") from error


def changed(scenario: Scenario, sessions: int | None, seconds: float | None, workers: int | None) -> Scenario:
    """The same with another size, where one is given."""

    def replaced(table: Any, **values: Any) -> Any:
        return msgspec.structs.replace(table, **{name: value for name, value in values.items() if value is not None})

    return msgspec.structs.replace(
        scenario,
        people=replaced(scenario.people, sessions=sessions),
        measure=replaced(scenario.measure, seconds=seconds),
        server=replaced(scenario.server, workers=workers),
    )
