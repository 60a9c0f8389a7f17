"""The judge of groups: it accepts what members may see, and shows each kind of mistake."""

import itertools
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux", allow_module_level=True)

from imswarm.court import Verdict
from imswarm.evidence import Evidence
from imswarm.group_judge import judge_groups
from imswarm.history import Change, Deliver, Device, Invoke, Line, Ok, Unknown
from imswarm.judge import judge_evidence

GROUP = "#tea"
ANN, BOB, BOB_TOO, EVE, EVE_TOO = (
    Device("ann", "d0"), Device("bob", "d0"), Device("bob", "d1"), Device("eve", "d0"), Device("eve", "d1"),
)  # fmt: skip
EVERYBODY = (ANN, BOB, BOB_TOO, EVE, EVE_TOO)
FOUNDERS = {GROUP: ("ann", "bob")}


class World:
    """A group without faults, in which ann and bob are and eve comes and goes. Tests spoil the histories."""

    def __init__(self) -> None:
        self.lines: dict[Device, list[Line]] = {device: [] for device in EVERYBODY}
        self.members = {"ann", "bob"}
        self._numbers = itertools.count(1)
        self._last = "0-0"

    def _put(self) -> tuple[str, str, str, float]:
        number = next(self._numbers)
        prev, self._last = self._last, f"{number}-0"
        return f"m{number}", self._last, prev, float(number)

    def say(self, author: Device, outcome: str = "ok", to: str = GROUP) -> str:
        """`outcome`: ok, or stored: without an answer."""
        message, at, prev, now = self._put()
        content = int(now)
        self.lines[author].append(Invoke(now, message, to, content))
        for device, lines in self.lines.items():
            if device == author and outcome == "ok":
                lines.append(Ok(now, message, at))
            elif device.user in self.members:
                if device == author:
                    lines.append(Unknown(now, message, "gave up"))
                lines.append(Deliver(now, at, prev, author.user, author.name, message, to, content))
        return message

    def move(self, user: str) -> None:
        """Joins or leaves."""
        _, at, _, now = self._put()
        change = "left" if user in self.members else "joined"
        for device, lines in self.lines.items():
            if device.user in self.members:
                lines.append(Change(now, at, GROUP, change, user))
        self.members ^= {user}

    def forget(self, device: Device, *messages: str) -> None:
        lines = self.lines[device]
        lines[:] = [line for line in lines if not (isinstance(line, Deliver) and line.id in messages)]

    def judged(self) -> Verdict:
        evidence = Evidence(self.lines)
        verdict = judge_evidence(evidence)
        verdict.add(judge_groups(evidence, FOUNDERS))
        return verdict


def talk() -> tuple[World, list[str]]:
    """Eve is in for the third to the sixth of eight messages, and for the last two."""
    world = World()
    said = [world.say(ANN), world.say(BOB)]
    world.move("eve")
    said += [world.say(ANN), world.say(BOB), world.say(EVE), world.say(ANN)]
    world.move("eve")
    said += [world.say(BOB), world.say(ANN)]
    world.move("eve")
    return world, [*said, world.say(BOB), world.say(ANN)]


def why(world: World) -> list[str]:
    verdict = world.judged()
    assert sum(verdict.counts.values()) == len(verdict.violations)
    return [f"{violation.kind}: {violation.why}" for violation in verdict.violations]


def test_all_is_well() -> None:
    world, _ = talk()
    world.say(ANN, "stored")
    assert why(world) == []


def test_who_leaves_may_not_have_read_the_end() -> None:
    world, said = talk()
    world.forget(EVE, *said[3:6])
    world.forget(EVE_TOO, *said[2:6])
    assert why(world) == []


def test_who_leaves_has_no_gap() -> None:
    world, said = talk()
    world.forget(EVE, said[2])
    assert why(world) == ["lost: it was answered ok, and eve/d0 never got it"]


@pytest.mark.parametrize("device", [BOB, BOB_TOO, EVE, EVE_TOO])
def test_a_lost_message(device: Device) -> None:
    world, said = talk()
    world.forget(device, said[-1])
    assert why(world) == [f"lost: it was answered ok, and {device} never got it"]


def test_a_message_lost_to_another_device_of_its_author() -> None:
    world, said = talk()
    world.forget(BOB_TOO, said[1])
    assert why(world) == ["lost: it was answered ok, and bob/d1 never got it"]


def test_a_message_lost_to_everybody() -> None:
    world, said = talk()
    for device in EVERYBODY:
        world.forget(device, said[0])
    assert why(world) == [f"lost: it was answered ok, and {device} never got it" for device in (BOB, BOB_TOO)]


def test_a_doubled_message() -> None:
    world, _ = talk()
    world.lines[BOB_TOO].append(world.lines[BOB_TOO][0])
    assert why(world) == ["doubled: bob/d1 got it twice"]


def test_messages_in_another_order() -> None:
    world, _ = talk()
    lines = world.lines[BOB_TOO]
    lines[0], lines[1] = lines[1], lines[0]
    assert why(world) == ["reordered: bob/d1 got an entry after a newer one"]


def test_an_order_that_only_one_member_sees() -> None:
    world, said = talk()
    renamed = {said[0]: said[1], said[1]: said[0]}
    senders = {said[0]: "ann", said[1]: "bob"}
    world.lines[BOB_TOO] = [
        structs.replace(line, id=renamed[line.id], sender=senders[renamed[line.id]], content=int(renamed[line.id][1:]))
        if isinstance(line, Deliver) and line.id in renamed
        else line
        for line in world.lines[BOB_TOO]
    ]
    assert {line.partition(":")[0] for line in why(world)} == {"diverged"}


@pytest.mark.parametrize("number", [0, 6])
def test_what_was_said_while_it_was_no_member(number: int) -> None:
    world, said = talk()
    line = next(line for line in world.lines[BOB_TOO] if isinstance(line, Deliver) and line.id == said[number])
    world.lines[EVE_TOO].insert(0 if number == 0 else 5, line)
    assert why(world) == ["phantom: eve/d1 got what was said while its user was no member"]


def test_what_nobody_said() -> None:
    world, _ = talk()
    world.lines[EVE].append(Deliver(99.0, "99-0", "13-0", "ann", "d0", "m99", GROUP, 0))
    assert why(world) == ["phantom: eve/d0: nobody sent it"]


def test_an_unanswered_message_that_only_some_members_got() -> None:
    world, _ = talk()
    message = world.say(ANN, "stored")
    world.forget(EVE, message)
    assert why(world) == ["diverged: ann/d0 got it, and eve/d0 never did"]


def test_a_member_that_went_on_past_an_entry_that_nobody_has() -> None:
    world, _ = talk()
    message = world.say(ANN, "stored")
    world.say(ANN)
    for device in EVERYBODY:
        world.forget(device, message)
    assert {line.partition("/")[2][3:] for line in why(world)} == {"never had what stands before this entry"}


def test_two_devices_that_saw_another_change() -> None:
    world, _ = talk()
    lines = world.lines[BOB]
    number = next(number for number, line in enumerate(lines) if isinstance(line, Change))
    lines[number] = structs.replace(lines[number], user="mallory")
    assert "diverged: bob/d0 has another entry at one place of the log than others" in why(world)


def test_entries_of_the_own_log_that_are_no_messages_are_part_of_its_chain() -> None:
    """The user's own log says that it joined; without that line its next entry would come out of nowhere."""
    ann: list[Line] = [Invoke(1.0, "m1", "bob", 7), Ok(1.1, "m1", "1-0"), Invoke(3.0, "m2", "bob", 7)]
    ann.append(Ok(3.1, "m2", "2-0"))
    change = Change(2.0, "5-0", "bob", "joined", "bob")
    first = Deliver(1.1, "4-0", "0-0", "ann", "d0", "m1", "bob", 7)
    second = Deliver(3.1, "6-0", "5-0", "ann", "d0", "m2", "bob", 7)
    assert not judge_evidence(Evidence({ANN: ann, BOB: [first, change, second]})).counts
    assert judge_evidence(Evidence({ANN: ann, BOB: [first, second]})).counts == {"diverged": 1}


# ---- any history, any mutation

STEPS = st.lists(st.sampled_from(["eve", *EVERYBODY]), max_size=30)


def drop(lines: list[Line], number: int, _: int) -> None:
    del lines[number]


def double(lines: list[Line], number: int, _: int) -> None:
    lines.append(lines[number])


def swap(lines: list[Line], number: int, other: int) -> None:
    lines[number], lines[other] = lines[other], lines[number]


@pytest.mark.parametrize(
    ("mutate", "caught"), [(drop, {"lost"}), (double, {"doubled"}), (swap, {"reordered"}), (None, set())]
)
@given(STEPS, st.data())
def test_any_single_mutation_is_caught(
    mutate: Callable[[list[Line], int, int], None] | None,
    caught: set[str],
    steps: list[Device | str],
    data: st.DataObject,
) -> None:
    world = World()
    for step in [ANN, BOB, ANN, *steps, ANN, BOB]:
        if isinstance(step, str):
            world.move(step)
        elif step.user in world.members:
            world.say(step)
    if mutate is not None:
        device = data.draw(st.sampled_from([BOB, BOB_TOO]))
        lines = world.lines[device]
        places = [number for number, line in enumerate(lines) if isinstance(line, Deliver)]
        number, other = data.draw(st.permutations(places))[:2]
        mutate(lines, number, other)
    assert set(world.judged().counts) >= caught
    assert mutate is not None or not world.judged().counts
