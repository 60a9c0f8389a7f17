"""`imswarm peers`: a client's side of XMPP, byte by byte; how rounds are compared; a run against a real peer."""

import base64
import hmac
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection as WebSocket
from wsproto.connection import ConnectionType
from wsproto.events import TextMessage

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.client_loop import ClientLoop
from imswarm.connection import Address
from imswarm.deployment import DeploymentError
from imswarm.framing import FramingError
from imswarm.peers.centrifugo import CENTRIFUGO, LinesFraming
from imswarm.peers.comparison import compared
from imswarm.peers.ejabberd import EJABBERD
from imswarm.peers.launch import Launch, Peer, launched, of_debian
from imswarm.peers.prosody import PROSODY
from imswarm.peers.round import Figures
from imswarm.peers.sessions import XMPP
from imswarm.peers.xmpp import Login, LoginRefused, StanzaFraming, message_template, open_stream, register_request
from imswarm.population import Account, Crowd, Population
from imswarm.stamps import FIRST_REF, STAMP_BYTES, flow_prefix
from imswarm.stats import Tally
from imswarm.traffic import Conversation, Pair, Traffic

from tests.swarm import imswarm
from tests.xmpp_server import (
    BIND,
    BOUND,
    HEADER,
    MECHANISMS,
    PRESENCE,
    ROSTER,
    SUCCESS,
    Mistake,
    XmppServer,
    serving,
)

MESSAGE = (
    b"<message from='bob@localhost/pad' type='chat'>"
    b"<body>1 &lt; 2 /> <em/> \xc3\xa4</body><x a='>' b=\"/>\"/></message>"
)
EMPTY = b"<presence status='a > b /&gt;'/>"


# ---- framing


@given(st.data())
def test_stanzas_come_out_the_same_however_they_are_split(data: st.DataObject) -> None:
    first = [MECHANISMS, SUCCESS]
    second = [BIND, BOUND, EMPTY, EMPTY, MESSAGE, ROSTER, MESSAGE]
    stream = HEADER + b"".join(first) + HEADER + b" \n".join(second) + b"<message>not all of it"
    framing, stanzas = StanzaFraming(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        stanzas += framing.feed(stream[:size])
        stream = stream[size:]
    assert [stanza.strip() for stanza in stanzas] == first + second
    assert not framing.ended


def test_a_stanza_is_there_with_its_last_byte() -> None:
    framing = StanzaFraming()
    framing.feed(HEADER)
    for stanza in (MESSAGE, EMPTY, ROSTER):
        assert framing.feed(stanza[:-1]) == []
        assert framing.feed(stanza[-1:]) == [stanza]


def test_what_comes_before_a_stanza_is_no_part_of_it() -> None:
    framing = StanzaFraming()
    assert framing.feed(HEADER + b"\n  " + PRESENCE) == [PRESENCE]


def test_the_end_of_the_stream_is_noticed() -> None:
    framing = StanzaFraming()
    assert framing.feed(HEADER + PRESENCE + b"</stream:stream>") == [PRESENCE]
    assert framing.ended == "the server ended the stream"


def test_what_is_no_xml_is_said() -> None:
    framing = StanzaFraming()
    framing.feed(HEADER)
    with pytest.raises(FramingError, match="no XML"):
        framing.feed(b"<message></presence>")


# ---- logging in


def test_a_login() -> None:
    login = Login("alice", "correct horse", "pad")
    # printf '\0alice\0correct horse' | base64
    assert login.take(MECHANISMS) == (
        b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGFsaWNlAGNvcnJlY3QgaG9yc2U=</auth>"
    )
    assert login.take(SUCCESS) == open_stream()
    assert b"<resource>pad</resource>" in login.take(BIND)
    sent = login.take(BOUND)
    assert sent.startswith(b"<presence/>")
    assert b"jabber:iq:roster" in sent
    assert login.take(PRESENCE) == b""
    assert not login.done
    assert login.take(ROSTER) == b""
    assert login.done


@pytest.mark.parametrize(
    ("before", "refusal"),
    [
        ([], MECHANISMS.replace(b"PLAIN", b"SCRAM-SHA-256")),
        ([], b"<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"),
        ([MECHANISMS], b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"),
        ([MECHANISMS, SUCCESS, BIND], b'<iq id="bind" type="error"><error type="cancel"><conflict/></error></iq>'),
    ],
)
def test_a_login_that_is_refused(before: list[bytes], refusal: bytes) -> None:
    login = Login("alice", "wrong", "pad")
    for stanza in before:
        login.take(stanza)
    with pytest.raises(LoginRefused) as raised:
        login.take(refusal)
    assert refusal.decode() in str(raised.value)


# ---- what is sent


@given(st.integers(STAMP_BYTES, 300), st.integers(0, 9_999_999_999))
def test_a_completed_message_is_the_one_it_stands_for(body_bytes: int, number: int) -> None:
    template = message_template(flow_prefix(7, 1), "bob", body_bytes)
    message = ET.fromstring(template % (FIRST_REF + number, number, 123, number, 123))
    assert (message.tag, message.get("to"), message.get("type")) == ("message", "bob@localhost", "chat")
    stamp = f"{7:06d}1{number:010d}{123:019d}"
    assert message.get("id") == f"{FIRST_REF + number}-{stamp}"
    body = message.findtext("body", "")
    assert body.startswith(stamp)
    assert len(body) == body_bytes


def test_a_registration() -> None:
    request = ET.fromstring(register_request("alice", "correct horse"))
    fields = {field.tag: field.text for field in request[0]}
    assert fields == {f"{{jabber:iq:register}}{name}": text for name, text in ACCOUNT.items()}


ACCOUNT = {"username": "alice", "password": "correct horse"}


# ---- what a conversation detects, against a server that makes one mistake with what ann sends

FIFTH = 5


def talk(mistake: Mistake) -> Tally:
    """Let ann and ben talk until 40 messages have come, or none comes any more; the count."""
    loop, tally = ClientLoop(), Tally()
    with serving(XmppServer(mistake)) as port:
        accounts = tuple(Account(user, "pad", "secret") for user in ("ann", "ben"))
        crowd = Crowd("tcp", Address("127.0.0.1", port), accounts, 0, 1)
        population = Population(loop, crowd, tally, XMPP.session)
        conversation = Conversation((Pair(0, 0, 1),), window=3, body_bytes=40, ack=False)
        traffic = Traffic(population, conversation, tally, XMPP.talker)
        settled: list[bool] = []
        population.connect(lambda: settled.append(True))
        run(loop, traffic, lambda: bool(settled))
        traffic.start(None)
        run(loop, traffic, lambda: tally.delivered >= 40)
        traffic.stop()
        run(loop, traffic, lambda: traffic.outstanding == 0, seconds=0.3)
        traffic.settle()
        population.close()
    assert tally.logged_in == 2
    assert tally.delivered >= 40
    return tally


def run(loop: ClientLoop, traffic: Traffic, until: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        loop.step(0.01)
        traffic.pacer.pump()


def test_a_server_that_makes_no_mistake() -> None:
    tally = talk(lambda number, message: [message])
    assert (tally.duplicated, tally.reordered, tally.errors) == (0, 0, Counter())


def test_a_message_that_never_comes_is_an_error() -> None:
    tally = talk(lambda number, message: [message] if number != FIFTH else [])
    assert tally.errors == {"sent and never answered": 1}


def test_a_message_that_comes_twice() -> None:
    tally = talk(lambda number, message: [message] * (2 if number == FIFTH else 1))
    assert (tally.duplicated, tally.errors) == (1, Counter())


def test_a_refused_message_is_told() -> None:
    refusal = b"<message type='error' from='ben@localhost'><error type='cancel'/></message>"
    tally = talk(lambda number, message: [message] if number != FIFTH else [message, refusal])
    assert tally.errors == {refusal.decode(): 1}


# ---- comparing


def figures(messages_per_cpu_s: float | None) -> Figures:
    return Figures(messages_per_cpu_s, 0.0, 1000.0, 1.0, None, 1.0, 1.0, 0, 0, 0, Counter())


def test_ratios_are_taken_within_a_round() -> None:
    ours = [figures(1000.0), figures(2000.0), figures(600.0)]
    theirs = [figures(500.0), figures(500.0), figures(200.0)]
    assert compared(ours, theirs)["messages_per_cpu_s"] == {"median": 3.0, "min": 2.0, "max": 4.0}


def test_what_was_not_measured_is_not_compared() -> None:
    assert compared([figures(1000.0)], [figures(None)])["messages_per_cpu_s"] is None


# ---- peers


def test_a_missing_peer_is_named_with_its_package() -> None:
    absent = replace(PROSODY, name="absent", program="no-such-server", brought_by=of_debian("some-package"))
    with (
        pytest.raises(DeploymentError, match=r"absent is missing.*apt-get install some-package"),
        launched(absent, False, None),
    ):
        pass


def test_a_peer_that_ends_at_once_tells_why() -> None:
    broken = replace(PROSODY, program="sh", configure=_broken)
    with pytest.raises(DeploymentError, match=r"status 3:\nno such option"), launched(broken, False, None):
        pass


def _broken(directory: Path, port: int, archive: bool) -> Launch:
    return Launch(("sh", "-c", "echo no such option >&2; exit 3"))


@pytest.mark.parametrize("peer", [PROSODY, EJABBERD, CENTRIFUGO], ids=lambda peer: peer.name)
def test_a_peer_listens_on_loopback_only(peer: Peer, tmp_path: Path) -> None:
    (configuration := tmp_path / "peer").mkdir()
    peer.configure(configuration, 4711, True)
    text = "".join(path.read_text() for path in configuration.iterdir() if path.is_file())
    assert "4711" in text
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text


def test_a_token_of_centrifugo_is_signed_and_subscribes_its_user() -> None:
    (account,) = CENTRIFUGO.accounts(Address("127.0.0.1", 1), "user", 1)
    signed, _, signature = account.token.rpartition(".")
    header, claims = (msgspec.json.decode(_unpadded(part)) for part in signed.split("."))
    assert (account.user, claims) == ("user0", {"sub": "user0", "subs": {"box:user0": {}}})
    assert header["alg"] == "HS256"
    assert _unpadded(signature) == hmac.digest(b"correct horse", signed.encode(), "sha256")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(st.lists(st.lists(st.sampled_from([b'{"id":1,"publish":{}}', b"{}", b'{"push":{}}']), min_size=1)), st.data())
def test_several_replies_of_centrifugo_come_in_one_message(messages: list[list[bytes]], data: st.DataObject) -> None:
    server = WebSocket(ConnectionType.SERVER)
    stream = b"".join(server.send(TextMessage(data=b"\n".join(lines).decode())) for lines in messages)
    framing, replies = LinesFraming(b""), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        replies += framing.feed(stream[:size])
        stream = stream[size:]
    assert replies == [line for lines in messages for line in lines]


SCENE = ("--sessions", "20", "--pairs", "5", "--seconds", "1", "--warm-up-seconds", "0.2", "--rounds", "1")


def test_centrifugo_beside_imserver(require: Callable[[str], Path]) -> None:
    require("redis-server")
    if CENTRIFUGO.missing:
        pytest.skip(CENTRIFUGO.missing)
    report = imswarm("peers", "--peers", "centrifugo", *SCENE, "--rate", "50", "--no-pin")
    assert list(report["contenders"]) == ["imserver", "centrifugo", "centrifugo+archive"]
    assert [report[kind] for kind in ("lost", "duplicated", "reordered", "errors")] == [0, 0, 0, 0]
    assert report["contenders"]["centrifugo"]["messages_per_s"]["median"] > 0


def test_prosody_beside_imserver(require: Callable[[str], Path]) -> None:
    require("redis-server")
    require("prosody")
    report = imswarm("peers", "--peers", "prosody", *SCENE, "--rate", "50", "--no-pin")
    assert list(report["contenders"]) == ["imserver", "prosody", "prosody+archive"]
    assert report["errors"] == 0
    for contender in report["contenders"].values():  # CPU time comes in steps too coarse for so short a run
        assert contender["messages_per_s"]["median"] > 0
        assert len(contender["rounds"]) == 1
