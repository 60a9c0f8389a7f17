"""What happens, as plain data: the shape of a world, and the steps in it. Both are functions of the seed."""

import random
from dataclasses import dataclass

Step = tuple[str, int, int]  # an action of the scene, and two numbers that choose who and how

# How often each action is taken, relative to the others.
ORDINARY = {
    "send": 18,
    "read": 9,
    "turn": 9,
    "execute": 9,
    "deliver": 9,
    "task": 9,
    "flow": 9,
    "connect": 2,
    "everybody": 2,
}
# Each seed takes some of these and leaves others out: faults that come together in one history hide one another.
UNUSUAL = {
    "say_again": 2,
    "repeat": 2,
    "give_up": 1,
    "ack": 4,
    "disconnect": 2,
    "stall": 1,
    "pass_time": 2,
    "cut": 2,
    "restore": 4,
    "fail": 1,
    "lose": 2,
    "double": 2,
    "stray": 2,
    "saturate": 1,
    "relieve": 2,
    "kill": 1,
    "stop": 2,
    "go_on": 2,
    "drain": 2,
    "failover": 2,
    "trim": 2,
}
# One without the other would leave the world in the same state for the rest of the history.
TOGETHER = {"cut": "restore", "fail": "restore", "saturate": "relieve", "stop": "go_on", "failover": "restore"}

USERS = ("alice", "bob", "carol", "dave")
DEVICES = ("pad", "phone", "tv")


@dataclass(frozen=True)
class Shape:
    """The world before anything has happened."""

    people: tuple[tuple[str, tuple[str, ...]], ...]  # users and their devices
    nodes: int = 2
    shards: int = 2
    push_first: bool = True  # a function's push to its own link comes before the reply (Redis) or behind it (Valkey)
    reaches_both: bool = False  # one call can reach two logs: a single instance, one shard and no cluster
    page_entries: int = 3
    out_buffer_bytes: int = 300
    in_flight_sends: int = 3


@dataclass(frozen=True)
class Schedule:
    """A whole history, before it is played."""

    shape: Shape
    steps: tuple[Step, ...]

    @property
    def loses_pushes(self) -> bool:
        """A lost push is noticed with the next one, or when the link comes back: there has to be one of them."""
        return any(action == "lose" for action, _, _ in self.steps)

    @property
    def fails_over(self) -> bool:
        return any(action == "failover" for action, _, _ in self.steps)


def schedule_of(seed: int) -> Schedule:
    chance = random.Random(seed)
    shape = _shape(chance)
    weights = ORDINARY | _some_of(UNUSUAL, chance)
    actions = chance.choices(list(weights), list(weights.values()), k=chance.choice((40, 80, 160, 320)))
    steps = [(action, chance.randrange(16), chance.randrange(10)) for action in actions]
    return Schedule(shape, (("everybody", 0, 0), *steps))


def _shape(chance: random.Random) -> Shape:
    shards = chance.choice((1, 1, 2, 3))
    return Shape(
        people=tuple((user, DEVICES[: chance.choice((1, 1, 2, 3))]) for user in USERS[: chance.choice((2, 2, 3, 4))]),
        nodes=chance.choice((1, 2, 2, 3)),
        shards=shards,
        push_first=chance.random() < 0.5,
        # Where there is but one shard, most deployments have a single instance.
        reaches_both=chance.random() < 0.7 and shards == 1,
        page_entries=chance.choice((1, 3, 3, 10)),
        out_buffer_bytes=chance.choice((150, 300, 300, 2000)),
        in_flight_sends=chance.choice((1, 3, 3, 8)),
    )


def _some_of(actions: dict[str, int], chance: random.Random) -> dict[str, int]:
    share = chance.choice((0.2, 0.4, 0.6, 1.0))
    chosen = {name: weight for name, weight in actions.items() if chance.random() < share}
    return chosen | {TOGETHER[name]: actions[TOGETHER[name]] for name in chosen if name in TOGETHER}
