"""`imswarm run` and `compare`: the files, what is detected, the rule of the bottleneck, and short runs."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.cli import main
from imswarm.flows import GroupFlow
from imswarm.processes import Cores
from imswarm.scenario.bottleneck import bottleneck, mean_cores, shares_of
from imswarm.scenario.compare import compared
from imswarm.scenario.page import page
from imswarm.scenario.script import ScenarioError, find_scenario, known_scenarios, load_scenario

from imserver.config import load as load_settings
from tests.conftest import required
from tests.swarm import imswarm

NAMES = ["idle", "chat", "office-day", "group", "presence-storm", "reconnect-storm", "slow-readers", "mixed-websocket"]
PINNED = Cores(frozenset({0}), frozenset({1}))


# ---- the files


def test_the_scenarios_are_those_of_the_readme() -> None:
    assert known_scenarios() == sorted(NAMES)
    readme = (Path(__file__).parents[1] / "loadtest" / "README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_right_and_its_settings_exist(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    assert scenario.about.strip()
    load_settings([], scenario.environment, {})


GOOD = 'about = "x"\n[people]\nsessions = 10\n[measure]\nseconds = 1\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (GOOD.replace("sessions = 10", "sessions = 1"), "$.people.sessions"),
        (GOOD + "[talk]\nper_hour = 0\n", "$.talk.per_hour"),
        (GOOD + '[event]\nkind = "earthquake"\nat_seconds = 1\n', "$.event.kind"),
        (GOOD + "[talking]\nper_hour = 1\n", "talking"),
        ("about = ", "Invalid value"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=re.escape(named)):
        load_scenario(file)
    result = CliRunner().invoke(main, ["run", str(file)])
    assert (result.exit_code, named in result.output) == (2, True)


def test_an_unknown_scenario_is_told_the_known_ones() -> None:
    result = CliRunner().invoke(main, ["run", "office-night"])
    assert result.exit_code == 2
    assert "office-day" in result.output


# ---- what is detected in a group


class Member:
    number, is_live, is_out = 0, False, False

    def send(self, data: bytes) -> None:
        raise AssertionError("it is not there")


def posted(count: int, answered: int, others: tuple[int, ...] = (1, 2)) -> GroupFlow:
    flow = GroupFlow(b"0000002", b"", Member(), others)
    flow.send(count, 5)
    for number in range(answered):
        flow.answered(number)
    return flow


def test_a_message_has_come_when_every_other_member_has_it() -> None:
    flow = posted(1, 1)
    assert flow.deliver(0, 1)
    assert (flow.outstanding, flow.lost) == (1, 1)
    assert flow.deliver(0, 2)
    assert (flow.outstanding, flow.lost) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 2])), max_size=20))
def test_each_member_is_judged_for_itself(deliveries: list[tuple[int, int]]) -> None:
    flow = posted(4, 3)
    seen: dict[int, list[int]] = {1: [], 2: []}
    for number, to in deliveries:
        assert flow.deliver(number, to) == (number not in seen[to])
        seen[to].append(number)
    firsts = {to: list(dict.fromkeys(numbers)) for to, numbers in seen.items()}
    late = sum(
        number < max(numbers[:place], default=-1) for numbers in firsts.values() for place, number in enumerate(numbers)
    )
    assert flow.duplicated == sum(len(seen[to]) - len(firsts[to]) for to in seen)
    assert flow.reordered == late
    assert flow.lost == sum(number not in firsts[to] for to in seen for number in range(3))
    assert flow.outstanding == 1 + sum(number not in firsts[to] for to in seen for number in range(4))


# ---- the bottleneck


def test_the_busiest_of_each_kind_and_the_cores_together() -> None:
    used = {"worker 0": 0.2, "worker 1": 0.5, "store 0": 0.3, "clients 0": 0.9, "supervisor 0": 0.0}
    shares = shares_of(used, PINNED, 2, 0.1)
    assert sorted(shares.values()) == pytest.approx([0.1, 0.3, 0.5, 0.9, 0.9, 1.0])
    assert bottleneck(shares, 100).resource == "the cores of server and store"
    assert max(shares_of(used, Cores(), 4, 0.1).values()) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("used", "memory", "resource", "said"),
    [
        ({"worker 0": 0.95, "worker 1": 0.1}, 0.2, "a core for the busiest worker", "The bottleneck is"),
        ({"store 0": 0.9}, 0.2, "a core for the busiest store", "The bottleneck is"),
        ({"worker 0": 0.1}, 0.9, "the machine's memory", "The bottleneck is"),
        (
            {"clients 0": 0.9, "worker 0": 0.3},
            0.2,
            "a core for the busiest client process",
            "The load generator limits",
        ),
        ({"worker 0": 0.5}, 0.7, "a core for the busiest worker", "200 deliveries a second"),
    ],
)
def test_what_is_named(used: dict[str, float], memory: float, resource: str, said: str) -> None:
    found = bottleneck(shares_of(used, Cores(), 8, memory), 100.0)
    assert found.resource == resource
    assert said in found.text


def test_a_process_that_was_replaced_counts_for_its_time() -> None:
    assert mean_cores([{"worker 0": 1.0}, {"worker 0": 0.5, "worker 1": 0.5}]) == {"worker 0": 0.75, "worker 1": 0.25}


# ---- two runs


def test_two_reports_side_by_side() -> None:
    first = {"scenario": "chat", "rate": 10.0, "latency_ms": {"p99": 4.0}, "old": 1, "zero": 0, "timeline": [{"s": 1}]}
    second = {"scenario": "chat", "rate": 20.0, "latency_ms": {"p99": 1.0}, "new": 2, "zero": 5, "timeline": []}
    ratios = {row["figure"]: row["ratio"] for row in compared(first, second)}
    assert ratios == {"scenario": None, "rate": 2.0, "latency_ms p99": 0.25, "old": None, "zero": None, "new": None}


def test_what_is_no_report_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[]")
    result = CliRunner().invoke(main, ["compare", str(file), str(file)])
    assert result.exit_code == 1
    assert "a.json: not the report of a run" in result.output


# ---- short runs

EVERYTHING = """
about = "<everything>"
body_bytes = 40
[people]
sessions = 24
websocket_share = 0.5
contacts = 4
logins_per_second = 100
[talk]
per_hour = 3600
[groups]
members = 5
share = 0.5
per_hour = 3600
[presence]
per_hour = 3600
[leaving]
per_hour = 360
away_seconds = 0.5
[measure]
seconds = 3
warm_up_seconds = 0.5
[server]
workers = 2
settings = { contact_requests_per_hour = 1000 }
"""


def right(report: dict[str, Any]) -> bool:
    return not any(report[kind] for kind in ("lost", "duplicated", "reordered", "errors"))


def test_everything_at_once(tmp_path: Path) -> None:
    required("redis-server")
    script, file, html = tmp_path / "all.toml", tmp_path / "report.json", tmp_path / "page.html"
    script.write_text(EVERYTHING)
    told = imswarm("run", str(script), "--processes", "2", "--report", str(file), "--html", str(html))
    assert right(told), told
    assert told["deliveries_per_s"] > 40
    assert told["presence_told_per_s"] > 40
    assert told["departures"] > 2
    assert told["logins"] > 0
    assert told["bottleneck"]["text"]
    kept = json.loads(file.read_text())
    assert [sample["sessions"] for sample in kept["timeline"] if "sent_per_s" in sample]
    drawn = html.read_text()
    assert "&lt;everything&gt;" in drawn
    assert drawn == page(kept)
    assert not re.search(r"https?://|src=|@import|url\(", drawn)
    rows = imswarm("compare", str(file), str(file))["figures"]
    assert {row["ratio"] for row in rows} <= {None, 1.0}


def test_all_workers_are_killed_and_everybody_comes_back(tmp_path: Path) -> None:
    required("redis-server")
    text = find_scenario("reconnect-storm").read_text()
    script = tmp_path / "storm.toml"
    script.write_text(text.replace("at_seconds = 10", "at_seconds = 1"))
    told = imswarm("run", str(script), "--sessions", "40", "--seconds", "15")
    assert right(told), told
    assert told["incidents"] >= 40
    assert told["logins"] >= 40
    assert told["fewest_sessions"] == 0
