"""Many appends of one node, numbered, and what became of them."""

import trio

from imserver.errors import ImError
from imserver.model import UserId
from imserver.store.calls import Appended
from imserver.store.store import NOBODY
from tests.store.deployment import Deployment
from tests.store.node import PATIENCE_SECONDS, Node, message


class Answers:
    """To calls made with a number each: in which order they came, and what they were."""

    def __init__(self, node: Node, user: str) -> None:
        self.order: list[int] = []
        self.results: dict[int, Appended | ImError] = {}
        self._node, self._user = node, user
        self._made = 0
        self._more = trio.Event()

    def append(self, count: int) -> None:
        """So many entries, all in one turn."""
        with self._node.reactor.batch():
            for _ in range(count):
                self._append(self._made)
                self._made += 1

    def _append(self, number: int) -> None:
        said = message("someone", self._user, f"m{number}")

        def then(result: Appended | ImError) -> None:
            self.order.append(number)
            self.results[number] = result
            self._more.set()

        self._node.store.append(self._user, said.dedupe, said.content, NOBODY, then)

    async def wait_all(self) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while len(self.order) < self._made:
                self._more = trio.Event()
                await self._more.wait()


def ids_in(oracle: Deployment, name: str) -> list[bytes]:
    return [fields[b"e"].partition(b'"id":"')[2].partition(b'"')[0] for _, fields in oracle.log(name)]


async def registered(node: Node, name: str) -> None:
    await node.store.accounts.register(UserId(name), "hash")
