"""A flame graph of a process: with py-spy where there is one, a clear message where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from imserver import profiling
from imserver.cli import main
from imserver.errors import SetupError
from imserver.observe.metrics import COUNTS
from tests.server import Server


def program(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for py-spy on PATH."""
    path = directory / profiling.PROGRAM
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory))


def test_without_py_spy_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="pip install py-spy"):
        profiling.record(os.getpid(), 1, tmp_path / "out.svg")


def test_what_py_spy_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "sys.exit('Permission denied: try again as root')", monkeypatch)
    with pytest.raises(SetupError, match="try again as root"):
        profiling.record(os.getpid(), 1, tmp_path / "out.svg")


def test_it_is_asked_for_this_process_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.svg"
    program(tmp_path, "open(sys.argv[sys.argv.index('--output') + 1], 'w').write(' '.join(sys.argv[1:]))", monkeypatch)
    profiling.record(4711, 3, out)
    assert out.read_text().startswith("record --pid 4711 --duration 3 ")


def test_how_much_is_done_at_once() -> None:
    before = {row.name: 10 for row in COUNTS}
    after = before | {"batches": 14, "batch_sockets": 20, "store_flushes": 12, "store_calls": 73}
    assert profiling.batches_between(before, after) == [
        "     2.5 ready sockets a turn",
        "    31.5 calls a write to the store",
        "       - entries a write to a client",
    ]


@pytest.mark.skipif(shutil.which(profiling.PROGRAM) is None, reason="py-spy is not installed")
def test_a_real_flame_graph(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            profiling.record(busy.pid, 1, tmp_path / "out.svg")
        finally:
            busy.kill()
    assert "<svg" in (tmp_path / "out.svg").read_text()


def test_a_running_worker_is_looked_at(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="no counters of worker 9"):
        profiling.counters_of(tuple(server.run["admin"]), 9)
    program(tmp_path, "open(sys.argv[sys.argv.index('--output') + 1], 'w').write('<svg/>')", monkeypatch)
    out = tmp_path / "out.svg"
    result = CliRunner().invoke(main, ["profile", "--data", str(server.data), "--seconds", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    *batches, path = result.output.splitlines()
    assert [line.split(maxsplit=1)[1] for line in batches] == [
        "ready sockets a turn",
        "calls a write to the store",
        "entries a write to a client",
    ]
    assert path == str(out)


def test_a_worker_that_does_not_run_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["profile", "--data", str(tmp_path), "--worker", "3"])
    assert result.exit_code == 1
    assert f"no worker 3 runs on {tmp_path}" in result.output
