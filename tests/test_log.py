"""The log: JSON for machines, plain lines on a terminal, and nothing in it that does not belong there."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from imserver.observe import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = list(root.handlers)
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_where_nobody_watches() -> None:
    stream = io.StringIO()
    log.configure("info", stream, worker=3)
    log.get_logger("session").info("session closed", user="alice", at=b"1-0")
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert (
        line.items()
        >= {
            "level": "info",
            "event": "session closed",
            "part": "session",
            "worker": 3,
            "user": "alice",
            "at": "1-0",
        }.items()
    )


def test_plain_on_a_terminal() -> None:
    stream = Terminal()
    log.configure("info", stream)
    log.get_logger("session").info("session closed", user="alice")
    assert "session closed" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_level() -> None:
    stream = io.StringIO()
    log.configure("warning", stream)
    logger = log.get_logger("session")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_logger_may_be_older_than_the_configuration() -> None:
    stream = io.StringIO()
    logger = log.get_logger("store")
    log.configure("debug", stream)
    logger.debug("link up")
    assert lines(stream)[0]["part"] == "store"


def test_exceptions_are_one_line() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    try:
        raise ValueError("x")
    except ValueError:
        log.get_logger("session").exception("a command failed")
    (line,) = lines(stream)
    assert "ValueError: x" in line["exception"]


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_no_passwords_no_control_characters(stream: io.StringIO) -> None:
    log.configure("info", stream)
    log.get_logger("store").info("no link", shard="redis://im:geheim@h/0", why="\x1b[2J\ud800\nforged")
    text = stream.getvalue()
    assert "geheim" not in text
    assert "\x1b[2J" not in text
    assert text.count("\n") == 1


def test_libraries_speak_through_it() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    logging.getLogger("redis").warning("slow: %d ms", 7)
    (line,) = lines(stream)
    assert (line["event"], line["part"], line["level"]) == ("slow: 7 ms", "redis", "warning")
