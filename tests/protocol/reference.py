"""What is written from the code into docs/: the schema, and the tables of docs/protocol.md that name everything.

    python -m tests.protocol.reference      rewrites both

In docs/protocol.md a table stands between `<!-- NAME: ... -->` and `<!-- end -->`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imserver.config import settings_table, shown
from imserver.protocol.schema import document, encoded

DOCUMENT = document()
DOCS = Path(__file__).parents[2] / "docs"
PROTOCOL = DOCS / "protocol.md"
SCHEMA = DOCS / "protocol.schema.json"
HOW = "python -m tests.protocol.reference"

# The settings that a client meets.
LIMITS = (
    "max_frame_bytes",
    "max_bad_frames",
    "login_timeout_seconds",
    "ping_seconds",
    "token_lifetime_seconds",
    "rate_per_second",
    "rate_burst",
    "in_flight_sends",
    "dedupe_seconds",
    "edit_seconds",
    "delete_seconds",
    "log_max_entries",
    "log_max_age_seconds",
    "group_backlog_entries",
    "group_members_max",
    "group_typing_members",
    "groups_per_user_max",
    "groups_made_max",
    "contacts_max",
    "contact_requests_per_hour",
    "wrong_passwords_per_hour",
    "wrong_passwords_per_address_hour",
    "registrations_per_address_hour",
    "reports_per_hour",
)


def requests() -> Iterator[str]:
    yield "| request | fields | `ok` | cost | refused from |"
    yield "|---|---|---|---|---|"
    for op, row in DOCUMENT["commands"].items():
        fields = "; ".join(_fields(_definition(row["request"]), without=("op", "ref")))
        ok = ", ".join(f"`{name}`" for name in _definition(row["ok"]).get("properties", {}))
        yield f"| `{op}` | {fields} | {ok} | {row['cost']:g} | {row['shed'] or ''} |"


def errors() -> Iterator[str]:
    yield "| code | meaning |"
    yield "|---|---|"
    yield from (f"| `{code}` | {meaning} |" for code, meaning in DOCUMENT["errors"].items())


def limits() -> Iterator[str]:
    yield "| setting | default | |"
    yield "|---|---|---|"
    known = {setting.name: setting for setting in settings_table()}
    yield from (f"| `{name}` | {shown(known[name].default):,.9g} | {known[name].meaning} |" for name in LIMITS)


TABLES = {"requests": requests, "errors": errors, "limits": limits}


def _definition(place: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["$defs"][place["$ref"].rpartition("/")[2]]
    return found


def _fields(kind: dict[str, Any], without: tuple[str, ...]) -> Iterator[str]:
    for name, field in kind["properties"].items():
        if name not in without:
            optional = "" if name in kind["required"] else "?"
            yield f"`{name}`{optional} {_allowed(field)}".rstrip()


def _allowed(field: dict[str, Any]) -> str:
    """The limits of a field in a few words; names are told by their own table."""
    field = next((kind for kind in field.get("anyOf", ()) if kind.get("type") != "null"), field)
    if "enum" in field:
        return ", ".join(f'"{value}"' for value in field["enum"])
    if "pattern" in field:
        return ""
    if field.get("type") == "string":
        least = f"{field['minLength']} to" if "minLength" in field else "at most"
        return f"({least} {field['maxLength']:,} characters)"
    if field.get("type") == "integer" and "maximum" in field:
        return f"({field['minimum']} to {field['maximum']})"
    if field.get("type") == "array":
        return f"(at most {field['maxItems']})"
    return "true or false" if field.get("type") == "boolean" else ""


def written(text: str) -> str:
    """The text of docs/protocol.md with its tables made anew. Raises ValueError where one has no place in it."""
    for name, table in TABLES.items():
        place = re.compile(rf"<!-- {name}: .*? -->\n.*?<!-- end -->", re.DOTALL)
        made = "\n".join([f"<!-- {name}: written by {HOW} -->", "", *table(), "", "<!-- end -->"])
        text, count = place.subn(made.replace("\\", r"\\"), text)
        if count != 1:
            raise ValueError(f"there must be one place for the table of {name}")
    return text


if __name__ == "__main__":
    PROTOCOL.write_text(written(PROTOCOL.read_text(encoding="utf-8")), encoding="utf-8")
    SCHEMA.write_bytes(encoded())
