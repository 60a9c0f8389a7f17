"""A headless Chromium for the tests of the page, and what every page must not do."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.server import Server

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 20_000  # a lost server is met with waits of several seconds
OUTCOME: pytest.StashKey[bool] = pytest.StashKey()

expect.set_options(timeout=PATIENCE_MS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tells the fixtures whether their test has failed."""
    report = yield
    if report.when == "call":
        item.stash[OUTCOME] = report.failed
    return report


@pytest.fixture(scope="module")  # while it lives, Playwright's loop runs in this thread, and no other asyncio can
def chromium(require: Callable[[str], Path]) -> Iterator[Browser]:
    path = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Sins:
    """What no page may do, whatever a test is about: raise an error, break its security policy, ask another host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.found: list[str] = []

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.found.append(message.text)

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in (self._host, ""):
            self.found.append(f"request to {request.url}")


@pytest.fixture
def browser(
    chromium: Browser, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[BrowserContext]:
    """A browser that has never seen the page. Screenshots of a failed test's pages are in its temporary folder."""
    host = "{}:{}".format(*server.http)
    sins = Sins(host)
    context = chromium.new_context(base_url=f"http://{host}/", viewport={"width": 1100, "height": 700})
    context.set_default_timeout(PATIENCE_MS)
    context.on("page", sins.watch)
    yield context
    if request.node.stash.get(OUTCOME, True):
        for number, page in enumerate(context.pages):
            page.screenshot(path=tmp_path / f"page-{number}.png")
            print(f"screenshot: {tmp_path}/page-{number}.png")
    context.close()
    assert sins.found == []


@pytest.fixture
def page(browser: BrowserContext) -> Page:
    page = browser.new_page()
    page.goto("/")
    return page
