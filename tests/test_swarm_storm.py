"""`imswarm storm`: its parts, and short storms against the real server."""

import sys
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.cli import main
from imswarm.storm.figures import Moments, storm_figures
from imswarm.storm.flow import Flow, FlowRecord
from imswarm.storm.process import Record

from tests.conftest import required
from tests.swarm import imswarm

SECOND = 1_000_000_000


class Wire:
    """A session that sends."""

    def __init__(self) -> None:
        self.is_live = True
        self.said: list[tuple[str, bool]] = []

    def say(self, request: dict[str, Any]) -> None:
        self.said.append((request["id"], request.get("again", False)))


def flow_with(messages: int) -> tuple[Flow, Wire]:
    flow, wire = Flow("f", "bob", 10, (0, 1)), Wire()
    for number in range(messages):
        flow.fall_due(number)
    return flow, wire


# ---- its parts


def test_one_message_is_under_way_at_a_time() -> None:
    flow, wire = flow_with(3)
    flow.pump(wire)
    flow.pump(wire)
    assert wire.said == [("f:0", False)]
    flow.answer(0, 5)
    flow.pump(wire)
    assert wire.said == [("f:0", False), ("f:1", False)]


def test_what_had_no_answer_is_sent_again_under_its_id_and_says_so() -> None:
    flow, wire = flow_with(2)
    flow.pump(wire)
    flow.interrupted()
    wire.is_live = False
    flow.pump(wire)
    wire.is_live = True
    flow.pump(wire)
    assert wire.said == [("f:0", False), ("f:0", True)]
    flow.answer(0, 5)  # in the backlog of the sender's own log
    flow.answer(0, 6)  # the reply to the repeat
    flow.pump(wire)
    assert wire.said[2:] == [("f:1", False)]


def test_lost_doubled_and_reordered_are_told_apart() -> None:
    flow, wire = flow_with(4)
    for number in range(4):
        flow.pump(wire)
        flow.answer(number, 10)
    for number in (0, 2, 1, 1):
        flow.deliver(number, 20)
    record = flow.record()
    assert (record.lost, record.duplicated, record.reordered) == (1, 1, 1)
    assert flow.oldest_missing == 3
    flow.deliver(3, 30)
    assert flow.oldest_missing is None


def test_what_the_figures_count() -> None:
    """Killed at 10 s; session 0 is lost and back at 12 s; the store answers again at 11 s; all is well at 13 s."""
    stayed = FlowRecord(2, 3, (9 * SECOND, 10 * SECOND), (9 * SECOND + 1000, 11 * SECOND + 2000), 2, 0, 0)
    moved = FlowRecord(0, 2, (10 * SECOND, 14 * SECOND), (12 * SECOND, 0), 2, 0, 0)
    record = Record(
        lost={0: (10 * SECOND,)},
        live={0: (1 * SECOND, 12 * SECOND)},
        flows=(stayed, moved),
        attempts=5,
        lag=0.5,
        refusals=Counter({"login: overloaded": 1}),
        errors=Counter(),
    )
    figures = storm_figures([record], Moments(10 * SECOND, 11 * SECOND, 13 * SECOND))
    assert (figures["recovered_s"], figures["sessions_lost"], figures["reconnected_s"]["max"]) == (3.0, 1, 2.0)
    assert figures["delay_ms"]["before"]["max"] == 0.001
    assert figures["delay_ms"]["during"]["max"] == 2000.0
    assert figures["delay_ms"]["during_both_stayed"]["max"] == pytest.approx(1000.002)
    assert figures["delay_ms"]["during_one_moved"]["p50"] == 2000.0
    assert figures["delay_ms"]["during_both_moved"]["p50"] is None
    assert (figures["store_away_s"], figures["traffic_back_s"], figures["lost"]) == (1.0, 1.0, 1)
    assert figures["refusals"] == {"login: overloaded": 1}
    assert figures["client_lag_ms"] == 500.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sessions", "10", "--pairs", "6"], "--sessions 10 is too few for --pairs 6"),
        (["--data", "."], "it has no run.json"),
        (["--event", "flood"], "'flood' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["storm", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output


# ---- the real thing

SMALL = ("--sessions", "300", "--pairs", "40", "--rate", "200", "--before-seconds", "1", "--after-seconds", "1")


def assert_nothing_is_wrong(report: dict[str, Any]) -> None:
    assert [report[name] for name in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0], report
    assert report["messages"] > 200


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_a_killed_workers_sessions_all_come_back(transport: str) -> None:
    required("redis-server")
    report = imswarm("storm", *SMALL, "--transport", transport)
    assert_nothing_is_wrong(report)
    assert 100 <= report["sessions_lost"] < 300  # the fuller one of two workers was killed
    assert report["reconnected_s"]["max"] <= report["recovered_s"]


def test_a_killed_store_costs_no_session() -> None:
    required("redis-server")
    report = imswarm("storm", *SMALL, "--event", "kill-store", "--processes", "2")
    assert_nothing_is_wrong(report)
    assert report["sessions_lost"] == 0
    assert report["store_away_s"] > 0


def test_who_is_refused_in_a_storm_comes_in_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """One login at once, and room for a hundred in line: most are sent away, and told when to come back."""
    required("redis-server")
    monkeypatch.setenv("IMSERVER_LOGINS_AT_ONCE", "1")
    monkeypatch.setenv("IMSERVER_LOGIN_WAIT_SECONDS", "0.1")
    report = imswarm("storm", *SMALL, "--sessions", "600", "--concurrency", "600", "--workers", "1")
    assert_nothing_is_wrong(report)
    assert report["refusals"]["login: overloaded"] > 0
    assert report["attempts"] > 1200  # all came in twice
