"""A worker that can stop and go on, and drain as `imserver.worker` does."""

from tests.model_store import World
from tests.session.node import ServerNode


class SimulatedNode(ServerNode):
    def __init__(self, world: World, name: str, **settings: object) -> None:
        super().__init__(world, name, **settings)
        self.name = name
        self.stopped = False  # SIGSTOP: the kernel still takes what is sent to it, and the store what it has written
        self.draining = False

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """It finds what has come meanwhile: bytes of clients that are long gone, replies, lost links."""
        self.stopped = False
        for link in self.store.links:
            if not link.up:
                with self.reactor.batch():
                    link.cut()

    def move(self) -> bool:
        if not self.stopped:
            return super().move()
        moved = False
        for link in self.store.links:
            while link.execute():
                moved = True
        return moved

    # -- drain, in the steps of `Worker.drain`

    def begin_drain(self) -> None:
        """No new clients, no new commands; what is on its way is finished."""
        self.draining = self.context.draining = True
        self._send_newcomers_elsewhere()
        for session in self.context.registry:
            session.hold()

    @property
    def is_sending(self) -> bool:
        return any(session.sending for session in self.context.registry)

    def say_bye(self) -> None:
        self._send_newcomers_elsewhere()
        with self.reactor.batch():
            for session in list(self.context.registry):
                session.expel("drain", "this server is being replaced", reconnect=True)

    def _send_newcomers_elsewhere(self) -> None:
        with self.reactor.batch():
            for session in list(self.context.newcomers):
                session.send_elsewhere()

    @property
    def has_said_all(self) -> bool:
        """Everybody was told to go, and the directory knows that they went."""
        return not len(self.context.registry) and not any(link.calls for link in self.store.links)
