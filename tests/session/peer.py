"""A client that says just what a test has it say, and shows what it hears."""

import json
from typing import Any

from tests.model_store import World
from tests.session.node import ServerNode, token_for


class Peer:
    """One connection; it speaks lines."""

    def __init__(self, node: ServerNode, *, capacity: int = 1 << 20, is_local: bool = True) -> None:
        self.node = node
        self.wire = node.open(capacity=capacity, is_local=is_local)

    def say(self, op: str, **fields: Any) -> None:
        """Writes a request; `with` is spelt `with_`."""
        request = {"op": op} | {name.rstrip("_"): value for name, value in fields.items()}
        self.wire.write(json.dumps(request).encode() + b"\n")

    def hear(self) -> list[dict[str, Any]]:
        """All whole frames that have come."""
        return [json.loads(line) for line in self.wire.read().splitlines()]

    def ask(self, op: str, **fields: Any) -> list[dict[str, Any]]:
        """Says something, lets everything settle, and gives what is heard."""
        self.say(op, **fields)
        self.node.settle()
        return self.hear()

    def log_in(self, user: str, device: str = "pad", **fields: Any) -> list[dict[str, Any]]:
        return self.ask("login", ref="login", token=token_for(user, device), device=device, **fields)


def world_of(*users: str, shards: int = 1, reaches_both: bool = True) -> World:
    world = World(shards, reaches_both=reaches_both)
    for user in users:
        world.database.register(user, "")
    return world


def entered(node: ServerNode, user: str, device: str = "pad", **options: Any) -> Peer:
    """A client that has logged in."""
    peer = Peer(node, **options)
    heard = peer.log_in(user, device)
    assert heard[-1]["ev"] == "synced", heard
    return peer


def events(heard: list[dict[str, Any]]) -> list[str]:
    """The frames in short: `ok 1`, `err 1 not-found`, `msg c1`, `synced`, `bye idle`."""
    return [_short(frame) for frame in heard]


def _short(frame: dict[str, Any]) -> str:
    if "ok" in frame:
        return f"ok {frame['re']}"
    if "err" in frame:
        return f"err {frame['re']} {frame['err']['code']}"
    more = {"msg": "id", "bye": "code", "error": "code"}.get(frame["ev"])
    return f"{frame['ev']} {frame[more]}" if more else str(frame["ev"])
