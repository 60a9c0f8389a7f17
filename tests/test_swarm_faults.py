"""`imswarm faults`: its parts, a short run against the real server, and that it can fail."""

import os
import re
import select
import signal
import socket
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.cli import main
from imswarm.connection import Address
from imswarm.evidence import Evidence
from imswarm.faults.catalogue import FAULTS, excuses, may_overlap, possible
from imswarm.faults.cluster_injuries import tolerated
from imswarm.faults.course import Limit
from imswarm.faults.figures import Injury, figures_of
from imswarm.faults.incidents import CUT, REFUSED, TURNED_AWAY, Incident, unexcused
from imswarm.faults.mistakes import Mistake
from imswarm.faults.plan import MISTAKES
from imswarm.faults.probe import Probes, probing
from imswarm.faults.proxy import StoreProxy, owner_of
from imswarm.faults.run import Outcome
from imswarm.faults.schedule import schedule, steps
from imswarm.faults.timeline import page
from imswarm.faults.victim import Victim, free_ports
from imswarm.history import Deliver, Device, History, Invoke, Line, Ok, Seen
from imswarm.judge import KINDS, judge
from imswarm.presence_judge import PRESENCE_KINDS, PresenceVerdict

from tests.conftest import required
from tests.swarm import imswarm

ANN, BOB, BOB_TOO = Device("ann", "d0"), Device("bob", "d0"), Device("bob", "d1")


def delivered(time: float, number: int, content: int = 0) -> Deliver:
    prev = f"{number - 1}-0" if number > 1 else "0-0"
    return Deliver(time, f"{number}-0", prev, "ann", "d0", f"m{number}", "bob", content)


def sent(number: int, time: float, answered: float) -> list[Line]:
    return [Invoke(time, f"m{number}", "bob", 0), Ok(answered, f"m{number}", f"{number}-0")]


HISTORY: History = {
    ANN: [*sent(1, 10.0, 10.1), *sent(2, 12.0, 12.1), *sent(3, 14.0, 14.1)],
    BOB: [delivered(10.1, 1), delivered(12.2, 2), delivered(14.1, 3)],
    BOB_TOO: [delivered(10.3, 1), delivered(13.5, 2), delivered(14.1, 3)],
}


# ---- the parts


@given(st.integers(), st.integers(0, 50))
def test_a_seed_gives_the_same_faults_and_none_comes_twice_before_all_came_once(seed: int, count: int) -> None:
    faults = schedule(seed, count, list(FAULTS))
    assert faults == schedule(seed, count, list(FAULTS))
    assert len(faults) == count
    counts = Counter(faults)
    assert max(counts.values(), default=0) - min((counts[name] for name in FAULTS), default=0) <= 1


@given(st.integers(), st.integers(0, 60), st.floats(0, 1))
def test_overlapping_faults_are_the_same_faults_and_take_no_part_twice(seed: int, count: int, overlap: float) -> None:
    plan = steps(seed, count, list(FAULTS), overlap, may_overlap)
    assert plan == steps(seed, count, list(FAULTS), overlap, may_overlap)
    assert Counter(kind for step in plan for kind in step.kinds) == Counter(schedule(seed, count, list(FAULTS)))
    for step in plan:
        assert 1 <= len(step.kinds) <= 2
        if len(step.kinds) == 2:
            one, other = (FAULTS[kind] for kind in step.kinds)
            assert not one.takes & other.takes
            assert 0 <= step.after < 1


def test_without_overlap_every_fault_is_alone_and_with_it_most_are_not() -> None:
    assert all(len(step.kinds) == 1 for step in steps(1, 60, list(FAULTS), 0.0, may_overlap))
    assert sum(len(step.kinds) == 2 for step in steps(1, 60, list(FAULTS), 1.0, may_overlap)) > 20


KILLED, ROLLED = Injury("kill-worker", 10.0, 11.0, 0.5), Injury("rolling-restart", 20.0, 23.0, 0.5)


@pytest.mark.parametrize(
    ("begin", "end", "kind", "is_excused"),
    [
        (10.5, 10.5, CUT, True),
        (12.4, 12.4, CUT, True),  # its aftermath
        (12.6, 12.6, CUT, False),
        (9.0, 10.1, TURNED_AWAY, True),  # begun before, failed because of it
        (10.5, 10.5, REFUSED, False),  # the other workers take connections
        (21.0, 21.0, CUT, False),
        (21.0, 21.0, TURNED_AWAY, False),
        (15.0, 15.0, CUT, False),  # nothing was wrong
    ],
)
def test_a_fault_excuses_what_its_row_says_and_in_its_time(
    begin: float, end: float, kind: str, is_excused: bool
) -> None:
    incident = Incident(begin, end, kind, "ann/d0", "")
    assert unexcused([incident], [KILLED, ROLLED], excuses()) == ([] if is_excused else [incident])


def test_a_rolling_restart_excuses_nothing() -> None:
    assert FAULTS["rolling-restart"].excuses == frozenset()


def test_probes_tell_who_is_refused_and_who_is_turned_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closes_at_once:
        (nobody,) = free_ports(1)
        port = closes_at_once.getsockname()[1]
        with probing(Address("127.0.0.1", nobody), Address("127.0.0.1", port), [("token", "p0")]) as probes:
            for _ in range(3):
                closes_at_once.accept()[0].close()
        kinds = {(incident.who, incident.kind) for incident in probes.incidents}
    assert kinds == {("probe over TCP", REFUSED), ("probe over HTTP", TURNED_AWAY)}


def test_overlapping_faults_are_mended_in_any_order_and_each_has_its_recovery() -> None:
    injuries = [Injury("one", 10.5, 13.8), Injury("two", 10.6, 11.0)]
    back = [injury.back_seconds for injury in figures_of(Evidence(HISTORY), injuries).injuries]
    assert back == [pytest.approx(14.1 - 13.8), pytest.approx(13.5 - 11.0)]


def test_delay_and_recovery() -> None:
    figures = figures_of(Evidence(HISTORY), [Injury("one", 10.5, 11.0), Injury("two", 12.5, 13.8), Injury("x", 15, 16)])
    assert (figures.messages, figures.ok, figures.unknown, figures.deliveries) == (3, 3, 0, 6)
    assert figures.delay.max_ns == pytest.approx(1.5e9)
    back = [injury.back_seconds for injury in figures.injuries]
    assert back[:2] == [pytest.approx(13.5 - 11.0), pytest.approx(14.1 - 13.8)]
    assert back[2] is None, "nothing was said after it"
    assert sum(moment.delivered_per_s for moment in figures.moments) * 0.25 == 6


def test_an_empty_run_has_figures_and_a_page() -> None:
    figures = figures_of(Evidence({ANN: []}), [Injury("one", 1.0, 2.0)])
    assert figures.moments == ()
    assert "<svg" in page(figures, [], [], 0)


def test_the_page_needs_nothing_else_and_shows_what_is_wrong() -> None:
    spoilt = {**HISTORY, BOB: HISTORY[BOB][:2]}
    figures = figures_of(Evidence(spoilt), [Injury("kill-<worker>", 10.5, 11.0)])
    verdict = judge(spoilt)
    html = page(figures, [("messages", "3")], map(str, verdict.violations), verdict.counts.total())
    assert "Wrong: 1" in html
    assert "lost: it was answered ok, and bob/d0 never got it" in html
    assert "kill-&lt;worker&gt;" in html
    assert not re.search(r"https?://|src=|@import|url\(", html)


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_spoils_one_delivery(kind: str) -> None:
    lines: list[Line] = []
    mistake = Mistake(kind, lines.append)
    mistake.record(Seen(0.0, "ann", "online"))
    for number in range(1, 31):
        mistake.record(delivered(float(number), number))
    ids = [line.id for line in lines if isinstance(line, Deliver)]
    shown = [line.show for line in lines if isinstance(line, Seen)]
    assert shown == (["online", "offline"] if kind == "flap" else ["online"])
    expected = {
        "drop": [*range(1, 20), *range(21, 31)],
        "double": [*range(1, 21), *range(20, 31)],
        "flap": [*range(1, 31)],
        "swap": [*range(1, 20), 21, 20, *range(22, 31)],
    }
    assert ids == [f"m{number}" for number in expected[kind]]


def test_ports_are_none_that_outgoing_connections_get() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert max(ports) < low


def test_who_is_cut_off_from_the_store_is_heard_later() -> None:
    front, behind = free_ports(2)
    with (
        socket.create_server(("127.0.0.1", behind)) as store,
        closing(StoreProxy(front, behind)) as proxy,
        socket.create_connection(("127.0.0.1", front)) as client,
    ):
        served, _ = store.accept()
        with served:
            assert owner_of(client.getsockname()[1]) == os.getpid()
            client.sendall(b"before")
            assert served.recv(100) == b"before"
            with proxy.cut_off(os.getpid()):
                client.sendall(b"meanwhile")
                assert select.select([served], [], [], 0.05)[0] == []
            assert served.recv(100) == b"meanwhile"
            served.sendall(b"answer")
            assert client.recv(100) == b"answer"
        assert client.recv(100) == b""


def test_a_server_started_elsewhere_is_not_started_again(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"redis_pid": null}')
    assert set(FAULTS) - set(possible(Victim(tmp_path))) == {
        "restart-server",
        "kill-store",
        "freeze-store",
        "freeze-store-long",
        "cut-off-worker",
        "cut-off-worker-long",
        "cut-off-worker-at-login",
        "failover",
        "failover-behind",
        "failover-asked",
        "move-slots",
    }


def test_a_run_may_show_what_was_not_promised_and_nothing_else() -> None:
    assert tolerated("process", {"failover", "kill-worker"}) == {"lost", "doubled", "diverged", "truncated"}
    assert tolerated("process", {"failover-asked", "move-slots"}) == frozenset()
    assert tolerated("replica", {"failover"}) == frozenset()
    verdict = judge({**HISTORY, BOB: HISTORY[BOB][:2]})
    figures = figures_of(Evidence(HISTORY), [])

    def outcome(
        troubles: tuple[str, ...] = (),
        tolerated: frozenset[str] = frozenset(),
        presence: PresenceVerdict = PresenceVerdict(),  # noqa: B008
    ) -> Outcome:
        return Outcome(1.0, 0, figures, verdict, presence, Probes(), (), (), (), troubles, tolerated)

    assert not outcome().is_good
    assert outcome(tolerated=frozenset({"lost"})).is_good
    assert not outcome(("a trouble",), frozenset({"lost"})).is_good
    assert outcome(("truncated at 1-0",), frozenset({"lost", "truncated"})).is_good
    flapped = PresenceVerdict(Counter({"false-offline": 1}))
    assert not outcome(tolerated=frozenset({"lost"}), presence=flapped).is_good


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "kill-worker,earthquake"], "earthquake: not among kill-worker, "),
        (["--users", "1"], "1 is not in the range"),
        (["--data", "."], "it has no run.json"),
        (["--keep", "tests"], "tests is not empty"),
        (["--only", "failover"], "can't be given: failover"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, ["faults", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output


def test_the_first_interrupt_ends_the_course_and_the_second_one_the_run() -> None:
    limit = Limit()
    with limit.heeding_interrupts():
        states = [limit.is_over]
        signal.raise_signal(signal.SIGINT)
        assert [*states, limit.is_over] == [False, True]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert Limit(0.0).is_over


# ---- the real thing

SMALL = ("--users", "8", "--rate", "600", "--seed", "3")
SEVEN = "kill-worker,kill-store,cut-links,reset-clients,restart-clients,rolling-restart,restart-server"


def counts(report: dict[str, Any]) -> dict[str, int]:
    spared = {f"unexcused {kind}": n for kind, n in report["unexcused"].items()}
    return spared | {kind: report[kind] for kind in (*KINDS, *PRESENCE_KINDS, "missing")}


def test_seven_faults_and_no_violation(tmp_path: Path) -> None:
    required("redis-server")
    html = tmp_path / "run.html"
    report = imswarm("faults", *SMALL, "--faults", "7", "--only", SEVEN, "--pause-seconds", "1", "--html", str(html))
    assert set(counts(report).values()) == {0}, report
    assert report["troubles"] == 0, report
    assert report["faults_by_kind"] == dict.fromkeys(SEVEN.split(","), 1)
    assert report["ok"] > 1000
    assert report["group_messages"] > 100
    assert report["fail"] > 0, "nobody wrote to those who do not exist"
    assert report["ok"] + report["unknown"] + report["fail"] == report["messages"]
    assert report["probes"]["connects"] > 100
    assert html.read_text().count('class="fault"') == 7


@pytest.mark.parametrize(
    ("mistake", "kind", "faults"), [("drop", "lost", "0"), ("double", "doubled", "0"), ("flap", "false-offline", "1")]
)
def test_it_fails_where_a_history_is_falsified(mistake: str, kind: str, faults: str) -> None:
    required("redis-server")
    report = imswarm("faults", *SMALL, "--faults", faults, "--only", "slow-reader", "--mistake", mistake, status=1)
    assert counts(report) == {**dict.fromkeys(counts(report), 0), kind: 1}
    assert report["complaints"][0].startswith(f"{kind}: ")


def test_contacts_are_shown_who_is_there_and_not_who_has_gone() -> None:
    """Users go and come, by themselves and with a worker that is killed; workers are replaced, links are cut."""
    required("redis-server")
    kinds = "clients-away,kill-worker-for-good,rolling-restart,cut-links"
    report = imswarm("faults", *SMALL, "--rate", "100", "--faults", "4", "--only", kinds, "--pause-seconds", "1")
    assert set(counts(report).values()) == {0}, report
    assert report["absences_judged"] > 10


def test_a_time_limit_leaves_a_run_that_is_judged_and_an_external_store_comes_back() -> None:
    required("redis-server")
    kinds = "kill-store,reset-clients,cut-links"
    limits = ("--faults", "60", "--minutes", "0.1", "--pause-seconds", "0.2")
    report = imswarm("faults", *SMALL, *limits, "--overlap", "1", "--store", "external", "--only", kinds)
    assert set(counts(report).values()) == {0}, report
    assert 2 <= report["faults_done"] < report["faults_planned"] == 60
    one, other = report["faults"][:2]
    assert other["at_s"] < one["at_s"] + one["lasted_s"], "the second one begins while the first is under way"


def test_a_rolling_restart_under_load_refuses_and_loses_nothing() -> None:
    required("redis-server")
    size = ("--rate", "200", "--pairs", "10", "--restarts", "1", "--calm-seconds", "1", "--drain-seconds", "1")
    report = imswarm("rolling", *size)
    assert [report[kind] for kind in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0]
    assert report["sessions_moved"] >= 20
    assert report["false_offline"] == 0
    assert report["contacts_shown"] >= report["sessions_moved"] / 2
    assert report["probes"]["incidents"] == 0, report
    assert report["restarts"][0]["delay_ms"]["max"] > 0


@pytest.mark.parametrize("form", [(), ("--group",)])
def test_stuck_readers_are_compared_with_none(form: tuple[str, ...]) -> None:
    required("redis-server")
    report = imswarm(
        "stuck", "--readers", "20", "--pairs", "2", "--rate", "100", "--seconds", "1", "--rounds", "1", *form
    )
    assert [report[kind] for kind in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0]
    assert report["server_growth_mb"] < 20
    assert report["with"]["delay_ms"]["p99"] > 0
