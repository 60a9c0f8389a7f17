"""The page's modules that need no page, by their own tests."""

import subprocess
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def test_the_modules_pass_their_tests(require: Callable[[str], Path]) -> None:
    tests = sorted(HERE.glob("js/*.test.mjs"))
    done = subprocess.run([require("node"), "--test", *tests], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_is_one_the_page_loads() -> None:
    """Nothing dead is served: each module is imported by another one, or by the page."""
    web = HERE.parents[1] / "client" / "web"
    modules = {path.name: path.read_text() for path in web.rglob("*.js")}
    sources = [*modules.values(), (web / "index.html").read_text()]
    assert [name for name in modules if not any(f'/{name}"' in source for source in sources)] == []
