"""An XMPP server of two users that makes one mistake with what ann sends; what it says is written out here."""

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    b"<jid>ann@localhost/pad</jid></bind></iq>"
)
PRESENCE = b"<presence from='ann@localhost/pad' to='ann@localhost/pad'/>"
ROSTER = b"<iq type='result' id='roster'><query xmlns='jabber:iq:roster'/></iq>"

_LOGIN = (HEADER + MECHANISMS, SUCCESS, HEADER + BIND, BOUND, PRESENCE + ROSTER)
"""The answers to what a client says until it is in, one for each time."""

_MESSAGE = re.compile(rb"<message to='(\w+)@localhost'.*?</message>")

Mistake = Callable[[int, bytes], list[bytes]]
"""The number of a message of ann's and the message; what is delivered instead."""


class _Session(socketserver.BaseRequestHandler):
    server: "XmppServer"

    def handle(self) -> None:
        """The first to come is ann."""
        user = b"ann" if not self.server.outputs else b"ben"
        self.server.outputs[user] = self.request
        for answer in _LOGIN:
            self.request.recv(65536)
            self.request.sendall(answer)
        kept, number = b"", 0
        while data := self.request.recv(65536):
            kept += data
            while message := _MESSAGE.search(kept):
                kept = kept[message.end() :]
                sent = self.server.mistake(number, message[0]) if user == b"ann" else [message[0]]
                self.server.outputs[message[1]].sendall(b"".join(sent))
                number += 1


class XmppServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mistake = mistake
        self.outputs: dict[bytes, Any] = {}


@contextmanager
def serving(server: XmppServer) -> Iterator[int]:
    """Its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
