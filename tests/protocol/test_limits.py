"""Token buckets, against the plainest model of one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.protocol.limits import Limits, TokenBucket

# Multiples of 1/8 are exact in binary: bucket and model must agree to the last bit.
EIGHTHS = st.integers(0, 400).map(lambda number: number / 8)
RATES = st.sampled_from([1.0, 2.0, 8.0, 64.0])


class Model:
    """A jar that holds `burst` tokens at most."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = Fraction(rate), Fraction(burst)
        self.tokens = self.burst

    def wait(self, seconds: float) -> None:
        self.tokens = min(self.burst, self.tokens + Fraction(seconds) * self.rate)

    def take(self, cost: float) -> Fraction:
        if self.tokens < Fraction(cost):
            return (Fraction(cost) - self.tokens) / self.rate
        self.tokens -= Fraction(cost)
        return Fraction(0)


@given(RATES, st.integers(1, 50), st.lists(st.tuples(EIGHTHS, EIGHTHS)))
def test_a_bucket_is_a_jar(rate: float, burst: int, steps: list[tuple[float, float]]) -> None:
    now, limits = 1000.0, Limits(rate, burst)
    bucket, model = TokenBucket(burst, now), Model(rate, burst)
    for seconds, cost in steps:
        now += seconds
        model.wait(seconds)
        assert Fraction(bucket.take(cost, limits, now)) == model.take(cost)


@given(RATES, st.integers(1, 50), EIGHTHS, EIGHTHS)
def test_whoever_waits_as_long_as_told_gets_it(rate: float, burst: int, first: float, cost: float) -> None:
    limits, bucket = Limits(rate, burst), TokenBucket(burst, 0.0)
    bucket.take(min(first, burst), limits, 0.0)
    wait = bucket.take(cost, limits, 0.0)
    if cost <= burst:
        assert bucket.take(cost if wait else 0.0, limits, wait) == 0.0


def test_asking_in_vain_costs_nothing() -> None:
    limits, bucket = Limits(rate=1.0, burst=10.0), TokenBucket(10.0, 0.0)
    assert [bucket.take(11.0, limits, 0.0) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert bucket.take(10.0, limits, 0.0) == 0.0


def test_limits_are_shared_and_never_change() -> None:
    with pytest.raises(AttributeError):
        Limits(1.0, 1.0).rate = 2.0  # type: ignore[misc]
