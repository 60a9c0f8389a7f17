"""Too much at once, against a real server."""

import select
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import required
from tests.e2e.client import TcpClient
from tests.server import Server

DEAR: dict[str, Any] = {"password_memory_kib": 65_536, "password_rounds": 4, "password_threads": 1}
WAITING = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One worker, whose passwords cost what they cost."""
    required("redis-server")
    with Server(tmp_path / "data", workers=1, login_timeout_seconds=1, **DEAR) as running:
        yield running


def test_passwords_wait_in_their_own_line_and_tokens_and_messages_pass_them(server: Server) -> None:
    with ExitStack() as stack:
        ann = stack.enter_context(TcpClient(server.tcp))
        ann.register("ann")
        token = ann.log_in("ann", "desk")["token"]
        waiting = [stack.enter_context(TcpClient(server.tcp)) for _ in range(WAITING)]
        for client in waiting:
            client.say("login", ref=1, user="ann", password="wrong", device="desk")
        waiting[0].receive()  # the others stand behind it, then, or come to stand there
        again = stack.enter_context(TcpClient(server.tcp))
        again.ask("login", token=token, device="desk")
        again.tell("ann", "m1")
        has_answer, _, _ = select.select([client.socket for client in waiting[1:]], [], [], 0)
        assert len(has_answer) < WAITING - 1, "the token came in before the last of the passwords"
        # Longer than the login time-out allows to a client that says nothing; nobody is cut off for that.
        codes = [client.receive()["err"]["code"] for client in waiting[1:]]
    assert codes == ["bad-credentials"] * (WAITING - 1)
