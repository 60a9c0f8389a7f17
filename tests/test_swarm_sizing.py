"""`imswarm scaling`, `calibrate`, `capacity`: the arithmetic, the page that is made of it, and short runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.cli import main
from imswarm.sizing.command import KNOWN
from imswarm.sizing.document import written
from imswarm.sizing.model import (
    EVENTS,
    Check,
    Coefficients,
    Cost,
    People,
    SizingError,
    errors,
    events_per_second,
    needs,
    read_coefficients,
)
from imswarm.sizing.plan import plan, read_prices
from imswarm.sizing.scaling import page

from tests.conftest import required
from tests.swarm import imswarm

DOCS = Path(__file__).parents[1] / "docs"
PRICES = read_prices(KNOWN / "prices.toml")


def coefficients(*checks: Check, **changed: float) -> Coefficients:
    plain = Coefficients(
        date="2026-01-01",
        machine={},
        costs={event: Cost(server_us=10.0, redis_us=5.0, network_bytes=100.0) for event in EVENTS},
        idle_worker_cores=0.01,
        worker_bytes=30e6,
        session_server_bytes=1000.0,
        session_kernel_bytes=4000.0,
        session_redis_bytes=200.0,
        account_bytes=300.0,
        message_bytes=600.0,
        checks=checks,
    )
    return msgspec.structs.replace(plain, **changed)


def test_what_people_do_adds_up() -> None:
    people = People(users=36_000, online=0.1, logins_per_hour=1.0)
    per_second = events_per_second(people)
    assert per_second == {
        "message": 15.0,
        "group_post": 4.0,
        "group_delivery": 40.0,
        "login": 1.0,
        "presence_told": 72.0,
        "keepalive": 60.0,
    }
    wanted = needs(people, coefficients())
    assert wanted.server_cores == pytest.approx(192 * 10 / 1e6)
    assert wanted.network_bytes_per_second == pytest.approx(192 * 100)
    assert wanted.server_bytes == pytest.approx(3600 * 5000)
    assert wanted.redis_bytes == pytest.approx(36_000 * 300 + 3600 * 200 + 36_000 * 1000 * 300)


def test_the_error_is_that_of_the_model() -> None:
    check = Check(what="twice", sessions=1, per_second={"message": 10_000.0}, measured_cores=0.08)
    assert errors(coefficients(check)) == [pytest.approx(1.0)]


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_more_people_never_need_less(one: int, other: int) -> None:
    few, many = (plan(People(users=users), coefficients(), PRICES) for users in sorted((one, other)))
    for figure in ("hosts", "workers", "shards", "store_machines", "balancers", "network_mbit", "dollars_total"):
        assert getattr(few, figure) <= getattr(many, figure)


@given(st.integers(1, 10**9))
def test_nothing_is_fuller_than_the_reserve_allows(users: int) -> None:
    found = plan(People(users=users), coefficients(), PRICES)
    reserve, host, store = PRICES.reserve, PRICES.host, PRICES.store
    working = found.hosts - reserve.spare_hosts
    assert found.needs.server_cores <= working * host.cores * reserve.cpu * (1 + 1e-9)
    assert found.needs.redis_cores <= found.shards * reserve.cpu * (1 + 1e-9)
    assert found.needs.redis_bytes <= found.shards * store.memory_gb * 1e9 / store.cores * reserve.redis_memory * (
        1 + 1e-9
    )
    assert found.store_machines * store.cores >= found.shards * (1 + reserve.replicas)
    assert found.balancers >= 2


def test_what_decides_is_named() -> None:
    busy = plan(People(users=10_000_000, kept_messages=0, messages_per_hour=10_000), coefficients(), PRICES)
    quiet = plan(People(users=10_000_000, messages_per_hour=0), coefficients(session_server_bytes=1e6), PRICES)
    assert (busy.limits["hosts"], busy.limits["shards"]) == ("CPU", "CPU")
    assert (quiet.limits["hosts"], quiet.limits["shards"]) == ("memory", "memory")


def test_the_page_says_what_the_files_say() -> None:
    text = (DOCS / "capacity.md").read_text()
    assert written(text, read_coefficients(KNOWN / "coefficients.json"), PRICES) == text
    for users in ("10,000 users", "1,000,000 users", "10,000,000 users", "100,000,000 users"):
        assert users in text


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(SizingError, match="lacks a line"):
        written("nothing", coefficients(), PRICES)
    page_file = tmp_path / "page.md"
    page_file.write_text("nothing")
    result = CliRunner().invoke(main, ["capacity", "--write", str(page_file)])
    assert (result.exit_code, page_file.read_text()) == (1, "nothing")


def test_capacity_for_ten_million() -> None:
    report = imswarm("capacity", "--users", "10_000_000", "--online", "0.2")
    assert report["sessions"] == 2_000_000
    assert report["dollars_a_month"]["total"] > 0
    assert report["model_error_percent"]


@pytest.mark.parametrize(
    ("text", "named"),
    [("{}", "date"), ("[1]", "got `array`"), ('{"date": 1}', "$.date")],
    ids=["empty", "broken", "type"],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    result = CliRunner().invoke(main, ["capacity", "--coefficients", str(file)])
    assert result.exit_code == 1
    assert "mine.json" in result.output
    assert named in result.output


# ---- short runs


def test_scaling() -> None:
    required("redis-server")
    size = ("--workers", "1,2", "--shards", "1,2", "--pairs", "5", "--rounds", "1")
    report = imswarm("scaling", *size, "--seconds", "0.5", "--warm-up-seconds", "0.2", "--rate", "100")
    assert [report[kind] for kind in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0]
    assert [row["workers"] for row in report["by_workers"]] == [1, 2]
    assert [row["shards"] for row in report["by_shards"]] == [1, 2]
    assert [rows[0]["ratio"] for rows in (report["by_workers"], report["by_shards"])] == [1.0, 1.0]
    assert page(report).count("<svg") == 2


def test_calibrate(tmp_path: Path) -> None:
    """The figures of so short a run mean nothing; that all of them come does."""
    required("redis-server")
    out = tmp_path / "mine.json"
    options = ("--out", str(out), "--sessions", "400", "--pairs", "20", "--seconds", "1")
    done = subprocess.run(
        [sys.executable, "-m", "imswarm", "calibrate", *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the model is") == 4
    known = read_coefficients(out)
    assert known.costs["message"].server_us > 0
    assert known.message_bytes > 100
    assert json.loads(out.read_text())["date"] == known.date
