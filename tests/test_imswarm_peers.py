"""`imswarm peers`: a client's side of XMPP, byte by byte; how rounds are compared; a run against a real peer."""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux: epoll and /proc", allow_module_level=True)

from imswarm.deployment import DeploymentError
from imswarm.framing import FramingError
from imswarm.peers.comparison import compared
from imswarm.peers.ejabberd import EJABBERD
from imswarm.peers.launch import Launch, Peer, launched
from imswarm.peers.prosody import PROSODY
from imswarm.peers.round import Figures
from imswarm.peers.xmpp import Login, LoginRefused, StanzaFraming, message_template, open_stream, register_request
from imswarm.stamps import FIRST_REF, STAMP_BYTES, flow_prefix

from tests.swarm import imswarm

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client'"
    b" from='localhost' id='1' version='1.0'>"
)
MECHANISMS = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
    b"<mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
BIND = b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>"
BOUND = (
    b"<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>alice@localhost/pad</jid></bind></iq>"
)
PRESENCE = b"<presence from='alice@localhost/pad' to='alice@localhost/pad'/>"
ROSTER = b"<iq type='result' id='roster'><query xmlns='jabber:iq:roster'/></iq>"
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
    absent = Peer("absent", "no-such-server", "some-package", _never, "", "")
    with (
        pytest.raises(DeploymentError, match=r"absent is missing.*apt-get install some-package"),
        launched(absent, False, None),
    ):
        pass


def _never(directory: Path, port: int, archive: bool) -> Launch:
    raise AssertionError("a peer that is missing is not configured")


def test_a_peer_that_ends_at_once_tells_why() -> None:
    broken = Peer("broken", "sh", "dash", _broken, "", "")
    with pytest.raises(DeploymentError, match=r"status 3:\nno such option"), launched(broken, False, None):
        pass


def _broken(directory: Path, port: int, archive: bool) -> Launch:
    return Launch(("sh", "-c", "echo no such option >&2; exit 3"))


@pytest.mark.parametrize("peer", [PROSODY, EJABBERD], ids=lambda peer: peer.name)
def test_a_peer_listens_on_loopback_only(peer: Peer, tmp_path: Path) -> None:
    (configuration := tmp_path / "peer").mkdir()
    peer.configure(configuration, 4711, True)
    text = "".join(path.read_text() for path in configuration.iterdir() if path.is_file())
    assert "4711" in text
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text


def test_prosody_beside_imserver(require: Callable[[str], Path]) -> None:
    require("redis-server")
    require("prosody")
    scene = ("--sessions", "20", "--pairs", "5", "--seconds", "0.5", "--warm-up-seconds", "0.2", "--rounds", "1")
    report = imswarm("peers", "--peers", "prosody", *scene, "--rate", "50", "--no-pin")
    assert list(report["contenders"]) == ["imserver", "prosody", "prosody+archive"]
    for contender in report["contenders"].values():
        _check_measured(contender)
    assert report["errors"] == 0


def _check_measured(contender: dict[str, Any]) -> None:
    for name in ("messages_per_cpu_s", "logins_per_cpu_s", "latency_p50_ms", "latency_p99_ms"):
        assert contender[name]["median"] > 0
    assert contender["error_kinds"] == {}
