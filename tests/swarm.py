"""`imswarm` as a program, for tests."""

import json
import os
import subprocess
import sys
from typing import Any


def imswarm(*arguments: str, status: int = 0) -> dict[str, Any]:
    """The JSON that `imswarm ARGUMENTS --json` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "imswarm", *arguments, "--json"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == status, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
