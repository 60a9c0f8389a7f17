"""The process `imserver hooks`, put together.

serve                    trio.run
`- nursery
   |- _heed_signals      SIGTERM, SIGINT: stop; a second one: at once
   |- serve_listeners    the admin port: a task per connection
   `- hooks              Hook.run for each; they end when they are told to stop
"""

import signal
from pathlib import Path

import msgspec
import trio

from imserver import __version__
from imserver.hooks.config import Config, load
from imserver.hooks.endpoint import Endpoint, tls_context
from imserver.hooks.hook import Hook
from imserver.hooks.metrics import render
from imserver.observe.admin import AdminPort, Page
from imserver.observe.exposition import CONTENT_TYPE
from imserver.observe.log import configure, get_logger
from imserver.supervisor.sockets import bound_to, listen

log = get_logger("hooks")

LEAVE_SECONDS = 5.0  # for a reply, and to say goodbye to the server; what is cut off is posted again at the next start


def serve(path: Path) -> int:
    """Runs until it is told to stop. Gives the exit status, 0; raises SetupError where it can't start."""
    config = load(path)
    configure(config.log_level)
    trio.run(_Process(config).run)
    return 0


class _Process:
    def __init__(self, config: Config) -> None:
        self._config = config
        tls = tls_context(str(config.path(config.ca)) if config.ca else None)
        self._endpoints = [
            Endpoint(
                hook.url,
                config.secrets(hook),
                str(config.path(hook.ca)) if hook.ca else None,
                hook.timeout_seconds,
            )
            for hook in config.hooks
        ]
        self._running = trio.CancelScope()
        self._is_stopping = False
        self._stop_seconds = LEAVE_SECONDS + max(hook.timeout_seconds for hook in config.hooks)
        self._hooks = [
            Hook(config, settings, endpoint, tls)
            for settings, endpoint in zip(config.hooks, self._endpoints, strict=True)
        ]

    async def run(self) -> None:
        listeners = await listen("admin", self._config.admin)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)
            pages = {"/metrics": self._metrics, "/status": self._status, "/healthz": self._health}
            nursery.start_soon(trio.serve_listeners, AdminPort(pages).handle, listeners)
            print(self._greeting(str(bound_to(listeners))), flush=True)
            with self._running:
                async with trio.open_nursery() as hooks:
                    for hook in self._hooks:
                        hooks.start_soon(hook.run)
            for endpoint in self._endpoints:
                await endpoint.aclose()
            nursery.cancel_scope.cancel()

    def _greeting(self, admin: str) -> str:
        count = len(self._hooks)
        return (
            f"imserver hooks {__version__} is ready: {count} hook{'s' if count > 1 else ''}\n"
            f"  server           {self._config.server}\n"
            f"  administration   http://{admin}/status"
        )

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The first one stops the hooks, which finish what is under way; a second one, or the time, ends them."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("signal", signal=signal.Signals(number).name)
                if self._is_stopping:
                    self._running.cancel()
                self._is_stopping = True
                self._running.deadline = trio.current_time() + self._stop_seconds
                for hook in self._hooks:
                    hook.stop()

    # -- pages

    async def _health(self) -> Page:
        return Page("text/plain; charset=utf-8", b"ok\n")

    async def _metrics(self) -> Page:
        return Page(CONTENT_TYPE, render([hook.view() for hook in self._hooks]))

    async def _status(self) -> Page:
        status = {"version": __version__, "hooks": [hook.status() for hook in self._hooks]}
        return Page("application/json", msgspec.json.format(msgspec.json.encode(status)) + b"\n")
