"""What commands share: the server that the options name, failures told as sentences, how a report is printed."""

from __future__ import annotations

import inspect
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from imswarm.accounts import AccountsError
from imswarm.bench import Bench, Floors, SwarmSize
from imswarm.children import SwarmError
from imswarm.deployment import Deployment, DeploymentError, addressed, attached, started
from imswarm.floor import FloorError, floor_program
from imswarm.processes import CannotMeasure, Cores, available_memory_bytes, run_on, split_cores
from imswarm.report import Progress, Report, print_json, print_table

_FAILURES = (AccountsError, FloorError, DeploymentError, CannotMeasure, SwarmError)
WRONG = ("lost", "duplicated", "reordered", "errors")
_OWN_DESCRIPTORS = 50
"""What a client process needs beside its sessions."""

_SESSION_BYTES = 12_500
"""Kernel, worker, store and generator together."""
_FULL = 0.95
"""Of what a worker could hold."""

Values = dict[str, Any]
"""The values of a command's options, by name."""

T = TypeVar("T")


def room() -> int:
    """How many sessions a client process can hold."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _OWN_DESCRIPTORS


def processes_for(sessions: int, asked: int | None) -> int:
    """How many client processes: as many as asked for, if they can hold them; by default as few as can."""
    _check_machine(sessions)
    needed = -(-sessions // room())
    if asked is not None and asked < needed:
        raise click.UsageError(
            f"--processes {asked} cannot hold --sessions {sessions}: "
            f"a process may have {room()} here, so at least {needed} are needed"
        )
    return asked or needed


def _check_machine(sessions: int) -> None:
    """Before a thousand processes are started in vain. Raises click.UsageError."""
    open_files = int(Path("/proc/sys/fs/file-max").read_text())
    if 2 * sessions > open_files:
        raise click.UsageError(f"--sessions {sessions}: each has two descriptors here, and fs.file-max is {open_files}")
    available = available_memory_bytes()
    if sessions * _SESSION_BYTES > available:
        raise click.UsageError(
            f"--sessions {sessions} need some {sessions * _SESSION_BYTES / 1e9:,.0f} GB with both ends here, "
            f"and {available / 1e9:,.1f} GB are available"
        )


def workers_for(sessions: int, asked: int | None) -> int:
    """By default as few as hold the sessions, with some room: the kernel does not deal them out evenly."""
    return asked or -(-sessions // int(_FULL * room()))


def run_bench(values: Values, scenario: Callable[[Bench, SwarmSize], Report]) -> None:
    size, progress = size_of(values), Progress()
    values = {**values, "workers": workers_for(size.sessions, values["workers"])}
    with failures_reported(progress), terminable(), ExitStack() as stack:
        cores = cores_of(values)
        program = stack.enter_context(floor_program()) if values["floor"] else None
        floors = Floors(program, values.get("floor_seconds", 0.0))
        progress.stage("finding the server")
        deployment = stack.enter_context(deployment_of(values, cores))
        report = scenario(Bench(deployment, cores, floors, progress), size)
    print_report(report, values["as_json"])
    exit_if_wrong(report)


def exit_if_wrong(report: Report) -> None:
    if any(report[name] for name in WRONG if name in report):
        sys.exit(1)


def check_pairs(values: Values) -> None:
    sessions, pairs = values["sessions"], values["pairs"]
    if 2 * pairs > sessions:
        raise click.UsageError(f"--sessions {sessions} is too few for --pairs {pairs}: two for each pair")


def pick(kind: Callable[..., T], values: Values) -> T:
    """A `kind` made of the options that are named like its parameters."""
    return kind(**{name: values[name] for name in inspect.signature(kind).parameters})


def size_of(values: Values) -> SwarmSize:
    return pick(SwarmSize, {**values, "processes": processes_for(values["sessions"], values["processes"])})


def cores_of(values: Values) -> Cores:
    return split_cores() if values["pin"] or (values["pin"] is None and starts(values)) else Cores()


def starts(values: Values) -> bool:
    return not (values["data"] or values["tcp"] or values["http"])


def deployment_of(values: Values, cores: Cores) -> AbstractContextManager[Deployment]:
    if starts(values):
        return started(values["workers"], values["redis_url"], cores.server, values.get("settings"))
    if values["data"]:
        deployment = attached(values["data"])
    elif values["redis_url"]:
        deployment = addressed(values["tcp"], values["http"], values["redis_url"], values["pids"])
    else:
        raise click.UsageError("--tcp and --http need --redis: accounts are made in the store")
    if cores.server:
        run_on(deployment.pids, cores.server)
    return nullcontext(deployment)


@contextmanager
def failures_reported(progress: Progress | None = None) -> Iterator[None]:
    """A run that cannot be done ends with a sentence and status 2."""
    try:
        yield
    except _FAILURES as error:
        click.echo(f"imswarm: {error}", err=True)
        sys.exit(2)
    finally:
        if progress:
            progress.end()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that a server started here is stopped."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_report(report: Report, as_json: bool) -> None:
    (print_json if as_json else print_table)(report)
