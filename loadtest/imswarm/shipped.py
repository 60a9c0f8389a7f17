"""The files that come with the package: beside it in the repository, in it where it is installed."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """The directory of this name."""
    beside = _PACKAGE.parent / name
    return beside if _PACKAGE.parent.name == "loadtest" else _PACKAGE / name
