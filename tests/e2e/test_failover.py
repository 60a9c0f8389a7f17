"""A replica that lacks the newest writes takes its primary's place: what was acknowledged comes back from clients."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import imclient
import pytest
import trio
from imclient import Client, Message, Regressed
from trio.testing import trio_test

from tests.conftest import required
from tests.server import Server
from tests.store.deployment import deployment_at
from tests.store.proxy import Proxy, proxied
from tests.store.redis_process import RedisProcess, has_replica, running, wait_until

PATIENCE_SECONDS = 40.0
SHORT: dict[str, Any] = {"probe_seconds": 0.5, "lease_seconds": 20}


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisProcess]:
    with running(redis_at(tmp_path / "primary", "--repl-diskless-sync-delay", "0")) as process:
        yield process


def redis_at(directory: Path, *options: str) -> RedisProcess:
    return RedisProcess(required("redis-server"), directory, "--appendonly", "yes", "--appendfsync", "no", *options)


@dataclass
class Site:
    """A server whose store is reached through one proxy, and replicated through another."""

    primary: RedisProcess
    replica: RedisProcess
    way: Proxy
    replication: Proxy
    server: Server

    def url(self, user: str) -> str:
        host, port = self.server.tcp
        return f"tcp://{user}@{host}:{port}"

    async def wait_replicated(self) -> None:
        def wait() -> None:
            with self.primary.client() as client:
                client.set("mark", "1")
                assert client.execute_command("WAIT", 1, 20_000) == 1

        await trio.to_thread.run_sync(wait)

    async def fail_over(self) -> None:
        """The primary dies; the replica goes on with what it has."""
        self.primary.kill()
        with self.replica.client() as client:
            await trio.to_thread.run_sync(partial(client.replicaof, "NO", "ONE"))
        self.way.lead_to(self.replica.port)
        self.way.cut()

    def bodies(self, user: str) -> list[str]:
        """What the log of the user has in the replica."""
        with deployment_at(self.replica.url) as oracle:
            return [json.loads(fields[b"e"])["body"] for _, fields in oracle.log(user)]

    def count(self, name: str) -> int:
        """What all workers have counted."""
        text = self.server.get("/metrics", port="admin")[1].decode()
        return int(float(re.findall(rf"(?m)^imserver_{name}_total (.+)$", text)[0]))


@asynccontextmanager
async def site(primary: RedisProcess, tmp_path: Path, workers: int = 2) -> AsyncIterator[Site]:
    async with proxied(primary.port) as way, proxied(primary.port) as replication:
        source = f"127.0.0.1 {replication.url.rpartition(':')[2]}"
        replica = redis_at(tmp_path / "replica", "--replicaof", source)
        with running(replica), primary.client() as client:
            await trio.to_thread.run_sync(wait_until, lambda: has_replica(client), "the replica is connected")
            server = Server(tmp_path / "server", "--redis", way.url, workers=workers, **SHORT)
            await trio.to_thread.run_sync(server.start)
            try:
                yield Site(primary, replica, way, replication, server)
            finally:
                await trio.to_thread.run_sync(server.kill)


@dataclass
class Reader:
    """Takes all that comes to a client."""

    client: Client
    bodies: list[str] = field(default_factory=list)
    regressed: list[Regressed] = field(default_factory=list)
    truncated: int = 0

    async def run(self) -> None:
        async for event in self.client.events():
            if isinstance(event, Message):
                self.bodies.append(event.body)
            elif isinstance(event, Regressed):
                self.regressed.append(event)
            elif isinstance(event, imclient.Truncated):
                self.truncated += 1

    async def wait(self, bodies: list[str]) -> None:
        with trio.move_on_after(PATIENCE_SECONDS):
            while len(self.bodies) < len(bodies):
                await self.client.wait_changed()
        assert self.bodies == bodies


@trio_test
async def test_what_was_acknowledged_and_lost_comes_back(primary: RedisProcess, tmp_path: Path) -> None:
    async with site(primary, tmp_path) as place:
        for user in ("alice", "bob"):
            await imclient.register(place.url(user), "secret")
        async with (
            imclient.connect(place.url("alice"), password="secret", device="laptop") as alice,
            imclient.connect(place.url("alice"), password="secret", device="phone") as phone,
            imclient.connect(place.url("bob"), password="secret", device="pad") as bob,
            trio.open_nursery() as nursery,
        ):
            at_bob, at_phone = Reader(bob), Reader(phone)
            nursery.start_soon(at_bob.run)
            nursery.start_soon(at_phone.run)
            said = [f"m{number}" for number in range(60)]
            for body in said[:10]:
                await alice.send("bob", body)
            await place.wait_replicated()
            place.replication.stall()
            for body in said[10:30]:
                await alice.send("bob", body)  # acknowledged, and not replicated
            await at_bob.wait(said[:30])
            for body in said[30:40]:
                alice.send_nowait("bob", body)  # on their way while it happens
            assert place.bodies("bob") == said[:10]
            await place.fail_over()
            for body in said[40:]:
                await alice.send("bob", body)
            await at_bob.wait(said)
            await at_phone.wait(said)
            assert place.bodies("bob") == said
            assert place.bodies("alice") == said
            assert [len(reader.regressed) for reader in (at_bob, at_phone)] == [1, 1]
            assert [reader.truncated for reader in (at_bob, at_phone)] == [0, 0]
            assert place.count("epochs") == len(place.server.worker_pids)
            assert place.count("regressions") >= 2
            nursery.cancel_scope.cancel()


@trio_test
async def test_a_worker_that_was_started_later_knows(primary: RedisProcess, tmp_path: Path) -> None:
    """The record of the epoch tells it: who was away when the store failed over is asked after the login."""
    async with site(primary, tmp_path, workers=1) as place:
        for user in ("alice", "bob"):
            await imclient.register(place.url(user), "secret")
        await place.wait_replicated()
        place.replication.stall()
        async with imclient.connect(place.url("alice"), password="secret", device="laptop") as alice:
            await alice.send("bob", "lost, and found")
            await place.fail_over()
            await trio.to_thread.run_sync(place.server.kill_workers)
            await alice.send("bob", "newer")
            with trio.fail_after(PATIENCE_SECONDS):
                while place.bodies("bob") != ["lost, and found", "newer"]:
                    await alice.ping()
