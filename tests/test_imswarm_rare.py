"""`imswarm rare`: what it asks is answered, and what was not is not passed over."""

import socket
import sys
from collections.abc import Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.client_loop import ClientLoop
from imswarm.connection import Address
from imswarm.population import Account, Crowd, Population, Session
from imswarm.rare_talk import Asker, RareRequests, RareTalk
from imswarm.stats import Tally

from tests.swarm import imswarm


def test_rare_requests_beside_messages() -> None:
    few = ("--pairs", "5", "--rate", "100", "--askers", "6", "--rare-rate", "100", "--rounds", "2")
    report = imswarm("rare", *few, "--seconds", "0.5", "--warm-up-seconds", "0.2")
    assert [report[name] for name in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0], report
    assert report["without"]["deliveries"] > 0
    assert report["with"]["deliveries"] > 0
    assert report["rare"]["answered_per_s"] > 50
    assert report["p99_rise_ms"] is not None
    assert len(report["p99_rise_ms_of_each"]) == 2


@pytest.fixture
def target() -> Iterator[Address]:
    """Somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Address(*listening.getsockname())


def test_answers_are_told_from_refusals_and_from_what_never_came(target: Address) -> None:
    tally = Tally()
    population = Population(ClientLoop(), Crowd("tcp", target, (Account("a", "d", "t"),), 0, 1), tally)
    session = Session(population, 0)
    talk = RareTalk(population, RareRequests("g"), tally)
    asker = Asker(session, iter([b'{"op":"groups"}'] * 4), tally)
    talk._askers.append(asker)
    asker.send(4, 1_000)
    asker.on_frame(b'{"re":1,"ok":{"text":"err"}}', 3_000)
    asker.on_frame(b'{"re":2,"err":{"code":"overloaded","text":"x","retry":1.0}}', 4_000)
    asker.on_frame(b'{"re":3,"err":{"code":"not-found","text":"x"}}', 4_000)
    assert (tally.answered, tally.shed, tally.latency.count, talk.outstanding) == (3, 1, 1, 1)
    assert tally.errors.total() == 1
    talk.settle()
    assert tally.errors["asked and never answered"] == 1
    session.connection.close()
