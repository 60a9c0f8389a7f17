"""Reading a conversation back, page by page."""

from typing import Any

import pytest

from imserver.routing import history
from tests.session.node import ServerNode
from tests.session.peer import Peer, entered, world_of


def ids_of(heard: list[dict[str, Any]]) -> list[str]:
    return [message["id"] for message in heard[0]["ok"]["messages"]]


def pages(peer: Peer, partner: str, limit: int) -> list[list[str]]:
    """All pages, the newest first."""
    found: list[list[str]] = []
    before: dict[str, str] = {}
    while True:
        heard = peer.ask("history", ref=1, with_=partner, limit=limit, **before)
        found.append(ids_of(heard))
        if not heard[0]["ok"]["more"]:
            return found
        before = {"before": heard[0]["ok"]["next"]}


def talk(node: ServerNode, *to: str) -> Peer:
    """Alice says something to each of them, in turn."""
    alice = entered(node, "alice")
    for number, partner in enumerate(to):
        alice.say("send", id=f"c{number}", to=partner, body="x")
    node.settle()
    return alice


@pytest.fixture
def node() -> ServerNode:
    return ServerNode(world_of("alice", "bob", "carol"), "n1")


def test_only_this_conversation_in_order(node: ServerNode) -> None:
    alice = talk(node, "bob", "carol", "bob", "alice", "carol", "bob")
    assert ids_of(alice.ask("history", ref=1, with_="bob")) == ["c0", "c2", "c5"]
    assert ids_of(alice.ask("history", ref=1, with_="carol")) == ["c1", "c4"]
    assert ids_of(alice.ask("history", ref=1, with_="alice")) == ["c3"]
    assert ids_of(alice.ask("history", ref=1, with_="dave")) == []


def test_pages_meet_without_gap_or_overlap(node: ServerNode) -> None:
    alice = talk(node, *["bob", "carol"] * 300)
    said = [f"c{number}" for number in range(0, 600, 2)]
    found = pages(alice, "bob", 70)
    assert [one for page in reversed(found) for one in page] == said
    assert [len(page) for page in found] == [70, 70, 70, 70, 20]


def test_a_page_that_ends_with_the_log_may_be_followed_by_an_empty_one(node: ServerNode) -> None:
    alice = talk(node, *["bob"] * 4)
    assert pages(alice, "bob", 2) == [["c2", "c3"], ["c0", "c1"], []]


def test_one_request_looks_through_a_bounded_part_of_the_log(node: ServerNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_ENTRIES", 10)
    monkeypatch.setattr(history, "MOST_ENTRIES", 30)
    alice = talk(node, "bob", *["carol"] * 70)
    heard = alice.ask("history", ref=1, with_="bob")
    assert (ids_of(heard), heard[0]["ok"]["more"]) == ([], True)
    assert pages(alice, "bob", 50)[-1] == ["c0"]


def test_large_messages_make_short_pages(node: ServerNode) -> None:
    alice, _ = entered(node, "alice"), entered(node, "bob")
    for number in range(30):
        alice.ask("send", id=f"c{number}", to="bob", body="x" * 30_000)
    found = pages(alice, "bob", 200)
    assert [one for page in reversed(found) for one in page] == [f"c{number}" for number in range(30)]
    assert [len(page) for page in found] == [9, 9, 9, 3]


def test_messages_look_as_they_did_when_they_were_pushed(node: ServerNode) -> None:
    alice, bob = entered(node, "alice"), entered(node, "bob")
    alice.ask("send", id="c1", to="bob", body={"text": "x"})
    pushed = bob.hear()
    assert bob.ask("history", ref=1, with_="alice")[0]["ok"]["messages"] == pushed


@pytest.mark.parametrize("before", ["1-0", "0-1", "99999999999999-0"])
def test_before_may_be_any_position(node: ServerNode, before: str) -> None:
    alice = talk(node, "bob")
    found = ids_of(alice.ask("history", ref=1, with_="bob", before=before))
    assert found == (["c0"] if before.startswith("9") else [])
