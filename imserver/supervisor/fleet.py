"""The workers: started together, started again when they crash, replaced one by one, drained together.

A place in the fleet has a number and one worker in service. While a worker is replaced there are two processes for the
place, the new one in service, the old one leaving.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import trio

from imserver.errors import SetupError
from imserver.observe.exposition import WorkerView
from imserver.observe.log import get_logger
from imserver.observe.metrics import Statistics, Totals
from imserver.store.datadir import WorkerEntry
from imserver.supervisor.backoff import Backoff
from imserver.supervisor.signals import Stop, unless
from imserver.supervisor.worker_process import Launch, WorkerFailed, WorkerProcess

log = get_logger("supervisor")

# Each needs most of a second of CPU. Fifty at once would all be late on two cores, and each has its time to be ready.
STARTS_AT_ONCE = 8


@dataclass(slots=True, eq=False)
class _Place:
    number: int
    worker: WorkerProcess | None = None
    restarts: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    changing: trio.Lock = field(default_factory=trio.Lock)  # one start at a time: crash and SIGHUP may coincide


class Fleet:
    """All workers. `run` MUST be running for anything to happen."""

    def __init__(self, launch: Launch, count: int, stop: Stop, changed: Callable[[], None]) -> None:
        """`changed` is called whenever another process is in service."""
        self._launch, self._stop, self._changed = launch, stop, changed
        self._places = [_Place(number) for number in range(count)]
        self._living: set[WorkerProcess] = set()
        self._ended = Totals()  # of the workers that are gone
        self._replace_asked = trio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """From the first start to the end of the last worker, which `stop` brings about.

        Calls `on_ready` when every worker is ready. Raises SetupError (in a group) if one never is: then something is
        wrong that no second attempt mends, and the worker has said what.
        """
        async with trio.open_nursery() as processes:
            self._processes = processes
            await unless(self._stop.asked, partial(self._keep_up, on_ready))
            await unless(self._stop.hurry, self._drain)
            await _each(self._living, WorkerProcess.dismiss)

    def replace(self) -> None:
        """Asks for new processes, one place after the other, each in service before the old one leaves."""
        self._replace_asked.set()

    # -- what others see

    @property
    def size(self) -> int:
        return len(self._places)

    def entries(self) -> list[WorkerEntry]:
        """The workers in service."""
        workers = (place.worker for place in self._places)
        return [WorkerEntry(worker.number, worker.pid, worker.node) for worker in workers if worker is not None]

    async def look(self) -> list[WorkerView]:
        """The workers in service, and what they say of themselves."""
        answers: dict[WorkerProcess, Statistics | None] = {}

        async def ask(worker: WorkerProcess) -> None:
            answers[worker] = await worker.ask_statistics()

        await _each(self._living, ask)
        return [_view(place, place.worker, answers.get(place.worker)) for place in self._places if place.worker]

    def totals(self) -> Totals:
        """All that was ever counted, as far as workers have told."""
        totals = Totals()
        totals.add(self._ended)
        for worker in self._living:
            if worker.statistics is not None:
                totals.add(worker.statistics)
        return totals

    # -- starting

    async def _keep_up(self, on_ready: Callable[[], None]) -> None:
        async with trio.open_nursery() as self._upkeep:
            await self._start_all()
            on_ready()
            await self._replace_when_asked()

    async def _start_all(self) -> None:
        failures: list[str] = []
        turns = trio.CapacityLimiter(STARTS_AT_ONCE)

        async def start(place: _Place) -> None:
            try:
                async with turns:
                    worker = await self._start(place)
                self._put_in_service(place, worker)
            except WorkerFailed as error:
                failures.append(str(error))
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in self._places:
                nursery.start_soon(start, place)
        if failures:
            raise SetupError(failures[0])

    async def _start(self, place: _Place) -> WorkerProcess:
        """A new worker that is ready. Raises WorkerFailed."""
        try:
            worker = WorkerProcess(place.number, self._launch)
        except OSError as error:
            raise WorkerFailed(f"worker {place.number} can't be started: {error.strerror}") from error
        self._processes.start_soon(self._accompany, worker)
        await worker.wait_ready()
        return worker

    async def _accompany(self, worker: WorkerProcess) -> None:
        self._living.add(worker)
        try:
            await worker.run()
        finally:
            self._living.remove(worker)
            if worker.statistics is not None:
                self._ended.add(worker.statistics)

    def _put_in_service(self, place: _Place, worker: WorkerProcess) -> None:
        place.worker = worker
        log.info("worker in service", worker=worker.number, pid=worker.pid, node=worker.node)
        self._changed()
        self._upkeep.start_soon(self._watch, place, worker)

    # -- starting again

    async def _watch(self, place: _Place, worker: WorkerProcess) -> None:
        await worker.ended.wait()
        if not worker.leaving:
            log.error("worker crashed", worker=worker.number, pid=worker.pid, end=worker.end)
            await self._start_again(place, worker)

    async def _start_again(self, place: _Place, dead: WorkerProcess) -> None:
        async with place.changing:
            began = dead.started
            while place.worker is dead:
                delay = place.backoff.delay_after(trio.current_time() - began)
                log.info("starting the worker again", worker=place.number, after_seconds=delay)
                await trio.sleep(delay)
                began = trio.current_time()
                place.restarts += 1
                try:
                    self._put_in_service(place, await self._start(place))
                except WorkerFailed as error:
                    log.error("worker is not ready", worker=place.number, why=str(error))

    # -- replacing

    async def _replace_when_asked(self) -> None:
        while True:
            await self._replace_asked.wait()
            self._replace_asked = trio.Event()
            await self._replace_all()

    async def _replace_all(self) -> None:
        for place in self._places:
            try:
                await self._replace(place)
            except WorkerFailed as error:
                log.error("replacement failed, the present workers stay", worker=place.number, why=str(error))
                return
        log.info("all workers are replaced")

    async def _replace(self, place: _Place) -> None:
        async with place.changing:
            old = place.worker
            self._put_in_service(place, await self._start(place))
        if old is not None:
            await old.ask_statistics()  # its last word, for the totals
            await old.drain(self._launch.settings.drain_seconds)

    # -- the end

    async def _drain(self) -> None:
        seconds = self._launch.settings.drain_seconds
        await _each(self._living, lambda worker: worker.drain(seconds))


def _view(place: _Place, worker: WorkerProcess, statistics: Statistics | None) -> WorkerView:
    return WorkerView(
        number=place.number,
        node=worker.node,
        pid=worker.pid,
        is_alive=not worker.ended.is_set(),
        uptime_seconds=trio.current_time() - worker.started,
        restarts=place.restarts,
        statistics=statistics,
    )


async def _each(workers: Iterable[WorkerProcess], act: Callable[[WorkerProcess], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for worker in list(workers):
            nursery.start_soon(act, worker)
