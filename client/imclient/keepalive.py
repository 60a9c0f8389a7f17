"""Whether the server is still there: a silent one is asked, and given up when it goes on being silent."""

from imserver.protocol.commands import Ping

LOGIN_SECONDS = 30.0  # a server under a storm of logins may take its time
LEAST_PING_SECONDS = 1.0  # whatever the server says
PROBE = 1  # the ref of the question


class Keepalive:
    """`now`: seconds, monotonic."""

    def __init__(self) -> None:
        self._ping: float | None = None  # seconds of silence before the server is asked; None: not logged in
        self._heard = 0.0
        self._is_probing = False

    def connected(self, now: float) -> None:
        self._ping = None
        self.heard(now)

    def welcomed(self, ping: float) -> None:
        """`ping`: how long the server may say nothing, in seconds."""
        self._ping = max(ping, LEAST_PING_SECONDS)

    def heard(self, now: float) -> None:
        """Bytes came from the server."""
        self._heard = now
        self._is_probing = False

    def dead_at(self) -> float:
        """When, with nothing heard until then, the connection is to be given up."""
        return self._heard + (LOGIN_SECONDS if self._ping is None else 2 * self._ping)

    def due_probe(self, now: float) -> list[Ping]:
        """The server may have nothing to say; then it is asked, before its silence means that it is dead."""
        due = self.next_due()
        if due is None or now < due:
            return []
        self._is_probing = True
        return [Ping(ref=PROBE)]

    def next_due(self) -> float | None:
        """When `due_probe` has something; None: not before something is heard."""
        return None if self._ping is None or self._is_probing else self._heard + self._ping
