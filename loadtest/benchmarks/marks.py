"""What marks cost the store, beside the message that they are about, and what the list of conversations costs.

    python loadtest/benchmarks/marks.py [--messages 2000] [--entries 4000]

A Redis of its own; functions are called 50 in a pipeline, as a busy worker does. Prints microseconds of Redis's CPU for
a call; then milliseconds of a worker and of Redis for counting what is unread in a log of so many entries.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import redis
import trio

from imserver.config import Settings
from imserver.model import DeviceId, Place, UserId
from imserver.observe import log as observe_log
from imserver.observe.metrics import Counters
from imserver.routing.unread import Counting
from imserver.store import account_calls, calls, conversation_calls
from imserver.store.calls import Bounds, Packed
from imserver.store.conversation_calls import Mark
from imserver.store.embedded import temporary_store
from imserver.store.leases import describe_node
from imserver.store.partitions import user_keys
from imserver.store.shards import find_shards
from imserver.store.store import Store
from imserver.store.store_roles import StoreOptions
from imserver.store.stored import Sender
from imserver.wire.reactor import Reactor

ALICE, BOB = UserId("alice"), UserId("bob")
PLACE = Place(b"pad=bench.1")
BODY = b'"' + b"x" * 74 + b'"'
_PIPELINE = 50


class Bench:
    """A store with the logs of two users, over a worker's link."""

    def __init__(self, url: str, nursery: trio.Nursery, server: Any) -> None:
        self.reactor = Reactor(Counters())
        self.store = Store(
            find_shards(url),
            info=describe_node("bench", 0),
            options=StoreOptions(Bounds(10**6, 10**6, 600), 10, 2, 600, 10**6),
            reactor=self.reactor,
            counters=Counters(),
            spawn=nursery.start_soon,
            on_dead=lambda: None,
        )
        self._server = server
        self._numbers = itertools.count()

    def redis_seconds(self) -> float:
        info = self._server.info("cpu")
        return float(info["used_cpu_user"] + info["used_cpu_sys"])

    async def run(self, commands: Sequence[Packed]) -> tuple[float, list[Any]]:
        """Microseconds for each, and the replies."""
        replies: list[Any] = []
        link, before = self.store.link_of(ALICE), self.redis_seconds()
        for start in range(0, len(commands), _PIPELINE):
            done = trio.Event()
            with self.reactor.batch():
                for command in commands[start : start + _PIPELINE]:
                    link.call(command, replies.append)
                link.call(calls.pack(b"PING"), lambda _, done=done: done.set())
            await done.wait()
        return (self.redis_seconds() - before) / len(commands) * 1e6, replies

    def messages(self, count: int) -> list[Packed]:
        """From Alice to Bob."""
        sender = Sender(ALICE, DeviceId("pad"))
        ids = [f"m{next(self._numbers)}" for _ in range(count)]
        bodies: Any = BODY
        return [
            calls.append_both(
                user_keys(BOB), user_keys(ALICE), sender.dedupe(it), sender.content(BOB, it, bodies), PLACE
            )
            for it in ids
        ]


async def measure(url: str, options: argparse.Namespace) -> None:
    alice, bob = user_keys(ALICE), user_keys(BOB)
    async with trio.open_nursery() as nursery:
        with redis.Redis.from_url(url) as server:
            bench = Bench(url, nursery, server)
            nursery.start_soon(bench.reactor.run)
            bench.store.conversations.listen(Nobody())
            bench.store.listen(Nobody(), Nobody())
            bench.store.start()
            await bench.store.wait_up()
            await bench.run([account_calls.register(keys, "", 1.0) for keys in (alice, bob)])
            server.hset(alice.state, "on", PLACE)
            server.hset(bob.state, "on", Place(b"pad=bench.2"))
            cost, replies = await bench.run(bench.messages(options.messages))
            ats = [reply[0] for reply in replies]
            print(f"a message                      {cost:5.1f} us")
            for what, commands in {
                "its ack, as it was": [calls.ack(bob, "phone", at) for at in ats],
                "its ack, told, and noted": [
                    command
                    for at in ats
                    for command in (conversation_calls.keep(bob, "pad", at), conversation_calls.heard(bob, at, at))
                ],
                "the mark at the sender's": [
                    conversation_calls.mark(alice, "delivered", BOB, Mark(at, "pad", "m1")) for at in ats
                ],
                "a read": [conversation_calls.read(bob, ALICE, at, PLACE) for at in ats],
            }.items():
                cost, _ = await bench.run(commands)
                print(f"{what:30} {cost * len(commands) / len(ats):5.1f} us")
            await bench.run(bench.messages(options.entries))
            counting = Counting(bench.store, BOB, BOB, options.entries)
            before = time.process_time(), bench.redis_seconds()
            await counting.run([], finds_others=True)
            worker, store = time.process_time() - before[0], bench.redis_seconds() - before[1]
            print(f"{options.entries} entries counted: worker {worker * 1e3:.1f} ms, redis {store * 1e3:.1f} ms")
        nursery.cancel_scope.cancel()
    for link in bench.store.links:
        link.drop("the benchmark is over")


class Nobody:
    """Hears what is published, and does nothing about it."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--entries", type=int, default=4000)
    options = parser.parse_args()
    observe_log.configure("warning")
    with tempfile.TemporaryDirectory() as directory, temporary_store(Settings(data=directory)) as url:
        trio.run(measure, url, options)


if __name__ == "__main__":
    main()
