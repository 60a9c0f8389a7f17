"""The load generator: its arithmetic, its framing, what it detects, and short runs against the real server."""

import json
import os
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm import stamps
from imswarm.checker import Ledger
from imswarm.cli import main
from imswarm.client_loop import ClientLoop
from imswarm.connection import Address, source_of
from imswarm.floor import Program, measure_floor
from imswarm.framing import PING, Framing, FramingError
from imswarm.population import Account, Crowd, Population
from imswarm.processes import Cores
from imswarm.stats import Histogram, Tally
from imswarm.tcp import LineFraming
from imswarm.traffic import Conversation, Pair, Traffic
from imswarm.ws import WebSocketFraming, upgrade_request

from tests.swarm import imswarm

HOST = "127.0.0.1:7480"


# ---- counts and latencies


@given(st.lists(st.integers(0, 3_600_000_000_000), min_size=1), st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_within_two_percent_of_the_exact_one(latencies_ns: list[int], percent: int) -> None:
    histogram = Histogram()
    for latency_ns in latencies_ns:
        histogram.record(latency_ns)
    exact_ms = sorted(latencies_ns)[-(-len(latencies_ns) * percent // 100) - 1] / 1e6
    assert histogram.percentile_ms(percent) == pytest.approx(exact_ms, rel=0.02, abs=0.001)
    assert histogram.max_ns == max(latencies_ns)


def test_an_empty_histogram_has_no_percentiles() -> None:
    assert Histogram().summary_ms() == {"p50": None, "p90": None, "p99": None, "max": None}


def test_tallies_add_up_and_start_again_when_taken() -> None:
    tally = Tally(sent=3)
    tally.errors["broken"] += 1
    tally.latency.record(5_000_000)
    taken = tally.take()
    assert tally == Tally()
    both = taken + taken
    assert (both.sent, both.errors["broken"]) == (6, 2)
    assert both.latency.percentile_ms(50) == pytest.approx(5, rel=0.02)


# ---- what became of every message


def sent(count: int) -> Ledger:
    ledger = Ledger()
    assert [ledger.send() for _ in range(count)] == list(range(count))
    return ledger


def verdict(ledger: Ledger) -> tuple[int, int, int]:
    return ledger.lost, ledger.duplicated, ledger.reordered


def test_a_faultless_direction() -> None:
    ledger = sent(3)
    for number in range(3):
        assert ledger.outstanding == 3 - number
        assert ledger.answer(number)
        assert ledger.outstanding == 3 - number, "answered, but not delivered yet"
        assert ledger.deliver(number)
    assert (ledger.outstanding, ledger.unanswered) == (0, 0)
    assert verdict(ledger) == (0, 0, 0)


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [
        ([0, 1, 3], (1, 0, 0)),
        ([0, 1, 2], (1, 0, 0)),
        ([], (4, 0, 0)),
        ([0, 1, 1, 2, 3, 0], (0, 2, 0)),
        ([0, 2, 1, 3], (0, 0, 1)),
        ([3, 2, 1, 0], (0, 0, 3)),
        ([2, 0, 2, 0], (2, 2, 1)),
    ],
)
def test_lost_duplicated_and_reordered_are_each_detected(deliveries: list[int], expected: tuple[int, int, int]) -> None:
    ledger = sent(4)
    for number in range(4):
        ledger.answer(number)
    for number in deliveries:
        ledger.deliver(number)
    assert verdict(ledger) == expected


def test_only_what_was_answered_can_be_lost() -> None:
    ledger = sent(2)
    ledger.answer(1)
    assert (ledger.lost, ledger.unanswered) == (1, 1)


def test_a_refused_message_need_not_come_but_may() -> None:
    ledger = sent(2)
    assert ledger.refuse(0)
    ledger.answer(1)
    ledger.deliver(1)
    assert (ledger.outstanding, verdict(ledger)) == (0, (0, 0, 0))
    ledger.deliver(0)
    assert ledger.outstanding == 0


def test_a_refusal_after_the_delivery() -> None:
    ledger = sent(1)
    ledger.deliver(0)
    ledger.refuse(0)
    assert (ledger.outstanding, ledger.unanswered) == (0, 0)


def test_a_second_answer_is_noticed() -> None:
    ledger = sent(1)
    assert ledger.answer(0)
    assert not ledger.answer(0)
    assert not ledger.refuse(0)


# ---- frames


@pytest.mark.parametrize("number", [0, 7, 9_999_999_999])
@pytest.mark.parametrize("body_bytes", [stamps.STAMP_BYTES, 37, 74, 500])
def test_a_completed_template_is_the_request_it_stands_for(body_bytes: int, number: int) -> None:
    framing = LineFraming()
    template = stamps.send_template(b"0000121", "swarm25", body_bytes, framing.frame)
    now_ns = time.monotonic_ns()
    (frame,) = framing.feed(template % (stamps.FIRST_REF + 3, number, now_ns, number, now_ns))
    request = msgspec.json.decode(frame)
    stamp = request["id"]
    assert request == {"op": "send", "ref": 1_000_000_003, "id": stamp, "to": "swarm25", "body": request["body"]}
    assert len(request["body"]) == body_bytes
    assert request["body"].startswith(stamp)
    assert len(stamp) == stamps.STAMP_BYTES
    assert stamp[: stamps.NUMBER_AT] == "0000121"
    assert int(stamp[stamps.NUMBER_AT : stamps.TIME_AT]) == number
    assert int(stamp[stamps.TIME_AT :]) == now_ns


class WebSocketPeer:
    """A `wsproto` server and the framing under test, joined by bytes."""

    def __init__(self) -> None:
        self.server = WSConnection(ConnectionType.SERVER)
        self.framing = WebSocketFraming(upgrade_request(HOST))
        (request,) = self.to_server(self.framing.greeting)
        assert isinstance(request, Request)
        assert (request.host, request.target, request.subprotocols) == (HOST, "/ws", ["im.v1"])
        assert self.framing.greet(self.server.send(AcceptConnection(subprotocol="im.v1")))

    def to_server(self, data: bytes) -> list[Event]:
        self.server.receive_data(data)
        return list(self.server.events())


# Lengths in one, two and eight bytes; and one whose header holds a `%`, which a template must not take for its own.
@pytest.mark.parametrize("body_bytes", [36, 37, 126, 500, 70_000, 0x2525])
def test_a_server_reads_the_templates_frames_over_websocket(body_bytes: int) -> None:
    peer = WebSocketPeer()
    template = stamps.send_template(b"0000121", "bob", body_bytes, peer.framing.frame)
    data = template % (stamps.FIRST_REF, 1, 2, 1, 2) + template % (stamps.FIRST_REF + 1, 3, 4, 3, 4)
    events = peer.to_server(data)
    text = "".join(event.data for event in events if isinstance(event, TextMessage))
    first, second = (json.loads(part) for part in text.replace("}{", "}\n{").split("\n"))
    assert (first["ref"], second["ref"]) == (1_000_000_000, 1_000_000_001)
    assert len(second["body"]) == body_bytes


@given(st.data())
def test_frames_come_out_the_same_however_they_are_split(data: st.DataObject) -> None:
    peer = WebSocketPeer()
    texts = data.draw(st.lists(st.sampled_from(["{}", "x" * 125, "y" * 126, "z" * 70_000]), max_size=4))
    events: list[Event] = [TextMessage(text) for text in texts] + [Ping(b"12"), Pong(b"")]
    stream = b"".join(map(peer.server.send, events))
    assert fed(peer.framing, stream, data) == [*map(str.encode, texts), PING + b"12"]


@given(st.data())
def test_lines_come_out_the_same_however_they_are_split(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)))
    stream = b"".join(line + b"\n" for line in lines)
    assert fed(LineFraming(), stream, data) == lines


def fed(framing: Framing, stream: bytes, data: st.DataObject) -> list[bytes]:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5).map(sorted))
    parts = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    return [frame for part in parts for frame in framing.feed(part)]


def test_a_fragmented_message_is_put_together() -> None:
    peer = WebSocketPeer()
    fragments = [TextMessage('{"a"', message_finished=False), Ping(), TextMessage(":1}")]
    stream = b"".join(map(peer.server.send, fragments))
    assert peer.framing.feed(stream) == [PING, b'{"a":1}']


def test_a_pong_carries_the_payload_of_its_ping() -> None:
    peer = WebSocketPeer()
    (ping,) = peer.framing.feed(peer.server.send(Ping(b"abc")))
    assert peer.to_server(peer.framing.pong(ping)) == [Pong(b"abc")]


def test_a_close_frame_ends_the_conversation() -> None:
    peer = WebSocketPeer()
    assert peer.framing.feed(peer.server.send(CloseConnection(1001))) == []
    assert peer.framing.ended == "closed by the server with code 1001"


def test_what_follows_the_servers_answer_at_once_is_not_lost() -> None:
    server = WSConnection(ConnectionType.SERVER)
    framing = WebSocketFraming(upgrade_request(HOST))
    server.receive_data(framing.greeting)
    stream = server.send(AcceptConnection()) + server.send(TextMessage("{}"))
    assert [framing.greet(stream[at : at + 1]) for at in range(20)] == [False] * 20
    assert framing.greet(stream[20:])
    assert framing.feed(b"") == [b"{}"]


def test_a_refused_upgrade_says_what_the_server_said() -> None:
    server = WSConnection(ConnectionType.SERVER)
    framing = WebSocketFraming(upgrade_request(HOST))
    server.receive_data(framing.greeting)
    with pytest.raises(FramingError, match="503"):
        framing.greet(server.send(RejectConnection(status_code=503)))


@pytest.mark.parametrize("kind", ["binary", "masked"])
def test_a_frame_no_server_may_send(kind: str) -> None:
    peer = WebSocketPeer()
    frame = peer.server.send(BytesMessage(b"x")) if kind == "binary" else peer.framing.frame(b"x")
    with pytest.raises(FramingError):
        peer.framing.feed(frame)


def test_source_addresses_spread_what_one_cannot_carry() -> None:
    local = Address("127.0.0.1", 7400)
    assert [source_of(number, local) for number in (0, 4_999, 5_000)] == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
    assert [source_of(5_000 * number, local) for number in (253, 254, 600)] == [
        "127.0.0.254",
        "127.0.1.1",
        "127.0.2.93",
    ]
    assert source_of(0, Address("192.0.2.1", 7400)) is None


# ---- what a conversation detects, against a server that makes one mistake

USERS = ("ann", "ben")
FIFTH = 5
Frames = list[tuple[str, dict[str, Any]]]  # what goes to whom
Mistake = Callable[[int, Frames], Frames]


class Unfaithful(socketserver.StreamRequestHandler):
    """Logs everybody in, answers and delivers; but what ann sends, as the server's `mistake` says.

    It gets the message's number and what should be sent (the reply, then the push), and returns what is sent instead.
    """

    disable_nagle_algorithm = True
    server: "UnfaithfulServer"

    def handle(self) -> None:
        for line in self.rfile:
            request = json.loads(line)
            if request["op"] == "login" and self.server.full_for:
                self.server.full_for -= 1
                bye = {"ev": "bye", "code": "overloaded", "text": "full", "reconnect": True, "after": 0.1}
                self.wfile.write(json.dumps(bye).encode() + b"\n")
                return
            if request["op"] == "login":
                self.user = request["token"]
                self.server.outputs[self.user] = self.wfile
                self.send(self.user, {"re": request["ref"], "ok": {}})
                self.send(self.user, {"ev": "synced", "at": "0-0"})
            elif request["op"] == "send":
                self.deliver(request)

    def deliver(self, request: dict[str, Any]) -> None:
        reply = {"re": request["ref"], "ok": {"id": request["id"], "at": "1-0"}}
        push = {
            "ev": "msg",
            "at": "1-0",
            "prev": "0-0",
            "from": self.user,
            "id": request["id"],
            "body": request["body"],
        }
        frames: Frames = [(self.user, reply), (request["to"], push)]
        if self.user == "ann":
            number = int(request["id"][stamps.NUMBER_AT : stamps.TIME_AT])
            frames = self.server.mistake(number, frames)
            self.server.heard_of_ann = number
        for user, frame in frames:
            self.send(user, frame)

    def send(self, user: str, frame: dict[str, Any]) -> None:
        separators = (", ", ": ") if self.server.spacious else (",", ":")
        with self.server.writing:
            self.server.outputs[user].write(json.dumps(frame, separators=separators).encode() + b"\n")


class UnfaithfulServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, mistake: Mistake, spacious: bool) -> None:
        super().__init__(("127.0.0.1", 0), Unfaithful)
        self.mistake = mistake
        self.spacious = spacious
        self.outputs: dict[str, Any] = {}
        self.writing = threading.Lock()
        self.heard_of_ann = 0  # the number of the last message
        self.full_for = 0  # so many logins


@contextmanager
def serving(server: UnfaithfulServer) -> Iterator[Address]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def talk(target: Address, messages: int, server: UnfaithfulServer) -> Tally:
    """Let ann and ben talk in a window of 3 until so many messages have come, hers well past the mistake; the count."""
    loop, tally = ClientLoop(), Tally()
    crowd = Crowd("tcp", target, tuple(Account(user, "d", user) for user in USERS), 0, 2)
    population = Population(loop, crowd, tally)
    traffic = Traffic(population, Conversation((Pair(0, 0, 1),), window=3, body_bytes=40, ack=True), tally)
    settled: list[bool] = []
    population.connect(lambda: settled.append(True))
    run(loop, traffic, lambda: bool(settled))
    assert tally.logged_in == 2
    traffic.start(None)
    run(loop, traffic, lambda: tally.delivered >= messages and server.heard_of_ann > FIFTH + 3)
    traffic.stop()
    run(loop, traffic, lambda: traffic.outstanding == 0, seconds=0.3)
    traffic.settle()
    population.close()
    return tally


def run(loop: ClientLoop, traffic: Traffic, until: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        loop.step(0.01)
        traffic.pacer.pump()


def lose(frames: Frames) -> Frames:
    return frames[:1]


def double(frames: Frames) -> Frames:
    return [*frames, frames[1]]


def change(frames: Frames) -> Frames:
    return [frames[0], (frames[1][0], frames[1][1] | {"body": "x" + frames[1][1]["body"]})]


def misdeliver(frames: Frames) -> Frames:
    return [frames[0], (frames[0][0], frames[1][1])]


def refuse(frames: Frames) -> Frames:
    return [(frames[0][0], {"re": frames[0][1]["re"], "err": {"code": "overloaded", "text": "later"}})]


def keep_silent(frames: Frames) -> Frames:
    return frames[1:]


def answer_twice(frames: Frames) -> Frames:
    return [frames[0], *frames]


def make_no_mistake(frames: Frames) -> Frames:
    return frames


@pytest.mark.parametrize("spacious", [False, True], ids=["compact", "any JSON"])
@pytest.mark.parametrize(
    ("mistake", "lost", "duplicated", "errors"),
    [
        (make_no_mistake, 0, 0, {}),
        (lose, 1, 0, {}),
        (double, 0, 1, {}),
        (change, 1, 0, {"a message of no conversation here, or changed on its way": 1}),
        (misdeliver, 1, 0, {"a message of no conversation here, or changed on its way": 1}),
        (refuse, 0, 0, {"overloaded: later": 1}),
        (keep_silent, 0, 0, {"sent and never answered": 1}),
        (answer_twice, 0, 0, {"answered twice": 1}),
    ],
)
def test_a_servers_mistake_is_counted(
    mistake: Callable[[Frames], Frames], lost: int, duplicated: int, errors: dict[str, int], spacious: bool
) -> None:
    def once(number: int, frames: Frames) -> Frames:
        return mistake(frames) if number == FIFTH else frames

    server = UnfaithfulServer(once, spacious)
    with serving(server) as target:
        tally = talk(target, messages=50, server=server)
    assert (tally.lost, tally.duplicated, tally.reordered, dict(tally.errors)) == (lost, duplicated, 0, errors)


def test_a_message_overtaken_by_the_next_one_is_counted_as_reordered() -> None:
    held: Frames = []

    def delay(number: int, frames: Frames) -> Frames:
        if number == FIFTH:
            held.append(frames.pop())
        elif number == FIFTH + 1:
            frames.append(held.pop())
        return frames

    server = UnfaithfulServer(delay, spacious=False)
    with serving(server) as target:
        tally = talk(target, messages=50, server=server)
    assert (tally.lost, tally.duplicated, tally.reordered, dict(tally.errors)) == (0, 0, 1, {})


@pytest.mark.parametrize(
    ("last_words", "error"),
    [
        ({"ev": "bye", "code": "slow", "text": "too slow", "reconnect": True}, "bye slow: too slow"),
        ({"ev": "error", "code": "bad-frame", "text": "no"}, "bad-frame: no"),
    ],
)
def test_what_the_server_says_outside_a_conversation_is_counted(last_words: dict[str, Any], error: str) -> None:
    def say(number: int, frames: Frames) -> Frames:
        return [*frames, (frames[0][0], last_words)] if number == FIFTH else frames

    server = UnfaithfulServer(say, spacious=False)
    with serving(server) as target:
        tally = talk(target, messages=10, server=server)
    assert tally.errors[error] == 1
    assert tally.lost == 0


def test_who_is_told_to_come_back_later_does() -> None:
    server = UnfaithfulServer(lambda number, frames: frames, spacious=False)
    server.full_for = 3
    with serving(server) as target:
        tally = talk(target, messages=20, server=server)
    assert (tally.logged_in, tally.turned_away, dict(tally.errors)) == (2, 3, {})


# ---- the real thing, for a few seconds


ALWAYS = {
    "deliveries_per_s",
    "server_cpu_s",
    "redis_cpu_s",
    "deliveries_per_server_cpu_s",
    "deliveries_per_total_cpu_s",
    "latency_ms",
    "bytes_per_session",
    "redis_bytes_per_session",
    "lost",
    "duplicated",
    "reordered",
    "errors",
    "floor",
    "ratios",
}
SHORT = ("--seconds", "1", "--floor-seconds", "0.3", "--sessions", "30")


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_chat(transport: str) -> None:
    report = imswarm(
        "chat", *SHORT, "--transport", transport, "--pairs", "10", "--warm-up-seconds", "0.2", "--latency-at", "0.25"
    )
    assert report.keys() >= ALWAYS
    assert [report[name] for name in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0], report
    assert report["deliveries"] > 0
    assert report["latency_ms"].keys() == {"p50", "p90", "p99", "max"}
    assert report["at_share"]["deliveries"] > 0
    assert 0 < report["ratios"]["deliveries_per_total_cpu_s"] < report["ratios"]["deliveries_per_server_cpu_s"]


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_idle(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMSERVER_PING_SECONDS", "2")
    monkeypatch.setenv("IMSERVER_LOGIN_TIMEOUT_SECONDS", "1")
    report = imswarm("idle", *SHORT, "--transport", transport, "--processes", "2", "--seconds", "4")
    assert report.keys() >= ALWAYS
    assert report["errors"] == 0, report
    assert report["keepalives"] >= 30


def test_idle_sessions_among_which_a_few_talk() -> None:
    report = imswarm("idle", *SHORT, "--rate", "50", "--pairs", "5", "--workers", "2", "--no-floor")
    assert [report[kind] for kind in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0]
    assert report["deliveries_per_s"] > 20
    assert report.keys() >= {"kernel_bytes_per_session", "load_bytes_per_session", "turned_away"}


def test_login() -> None:
    report = imswarm("login", "--sessions", "30", "--rounds", "2")
    assert (report["logins"], report["errors"], len(report["rounds"])) == (60, 0, 2)


def test_login_of_members_of_groups() -> None:
    report = imswarm("login", "--sessions", "5", "--groups", "3")
    assert (report["logins"], report["groups"], report["errors"]) == (10, 3, 0)


def test_floor() -> None:
    report = imswarm("floor", "--seconds", "0.3", "--sessions", "20", "--active", "10")
    assert report["echoes_per_cpu_s"] > 0
    assert report["language"] in {"C", "Python"}


def test_the_floor_without_a_compiler() -> None:
    program = Program("Python", (sys.executable, "-m", "imswarm.floor_echo"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        result = measure_floor(program, connections=20, active=10, seconds=0.3, cores=Cores())
    assert (result.language, result.connections, result.active) == ("Python", 20, 10)
    assert result.echoes_per_cpu_s > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["chat", "--sessions", "10", "--pairs", "6"], "--sessions 10 is too few for --pairs 6"),
        (["chat", "--tcp", "here"], "'here' is not HOST:PORT"),
        (["chat", "--tcp", "127.0.0.1:7400"], "need --redis"),
        (["idle", "--data", "."], "it has no run.json"),
        (["idle", "--sessions", "200000", "--processes", "1"], "--processes 1 cannot hold --sessions 200000"),
        (["idle", "--sessions", "1000000000"], "--sessions 1000000000"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, [*arguments])
    assert result.exit_code == 2
    assert complaint in result.output
