"""The timer wheel, against a list of who is due."""

from hypothesis import given
from hypothesis import strategies as st

from imserver.session.keepalive import TimerWheel


class Patient:
    """Wants to be looked at at each of its times, and notes when it was."""

    def __init__(self, dues: list[float]) -> None:
        self.dues = dues
        self.seen: list[float] = []

    def on_timer(self, now: float) -> float | None:
        self.seen.append(now)
        return self.dues.pop(0) if self.dues else None


TIMES = st.integers(0, 240).map(lambda number: 100 + number / 8)


@given(st.lists(st.lists(TIMES, min_size=1, max_size=4), max_size=6), st.integers(1, 5))
def test_everybody_is_looked_at_within_a_second_of_being_due(dues: list[list[float]], step: int) -> None:
    wheel, patients = TimerWheel(100.0), [Patient(sorted(due)) for due in dues]
    expected = [list(patient.dues) for patient in patients]
    for patient in patients:
        wheel.add(patient, patient.dues.pop(0))
    for second in range(0, 40, step):
        wheel.sweep(100.0 + second)
    for patient, due in zip(patients, expected, strict=True):
        assert len(patient.seen) == len(due)
        assert all(at > wanted for at, wanted in zip(patient.seen, due, strict=True))
        assert all(at - wanted <= 1 + 2 * step * len(due) for at, wanted in zip(patient.seen, due, strict=True))


def test_nobody_is_looked_at_early() -> None:
    wheel, patient = TimerWheel(100.0), Patient([])
    wheel.add(patient, 110.5)
    for second in range(100, 111):
        wheel.sweep(second)
    assert patient.seen == []
    wheel.sweep(111.0)
    assert patient.seen == [111.0]


def test_what_was_due_long_ago_is_looked_at_in_the_next_sweep() -> None:
    wheel, patient = TimerWheel(100.0), Patient([50.0])
    wheel.add(patient, 3.0)
    wheel.sweep(101.0)
    wheel.sweep(102.0)
    assert patient.seen == [101.0, 102.0]


def test_a_late_sweep_makes_up_for_all_missed_ones() -> None:
    wheel, patients = TimerWheel(100.0), [Patient([]) for _ in range(5)]
    for number, patient in enumerate(patients):
        wheel.add(patient, 101.0 + number * 10)
    wheel.sweep(1000.0)
    assert [patient.seen for patient in patients] == [[1000.0]] * 5
