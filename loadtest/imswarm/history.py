"""What one device did and saw, line by line: what the judge judges.

A device writes down when it begins to send (`Invoke`), what it is answered (`Ok`, `Fail`; `Unknown`
where it gave up without an answer), and what it is given (`Deliver`; `Change`; `Begin`: behind which entry).
Also when it is there (`Dial`, `Here`, `Gone`), and what it is shown of contacts (`Seen`). Times are seconds of the
machine's monotonic clock, so that those of several processes can be compared. `content` is a
checksum of the body. Whose line it is, is said by the history it stands in.

On disk a line is a JSON array: `["ok",812.25,"3f2a-17","1795479860126-0"]`.
"""

from __future__ import annotations

import mmap
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec

_BUFFERED_LINES = 500
_SUFFIX = ".jsonl"


class Device(NamedTuple):
    """Whose history it is. A user's name has no slash."""

    user: str
    name: str

    def __str__(self) -> str:
        return f"{self.user}/{self.name}"


class _Line(msgspec.Struct, array_like=True, frozen=True, gc=False):
    time: float


class Invoke(_Line, tag="invoke", frozen=True, gc=False):
    """The sending begins."""

    id: str
    to: str
    content: int


class Ok(_Line, tag="ok", frozen=True, gc=False):
    """Stored, at this position of the sender's own log."""

    id: str
    at: str


class Fail(_Line, tag="fail", frozen=True, gc=False):
    """Refused for good: it is not stored."""

    id: str
    why: str


class Unknown(_Line, tag="unknown", frozen=True, gc=False):
    """No answer came, and none will: it is stored, or it is not."""

    id: str
    why: str


class Deliver(_Line, tag="deliver", frozen=True, gc=False):
    """An entry of the user's log, or of that of the group it is `to`, came.

    `prev` None: it was not told what stands before it.
    """

    at: str
    prev: str | None
    sender: str
    device: str
    id: str
    to: str
    content: int


class Begin(_Line, tag="begin", frozen=True, gc=False):
    """What is given is what stands behind this position of the user's log; without this line, all of it."""

    at: str


class Change(_Line, tag="change", frozen=True, gc=False):
    """An entry that is no message: `user` joined a group, left it, and the like. `log`: whose."""

    at: str
    log: str
    change: str
    user: str | None


class Dial(_Line, tag="dial", frozen=True, gc=False):
    """It begins to connect: from now on it may be there."""


class Here(_Line, tag="here", frozen=True, gc=False):
    """It is logged in: from now on it is there, and knows of no contact that is."""


class Gone(_Line, tag="gone", frozen=True, gc=False):
    """Its connection has ended, or was never made. Who has `said` so logs out; a second one tells when that is over."""

    said: bool = False


class Seen(_Line, tag="seen", frozen=True, gc=False):
    """It is told what a contact shows."""

    user: str
    show: str


Sighting = Dial | Here | Gone | Seen
Line = Invoke | Ok | Fail | Unknown | Deliver | Begin | Change | Sighting

History = Mapping[Device, Sequence[Line]]
"""Of every device of every user, from the user's first entry on; of a device that saw nothing, too."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def content_of(body: object) -> int:
    """The checksum by which two bodies are told apart."""
    return zlib.crc32(body.encode() if isinstance(body, str) else _encode(body))


def shown(device: Device, line: Line, begin: float = 0.0) -> str:
    """A line for people; times count from `begin`."""
    fields = msgspec.structs.asdict(line)
    time = fields.pop("time") - begin
    if "content" in fields:
        fields["content"] = f"{fields['content']:08x}"
    words = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
    return f"{time:11.6f}  {device!s:<16} {type(line).__name__.lower():<8} {words}"


class Recorder:
    """Writes the history of one device into its file in `directory`. Close it: lines are buffered."""

    def __init__(self, directory: Path, device: Device) -> None:
        self._file = (directory / f"{device.user},{device.name}{_SUFFIX}").open("wb")
        self._lines: list[bytes] = []

    def write(self, line: Line) -> None:
        self._lines.append(_encode(line))
        if len(self._lines) >= _BUFFERED_LINES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write(b"".join(line + b"\n" for line in self._lines))
        self._lines.clear()


class RecordedLines(Sequence[Line]):
    """The lines of a file. Only where each begins is kept in memory; a line is decoded when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._starts = array("Q", [0])
        with path.open("rb") as file:
            self._bytes: bytes | mmap.mmap = b""
            if path.stat().st_size:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            for line in file:
                self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, number: int) -> Line: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Line]: ...

    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        return _decode(self._bytes[self._starts[number] : self._starts[number + 1]])

    def __iter__(self) -> Iterator[Line]:
        return (_decode(self._bytes[start:end]) for start, end in pairwise(self._starts))


def read_history(directory: Path) -> History:
    """What the recorders wrote there. Raises msgspec.DecodeError, when it is read, for what is no line."""
    history = {}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        user, _, name = path.name.removesuffix(_SUFFIX).partition(",")
        history[Device(user, name)] = RecordedLines(path)
    return history
