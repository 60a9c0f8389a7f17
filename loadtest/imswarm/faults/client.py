"""A client process: many devices in one trio loop, paced together, obeying the parent."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection as Pipe

import trio
import trio.lowlevel

from imswarm.faults.device import MARK, TalkingDevice
from imswarm.faults.mistakes import Mistake
from imswarm.faults.plan import Begin, Done, End, Leave, Mark, News, Order, Plan, Quiet, Reset, Restart, Return
from imswarm.history import Recorder

_TICK_SECONDS = 0.02
_NEWS_SECONDS = 0.5
_POLL_SECONDS = 0.05
_MOST_AT_ONCE_SECONDS = 0.1
"""So much of the rate is made up for at once: after a pause nobody shouts."""
_BEGIN_SECONDS = 30.0
_CHANGE_EVERY_SECONDS = 4.0
"""Who wanders joins or leaves so often; an owner throws one of them out so often."""


def client_main(plan: Plan, pipe: Pipe) -> None:
    """The process's whole life. It ends when the parent says so, or is gone; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trio.run(ClientProcess(plan, pipe).run)
    except* (EOFError, ConnectionError):
        pass  # the parent is gone


class ClientProcess:
    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        self._plan = plan
        self._pipe = pipe
        self._recorders = [Recorder(plan.directory, seat.device) for seat in plan.seats]
        writers = [recorder.write for recorder in self._recorders]
        if plan.mistake is not None:
            writers[0] = Mistake(plan.mistake, writers[0]).record
        self._devices = [TalkingDevice(seat, write) for seat, write in zip(plan.seats, writers, strict=True)]
        self._is_talking = False
        self._said = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for device in self._devices:
                nursery.start_soon(device.run)
            nursery.start_soon(self._talk)
            for device in self._devices:
                if device.seat.is_active:
                    nursery.start_soon(self._come_and_go, device)
            nursery.start_soon(self._tell_news)
            await self._obey()
            nursery.cancel_scope.cancel()

    async def _obey(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._pipe.fileno())
            order: Order = self._pipe.recv()
            missing = await self._carry_out(order)
            self._pipe.send(Done(tuple(missing)))
            if isinstance(order, End):
                return

    async def _carry_out(self, order: Order) -> Sequence[str]:
        """What did not happen in time."""
        match order:
            case Begin():
                return await self._begin()
            case Quiet():
                return await self._fall_quiet(order.longest_seconds)
            case Mark():
                return await self._mark(order)
            case End():
                return await self._end()
            case _:
                self._break(order)
        return ()

    def _break(self, order: Reset | Restart | Leave | Return) -> None:
        match order:
            case Reset():
                for device in self._some(order.share, order.seed):
                    device.break_connection()
            case Restart():
                for device in self._some(order.share, order.seed):
                    device.die()
            case Leave():
                for device in self._devices:
                    if device.seat.device.user in order.users:
                        device.stay_away(says_so=order.says_so)
            case Return():
                for device in self._devices:
                    device.come_back()

    def _some(self, share: float, seed: int) -> list[TalkingDevice]:
        return random.Random(seed).sample(self._devices, max(1, round(share * len(self._devices))))

    # -- orders

    async def _begin(self) -> Sequence[str]:
        missing = await self._wait(lambda device: device.is_live, _BEGIN_SECONDS, "is not logged in")
        self._is_talking = True
        return missing

    async def _fall_quiet(self, seconds: float) -> Sequence[str]:
        self._is_talking = False
        return await self._wait(
            lambda device: device.is_live and not device.unanswered, seconds, "is not live, or waits for answers"
        )

    async def _mark(self, order: Mark) -> Sequence[str]:
        by_name = {device.seat.device: device for device in self._devices}
        missing = []
        for name, to in order.marks:
            device = by_name.get(name)
            if device is not None and device.can_say(to, self._plan.window):
                device.say(to, f"{MARK} {name} {to}")
            elif device is not None:
                missing.append(f"{name} can't send the mark")
        late = await self._wait(
            lambda device: device.is_marked and not device.unanswered, order.longest_seconds, "has not got everything"
        )
        late += await self._wait(lambda device: device.is_shown_all, order.longest_seconds, "is not shown all contacts")
        return [*missing, *late]

    async def _end(self) -> Sequence[str]:
        self._is_talking = False
        for device in self._devices:
            device.leave()
        late = await self._wait(lambda device: device.has_left, _BEGIN_SECONDS, "does not log out")
        for recorder in self._recorders:
            recorder.close()
        return late

    async def _wait(self, is_so: Callable[[TalkingDevice], bool], seconds: float, what: str) -> list[str]:
        """The devices of which it is not so within `seconds`, in words."""
        with trio.move_on_after(seconds):
            while not all(map(is_so, self._devices)):  # noqa: ASYNC110 - no one event says it of all
                await trio.sleep(_POLL_SECONDS)
        late = [device for device in self._devices if not is_so(device)]
        return [
            f"{device.seat.device} {what} ({device.state}, {device.unanswered} without an answer)" for device in late
        ]

    # -- talking

    async def _talk(self) -> None:
        """All conversations in turn, at the rate; those whose window is full are passed over."""
        talks = [(device, to) for device in self._devices for to in device.seat.partners]
        random.Random(self._plan.seats[0].device.user).shuffle(talks)
        turns, due, before = cycle(talks), 0.0, trio.current_time()
        while True:
            await trio.sleep(_TICK_SECONDS)
            now = trio.current_time()
            due += (now - before) * self._plan.rate_per_second
            due, before = min(due, _MOST_AT_ONCE_SECONDS * self._plan.rate_per_second), now
            if self._is_talking:
                due -= self._say_some(partial(islice, turns, len(talks)), due)

    def _say_some(self, next_turns: Callable[[], islice[tuple[TalkingDevice, str]]], due: float) -> int:
        """At most `due` messages, at most one round; how many were said."""
        said = 0
        for device, to in next_turns():
            if said + 1 > due:
                break
            if device.can_say(to, self._plan.window):
                self._said += 1
                device.say(to, f"{device.seat.device} to {to}: {self._said}".ljust(self._plan.body_bytes, "."))
                said += 1
        return said

    async def _come_and_go(self, device: TalkingDevice) -> None:
        """At times that follow from the seed, while everybody talks."""
        user, role = device.seat.device.user, device.seat.role
        chance = random.Random(f"{self._plan.seed} {user.partition('-')[0]}")
        whom = role.kicks or ((user,) if role.wanders else ())
        while whom:
            await trio.sleep(chance.uniform(0.5, 2 * _CHANGE_EVERY_SECONDS))
            chosen = chance.choice(whom)
            if self._is_talking:
                await device.change_group(chosen)

    # -- telling

    async def _tell_news(self) -> None:
        while True:
            self._pipe.send(self._news())
            await trio.sleep(_NEWS_SECONDS)

    def _news(self) -> News:
        return News(
            live=sum(device.is_live for device in self._devices),
            delivered=sum(device.delivered for device in self._devices),
            incidents=tuple(incident for device in self._devices for incident in device.take_incidents()),
            troubles=tuple(trouble for device in self._devices for trouble in device.take_troubles()),
        )
