"""The judge must see what the fault tests are about."""

import pytest

from tests.e2e.judge import Talk, judge

SAID = ["1", "2", "3", "4"]


def faults(heard: list[str], acknowledged: list[str] = SAID) -> list[str]:
    return judge({"a>b": Talk(SAID, set(acknowledged))}, {"b/desk": [("a>b", it) for it in heard]}, {"b/desk": ["a>b"]})


def test_all_is_well() -> None:
    assert faults(SAID) == []


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        (["1", "2", "4"], ["lost a>b 3"]),
        ([], ["lost a>b 1", "lost a>b 2", "lost a>b 3", "lost a>b 4"]),
        (["1", "2", "2", "3", "4"], ["doubled a>b 2"]),
        (["1", "2", "3", "4", "1"], ["doubled a>b 1"]),
        (["1", "3", "2", "4"], ["swapped a>b 2"]),
        (["1", "2", "3", "4", "5"], ["phantom a>b 5"]),
        (["2", "1", "1", "4"], ["lost a>b 3", "swapped a>b 1", "doubled a>b 1"]),
    ],
)
def test_faults_are_found(heard: list[str], found: list[str]) -> None:
    assert sorted(faults(heard)) == sorted(f"b/desk: {fault}" for fault in found)


def test_what_was_never_acknowledged_may_be_there_or_not() -> None:
    assert faults(["1", "2"], acknowledged=["1", "2"]) == []
    assert faults(["1", "2", "3"], acknowledged=["1", "2"]) == []
    assert faults(["1", "2", "3", "3"], acknowledged=["1", "2"]) == ["b/desk: doubled a>b 3"]
    assert faults(["3", "1", "2"], acknowledged=["1", "2"]) == ["b/desk: swapped a>b 1", "b/desk: swapped a>b 2"]


def test_a_message_of_others_is_a_phantom() -> None:
    talks = {"a>b": Talk(SAID, set()), "a>c": Talk(SAID, set())}
    assert judge(talks, {"b/desk": [("a>c", "1")]}, {"b/desk": ["a>b"]}) == ["b/desk: phantom a>c 1"]


def test_a_silent_device_has_lost_everything() -> None:
    assert judge({"a>b": Talk(["1"], {"1"})}, {}, {"b/desk": ["a>b"]}) == ["b/desk: lost a>b 1"]
