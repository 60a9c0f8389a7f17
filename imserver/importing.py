"""Accounts in a file: a JSON object a line, or CSV with a header. Pure."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

import argon2
import msgspec

from imserver.errors import BadRequest, ImError
from imserver.model import parse_user
from imserver.protocol.commands.base import Secret

COLUMNS = ("user", "password", "hash")


class NewAccount(msgspec.Struct, forbid_unknown_fields=True):
    """With neither `password` nor `hash` (in argon2's own notation, taken as it is) it logs in by token only."""

    user: str
    password: Secret | None = None
    hash: str | None = None


def accounts_in(lines: Iterable[str]) -> Iterator[tuple[int, NewAccount]]:
    """The accounts with the lines on which they end. Raises BadRequest that names the line."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    rest = chain([first], numbered)
    rows = _json_rows(rest) if first[1].lstrip().startswith("{") else _csv_rows(rest)
    for number, row in rows:
        try:
            yield number, _checked(row)
        except (msgspec.DecodeError, ImError) as error:
            raise BadRequest(f"line {number}: {error}") from None


def _json_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    for number, line in lines:
        try:
            yield number, msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise BadRequest(f"line {number}: {error}") from None


def _csv_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    number = 0

    def texts() -> Iterator[str]:
        nonlocal number
        for number, line in lines:  # noqa: B007 - told when an error is
            yield line

    rows = csv.reader(texts(), strict=True)
    try:
        header = next(rows)
        if "user" not in header or not set(header) <= set(COLUMNS):
            raise BadRequest(f"line {number}: the header of a CSV file is `user` and perhaps `password`, `hash`")
        for row in rows:
            if len(row) != len(header):
                raise BadRequest(f"line {number}: {len(row)} values; the header has {len(header)}")
            yield number, {name: value for name, value in zip(header, row, strict=True) if value}
    except csv.Error as error:
        raise BadRequest(f"line {number}: not CSV: {error}") from None


def _checked(row: object) -> NewAccount:
    account = msgspec.convert(row, NewAccount)
    account.user = parse_user(account.user)
    if account.hash is not None:
        if account.password is not None:
            raise BadRequest("password: there is a `hash` as well; one of them is allowed")
        try:
            argon2.extract_parameters(account.hash)
        except argon2.exceptions.InvalidHashError:
            raise BadRequest(
                "hash: allowed is argon2's own notation, $argon2id$v=19$m=...,t=...,p=...$...$..."
            ) from None
    return account
