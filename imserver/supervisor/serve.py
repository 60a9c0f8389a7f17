"""The supervisor, put together.

Its tasks:

    serve                        claims the data directory, then trio.run
    `- nursery                   outlives the workers
       |- heed_signals           SIGTERM, SIGINT, SIGHUP
       |- StoreProcess.run       the keeper and the embedded store, started again with backoff  (without --redis)
       |- _stop_listening        when the server is told to stop
       |- serve_listeners        the admin port: a task per connection
       `- Fleet.run
          `- processes           a WorkerProcess.run for each worker process; they outlive the upkeep, to be drained
             `- upkeep           per worker: wait for its crash, start it again; SIGHUP: replace one after the other

It stops from the inside out: upkeep, workers, admin port, store, lock. If it is killed, the workers see their control
channels end and go, then the keeper stops the store.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

import imserver
from imserver.config import Settings
from imserver.descriptors import descriptor_limit, raise_descriptor_limit, sessions_per_worker
from imserver.endpoints import hide_password
from imserver.errors import SetupError
from imserver.observe.admin import AdminPort
from imserver.observe.log import configure, get_logger
from imserver.store.datadir import DataDir, RunFile
from imserver.store.embedded import EmbeddedStore, find_server
from imserver.supervisor.fleet import Fleet
from imserver.supervisor.pages import Pages
from imserver.supervisor.signals import Stop, Terminal, heed_signals, unless
from imserver.supervisor.sockets import bound_to, descriptors, listen
from imserver.supervisor.store_process import StoreProcess
from imserver.supervisor.worker_process import WORKER_COMMAND, Launch

log = get_logger("supervisor")


def serve(settings: Settings, worker_command: Sequence[str] = WORKER_COMMAND) -> int:
    """Runs a server until it is told to stop. Gives the exit status.

    0: stopped in an orderly way, all clients told. 1: it could not start; standard error says why.
    `worker_command` starts a worker; the descriptor of its control channel is added to it.
    """
    configure(settings.log_level)
    failures: list[str] = []
    try:
        data = DataDir(settings.data)
        with data.claim() as lock:
            trio.run(_Supervisor(settings, worker_command, data, lock).run)
    except* SetupError as errors:
        failures = [str(error) for error in _leaves(errors)]
    for failure in failures:
        print(f"imserver: {failure}", file=sys.stderr, flush=True)
    return 1 if failures else 0


def _leaves(group: BaseExceptionGroup[SetupError]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


class _Supervisor:
    """Composition root of the supervisor process."""

    def __init__(self, settings: Settings, worker_command: Sequence[str], data: DataDir, lock: int) -> None:
        raise_descriptor_limit()
        self.store: StoreProcess | None = None
        self.sessions_per_worker = sessions_per_worker(settings)
        self._settings, self._worker_command = settings, worker_command
        self._data, self._lock = data, lock
        self._is_ready = False

    async def run(self) -> None:
        self._stop = Stop()
        async with trio.open_nursery() as nursery:
            await nursery.start(heed_signals, self._stop, self._replace, Terminal())
            await self._listen()
            nursery.start_soon(self._stop_listening)
            if not self._settings.redis:
                await unless(self._stop.asked, partial(self._start_store, nursery))
            if not self._stop.asked.is_set():
                await self._serve()
            if self.store is not None:
                await self.store.stop()
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        settings = self._settings
        self._tcp = await listen("tcp", settings.tcp)
        self._http = await listen("http", settings.http)
        self._admin = await listen("admin", settings.admin)
        self._addresses = [bound_to(listeners) for listeners in (self._tcp, self._http, self._admin)]

    async def _stop_listening(self) -> None:
        """A connection that nobody will serve is refused at once, so that its client tries elsewhere."""
        await self._stop.asked.wait()
        for listener in (*self._tcp, *self._http):
            await listener.aclose()

    async def _start_store(self, nursery: trio.Nursery) -> None:
        server = await trio.to_thread.run_sync(find_server)
        embedded = EmbeddedStore(self._data, server, self._settings.durability)
        self.store = StoreProcess(embedded, self._lock, self._changed)
        await nursery.start(self.store.run)

    async def _serve(self) -> None:
        """From the first worker's start to the last one's end."""
        self.fleet = Fleet(self._launch(), _worker_count(self._settings), self._stop, self._changed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, AdminPort(Pages(self).table()).handle, self._admin)
            await self.fleet.run(self._on_ready)
            nursery.cancel_scope.cancel()
        self._data.remove_run_file()
        log.info("all workers have ended")

    def _launch(self) -> Launch:
        return Launch(
            settings=self._settings,
            tcp_fds=descriptors(self._tcp),
            http_fds=descriptors(self._http),
            redis=self._redis_url,
            held_fds=(self._lock,) if self.store is None else (self._lock, self.store.held_fd),
            command=self._worker_command,
        )

    def _replace(self) -> None:
        if self._is_ready:
            self.fleet.replace()

    @property
    def _redis_url(self) -> str:
        return self._settings.redis if self.store is None else self.store.store.url

    # -- what is told to others

    def run_file(self) -> RunFile:
        tcp, http, admin = self._addresses
        return RunFile(
            pid=os.getpid(),
            tcp=tcp,
            http=http,
            admin=admin,
            redis=self._redis_url,
            redis_pid=self.store.pid if self.store else None,
            workers=self.fleet.entries(),
        )

    def _changed(self) -> None:
        """Another process is in service."""
        if not self._is_ready or self._stop.asked.is_set():
            return
        try:
            self._data.write_run_file(self.run_file())
        except OSError as error:  # the server itself does not need it
            log.error("run.json can't be written", why=error.strerror)

    def _on_ready(self) -> None:
        self._is_ready = True
        self._changed()
        with suppress(OSError):  # whoever started the server need not listen
            print(self._greeting(), flush=True)

    def _greeting(self) -> str:
        tcp, http, admin = self._addresses
        each, count = self.sessions_per_worker, self.fleet.size
        store = (
            f"{self.store.store.server.name}, in {self._data.path}" if self.store else hide_password(self._redis_url)
        )
        return "\n".join(
            (
                f"imserver {imserver.__version__} is ready: {count} worker{'s' if count > 1 else ''}",
                f"  desktop clients  tcp://{tcp}",
                f"  browsers         http://{http}/  (WebSocket: ws://{http}/ws)",
                f"  administration   http://{admin}/status",
                f"  store            {store}",
                f"  sessions         {each * count:,} at once, {each:,} per worker "
                f"({descriptor_limit():,} descriptors per process)",
            )
        )


def _worker_count(settings: Settings) -> int:
    """One per core that this process may use."""
    return settings.workers or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
