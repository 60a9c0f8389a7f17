"""The judge of presence: it accepts what is right, and of each kind of mistake it shows the lines that prove it."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("imswarm needs Linux", allow_module_level=True)

from imswarm.evidence import Evidence
from imswarm.history import Device, Dial, Gone, Here, Line, Seen
from imswarm.presence_judge import (
    FALSE_OFFLINE,
    FALSE_ONLINE,
    UNTOLD,
    Hindrance,
    PresenceVerdict,
    Terms,
    judge_presence,
)

ANN, ANN_TOO, BOB = Device("ann", "desk"), Device("ann", "web"), Device("bob", "desk")
CONTACTS = {"ann": ("bob",), "bob": ("ann",)}
TERMS = Terms(grace_seconds=4.0, lease_seconds=5.0)
END = 1000.0

ON, OFF = "online", "offline"


def stay(begin: float, end: float, *, said: bool = False) -> list[Line]:
    return [Dial(begin), Here(begin), Gone(end, said)]


def watching(*seen: tuple[float, str], end: float = END) -> list[Line]:
    """Bob, who is there all the time, and what he is shown of ann."""
    return [Dial(0.0), Here(0.0), *(Seen(time, "ann", show) for time, show in seen), Gone(end)]


def judged(ann: list[Line], bob: list[Line], *hindrances: Hindrance, ann_too: tuple[Line, ...] = ()) -> PresenceVerdict:
    history = {ANN: ann, ANN_TOO: list(ann_too), BOB: [line for line in bob if line.time <= END]}
    only_ann = {"ann": CONTACTS["ann"]}
    return judge_presence(Evidence(history), only_ann, TERMS, hindrances)


def told(verdict: PresenceVerdict) -> list[str]:
    """The one violation, as people read it, without times."""
    (violation,) = verdict.violations
    return [violation.kind, *(f"{device} {type(line).__name__.lower()}" for device, line in violation.lines)]


# ---- what is right


@pytest.mark.parametrize("away", [0.1, 2.0, 3.9])
def test_who_comes_back_within_the_grace_was_never_away(away: float) -> None:
    ann = [*stay(1, 20), *stay(20 + away, END)]
    assert not judged(ann, watching((1.1, ON))).counts


@pytest.mark.parametrize("said", [False, True])
def test_who_has_gone_is_offline_in_time_and_online_again(said: bool) -> None:
    ann = [*stay(1, 20, said=said), *stay(40, END)]
    verdict = judged(ann, watching((1.1, ON), (20.5 if said else 24.0, OFF), (40.1, ON)))
    assert (verdict.counts, verdict.absences) == ({}, 1)


def test_another_device_that_is_there_is_enough() -> None:
    assert not judged(stay(1, 20), watching((1.1, ON)), ann_too=tuple(stay(5, END))).counts


def test_a_new_session_knows_of_nobody_until_it_is_told() -> None:
    bob = [*watching((1.1, ON), end=30.0), Dial(31.0), Here(31.0), Seen(31.2, "ann", ON), Gone(END)]
    assert not judged(stay(1, END), bob).counts


def test_nobody_knows_whether_an_attempt_to_log_in_came_through() -> None:
    """The answer was lost; the server waits for its device again."""
    ann: list[Line] = [*stay(1, 20), Dial(24), Gone(25), Dial(31), Gone(32)]
    assert not judged(ann, watching((1.1, ON), (38.5, OFF))).counts


# ---- what is wrong


def test_somebody_who_is_there_is_shown_offline() -> None:
    verdict = judged(stay(1, END), watching((1.1, ON), (20.0, OFF), (20.1, ON)))
    assert told(verdict) == [FALSE_OFFLINE, "ann/desk here", "bob/desk seen"]


def test_offline_during_the_grace() -> None:
    verdict = judged([*stay(1, 20), *stay(22, END)], watching((1.1, ON), (21.0, OFF), (22.1, ON)))
    assert told(verdict) == [FALSE_OFFLINE, "ann/desk here", "ann/desk gone", "bob/desk seen"]


def test_offline_that_comes_long_after_the_return() -> None:
    verdict = judged([*stay(1, 20), *stay(30, END)], watching((1.1, ON), (24.0, OFF), (30.1, ON), (33.0, OFF)))
    assert set(verdict.counts) == {FALSE_OFFLINE, UNTOLD}


@pytest.mark.parametrize(("said", "in_time", "late"), [(False, 26.9, 27.1), (True, 21.9, 22.1)])
def test_somebody_who_has_gone_is_shown_too_long(said: bool, in_time: float, late: float) -> None:
    ann = stay(1, 20, said=said)
    assert not judged(ann, watching((1.1, ON), (in_time, OFF))).counts
    assert told(judged(ann, watching((1.1, ON), (late, OFF)))) == [FALSE_ONLINE, "bob/desk seen", "ann/desk gone"]


def test_somebody_who_has_gone_is_shown_again() -> None:
    verdict = judged(stay(1, 20), watching((1.1, ON), (24.0, OFF), (50.0, ON)))
    assert told(verdict) == [FALSE_ONLINE, "ann/desk gone", "bob/desk seen"]


def test_somebody_who_comes_later_is_shown_who_has_gone() -> None:
    bob = [*watching((1.1, ON), (24.0, OFF), end=30.0), Dial(31.0), Here(31.0), Seen(31.2, "ann", ON)]
    assert told(judged(stay(1, 20), bob)) == [FALSE_ONLINE, "ann/desk gone", "bob/desk seen"]


def test_where_one_device_did_not_say_so_the_others_wait_for_it() -> None:
    ann_too = tuple(stay(2, 19))
    assert not judged(stay(1, 20, said=True), watching((1.1, ON), (24.0, OFF)), ann_too=ann_too).counts
    assert not judged(stay(1, 20, said=True), watching((1.1, ON), (20.1, OFF)), ann_too=ann_too).counts


def test_somebody_who_came_is_never_shown() -> None:
    assert told(judged(stay(50, END), watching())) == [UNTOLD, "bob/desk here", "ann/desk here"]


def test_somebody_who_came_back_is_never_shown_again() -> None:
    verdict = judged([*stay(1, 20), *stay(40, END)], watching((1.1, ON), (24.0, OFF)))
    assert told(verdict) == [UNTOLD, "bob/desk here", "bob/desk seen", "ann/desk here"]


def test_every_kind_of_contact_is_judged() -> None:
    history: dict[Device, list[Line]] = {ANN: stay(1, 20), ANN_TOO: [], BOB: watching((1.1, ON), (30.0, OFF))}
    assert not judge_presence(Evidence(history), {}, TERMS, ()).counts
    assert judge_presence(Evidence(history), CONTACTS, TERMS, ()).counts == {FALSE_ONLINE: 1, UNTOLD: 1}


# ---- faults


def test_a_fault_delays_news_for_its_time_and_does_not_excuse_flapping() -> None:
    fault = Hindrance(22.0, 30.0)
    late = watching((1.1, ON), (36.0, OFF))
    assert judged(stay(1, 20), late).counts == {FALSE_ONLINE: 1}
    assert not judged(stay(1, 20), late, fault).counts
    assert judged(stay(1, 20), watching((1.1, ON), (37.5, OFF)), fault).counts == {FALSE_ONLINE: 1}
    flap = watching((1.1, ON), (25.0, OFF), (26.0, ON))
    assert judged(stay(1, END), flap, fault).counts == {FALSE_OFFLINE: 1}
    assert not judged(stay(1, END), flap, fault._replace(may_flap=True)).counts
    assert judged(stay(1, END), flap, Hindrance(30.0, 40.0, may_flap=True)).counts == {FALSE_OFFLINE: 1}


def test_healing_takes_its_time_and_no_more() -> None:
    fault = Hindrance(22.0, 30.0, may_flap=True)
    bob = watching((1.1, ON), (25.0, OFF), end=36.0)
    assert not judged(stay(1, END), bob, fault).counts
    assert judged(stay(1, END), watching((1.1, ON), (25.0, OFF), end=38.0), fault).counts == {UNTOLD: 1}


def test_offline_that_was_right_may_come_late_through_a_fault() -> None:
    ann, bob = [*stay(1, 20), *stay(26, END)], watching((1.1, ON), (31.0, OFF), (31.1, ON))
    assert judged(ann, bob).counts == {FALSE_OFFLINE: 1}
    assert not judged(ann, bob, Hindrance(25.0, 30.0)).counts


# ---- any history

STAYS = st.lists(st.tuples(st.floats(0.5, 30), st.floats(0.5, 30), st.booleans()), min_size=1, max_size=6)


@given(STAYS, st.data())
def test_what_a_right_server_tells_is_accepted_and_one_wrong_word_is_not(
    stays: list[tuple[float, float, bool]], data: st.DataObject
) -> None:
    """A server that tells of an absence when the grace is over, or at once where it was told."""
    ann: list[Line] = []
    seen: list[tuple[float, str]] = []
    time = 1.0
    for lasted, away, said in stays:
        ann += stay(time, time + lasted, said=said)
        seen.append((time + 0.1, ON))
        if said or away > TERMS.grace_seconds:
            seen.append((time + lasted + (0.05 if said else TERMS.grace_seconds), OFF))
        time += lasted + away
    ann += stay(time, END)
    seen.append((time + 0.1, ON))
    assert not judged(ann, watching(*seen)).counts
    at = data.draw(st.floats(time + 3, END - 1))
    assert judged(ann, watching(*seen, (at, OFF), (at + 0.01, ON))).counts == {FALSE_OFFLINE: 1}
    assert UNTOLD in judged(ann, watching(*seen[:-1], (time, OFF))).counts
