"""One hook: it follows an account's logs as a device of its own, and posts one entry after the other.

A hook waits for one thing at a time: for its session, for the next entry, for its endpoint, or for the next try. `stop`
ends the first, second and fourth at once; a POST that is under way is finished, with the reply it may bring.
"""

import random
import ssl
from contextlib import aclosing
from typing import Any

import trio
from imclient.amendments import Deleted, Edited, Reacted
from imclient.backoff import MOST_SECONDS, Backoff
from imclient.client import Client
from imclient.connecting import connect
from imclient.errors import SessionEnded
from imclient.events import Contact, GroupChanged, Message, Notice, Synced, Truncated

from imserver.errors import BadCredentials, ExpiredToken, ImError, RequestError
from imserver.hooks.answer import Done, Failed
from imserver.hooks.config import Config, HookSettings
from imserver.hooks.endpoint import Endpoint
from imserver.hooks.holes import said_between
from imserver.hooks.metrics import HookCounters, HookView
from imserver.hooks.payload import Posted, body_of, is_wanted, key_of, reply_id
from imserver.observe.log import get_logger

log = get_logger("hooks")


class Hook:
    def __init__(self, config: Config, settings: HookSettings, endpoint: Endpoint, tls: ssl.SSLContext) -> None:
        self.settings = settings
        self.counters = HookCounters()
        self._config, self._endpoint, self._tls = config, endpoint, tls
        self._log = log.bind(hook=settings.name)
        self._is_connected = self._is_parked = self._is_stopping = False
        self._failing_since: float | None = None  # trio's clock
        self._why = ""  # the last failure
        self._key = ""  # of what is being posted
        self._may_repeat = True  # an earlier run may have posted, and replied to, what comes
        self._idle: trio.CancelScope | None = None  # around what `stop` ends at once

    def view(self) -> HookView:
        failing = 0.0 if self._failing_since is None else trio.current_time() - self._failing_since
        return HookView(self.settings.name, self.counters, self._is_connected, self._is_parked, failing)

    def status(self) -> dict[str, Any]:
        """For people and tools."""
        view = self.view()
        return {
            "hook": view.name,
            "account": self.settings.account,
            "url": self.settings.url,
            "connected": view.is_connected,
            "parked": view.is_parked,
            "failing_seconds": round(view.failing_seconds, 3),
            "why": self._why,
            "posting": self._key,
        }

    def stop(self) -> None:
        self._is_stopping = True
        if self._idle is not None:
            self._idle.cancel()

    # -- sessions

    async def run(self) -> None:
        """Until `stop`. One session after the other: whatever ends one, the next goes on where it was."""
        backoff = Backoff(random.random)
        while not self._is_stopping:
            try:
                await self._session(backoff)
            except ImError as error:
                self.counters.sessions_lost += 1
                least = MOST_SECONDS if isinstance(error, SessionEnded) else 0.0  # replaced: somebody else does this
                delay = max(backoff.next_delay(error.retry), least)
                self._log.error("hook has no session", why=str(error), code=error.code, again_in=round(delay, 1))
                await self._sleep(delay)
            except Exception:
                self._log.exception("hook failed")
                await self._sleep(MOST_SECONDS)
            self._is_connected = False

    async def _session(self, backoff: Backoff) -> None:
        """Raises what ends it."""
        hook, self._may_repeat = self.settings, True
        self._idle = entering = trio.CancelScope()
        with entering:
            address, token = str(self._config.address(hook)), self._config.token(hook)
            async with connect(address, token=token, device=hook.device, ssl_context=self._tls) as me:
                self._idle = None  # from here on `stop` ends less than the session
                self._is_connected = True
                backoff.reset()
                self._log.info("hook follows", account=me.user)
                await self._follow(me)

    async def _follow(self, me: Client) -> None:
        inbox = me.events(auto_ack=False)
        while not self._is_stopping:
            notice: Notice | None = None
            with trio.CancelScope() as self._idle:
                notice = await anext(inbox)
            self._idle = None
            if notice is not None and not await self._take(me, notice):
                return

    async def _take(self, me: Client, notice: Notice) -> bool:
        """False: the hook is to stop, and this is not done."""
        match notice:
            case Message() | Edited() | Deleted() | Reacted() | GroupChanged() | Contact():
                if not await self._deliver(me, notice):
                    return False
                me.ack(notice)
            case Truncated() if notice.count:
                if not await self._fill(me, notice):
                    return False
                me.ack(notice)
            case Truncated():
                self.counters.lost += 1
                self._log.error("entries are lost: the server no longer has them", before=notice.at, log=notice.log)
            case Synced():
                self._may_repeat = False
        return True

    async def _fill(self, me: Client, hole: Truncated) -> bool:
        """What the server has left out, from the history."""
        self._log.warning("reads the history", log=hole.log, after=hole.after, upto=hole.at)
        async with aclosing(said_between(me, hole.log, hole.after, hole.at)) as entries:
            async for entry in entries:
                if self._is_stopping or not await self._deliver(me, entry):
                    return False
                me.ack(entry)
        return True

    # -- one entry

    async def _deliver(self, me: Client, entry: Posted) -> bool:
        """Posts it until it is done with, or not wanted. False: the hook is to stop before."""
        if not is_wanted(entry, self.settings):
            self.counters.skipped += 1
            return True
        self._key, body = key_of(entry, self.settings), body_of(entry, self.settings)
        backoff, began = Backoff(random.random), trio.current_time()
        while isinstance(answer := await self._post(body), Failed):
            if 0 < self.settings.give_up_seconds <= trio.current_time() - began:
                self._give_up()
                return True
            if not await self._sleep(self._delay(answer, backoff)):
                return False
        await self._on_done(me, entry, answer)
        return True

    async def _post(self, body: bytes) -> Done | Failed:
        self.counters.posts += 1
        answer = await self._endpoint.post(self._key, body)
        if isinstance(answer, Failed):
            self._on_failed(answer)
        return answer

    def _on_failed(self, answer: Failed) -> None:
        now = trio.current_time()
        self.counters.fail(answer.reason)
        self._why = answer.why
        if self._failing_since is None:
            self._failing_since = now
            self._log.warning("endpoint fails", why=answer.why, key=self._key)
        elif not self._is_parked and now - self._failing_since >= self.settings.park_after_seconds:
            self._is_parked = True
            every = self.settings.parked_retry_seconds
            self._log.error("hook is parked", why=answer.why, key=self._key, tried_every_seconds=every)

    def _delay(self, answer: Failed, backoff: Backoff) -> float:
        delay = max(backoff.next_delay(), answer.retry_after or 0.0)
        return max(delay, self.settings.parked_retry_seconds) if self._is_parked else delay

    def _give_up(self) -> None:
        self.counters.given_up += 1
        self._log.error("entry is given up", key=self._key, why=self._why)
        self._key = ""

    async def _on_done(self, me: Client, entry: Posted, answer: Done) -> None:
        self.counters.delivered += 1
        if self._failing_since is not None:
            self._log.info("endpoint is back", was_parked=self._is_parked)
        self._failing_since, self._is_parked, self._why = None, False, ""
        if answer.complaint:
            self._refused(answer.complaint)
        elif answer.reply is not None and isinstance(entry, Message):
            await self._reply(me, entry, answer.reply)
        self._key = ""

    async def _reply(self, me: Client, message: Message, body: str | dict[str, Any]) -> None:
        """Waits until it is stored: an entry is done with only then. Raises what ends the session."""
        to = message.partner(self.settings.account)
        try:
            await me.send(to, body, id=reply_id(self._key), again=self._may_repeat)
            self.counters.replies += 1
        except (BadCredentials, ExpiredToken):
            raise
        except RequestError as error:
            self._refused(str(error))

    def _refused(self, why: str) -> None:
        self.counters.replies_refused += 1
        self._log.warning("reply can't be sent", why=why, key=self._key)

    async def _sleep(self, seconds: float) -> bool:
        """False: the hook is to stop."""
        with trio.CancelScope() as self._idle:
            if not self._is_stopping:
                await trio.sleep(seconds)
        self._idle = None
        return not self._is_stopping
