"""A client and the model server, joined by nothing but frames."""

from collections import deque

from imclient.core import Replica
from imclient.errors import ConnectionLost
from imclient.events import Event, Message, Reconnect, SendFailed, Sent, Truncated
from imclient.outbox import Outbox
from imclient.reader import Reader
from imclient.stages import Identity

from imserver.model import DeviceId, UserId
from tests.client.model_server import ModelServer, ModelSession


class Device:
    """One device of a user: the replica, its connection if any, and everything it was told."""

    def __init__(self, server: ModelServer, user: str, name: str, *, inbox_bytes: int = 1 << 20) -> None:
        identity = Identity(user=UserId(user), device=DeviceId(name), password="secret")
        self.server = server
        self.outbox = Outbox(f"{name}run")
        self.replica = Replica(identity, Reader({}, inbox_bytes), self.outbox, lambda: 0.5)
        self.session: ModelSession | None = None
        self.up: deque[bytes] = deque()
        self.events: list[Event] = []
        self.now = 0.0

    # -- the connection

    def connect(self) -> None:
        self.session = self.server.connect()
        self.replica.connected(self.now)

    def cut(self) -> None:
        """The connection breaks; what was on its way is lost."""
        if self.session is not None:
            self.session.close()
            self.session = None
            self.up.clear()
            self.events += self.replica.disconnected(ConnectionLost("the wire was cut"))

    def to_server(self, most: int = 1000) -> None:
        """Up to `most` frames arrive at the server."""
        self.up += self.replica.take_frames(self.now)
        while self.session is not None and self.up and most > 0:
            self.session.receive(self.up.popleft())
            most -= 1

    def from_server(self, most: int = 1000) -> None:
        """Up to `most` frames arrive at the client, which does as it is told by them."""
        while self.session is not None and self.session.out and most > 0:
            most -= 1
            self.told(self.replica.receive(self.session.out.popleft(), self.now))

    def told(self, events: list[Event]) -> None:
        self.events += events
        if any(isinstance(event, Reconnect) for event in events):
            self.cut()

    def settle(self) -> None:
        """Everything on its way arrives, and a lost connection is made again."""
        for _ in range(200):
            if self.session is None:
                self.connect()
            self.to_server()
            if not self.session or not self.session.out:
                due = self.replica.next_due()
                if self.outbox.is_empty or due is None:
                    return
                self.now = max(self.now, due)
            self.from_server()
        raise AssertionError("it does not settle")

    # -- what it was told

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def messages(self) -> list[Message]:
        return [event for event in self.events if isinstance(event, Message)]

    @property
    def bodies(self) -> list[str]:
        return [message.body for message in self.messages]

    @property
    def sent(self) -> list[Sent]:
        return [event for event in self.events if isinstance(event, Sent)]

    @property
    def failed(self) -> list[SendFailed]:
        return [event for event in self.events if isinstance(event, SendFailed)]

    @property
    def truncated(self) -> list[Truncated]:
        return [event for event in self.events if isinstance(event, Truncated)]
