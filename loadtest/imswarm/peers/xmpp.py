"""A client's side of XMPP (RFC 6120, 6121) as bytes in and bytes out.

Written for little CPU: expat finds where a stanza ends, and what is expected in it is looked for
in its bytes. Only what a login and a plain message need is spoken: SASL PLAIN, bind, presence,
roster, message; no TLS, no compression, no stream management.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from xml.parsers import expat

from imswarm.framing import FramingError
from imswarm.stamps import STAMP_BYTES

DOMAIN = "localhost"
SUCCESS = b"<success"

_REFUSAL = re.compile(rb"""^<(?:failure|stream:error)|^<[^>]* type=['"]error['"]""")
_OPEN = (
    f"<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client'"
    " xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()


class StanzaFraming:
    """See `imswarm.framing.Framing`: a frame is one stanza, as it came.

    The header of a stream is no frame. A stream that ends in `success` is followed by a new one
    (RFC 6120 6.4.6), whose document begins anew.
    """

    __slots__ = ("_base", "_depth", "_end", "_parser", "_partial", "_spans", "_start", "ended")

    greeting = b""

    def __init__(self) -> None:
        self.ended = ""
        self._partial = b""
        self._begin_document()

    def greet(self, data: bytes) -> bool:
        """There is nothing to wait for: the client speaks first."""
        self._partial = data
        return True

    def feed(self, data: bytes) -> list[bytes]:
        stanzas: list[bytes] = []
        while data:
            data = self._feed_document(data, stanzas)
        return stanzas

    def frame(self, payload: bytes) -> bytes:
        return payload

    def pong(self, frame: bytes) -> bytes:
        """A space is enough of a sign of life (RFC 6120 4.6.1)."""
        return b" "

    def _begin_document(self) -> None:
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._on_start
        parser.EndElementHandler = self._on_end
        if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6: a stanza that is complete must not wait
            parser.SetReparseDeferralEnabled(False)
        self._base = 0  # where `_partial` begins in the document
        self._depth = 0
        self._start = 0  # of the stanza that is open, in the document
        self._spans: list[tuple[int, int, str]] = []  # of complete stanzas: begin, last event, name

    def _feed_document(self, data: bytes, stanzas: list[bytes]) -> bytes:
        """Add what is complete in this document; returns what belongs to the next one."""
        held = self._partial + data
        try:
            self._parser.Parse(data)
        except expat.ExpatError as error:
            if not self._ends_in_success(held):
                raise FramingError(f"no XML: {error}") from None
        return self._cut(held, stanzas)

    def _cut(self, held: bytes, stanzas: list[bytes]) -> bytes:
        base, end = self._base, 0
        spans, self._spans = self._spans, []
        for start, last_event, name in spans:
            end = _end_of_stanza(held, last_event - base, name)
            stanza = held[start - base : end]
            stanzas.append(stanza)
            if stanza.startswith(SUCCESS):
                self._partial = b""
                self._begin_document()
                return held[end:]
        self._partial = held[end:]
        self._base = base + end
        return b""

    def _ends_in_success(self, held: bytes) -> bool:
        """A second document in the same bytes is no error of the first."""
        return bool(self._spans) and held.startswith(SUCCESS, self._spans[-1][0] - self._base)

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        if self._depth == 1:
            self._start = self._parser.CurrentByteIndex
        self._depth += 1

    def _on_end(self, name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._spans.append((self._start, self._parser.CurrentByteIndex, name))
        elif not self._depth:
            self.ended = "the server ended the stream"


def _end_of_stanza(data: bytes, last_event: int, name: str) -> int:
    """What expat names is where an end tag begins, but of `<name/>` where it ends."""
    end_tag = b"</" + name.encode()
    return data.index(b">", last_event) + 1 if data.startswith(end_tag, last_event) else last_event


class LoginRefused(Exception):
    """The server did not let the client in; the text is its answer."""


class Login:
    """From an open connection to a session that can be written to.

    Each step is the server's stanza in, the client's bytes out; `open_stream` goes before. `done`
    once the roster has come, which the server sends behind what the presence before it asked for.
    """

    __slots__ = ("_password", "_resource", "_step", "_user", "done")

    def __init__(self, user: str, password: str, resource: str) -> None:
        self._user = user
        self._password = password
        self._resource = resource
        self._step: Callable[[bytes], bytes] = self._authenticate
        self.done = False

    def take(self, stanza: bytes) -> bytes:
        """What to send now, maybe nothing. Raises LoginRefused."""
        if _REFUSAL.search(stanza):
            raise LoginRefused(stanza.decode(errors="replace"))
        return self._step(stanza)

    def _authenticate(self, features: bytes) -> bytes:
        if b">PLAIN<" not in features:
            raise LoginRefused(f"PLAIN is not offered: {features.decode(errors='replace')}")
        secret = base64.b64encode(f"\0{self._user}\0{self._password}".encode())
        self._step = self._restart
        return b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%b</auth>" % secret

    def _restart(self, success: bytes) -> bytes:
        self._step = self._bind
        return _OPEN

    def _bind(self, features: bytes) -> bytes:
        self._step = self._appear
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{}</resource></bind>"
        return f"<iq type='set' id='bind'>{bind.format(self._resource)}</iq>".encode()

    def _appear(self, bound: bytes) -> bytes:
        """RFC 6121 made the session request a formality that no server asks for any more."""
        self._step = self._finish
        return b"<presence/><iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>"

    def _finish(self, stanza: bytes) -> bytes:
        """The echo of one's presence may come before the roster."""
        self.done = b"jabber:iq:roster" in stanza
        return b""


def open_stream() -> bytes:
    """What the client says first, and again once SASL has succeeded."""
    return _OPEN


def register_request(user: str, password: str) -> bytes:
    """In-band registration (XEP-0077), before a login."""
    fields = f"<username>{user}</username><password>{password}</password>"
    return f"<iq type='set' id='{user}'><query xmlns='jabber:iq:register'>{fields}</query></iq>".encode()


def message_template(prefix: bytes, to: str, body_bytes: int) -> bytes:
    """A chat message to all devices of `to`, to be completed like `stamps.send_template`.

    It carries the same digits, so that as many bytes as imserver's identify it.
    """
    stamp = prefix + b"%010d%019d"
    padding = b"." * (body_bytes - STAMP_BYTES)
    head = f"<message to='{to}@{DOMAIN}' type='chat' id='%d-".encode()
    return head + stamp + b"'><body>" + stamp + padding + b"</body></message>"
