"""What the admin port shows: `/metrics` for Prometheus, `/status` for people and tools, `/healthz`."""

import time
from typing import Any, Protocol

import msgspec

import imserver
from imserver.descriptors import descriptor_limit
from imserver.endpoints import hide_password
from imserver.observe import exposition
from imserver.observe.admin import Page, PageMaker
from imserver.observe.exposition import ServerView, WorkerView
from imserver.store.datadir import RunFile
from imserver.supervisor.fleet import Fleet
from imserver.supervisor.store_process import StoreProcess


class Server(Protocol):
    """What the pages need of the supervisor."""

    fleet: Fleet
    store: StoreProcess | None
    sessions_per_worker: int

    def run_file(self) -> RunFile: ...


class Pages:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._started = time.time()

    def table(self) -> dict[str, PageMaker]:
        return {"/metrics": self.metrics, "/status": self.status, "/healthz": self.health}

    async def health(self) -> Page:
        """The process lives. Whether delivery works is each worker's `/readyz`."""
        return Page("text/plain; charset=utf-8", b"ok\n")

    async def metrics(self) -> Page:
        return Page(exposition.CONTENT_TYPE, exposition.render(await self._look()))

    async def status(self) -> Page:
        view = await self._look()
        status = self._running() | {
            "version": view.version,
            "started": view.started,
            "uptime_seconds": round(time.time() - view.started, 3),
            "descriptors_per_process": descriptor_limit(),
            "sessions_allowed": view.sessions_allowed,
            "sessions_allowed_per_worker": self._server.sessions_per_worker,
            "sessions": sum(
                worker.statistics.gauges.get("sessions", 0) for worker in view.workers if worker.statistics
            ),
            "store": self._store(),
            "workers": [_worker(worker) for worker in view.workers],
        }
        return Page("application/json", msgspec.json.format(msgspec.json.encode(status)) + b"\n")

    async def _look(self) -> ServerView:
        server = self._server
        workers = await server.fleet.look()
        return ServerView(
            version=imserver.__version__,
            started=self._started,
            sessions_allowed=server.sessions_per_worker * server.fleet.size,
            store_restarts=server.store.restarts if server.store else 0,
            workers=workers,
            totals=server.fleet.totals(),
        )

    def _running(self) -> dict[str, Any]:
        run = self._server.run_file()
        run.redis = hide_password(run.redis)
        return msgspec.structs.asdict(run)

    def _store(self) -> dict[str, Any]:
        store = self._server.store
        if store is None:
            return {"embedded": False}
        return {"embedded": True, "server": store.store.server.name, "pid": store.pid, "restarts": store.restarts}


def _worker(worker: WorkerView) -> dict[str, Any]:
    statistics = worker.statistics
    return {
        "number": worker.number,
        "node": worker.node,
        "pid": worker.pid,
        "state": _state(worker),
        "why": statistics.why if statistics else "",
        "uptime_seconds": round(worker.uptime_seconds, 3),
        "restarts": worker.restarts,
        "gauges": statistics.gauges if statistics else {},
        "counters": statistics.counters if statistics else {},
        "errors": statistics.labelled.get("errors", {}) if statistics else {},
        "shed": statistics.labelled.get("shed", {}) if statistics else {},
        "logins_refused": statistics.labelled.get("logins_refused", {}) if statistics else {},
    }


def _state(worker: WorkerView) -> str:
    if not worker.is_alive:
        return "restarting"
    if worker.statistics is None:
        return "unresponsive"
    return "ready" if worker.statistics.ready else "not ready"
