"""How a link comes to its connection, and to another whenever that is lost."""

from typing import TYPE_CHECKING

import trio

from imserver.observe.log import get_logger
from imserver.store.redis_handshake import Connected, HandshakeFailed, shake_hands
from imserver.store.replicas import open_witness

if TYPE_CHECKING:
    from imserver.store.redis_link import RedisLink

log = get_logger("store")

_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 0.02, 1.0


class LinkLife:
    """Of one link."""

    def __init__(self, link: "RedisLink", client_name: str) -> None:
        self._link, self._client_name = link, client_name
        self._stretch = trio.CancelScope()  # all that is done for one shard
        self._is_over = False

    async def run(self) -> None:
        """Connects, and connects again whenever the link is lost, until cancelled or at the end."""
        while not self._is_over:
            with trio.CancelScope() as self._stretch:
                await self._keep_up()

    def begin_anew(self) -> None:
        """The link leads elsewhere now: whatever is being tried or waited for is given up."""
        self._stretch.cancel()

    def end(self) -> None:
        self._is_over = True
        self._stretch.cancel()

    async def _keep_up(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            try:
                connected, second = await self._connect()
            except HandshakeFailed as error:
                log.debug("no link", shard=self._link.url, why=str(error))
                self._link.stays_down(str(error))
                await trio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)
                continue
            self._link.adopt(connected, second)
            began = trio.current_time()
            await self._link.wait_lost()
            self._link.fail_what_must_not_be_late()
            if trio.current_time() - began > _LAST_BACKOFF_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            else:  # it connects, but can't do anything: its functions are gone, perhaps
                await trio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)

    async def _connect(self) -> tuple[Connected, Connected | None]:
        """To the link's shard as it is now; with `durability = replica` a second time. Raises HandshakeFailed."""
        shard, second = self._link.shard, None
        connected = await shake_hands(
            shard.url,
            client_name=self._client_name,
            channels=self._link.channels,
            clustered=shard.clustered,
            epoch_key=self._link.epoch_key,
        )
        try:
            if shard.durability == "replica":
                second = await open_witness(shard.url, client_name=self._client_name, run_id=connected.run_id)
            if self._stretch.cancel_called:  # in the moment in which this was done
                await trio.lowlevel.checkpoint()
        except BaseException:
            connected.sock.close()
            if second is not None:
                second.sock.close()
            raise
        return connected, second
