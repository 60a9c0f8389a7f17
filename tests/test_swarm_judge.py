"""The judge of histories: it accepts what is right, and shows of what is wrong the few lines that suffice."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux", allow_module_level=True)

from imswarm.history import (
    Begin,
    Deliver,
    Device,
    Fail,
    History,
    Invoke,
    Line,
    Ok,
    RecordedLines,
    Recorder,
    Unknown,
    content_of,
    read_history,
    shown,
)
from imswarm.judge import KINDS, Verdict, judge

ANN, ANN_TOO = Device("ann", "desk"), Device("ann", "web")
BOB, BOB_TOO = Device("bob", "desk"), Device("bob", "web")
EVERYBODY = (ANN, ANN_TOO, BOB, BOB_TOO)


class World:
    """A server without faults, and the histories of its clients. Tests spoil them."""

    def __init__(self) -> None:
        self.lines: dict[Device, list[Line]] = {device: [] for device in EVERYBODY}
        self._time = map(float, itertools.count())
        self._ids = itertools.count(1)
        self._positions = itertools.count(1)
        self._last: dict[str, str] = {}

    def say(self, device: Device, outcome: str = "ok") -> str:
        """A message to the other user; `outcome`: ok, fail, stored or dropped (both without an answer)."""
        to = "bob" if device.user == "ann" else "ann"
        message = f"m{next(self._ids)}"
        self.lines[device].append(Invoke(next(self._time), message, to, len(message)))
        if outcome == "fail":
            self.lines[device].append(Fail(next(self._time), message, "blocked"))
        elif outcome == "dropped":
            self.lines[device].append(Unknown(next(self._time), message, "gave up"))
        else:
            self._store(device, message, to, outcome)
        return message

    def _store(self, device: Device, message: str, to: str, outcome: str) -> None:
        for user in (to, device.user):
            at, prev = f"{next(self._positions)}-0", self._last.get(user, "0-0")
            self._last[user] = at
            entry = Deliver(next(self._time), at, prev, device.user, device.name, message, to, len(message))
            for each in (each for each in EVERYBODY if each.user == user):
                self.lines[each].append(Ok(next(self._time), message, at) if each == device else entry)
        if outcome == "stored":
            self._leave_unanswered(device, message, entry)

    def _leave_unanswered(self, device: Device, message: str, entry: Deliver) -> None:
        """The reply is lost; the entry comes, when the device is back."""
        self.lines[device][-1:] = [Unknown(next(self._time), message, "gave up"), entry]


def talk(count: int = 4) -> World:
    world = World()
    for number in range(count):
        world.say(EVERYBODY[number % len(EVERYBODY)])
    return world


def deliveries(world: World, device: Device) -> list[int]:
    """The numbers of the lines that are deliveries."""
    return [number for number, line in enumerate(world.lines[device]) if isinstance(line, Deliver)]


def kinds(verdict: Verdict) -> dict[str, int]:
    assert sum(verdict.counts.values()) == len(verdict.violations)
    return dict(verdict.counts)


def counter_example(history: History) -> list[str]:
    """The one violation, as people read it, without times."""
    verdict = judge(history)
    (violation,) = verdict.violations
    first, *lines = str(violation).splitlines()
    return [first, *(" ".join(line.split()[1:3]) + " " + line.split()[3] for line in lines)]


# ---- one mistake, one counter-example


def test_all_is_well() -> None:
    world = talk(40)
    for outcome in ("ok", "stored", "dropped", "fail", "ok"):
        world.say(ANN, outcome)
    assert kinds(judge(world.lines)) == {}


def test_a_lost_message() -> None:
    world = talk()
    del world.lines[BOB_TOO][deliveries(world, BOB_TOO)[0]]
    assert counter_example(world.lines) == [
        "lost: it was answered ok, and bob/web never got it",
        "ann/desk invoke id=m1",
        "ann/desk ok id=m1",
    ]


def test_a_message_lost_to_the_senders_other_device() -> None:
    world = talk(1)
    world.lines[ANN_TOO].clear()
    assert counter_example(world.lines)[0] == "lost: it was answered ok, and ann/web never got it"


def test_a_doubled_message() -> None:
    world = talk()
    number = deliveries(world, BOB)[0]
    world.lines[BOB].append(world.lines[BOB][number])
    assert counter_example(world.lines) == [
        "doubled: bob/desk got it twice",
        "ann/desk invoke id=m1",
        "bob/desk deliver at=1-0",
        "bob/desk deliver at=1-0",
    ]


def test_an_own_message_that_was_answered_and_is_delivered_as_well() -> None:
    world = talk()
    world.lines[ANN].append(world.lines[ANN_TOO][0])
    assert counter_example(world.lines) == [
        "doubled: ann/desk got it twice",
        "ann/desk invoke id=m1",
        "ann/desk ok id=m1",
        "ann/desk deliver at=2-0",
    ]


def test_two_messages_swapped_on_the_way_to_one_device() -> None:
    world = talk()
    one, other = deliveries(world, BOB)[:2]
    lines = world.lines[BOB]
    lines[one], lines[other] = lines[other], lines[one]
    assert counter_example(world.lines) == [
        "reordered: bob/desk got an entry after a newer one",
        "bob/desk deliver at=3-0",
        "bob/desk deliver at=1-0",
    ]


def swap_in_log(world: World, first: str, second: str) -> None:
    renamed = {first: second, second: first}
    for device in (BOB, BOB_TOO):
        lines = [line for line in world.lines[device] if isinstance(line, Deliver)]
        world.lines[device] = [structs.replace(line, id=renamed[line.id]) for line in lines]


def test_two_messages_swapped_in_the_log_itself() -> None:
    world = World()
    first, second = world.say(ANN), world.say(ANN)
    swap_in_log(world, first, second)
    verdict = judge(world.lines)
    assert kinds(verdict) == {"reordered": 2}
    assert [type(line).__name__ for _, line in verdict.violations[0].lines] == [
        "Invoke",
        "Invoke",
        "Deliver",
        "Deliver",
    ]


def test_what_was_given_up_may_be_stored_late_and_nothing_else() -> None:
    """A program died without an answer; its successor was answered before the late message came into the log."""
    for outcome, expected in (("stored", {}), ("ok", {"reordered": 2})):
        world = World()
        first, second = world.say(ANN, outcome), world.say(ANN)
        swap_in_log(world, first, second)
        assert {kind: n for kind, n in judge(world.lines).counts.items() if kind == "reordered"} == expected


def change(**fields: Any) -> Callable[[Line], Line]:
    return lambda line: structs.replace(line, **fields)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (change(id="m77"), "bob/desk: nobody sent it"),
        (change(sender="eve"), "bob/desk: nobody sent it"),
        (change(content=5), "bob/desk: it is not what was sent"),
        (change(to="eve"), "bob/desk: it is not what was sent"),
    ],
)
def test_a_phantom(spoil: Callable[[Line], Line], why: str) -> None:
    world = talk()
    number = deliveries(world, BOB)[0]
    world.lines[BOB].insert(number, spoil(world.lines[BOB][number]))
    phantom = next(one for one in judge(world.lines).violations if one.kind == "phantom")
    assert phantom.why == why
    assert len(phantom.lines) == (1 if "nobody" in why else 3)


def test_a_message_for_others() -> None:
    world = talk()
    eve = Device("eve", "desk")
    assert counter_example({**world.lines, eve: [world.lines[BOB][0]]})[0] == "phantom: eve/desk: it is none of eve's"


def test_a_refused_message_that_is_delivered() -> None:
    world = World()
    world.say(ANN)
    world.lines[ANN][-1] = Fail(9.0, "m1", "blocked")
    assert {one.why.partition(": ")[2] for one in judge(world.lines).violations if one.kind == "phantom"} == {
        "it was refused, and delivered nevertheless"
    }


def test_answers_that_cannot_be() -> None:
    world = talk()
    world.lines[ANN].append(Ok(9.0, "m1", "2-0"))
    world.lines[ANN].append(Ok(9.0, "m99", "9-0"))
    assert kinds(judge(world.lines)) == {"doubled": 1, "phantom": 1}


def test_an_unanswered_message_that_only_some_devices_got() -> None:
    world = World()
    world.say(ANN, "stored")
    world.lines[BOB_TOO].clear()
    assert counter_example(world.lines) == [
        "diverged: bob/desk got it, and bob/web never did",
        "ann/desk invoke id=m1",
        "ann/desk unknown id=m1",
        "bob/desk deliver at=1-0",
    ]


def test_one_entry_at_two_places() -> None:
    world = World()
    world.say(ANN)
    world.lines[BOB_TOO][0] = structs.replace(world.lines[BOB_TOO][0], at="7-0")
    assert counter_example(world.lines) == [
        "diverged: it has two places in the log, one for bob/desk, one for bob/web",
        "bob/desk deliver at=1-0",
        "bob/web deliver at=7-0",
    ]


def test_two_entries_at_one_place() -> None:
    world = World()
    world.say(ANN, "stored")
    world.say(ANN, "stored")
    first, second = (line for line in world.lines[BOB] if isinstance(line, Deliver))
    world.lines[BOB], world.lines[BOB_TOO] = [first], [structs.replace(second, at=first.at)]
    assert "bob/desk and bob/web have different entries at one place" in {
        one.why for one in judge(world.lines).violations
    }


def test_a_device_that_went_on_past_an_entry_that_nobody_has() -> None:
    """Without `prev` nobody could know: no answer was given, and no device got it."""
    world = World()
    world.say(ANN, "stored")
    world.say(ANN)
    for device, lines in world.lines.items():
        world.lines[device] = [line for line in lines if not (isinstance(line, Deliver) and line.id == "m1")]
    assert {one.why.partition(" ")[2] for one in judge(world.lines).violations} == {
        "never had what stands before this entry"
    }


def test_a_log_that_had_begun_before_is_judged_from_there_on() -> None:
    world = talk()
    starts = {device: "1-0" if device.user == "bob" else "2-0" for device in EVERYBODY}
    later = {device: [Begin(0.0, starts[device]), *lines[1:]] for device, lines in world.lines.items()}
    assert kinds(judge(later)) != {}, "m1 was answered"
    for device, lines in later.items():
        later[device] = [line for line in lines if not (isinstance(line, Deliver | Ok | Invoke) and line.id == "m1")]
    assert kinds(judge(later)) == {}
    later[BOB][0] = Begin(0.0, "0-0")
    assert kinds(judge(later)) == {"diverged": 1}


# ---- any history, any mutation

SAYINGS = st.lists(
    st.tuples(st.sampled_from(EVERYBODY), st.sampled_from(["ok", "ok", "stored", "dropped", "fail"])),
    min_size=2,
    max_size=30,
)


def world_of(sayings: list[tuple[Device, str]]) -> World:
    world = World()
    for device, outcome in sayings:
        world.say(device, outcome)
    return world


@given(SAYINGS)
def test_a_right_history_is_accepted(sayings: list[tuple[Device, str]]) -> None:
    assert kinds(judge(world_of(sayings).lines)) == {}


def drop(lines: list[Line], number: int, _: int) -> None:
    del lines[number]


def double(lines: list[Line], number: int, _: int) -> None:
    lines.insert(number, lines[number])


def swap(lines: list[Line], number: int, other: int) -> None:
    lines[number], lines[other] = lines[other], lines[number]


def invent(lines: list[Line], number: int, _: int) -> None:
    lines.insert(number, structs.replace(lines[number], id="invented", at="99999-0"))


@pytest.mark.parametrize(
    ("mutate", "caught"),
    [(drop, {"lost", "diverged"}), (double, {"doubled"}), (swap, {"reordered"}), (invent, {"phantom"})],
)
@given(SAYINGS, st.data())
def test_any_single_mutation_is_caught(
    mutate: Callable[[list[Line], int, int], None], caught: set[str], sayings: list[tuple[Device, str]], data: Any
) -> None:
    world = world_of([(ANN, "ok"), *sayings, (ANN, "ok")])
    device = data.draw(st.sampled_from([each for each in EVERYBODY if len(deliveries(world, each)) > 1]))
    number, other = data.draw(st.permutations(deliveries(world, device)))[:2]
    mutate(world.lines[device], number, other)
    found = judge(world.lines).counts
    assert set(found) <= set(KINDS)
    assert found.keys() & caught


# ---- on disk


def test_what_is_recorded_is_read_as_it_was(tmp_path: Path) -> None:
    world = talk(3000)
    silent = Device("eve", "desk")
    for device, lines in {**world.lines, silent: []}.items():
        recorder = Recorder(tmp_path, device)
        for line in lines:
            recorder.write(line)
        recorder.close()
    history = read_history(tmp_path)
    assert {device: list(lines) for device, lines in history.items()} == {**world.lines, silent: []}
    assert list(history[ANN][3:5]) == world.lines[ANN][3:5]
    with pytest.raises(IndexError):
        RecordedLines(tmp_path / "eve,desk.jsonl")[0]
    assert kinds(judge(history)) == {}


def test_a_line_for_people() -> None:
    assert shown(ANN, Invoke(3.5, "m1", "bob", 255), 1.0).split() == [
        "2.500000",
        "ann/desk",
        "invoke",
        "id=m1",
        "to=bob",
        "content=000000ff",
    ]


def test_bodies_are_told_apart() -> None:
    assert len({content_of(body) for body in ("a", "b", {"text": "a"}, {"text": "b"})}) == 4
