"""The two commands and the lock files, as far as they can be tested without installing anything."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from imserver.config import Settings

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.txt", "requirements-test.txt"]
NAME = re.compile(r"[A-Za-z0-9-]+")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def serve(*arguments: str, **environ: str | Path) -> "subprocess.CompletedProcess[str]":
    return run("serve", *arguments, **environ)


def run(name: str, *arguments: str, **environ: str | Path) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [ROOT / "ops" / name, *arguments]
    variables = {**os.environ, **{name: str(value) for name, value in environ.items()}}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, timeout=30)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A virtual environment whose stamp says that it is up to date; its programs tell how they are called."""
    program(tmp_path / "bin" / "python", "echo a fresh environment needs no Python >&2; exit 1")
    program(tmp_path / "bin" / "imserver", 'printf "%s\\n" "$@"; env | grep -c ^IMSERVER_')
    inputs = [ROOT / "ops" / "requirements.txt", ROOT / "pyproject.toml"]
    stamp = f"{ROOT} {tmp_path}\n" + "".join(path.read_text() for path in inputs)
    (tmp_path / "requirements.txt.stamp").write_text(stamp)
    return tmp_path


def test_serve_passes_its_arguments_on(installed: Path) -> None:
    result = serve("--tcp", "[::1]:0", "--data", "a b", IMSERVER_VENV=installed)
    *arguments, variables = result.stdout.splitlines()
    assert arguments == ["serve", "--config", str(ROOT / "ops" / "serve.toml"), "--tcp", "[::1]:0", "--data", "a b"]
    assert variables == "0"  # what is meant for the script is no setting
    assert result.stderr == ""


def test_the_demonstration_passes_its_arguments_on(installed: Path, require: Callable[[str], Path]) -> None:
    require("haproxy")
    require("redis-server")
    program(installed / "bin" / "python", 'printf "%s\\n" "$@"')
    result = run("cluster-demo", "--redis", "redis://a b", IMSERVER_VENV=installed)
    assert result.stdout.splitlines() == [str(ROOT / "ops" / "cluster_demo.py"), "--redis", "redis://a b"]
    assert result.stderr == ""


@pytest.mark.parametrize("found", ["Python 3.9.2", ""])
def test_serve_says_which_python_it_needs(tmp_path: Path, found: str) -> None:
    python = program(tmp_path / "python", f'[ "$1" = --version ] && echo "{found}"')
    result = serve(IMSERVER_VENV=tmp_path / "venv", IMSERVER_PYTHON=python if found else tmp_path / "absent")
    assert result.returncode == 1
    assert f"Python 3.11 or newer is needed; found: {found or 'none'}." in result.stderr
    assert "apt-get install python3 python3-venv" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_serve_opens_registration_on_loopback_only() -> None:
    assert tomllib.loads((ROOT / "ops" / "serve.toml").read_text()) == {"registration": "loopback"}


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_locked_has_hashes(lock: str) -> None:
    text = (ROOT / "ops" / lock).read_text()
    packages = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    for package in packages:
        assert re.match(r"[a-z0-9.-]+==\S+( ; .*)? \\\n +--hash=sha256:[0-9a-f]{64}", package), package


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_host_and_no_path(lock: str) -> None:
    assert not re.search(r"://|index|find-links|file:|/home|/root", (ROOT / "ops" / lock).read_text())


@pytest.mark.parametrize(("lock", "extras"), [(LOCKS[0], ["hooks"]), (LOCKS[1], ["hooks", "test"])])
def test_locks_hold_what_the_project_asks_for(lock: str, extras: list[str]) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    wanted = project["dependencies"] + pyproject["build-system"]["requires"]
    wanted += [package for extra in extras for package in project["optional-dependencies"][extra]]
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "ops" / lock).read_text()))
    assert {match[0] for package in wanted if (match := NAME.match(package))} <= locked


def test_both_locks_agree() -> None:
    serving, testing = (set(re.findall(r"(?m)^\S+==\S+", (ROOT / "ops" / lock).read_text())) for lock in LOCKS)
    assert serving <= testing


@pytest.mark.parametrize("continuous_integration", [False, True])
def test_a_missing_component(
    require: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, continuous_integration: bool
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true" if continuous_integration else "")
    outcome = pytest.fail.Exception if continuous_integration else pytest.skip.Exception
    with pytest.raises(outcome, match="haproxy is missing"):
        require("haproxy")


# -- around a server

UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_units_are_valid(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing (only Linux with systemd has it)")
    # It looks whether the programs are there, which here are not in /opt.
    text = unit.read_text().replace("/opt/imserver/.venv/bin/imserver", "/bin/true")
    instance = tmp_path / unit.name.replace("@.", "@main.")
    instance.write_text(text)
    done = subprocess.run([analyze, "verify", instance], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if instance.name in line]) == (0, [])


def test_a_unit_gives_the_drain_its_time() -> None:
    text = (ROOT / "ops" / "systemd" / "imserver@.service").read_text()
    [seconds] = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", text)
    assert int(seconds) >= 2 * Settings().drain_seconds + 20, "drained, and made sure of"


def test_each_value_of_haproxy_is_documented_with_its_default() -> None:
    """`IM_IDLE` is longer than the server needs to end a dead session."""
    text = (ROOT / "ops" / "haproxy.cfg").read_text()
    values = dict(re.findall(r"(?m)^ +presetenv (\w+) +(\S+)", text))
    values |= dict.fromkeys(re.findall(r"\.if defined\((\w+)\)", text), "not set")
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(values)
    rows = [line for line in (ROOT / "docs" / "operations.md").read_text().splitlines() if line.startswith("| `IM")]
    assert {name for row in rows for name in re.findall(r"`(IM\w+)`", row.split("|")[1])} == set(values)
    for row in rows:
        _, names, default, *_ = (cell.strip() for cell in row.split("|"))
        if names not in ("`IM1`, `IM2`", "`IM3`, `IM4`"):
            assert default == ", ".join(values[name] for name in re.findall(r"`(IM\w+)`", names))
    assert int(values["IM_IDLE"].removesuffix("s")) > 2 * Settings().ping_seconds
