"""Which device the program is, when it is not told.

Two terminals of a user must be two devices, since a second login of a device ends the first. A new device at every run
would be as wrong: the server would keep a cursor for each of them for ever, and everything old would come again.

So an account has numbered *slots* in the state directory of the user: 1.json, 2.json, ... each the profile of one
device, made when it is first needed. A running program holds a lock on its slot and takes the first that is free. There
are as many devices as there were ever terminals at the same time, and the first terminal is always the same device.
The operating system frees the lock of a program that dies.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imclient.address import Address
from imclient.profile import Profile
from imserver.errors import SetupError
from imserver.model import parse_device

MOST_SLOTS = 1000


def account_directory(address: Address) -> Path:
    """Where the profiles of an account are. The same server under another name or port counts as another server."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "imclient" / f"{address.user}@{address.place}"


@contextmanager
def claim(address: Address, reader: str, device: str | None = None) -> Iterator[Profile]:
    """The profile of a free device, or of `device`, for as long as the block lasts.

    Raises SetupError where `device` is in use or the directory can't be, and BadRequest for a bad device name.
    """
    directory = account_directory(address)
    names = [f"device-{parse_device(device)}"] if device else map(str, range(1, MOST_SLOTS + 1))
    for name in names:
        descriptor = _lock(directory / f"{name}.lock")
        if descriptor is not None:
            try:
                yield Profile.load(directory / f"{name}.json", device=device, reader=reader)
                return
            finally:
                os.close(descriptor)  # and frees the lock
    which = f"the device {device}" if device else "every device"
    raise SetupError(f"{which} is in use by another imclient")


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock; None where another program does. The file stays: deleting it would race."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"{path} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
