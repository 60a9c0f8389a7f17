"""Plays a schedule, tells its story, and finds the shortest one that still fails."""

import traceback
from collections.abc import Callable
from dataclasses import replace

from tests.simulation.scene import Scene, Tell
from tests.simulation.schedule import Schedule, Shape, Step

Fails = Callable[[Schedule], bool]


def play(schedule: Schedule, tell: Tell | None = None) -> Scene:
    """The steps, then all comes right, then the judgement. Raises what went wrong."""
    scene = Scene(schedule.shape, tell)
    if schedule.fails_over:
        scene.world.remember_writes()
    for step in schedule.steps:
        scene.do(*step)
    scene.finish(loses_pushes=schedule.loses_pushes)
    scene.ledger.judge()
    return scene


def failure_of(schedule: Schedule) -> str:
    """What goes wrong in it; empty: nothing."""
    try:
        play(schedule)
    except Exception as error:
        return _named(error)
    return ""


def fails_like(failure: str) -> Fails:
    """Whether a schedule fails at the same place: what is made shorter must not slide into another bug."""
    place = failure[failure.rindex("(") :]
    return lambda schedule: failure_of(schedule).endswith(place)


def _named(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"


def story_of(schedule: Schedule) -> list[str]:
    """The whole history, a line for each thing that happens, with the end."""
    lines = [_described(schedule.shape)]
    try:
        play(schedule, lines.append)
    except Exception as error:
        return [*lines, f"WRONG: {_named(error)}"]
    return [*lines, "all promises were kept"]


def _described(shape: Shape) -> str:
    people = ", ".join(f"{user} ({' '.join(devices)})" for user, devices in shape.people)
    calls = "one call reaches two logs" if shape.reaches_both else "a call reaches one log"
    pushes = "before" if shape.push_first else "behind"
    return f"{people}; {shape.nodes} nodes, {shape.shards} shards; {calls}; own pushes come {pushes} the reply"


def shortest(schedule: Schedule, fails: Fails) -> Schedule:
    """Leaves out steps as long as it still fails: large pieces first, then single ones. Deterministic."""
    steps = schedule.steps
    size = max(1, len(steps) // 2)
    while True:
        shorter = _without_pieces(schedule.shape, steps, size, fails)
        if shorter == steps and size == 1:
            return replace(schedule, steps=steps)
        if shorter == steps:
            size //= 2
        steps = shorter


def _without_pieces(shape: Shape, steps: tuple[Step, ...], size: int, fails: Fails) -> tuple[Step, ...]:
    """Tries each piece of that size, from the end: what comes late depends on what came before."""
    start = len(steps) - size
    while start > -size:
        shorter = steps[: max(0, start)] + steps[start + size :]
        if fails(Schedule(shape, shorter)):
            steps = shorter
        start -= size
    return steps
