"""What the sockets that listen give to those that they accept."""

import socket

from trio.testing import trio_test

from imserver.endpoints import HostPort
from imserver.supervisor.sockets import UNSENT_BYTES, bound_to, listen


@trio_test
async def test_the_kernel_keeps_little_for_a_client_that_does_not_read() -> None:
    (listener,) = await listen("tcp", HostPort("127.0.0.1", 0))
    async with listener:
        host, port = bound_to([listener])
        with socket.create_connection((host, port)):
            accepted, _ = await listener.socket.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
