"""The protocol for programs: one JSON Schema, made from the tables of commands, pushes and errors.

Whatever goes over the wire is valid against the whole; each kind of frame is one of its `$defs`. What a schema of JSON
can't say of a protocol stands beside it under names that validators ignore:

    commands   by `op`: the request, the `ok` of its reply, the states of a session in which it is taken, whether
               replies may overtake others (`hot`), what it costs, the level of overload from which on it is refused
    pushes     by `ev`
    errors     by `code`, with its meaning

It leaves open what may be added: a receiver ignores fields and pushes that it does not know.
"""

from inspect import cleandoc
from typing import Any

import msgspec

from imserver.errors import CODES
from imserver.protocol.commands import COMMANDS, Command, Row
from imserver.protocol.overload import Level
from imserver.protocol.pushes import AnyPush, Push, Reply

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLACE = "#/$defs/{name}"
PUSHES: dict[str, type[Push]] = {str(push.__struct_config__.tag): push for push in AnyPush.__args__}

Schema = dict[str, Any]


def document() -> Schema:
    """The whole, ready to be written as JSON."""
    types = [*COMMANDS, *PUSHES.values(), Reply, *(row.ok for row in COMMANDS.values())]
    _, components = msgspec.json.schema_components(types, ref_template=PLACE)
    # The codec writes an entry as the push that it is.
    components["Entry"] = {"oneOf": [_place(push) for push in PUSHES.values() if "prev" in push.__struct_fields__]}
    components["Reply"]["oneOf"] = [{"required": ["ok"]}, {"required": ["err"]}]
    kinds: Schema = {
        "Request": {"oneOf": [_place(command) for command in COMMANDS]},
        "Push": {"oneOf": [_place(push) for push in PUSHES.values()]},
    }
    return {
        "$schema": DIALECT,
        "title": "The native protocol of imserver, version 1",
        "description": "Each frame is one JSON object. Receivers ignore fields and pushes that they do not know.",
        "oneOf": [{"$ref": PLACE.format(name=name)} for name in ("Request", "Reply", "Push")],
        "commands": {op_of(command): _described(row) for command, row in COMMANDS.items()},
        "pushes": {name: _place(push) for name, push in PUSHES.items()},
        "errors": {code: _one_line(error.__doc__) for code, error in CODES.items()},
        "$defs": {**kinds, **_as_written(dict(sorted(components.items())))},
    }


def encoded() -> bytes:
    """The document as it is published."""
    return msgspec.json.format(msgspec.json.encode(document())) + b"\n"


def overview() -> list[dict[str, object]]:
    """Each request as a row for people."""
    return [
        {
            "request": op_of(command),
            "fields": ", ".join(name for name in command.__struct_encode_fields__ if name != "ref"),
            "ok": ", ".join(row.ok.__struct_encode_fields__),
            "cost": f"{row.cost:g}",
            "refused from": "" if row.shed is Level.NEVER else row.shed.name.lower(),
        }
        for command, row in COMMANDS.items()
    ]


def op_of(command: type[Command]) -> str:
    return str(command.__struct_config__.tag)


def _place(kind: type) -> Schema:
    return {"$ref": PLACE.format(name=kind.__name__)}


def _described(row: Row) -> Schema:
    return {
        "request": _place(row.schema),
        "ok": _place(row.ok),
        "states": [state.value for state in row.states],
        "hot": row.hot,
        "cost": row.cost,
        "shed": None if row.shed is Level.NEVER else row.shed.name.lower(),
    }


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _as_written(value: Any) -> Any:
    """Docstrings without their indentation; bytes are positions, which the codec writes as text and not as base64."""
    if isinstance(value, list):
        return [_as_written(item) for item in value]
    if not isinstance(value, dict):
        return value
    written = {key: _as_written(item) for key, item in value.items() if key != "contentEncoding"}
    if isinstance(written.get("description"), str):
        written["description"] = cleandoc(written["description"])
    return written
