"""Keeps an eye on the map of a cluster: which primary holds what.

A cluster replaces a primary that died by one of its replicas, and an operator moves slots. Nobody tells its clients:
they see a link that is lost, refused or silent, and ask. Any node may be asked, replicas too; nodes that were cut off
tell of the past, so several are asked at once and the newest map is taken, never an older one than before.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from imserver.observe.log import get_logger
from imserver.store.cluster_map import ClusterMap, parse_map
from imserver.store.redis_handshake import HandshakeFailed, conversation_with

log = get_logger("store")

_LOOK_EVERY_SECONDS = 30.0  # without cause: to know the replicas that are new, before they are needed
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.03, 0.25  # between two looks, while a link is in doubt
_ANSWER_SECONDS = 0.5  # a node that is away may swallow what it is asked
_MOST_ASKED = 8  # at once; each time others


class ClusterWatch:
    """Of one node. `run` MUST be running."""

    def __init__(
        self, seeds: Iterable[str], *, on_map: Callable[[ClusterMap], None], are_up: Callable[[], bool]
    ) -> None:
        """`seeds`: URLs of nodes that were there at the start. `on_map` gets every complete map, changed or not.

        `are_up`: whether all links are; while they are not, the map is looked at again and again.
        """
        self._seeds, self._on_map, self._are_up = frozenset(seeds), on_map, are_up
        self._nodes = self._seeds  # of the newest map
        self._epoch = 0
        self._doubted = trio.Event()

    def doubt(self) -> None:
        """A link was lost, could not be made, or is silent: the map may have changed."""
        self._doubted.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._doubted = trio.Event()
            await self._look()
            await trio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)
            if self._are_up():
                pause = _FIRST_PAUSE_SECONDS
                with trio.move_on_after(_LOOK_EVERY_SECONDS):
                    await self._doubted.wait()

    async def _look(self) -> None:
        known = sorted(self._nodes | self._seeds)
        some = random.sample(known, min(len(known), _MOST_ASKED))
        found = [each for each in await ask_for_maps(some) if each.is_complete and each.epoch >= self._epoch]
        if found:
            newest = max(found, key=lambda each: each.epoch)
            self._epoch, self._nodes = newest.epoch, newest.nodes
            self._on_map(newest)


async def ask_for_maps(urls: Iterable[str]) -> list[ClusterMap]:
    """Of those nodes that answer in time."""
    found: list[ClusterMap] = []

    async def ask(url: str) -> None:
        with suppress(HandshakeFailed):
            async with conversation_with(url, "imserver-map", _ANSWER_SECONDS) as node:
                info = await node.read("CLUSTER", "INFO")
                found.append(parse_map(url, await node.ask("CLUSTER", "SLOTS"), info))

    async with trio.open_nursery() as nursery:
        for url in urls:
            nursery.start_soon(ask, url)
    return found
