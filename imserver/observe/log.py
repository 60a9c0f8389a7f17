"""The log: structured lines on standard error, readable on a terminal, JSON elsewhere.

A line is an event in plain words plus fields: `log.info("session closed", user="alice", why="idle")`. One line when a
session opens and one when it closes, at the level `debug` (a reconnect storm must not write a book); none per message.
"""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from imserver.endpoints import hide_password


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of one part of the program; may be taken at import time, before `configure`."""
    logger: FilteringBoundLogger = structlog.get_logger(part=name)
    return logger


def configure(level: str, stream: TextIO | None = None, **fields: object) -> None:
    """Log lines of at least `level` (a value of the setting log_level) to `stream`, by default standard error.

    `fields` stand in every line, for instance `worker=3`. Called once, by each process at its start.
    """
    stream = stream or sys.stderr
    minimum = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[_Fields(fields), structlog.processors.add_log_level, _printable, *_renderers(stream)],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        # One write a line: the workers share the stream, and their lines must not mix.
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unbreakable(stream))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


class _Unbreakable:
    """A log that nobody can read any more (a closed pipe, a full disk) must not end the server."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _renderers(stream: TextIO) -> Sequence[Processor]:
    if stream.isatty():
        # The plain traceback: the one with all local variables would show passwords.
        return [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, pad_event_to=24),
        ]
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _to_json(line: EventDict, **_: object) -> str:
    first = {name: line.pop(name) for name in ("time", "level", "event")}
    return msgspec.json.encode({**first, **line}, enc_hook=str).decode()


class _Fields:
    """Puts the process's own fields into each line."""

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def __call__(self, _logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
        return {**self._fields, **line}


def _printable(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    return {name: _printable_value(value) for name, value in line.items()}


def _printable_value(value: object) -> object:
    """Text without the store's password (errors repeat its URL) and without a client's control characters."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if not isinstance(value, str):
        return value
    text = hide_password(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class _Forward(logging.Handler):
    """What libraries say through `logging` becomes lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info or False)
