"""The ladder, as a function of what is measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.protocol.commands import COMMANDS
from imserver.protocol.overload import Level, Strain, lag_of, level_of, retry_after

CALM = Strain(calls=0.0, oldest=0.0, lag=0.0, logins=0.0)
ORDER = [Level.TYPING, Level.PRESENCE, Level.MARKERS, Level.HISTORY, Level.LOGINS]
MEASURES = st.builds(Strain, *[st.floats(0, 100)] * 4)


def test_who_was_stopped_is_not_late() -> None:
    assert lag_of(2.0, 0.01) == pytest.approx(0.04)
    assert lag_of(2.0, 1.0) == 2.0


def test_the_order_in_which_things_are_given_up() -> None:
    assert [Level.CALM, *ORDER, Level.NEVER] == sorted(Level)


def test_what_is_shed_when() -> None:
    shed = {schema: row.shed for schema, row in COMMANDS.items() if row.shed is not Level.NEVER}
    by_level = {level: {schema.__name__ for schema in shed if shed[schema] is level} for level in Level}
    assert by_level[Level.TYPING] == {"Typing"}
    assert by_level[Level.PRESENCE] == {"SetPresence"}
    assert by_level[Level.LOGINS] == {"Login", "Register", "Password", "AccountDelete"}
    assert {"History", "Contacts", "ContactAdd", "GroupCreate", "GroupsList"} <= by_level[Level.HISTORY]
    never = {schema.__name__ for schema in COMMANDS} - {schema.__name__ for schema in shed}
    assert never == {"Send", "Resend", "Ack", "Block", "DeviceRevoke", "Ping", "Logout", "Unschedule"}


@pytest.mark.parametrize("measure", ["calls", "oldest", "lag"])
def test_each_measure_alone_climbs_the_whole_ladder(measure: str) -> None:
    seen = [level_of(CALM._replace(**{measure: step / 100})) for step in range(500)]
    assert list(dict.fromkeys(seen)) == [Level.CALM, *ORDER]


def test_a_long_line_of_logins_sheds_all_but_logins_since_the_line_itself_does_that() -> None:
    seen = [level_of(CALM._replace(logins=step / 100)) for step in range(500)]
    assert list(dict.fromkeys(seen)) == [Level.CALM, *ORDER[:-1]]


@given(MEASURES, MEASURES)
def test_more_strain_is_never_a_lower_level(one: Strain, other: Strain) -> None:
    both = Strain(*map(max, one, other))
    assert level_of(both) == max(level_of(one), level_of(other)) < Level.NEVER


@given(MEASURES, st.floats(0, 1))
def test_who_is_shed_is_told_a_time_that_grows_with_the_delay_up_to_a_bound(strain: Strain, random: float) -> None:
    retry = retry_after(strain, random)
    assert 0.5 <= retry <= 9.0
    assert retry <= retry_after(strain._replace(oldest=strain.oldest + 1), random)
    assert retry == pytest.approx(retry_after(strain, 0.0) * (1 + random), abs=0.01)
