"""What becomes of the answer to a call."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import hiredis
import outcome
import trio

from imserver.errors import ImError, Unavailable
from imserver.observe.log import get_logger
from imserver.observe.metrics import Counters
from imserver.store.held import Call, Item, changes
from imserver.store.link_roles import LinkOwner
from imserver.store.refusals import error_of

log = get_logger("store")

_Refusal = hiredis.ReplyError  # looked up with every reply


def give_on(items: Iterable[Item], owner: LinkOwner, counters: Counters, *, is_kept: bool) -> Call | None:
    """Tells whom it concerns, in order. Returns the last call that was answered with a reply.

    `is_kept`: what the replies tell of is where `durability` wants it; else only what has changed nothing is believed.
    """
    answered: Call | None = None
    for call, reply in items:
        try:
            if call is None:
                owner.on_push(reply)
            elif type(reply) is _Refusal:
                counters.store_errors += 1
                call.then(error_of(str(reply)))
            elif is_kept or not changes(call):
                answered, parse = call, call.parse
                call.then(reply if parse is None else parse(reply))
            else:
                call.then(Unavailable("the store may not have kept this; send again with the same id"))
        except Exception:  # a bug costs the one call, not those behind it
            log.exception("an answer could not be handled")
    return answered


def fail(call: Call, error: ImError) -> None:
    """Tells who made the call. A bug in handling that costs the one call, not those behind it."""
    try:
        call.then(error)
    except Exception:
        log.exception("a failure could not be handled")


async def answer_of(make: Callable[[Callable[[Any], None]], None]) -> Any:
    """For a task: `make` makes the call, with this `then`. Raises the ImError. Cancelled, it drops the answer."""
    task = trio.lowlevel.current_task()
    waiting = True

    def then(reply: Any) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            trio.lowlevel.reschedule(task, _outcome_of(reply))

    def abort(_: Any) -> trio.lowlevel.Abort:
        nonlocal waiting
        waiting = False
        return trio.lowlevel.Abort.SUCCEEDED

    make(then)
    return await trio.lowlevel.wait_task_rescheduled(abort)


async def answers_of(makes: Sequence[Callable[[Callable[[Any], None]], None]]) -> list[Any]:
    """The same for several calls, made at once. An ImError is one of the answers."""
    answers: list[Any] = [None] * len(makes)
    missing = len(makes)

    def make(then: Callable[[Any], None]) -> None:
        def take(number: int, answer: Any) -> None:
            nonlocal missing
            answers[number] = answer
            missing -= 1
            if not missing:
                then(answers)

        for number, make_one in enumerate(makes):
            make_one(partial(take, number))

    return await answer_of(make) if makes else []


def pairs(hash_: Mapping[bytes, bytes] | Sequence[bytes]) -> Mapping[bytes, bytes]:
    """A hash, as RESP3 gives it or RESP2."""
    return hash_ if isinstance(hash_, Mapping) else dict(zip(hash_[::2], hash_[1::2], strict=True))


def _outcome_of(reply: Any) -> outcome.Outcome[Any]:
    return outcome.Error(reply) if isinstance(reply, ImError) else outcome.Value(reply)


def ignore(reply: object) -> None:
    """The answer of a call that nobody waits for."""
