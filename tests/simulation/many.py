"""Many seeds, in several processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from imserver.observe import log
from tests.simulation import group_play
from tests.simulation.history import failure_of
from tests.simulation.planted import plant
from tests.simulation.schedule import schedule_of

CHUNK = 50  # seeds that a process takes at a time

Failing = Callable[[range], list[tuple[int, str]]]


def failing(seeds: range) -> list[tuple[int, str]]:
    return [(seed, failure) for seed in seeds if (failure := failure_of(schedule_of(seed)))]


def failing_with_groups(seeds: range) -> list[tuple[int, str]]:
    return [(seed, failure) for seed in seeds if (failure := group_play.failure_of(seed))]


def failures_of(
    seeds: range, processes: int, bug: str | None = None, failing: Failing = failing
) -> Iterator[tuple[int, str]]:
    """The seeds that fail, and how; in order. `bug`: planted for this."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if processes == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield from failing(chunk)
        return
    # Not forked: a process that has threads (of pytest, perhaps) can't be forked safely.
    with ProcessPoolExecutor(processes, get_context("spawn"), prepare, (bug,)) as pool:
        for found in pool.map(failing, chunks):
            yield from found


def prepare(bug: str | None) -> None:
    """In each process: quiet, and with the planted bug for the rest of its life."""
    log.configure("critical")
    if bug is not None:
        plant(bug)
