"""Devices and profiles."""

from typing import Any

import msgspec


class Device(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """Times are unix seconds. `seen`: when its connection ended last; not there while it is connected."""

    device: str
    name: str = ""
    created: int
    login: int
    seen: int | None = None
    connected: bool = False


class DeviceList(msgspec.Struct):
    """The `ok` of `devices`."""

    devices: list[Device]


class ProfileShown(msgspec.Struct, omit_defaults=True, gc=False):
    """The `ok` of `profile`: just user and version where nothing has changed."""

    user: str
    version: int
    name: str | None = None
    avatar: str | None = None
    about: str | None = None
    bot: bool = False


class ProfileList(msgspec.Struct):
    """The `ok` of `profiles`: those that have changed. `gone`: there is no such user."""

    profiles: list[ProfileShown]
    gone: list[str]


class ProfileVersion(msgspec.Struct):
    """The `ok` of `profile.set`."""

    version: int


class LogPage(msgspec.Struct, omit_defaults=True):
    """The `ok` of `export`: entries of all kinds (`imserver.model.Entry`), oldest first, each as it is pushed."""

    entries: list[Any]
    next: str | None = None  # None: there are no more
