"""What the words of the domain look like, and what is said of those that do not."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imserver.errors import BadRequest
from imserver.model import (
    parse_address,
    parse_device,
    parse_message_id,
    parse_position,
    parse_user,
    position_order,
)

Parser = Callable[[str, str], object]
PARSERS: dict[str, Parser] = {
    "user": parse_user,
    "to": parse_address,
    "device": parse_device,
    "upto": parse_position,
    "id": parse_message_id,
}
LONGEST = "a" * 64


@pytest.mark.parametrize(
    ("field", "given_text", "parsed"),
    [
        ("user", "alice", "alice"),
        ("user", "Alice.B_c-9", "alice.b_c-9"),
        ("user", "0", "0"),
        ("user", LONGEST, LONGEST),
        ("to", "Bob", "bob"),
        ("to", "#Team-1", "#team-1"),
        ("to", "#" + LONGEST, "#" + LONGEST),
        ("device", "My.Laptop_1-x", "My.Laptop_1-x"),
        ("device", ".", "."),
        ("device", LONGEST, LONGEST),
        ("upto", "0-0", b"0-0"),
        ("upto", "1700000000000-15", b"1700000000000-15"),
        ("id", "c1", "c1"),
        ("id", "any {printable} ~ASCII!", "any {printable} ~ASCII!"),
        ("id", LONGEST, LONGEST),
    ],
)
def test_good_names(field: str, given_text: str, parsed: object) -> None:
    assert PARSERS[field](given_text, field) == parsed


BAD = {
    "user": ["", ".alice", "-a", "_a", "a b", "a" * 65, "#group", "alice\n", "ünal", "a/b", "a=b"],
    "to": ["", "#", "##a", "#.a", "#" + "a" * 65, "a b", "#a\n"],
    "device": ["", "a" * 65, "a b", "a/b", "a=b", "a\n", "é"],
    "upto": ["", "1", "1-", "-1", "1-1-1", "a-b", " 1-1", "1-1\n", "1" * 16 + "-0", "0-" + "1" * 16, "\u0661-\u0661"],
    "id": ["", "a" * 65, "a\nb", "a\tb", "é", "\x7f", "\0"],
}


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for field, all_bad in BAD.items() for bad in all_bad])
def test_bad_names_are_refused_by_field_and_value(field: str, bad: str) -> None:
    with pytest.raises(BadRequest) as caught:
        PARSERS[field](bad, field)
    assert str(caught.value).startswith(f"{field}: ")
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@given(st.sampled_from(sorted(PARSERS)), st.text())
def test_any_text_is_a_name_or_a_bad_request(field: str, text: str) -> None:
    try:
        parsed = PARSERS[field](text, field)
    except BadRequest:
        return
    again = parsed.decode() if isinstance(parsed, bytes) else str(parsed)
    assert PARSERS[field](again, field) == parsed
    assert again.isascii()


def test_positions_are_ordered_by_number() -> None:
    ordered = [b"0-0", b"0-1", b"9-0", b"10-0", b"10-9", b"10-10", b"1700000000000-0"]
    shuffled = sorted(ordered)  # as text
    assert sorted(shuffled, key=position_order) == ordered
