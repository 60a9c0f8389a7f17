"""Centrifugo as it is measured: one process, its engine in memory, JSON over WebSocket, tokens.

It is no messenger: it has channels, and no accounts, logs or devices. Each user here has a channel of its own, to which
its token subscribes it; a message to a user is published into that. The sender is told when it has been.

Its archive is the history of each channel, from which a client that was away recovers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import urllib.request
from pathlib import Path

import msgspec

from imswarm.client_process import Dialect
from imswarm.connection import Address
from imswarm.peers.launch import DEVICE, Launch, Peer, find_program, output_of
from imswarm.population import Account, Crowd, Session
from imswarm.stamps import STAMP_BYTES, framed_template
from imswarm.traffic import Talker
from imswarm.ws import WebSocketFraming, upgrade_request

_MODULE = "github.com/centrifugal/centrifugo/v6@v6.9.1"
_SECRET = "correct horse"
_BOX = "box:"
_HISTORY = {"history_size": 100, "history_ttl": "600s", "force_recovery": True}
_PING = b"{}"


# ---- the server


def _configure(directory: Path, port: int, archive: bool) -> Launch:
    box = {"name": _BOX[:-1], "allow_publish_for_client": True, **(_HISTORY if archive else {})}
    configuration = directory / "config.json"
    configuration.write_text(
        json.dumps(
            {
                "http_server": {"address": "127.0.0.1", "port": str(port)},
                "client": {"token": {"hmac_secret_key": _SECRET}},
                "channel": {"namespaces": [box]},
                "health": {"enabled": True},
                "log": {"level": "error"},
            }
        )
    )
    return Launch((find_program("centrifugo") or "centrifugo", "-c", str(configuration)))


def _version() -> str:
    """What Go has built; the program itself knows its version only where the makers have built it."""
    program = find_program("centrifugo") or "centrifugo"
    lines = (line.split() for line in output_of(find_program("go") or "go", "version", "-m", program).splitlines())
    return next((line[2] for line in lines if line[:1] == ["mod"]), output_of(program, "version").strip())


def _is_ready(address: Address) -> bool:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with directly.open(f"http://{address}/health", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _accounts(address: Address, prefix: str, count: int) -> list[Account]:
    """It knows nobody: whoever has a token is let in."""
    return [Account(user, DEVICE, _token(user)) for user in (f"{prefix}{number}" for number in range(count))]


def _token(user: str) -> str:
    """RFC 7519, signed by HMAC-SHA-256."""
    claims = {"sub": user, "subs": {_BOX + user: {}}}
    signed = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return b".".join((signed, _base64(hmac.digest(_SECRET.encode(), signed, hashlib.sha256)))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


# ---- its clients


class LinesFraming(WebSocketFraming):
    """Several replies may come in one WebSocket message, a line each."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        return [line for message in super().feed(data) for line in message.split(b"\n") if line]


class CentrifugoSession(Session):
    """One user's session."""

    __slots__ = ()

    @staticmethod
    def framing(crowd: Crowd) -> LinesFraming:
        return LinesFraming(upgrade_request(str(crowd.target), "/connection/websocket", subprotocol=""))

    def template(self, prefix: bytes, to: str, body_bytes: int) -> bytes:
        """The same data as imserver's, with its stamp twice."""
        stamp = prefix + b"%010d%019d"
        padding = b"." * (body_bytes - STAMP_BYTES)
        request = b'{"id":%%d,"publish":{"channel":"%b","data":{"id":"%b","body":"%b%b"}}}'
        return framed_template(request % ((_BOX + to).encode(), stamp, stamp, padding), self.connection.framed)

    def on_open(self) -> None:
        self.connection.send_frame(msgspec.json.encode({"id": 1, "connect": {"token": self.account.token}}))

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        answer = msgspec.json.decode(frame)
        if "connect" in answer:
            self.enter(now_ns)
        else:
            self.end(f"login refused: {frame.decode(errors='replace')}")

    def on_event(self, frame: bytes, now_ns: int) -> None:
        if frame == _PING:
            self._population.tally.keepalives += 1
            self.connection.send_frame(_PING)
        elif b'"error"' in frame or b'"disconnect"' in frame:
            self._population.tally.errors[frame.decode(errors="replace")] += 1


class CentrifugoTalker(Talker):
    """Looks at fixed places, as for imserver: a reply begins with its id, a publication has its data as they were."""

    _PUSH, _DATA, _REPLY, _PUBLISHED = b'{"push":', b'"data":{"id":"', b'{"id":', b',"publish":{}}'

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        if frame.startswith(self._PUSH):
            at = frame.find(self._DATA) + len(self._DATA)
            if self._take_message(frame[at : at + STAMP_BYTES], now_ns):
                return
        elif frame.startswith(self._REPLY) and frame.endswith(self._PUBLISHED):
            self._take_ok(int(frame[len(self._REPLY) : -len(self._PUBLISHED)]))
            return
        self._session.on_event(frame, now_ns)


CENTRIFUGO = Peer(
    name="centrifugo",
    program="centrifugo",
    brought_by=f"Go: go install {_MODULE}",
    version=_version,
    configure=_configure,
    is_ready=_is_ready,
    accounts=_accounts,
    dialect=Dialect(CentrifugoSession, CentrifugoTalker),
    keeps="nowhere: whoever is not connected misses it",
    archives="in memory: the last 100 of each channel, for ten minutes",
)
