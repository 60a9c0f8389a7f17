"""The line before the entrance: order, bounds, rate, tickets. Time is an argument, and so is chance."""

from collections.abc import Iterator
from random import Random

import pytest

from imserver.errors import Overloaded
from imserver.protocol.admission import Line


def line_of(
    at_once: int = 2,
    longest_wait: float = 1.0,
    longest_retry: float = 60.0,
    rate: float = 10.0,
    random: float = 0.0,
) -> Line[int]:
    return Line(
        at_once=at_once,
        longest_wait=longest_wait,
        longest_retry=longest_retry,
        rate=rate,
        random=lambda: random,
    )


def refused(line: Line[int], now: float = 0.0) -> float:
    with pytest.raises(Overloaded) as caught:
        line.arrive(-1, now)
    assert caught.value.retry is not None
    return caught.value.retry


def test_so_many_at_once_then_in_the_order_of_arrival() -> None:
    line = line_of(at_once=2)
    assert [line.arrive(who, 0.0) for who in range(5)] == [True, True, False, False, False]
    assert [line.leave(0.1) for _ in range(5)] == [2, 3, 4, None, None]
    assert (line.under_way, len(line)) == (0, 0)
    assert line.arrive(5, 0.1)


def test_nobody_passes_those_who_wait() -> None:
    """Not even in the moment between a place becoming free and the next one's coming in."""
    line = line_of(at_once=1)
    line.arrive(0, 0.0)
    line.arrive(1, 0.0)
    assert line.leave(0.1) == 1
    assert not line.arrive(2, 0.1)


def test_who_would_wait_too_long_returns_when_half_of_the_line_has_gone_two_for_each_place() -> None:
    line = line_of(at_once=1, longest_wait=1.0, rate=10.0)
    for who in range(11):
        line.arrive(who, 0.0)
    assert line.wait == 1.0
    assert [refused(line) for _ in range(4)] == pytest.approx([0.55, 0.6, 0.65, 0.7])
    assert refused(line, 0.4) == pytest.approx(0.55), "the fifth, later"


def test_a_ticket_far_away_is_anywhere_in_the_later_half() -> None:
    for random, retry in ((0.0, 2.0), (0.5, 3.0), (1.0, 4.0)):
        line = line_of(at_once=1, longest_wait=0.1, longest_retry=4.0, rate=1.0, random=random)
        line.arrive(0, 0.0)
        line.arrive(1, 0.0)
        tickets = [refused(line) for _ in range(50)]
        assert set(tickets[10:]) == {retry}


def test_the_rate_is_measured_while_somebody_waits_and_only_then() -> None:
    line = line_of(at_once=1, longest_wait=1000.0, rate=10.0)
    for second in range(100):  # one a second, and nobody waits: it could be more
        assert line.arrive(second, second)
        line.leave(second + 0.001)
    assert line.rate == 10.0
    for who in range(1000):
        line.arrive(who, 100.0)
    for number in range(500):
        line.leave(100.0 + number / 100)
    assert line.rate == pytest.approx(100.0, rel=0.05)
    for number in range(100):
        line.leave(105.0 + number / 10)
    assert line.rate == pytest.approx(10.0 + 90.0 * 0.9**20, rel=0.1), "a fall is believed slowly"


def test_a_line_that_stands_still_is_noticed_by_those_who_come() -> None:
    line = line_of(at_once=1, longest_wait=1.0, rate=100.0)
    for who in range(101):
        line.arrive(who, 0.0)
    tickets = [refused(line, now) for now in range(30)]
    assert tickets == sorted(tickets)
    assert 100.0 / 30 < line.rate < 100.0 / 10


def crowd(count: int, seconds: float, seed: int) -> Iterator[float]:
    """When each of them arrives."""
    random = Random(seed)
    return iter(sorted(random.random() * seconds for _ in range(count)))


def test_a_crowd_comes_in_at_the_rate_of_the_store_whoever_was_sent_away_included() -> None:
    """9,000 arrive within a second where 1,000 a second can be let in, and the rate was guessed wrongly."""
    random = Random(1)
    line: Line[int] = Line(at_once=64, longest_wait=2.0, longest_retry=60.0, rate=3000.0, random=random.random)
    arrivals = sorted((at, who) for who, at in enumerate(crowd(9000, 1.0, 2)))
    inside: list[int] = []
    under_way: list[int] = []
    entered: dict[int, float] = {}
    now, refusals, longest = 0.0, 0, 0
    while len(entered) < 9000:
        now = round(now + 0.001, 3)  # in each millisecond the store does one login
        assert now < 15.0, f"{len(entered)} are in"
        due = [who for at, who in arrivals if at <= now]
        arrivals = [(at, who) for at, who in arrivals if at > now]
        for who in due:
            try:
                if line.arrive(who, now):
                    under_way.append(who)
            except Overloaded as error:
                refusals += 1
                assert error.retry is not None
                arrivals.append((now + error.retry, who))
        longest = max(longest, len(line))
        if under_way:
            who = under_way.pop(0)
            entered[who] = now
            inside.append(who)
            following = line.leave(now)
            if following is not None:
                under_way.append(following)
        assert line.under_way == len(under_way) <= 64
    assert now < 11.0, "9 s of work, and little waiting for nothing"
    assert longest <= 6000
    assert 3000 <= refusals < 18_000, "nobody asks again and again"
