"""All dialogues: in memory through both framings, and over real connections to a real server."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from tests.conftest import required
from tests.dialogue.play import Play, Stage
from tests.dialogue.script import parse, scripts
from tests.dialogue.stages import MemoryStage, ServerStage, TcpLine, WebSocketLine
from tests.dialogue.witness import Witness
from tests.protocol.reference import DOCUMENT
from tests.server import Server
from tests.store.redis_process import cluster

SCRIPTS = scripts()
every_script = pytest.mark.parametrize("name", SCRIPTS)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    required("redis-server")
    with Server(tmp_path_factory.mktemp("dialogues") / "data", search="contacts") as server:
        yield server


def play(name: str, stage: Stage, witness: Witness | None = None) -> None:
    """Every frame is held against the schema, too."""
    Play(stage, (witness or Witness()).watch).run(SCRIPTS[name])


@every_script
@pytest.mark.parametrize("websocket", [False, True], ids=["lines", "websocket"])
def test_in_memory(name: str, websocket: bool) -> None:
    play(name, MemoryStage(websocket=websocket))


@every_script
def test_over_tcp(name: str, shared_server: Server) -> None:
    play(name, ServerStage(shared_server, TcpLine))


@every_script
def test_over_websocket(name: str, shared_server: Server) -> None:
    play(name, ServerStage(shared_server, WebSocketLine))


@pytest.fixture(scope="module")
def server_on_a_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("cluster")
    with cluster(required("redis-server"), directory) as primaries, ExitStack() as stack:
        for primary in primaries:  # as a worker demands it
            client = stack.enter_context(redis.Redis.from_url(primary.url))
            client.config_set("appendfsync", "no")
            client.config_set("appendonly", "yes")
        yield stack.enter_context(Server(directory / "data", redis=primaries[0].url, search="contacts"))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "blocking",
            "bots",
            "contact_requests",
            "contacts",
            "marks",
            "presence",
            "presence_reconnect",
            "typing",
            "unread",
        ),
        *("devices", "password", "profile", "search", "report"),
        *("group_typing", "mentions"),
        *("edit", "delete", "reactions", "group_amendments", "extras", "later", "vanishing"),
    ],
)
def test_over_tcp_on_a_cluster(name: str, server_on_a_cluster: Server) -> None:
    """Two users lie in two slots, and mostly on two primaries."""
    play(name, ServerStage(server_on_a_cluster, TcpLine))


# Pushes that a client hears only after a time, or after the store has failed: tests of sessions are about them.
ELSEWHERE = {"conversations", "ping", "resend"}


def test_all_that_can_be_asked_is_answered_in_a_dialogue_and_all_that_is_pushed_is_heard() -> None:
    witness, stage = Witness(), MemoryStage(websocket=False)
    for name in SCRIPTS:
        play(name, stage, witness)
    assert {*DOCUMENT["commands"]} - witness.answered == set()
    assert {*DOCUMENT["pushes"]} - witness.pushed == ELSEWHERE


# -- the player itself: what must fail does


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('alice receives {"re": 1, "ok": {}}', "nothing to receive"),
        ('alice sends {"op": "ping", "ref": 1}\nalice receives {"re": 2, "ok": {}}', "received"),
        ('alice sends {"op": "ping", "ref": 1}\nalice receives {"re": 1}', "received"),
        ('alice sends {"op": "ping", "ref": 1}\nalice receives nothing', "re"),
        ("alice is disconnected", "nothing to receive"),
    ],
)
def test_a_dialogue_that_goes_otherwise_fails(line: str, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        Play(MemoryStage(websocket=False)).run(parse(f"the users alice\nalice logs in\n{line}"))


def test_a_line_that_is_no_sentence_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2 is no sentence: alice dances"):
        parse("the users alice\nalice dances")
