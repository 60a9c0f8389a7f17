"""The swarm's sessions and talkers where they differ: XMPP, and imserver's login by password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from imswarm.client_process import Dialect
from imswarm.peers.xmpp import Login, LoginRefused, StanzaFraming, message_template, open_stream
from imswarm.population import Crowd, Session
from imswarm.stamps import NUMBER_AT, STAMP_BYTES, TIME_AT
from imswarm.traffic import Talker

if TYPE_CHECKING:
    from imswarm.population import Population

_MESSAGE, _BODY = b"<message ", b"<body>"


class XmppSession(Session):
    """One account's session with an XMPP server."""

    __slots__ = ("_login",)

    def __init__(self, population: Population, number: int) -> None:
        super().__init__(population, number)
        self._login = Login(self.account.user, self.account.token, self.account.device)

    @staticmethod
    def framing(crowd: Crowd) -> StanzaFraming:
        return StanzaFraming()

    def template(self, prefix: bytes, to: str, body_bytes: int) -> bytes:
        return message_template(prefix, to, body_bytes)

    def on_open(self) -> None:
        self.connection.send(open_stream())

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        try:
            answer = self._login.take(frame)
        except LoginRefused as refusal:
            self.end(f"login refused: {refusal}")
            return
        if answer:
            self.connection.send(answer)
        if self._login.done:
            self.enter(now_ns)

    def on_event(self, frame: bytes, now_ns: int) -> None:
        """Presence and the like means nothing here; an error is told as it came."""
        if b"error" in frame:
            self._population.tally.errors[frame.decode(errors="replace")] += 1


class XmppTalker(Talker):
    """XMPP does not tell the sender anything: a message is taken for answered when it has come."""

    def on_frame(self, frame: bytes, now_ns: int) -> None:
        at = frame.find(_BODY) + len(_BODY)
        if not (frame.startswith(_MESSAGE) and self._take_message(frame[at : at + STAMP_BYTES], now_ns)):
            self._session.on_event(frame, now_ns)

    def _take_message(self, stamp: bytes, now_ns: int) -> bool:
        taken = super()._take_message(stamp, now_ns)
        if taken:
            self._inbound.ledger.answer(int(stamp[NUMBER_AT:TIME_AT]))
        return taken


class PasswordSession(Session):
    """imserver's login by password, which is what the account's `token` is here."""

    __slots__ = ()

    def on_open(self) -> None:
        account = self.account
        login = {"op": "login", "ref": 1, "user": account.user, "password": account.token, "device": account.device}
        self.connection.send_frame(msgspec.json.encode(login))


XMPP = Dialect(XmppSession, XmppTalker)
BY_PASSWORD = Dialect(PasswordSession)
