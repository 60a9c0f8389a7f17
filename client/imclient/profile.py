"""What a device remembers between runs of a program: its name, its token, and how far each reader has read.

One JSON file of mode 0600, replaced as a whole: a reader of it finds the old one or the new one, never a half.
"""

import os
import re
import secrets
import socket
import tempfile
from pathlib import Path

import msgspec

from imserver.errors import SetupError
from imserver.model import parse_position, position_order


class _Saved(msgspec.Struct):
    device: str
    token: str | None = None
    cursors: dict[str, dict[str, str]] = {}  # reader -> log -> position


class Profile:
    def __init__(self, path: Path, saved: _Saved, reader: str) -> None:
        """Use `load`."""
        self._path = path
        self._saved = saved
        self._reader = reader

    @classmethod
    def load(cls, path: Path, *, device: str | None = None, reader: str = "application") -> "Profile":
        """The profile at `path`; a new one, of the name `device` or else one never used before, where there is none.

        Different programs may use one profile in turn: each has its own cursors, under its name `reader`.
        Raises SetupError where the file can't be read or is damaged.
        """
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except FileNotFoundError:
            saved = _Saved(device or new_device())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SetupError(f"{path} is not a profile of imclient ({error}); mend it or delete it") from None
        return cls(path, saved, reader)

    @property
    def device(self) -> str:
        return self._saved.device

    @property
    def store(self) -> Path:
        """Where this reader keeps a store, if it does."""
        return self._path.with_name(f"{self._path.stem}-{self._reader}.db")

    @property
    def token(self) -> str | None:
        return self._saved.token

    @property
    def cursors(self) -> dict[str, str]:
        """Log to position: how far this reader has read."""
        return self._saved.cursors.get(self._reader, {})

    @property
    def farthest(self) -> dict[str, str]:
        """Log to position: how far the farthest of all readers has read; empty for a new device."""
        farthest: dict[str, str] = {}
        for cursors in self._saved.cursors.values():
            for log, at in cursors.items():
                farthest[log] = max(at, farthest.get(log, at), key=_order)
        return farthest

    def update(self, token: str | None, cursors: dict[str, str]) -> None:
        """Takes note; `save` writes it."""
        self._saved.token = token
        self._saved.cursors = {**self._saved.cursors, self._reader: dict(cursors)}

    def save(self) -> None:
        """Raises SetupError where it can't be written."""
        content = msgspec.json.encode(self._saved)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # mkstemp makes it 0600 from the start: the token is as good as a password.
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(name, self._path)
        except OSError as error:
            raise SetupError(f"{self._path} can't be written: {error.strerror}") from None


def new_device() -> str:
    """A device name that nobody has: the machine's, for people to recognize, and a random part."""
    return f"{machine_name()}-{secrets.token_hex(3)}"


def machine_name() -> str:
    """The first part of the host's name, as far as a device name can hold it."""
    name = re.sub(r"[^A-Za-z0-9_-]", "", socket.gethostname().partition(".")[0])
    return name[:40] or "device"


def _order(position: str) -> tuple[int, int]:
    return position_order(parse_position(position, "cursors"))
