"""TLS to Redis (`rediss://`): a socket that behaves like any other non-blocking one.

The certificate is verified, and has to name the host, unless the URL says otherwise; its options are those of redis-py,
which reads the same URL for the administrator's commands: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (paths),
`ssl_cert_reqs` (required, none), `ssl_check_hostname`.
"""

import socket
import ssl
from collections.abc import Mapping
from typing import Any

import trio


class TlsSocket(ssl.SSLSocket):
    def recv(self, buflen: int = 65536, flags: int = 0) -> bytes:
        """Leaves nothing behind that was decrypted: no poller would tell of it. May be more than `buflen`."""
        try:
            data = super().recv(buflen, flags)
            while self.pending():
                data += super().recv(self.pending(), flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return data

    def send(self, data: Any, flags: int = 0) -> int:
        """After BlockingIOError the same bytes MUST come first again; more may follow them."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


async def wrap(sock: socket.socket, host: str, options: Mapping[str, Any]) -> TlsSocket:
    """The connected socket with TLS. Raises OSError (ssl.SSLError is one); then the socket is closed."""
    try:
        wrapped = _context(options).wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    assert isinstance(wrapped, TlsSocket)
    try:
        await _shake_hands(wrapped)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


async def _shake_hands(sock: TlsSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await trio.lowlevel.wait_readable(sock)
        except ssl.SSLWantWriteError:
            await trio.lowlevel.wait_writable(sock)
        else:
            return


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Raises OSError where a file can't be read."""
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    context.sslsocket_class = TlsSocket
    if options.get("ssl_cert_reqs", "required") in ("none", ssl.CERT_NONE):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not options.get("ssl_check_hostname", True):
        context.check_hostname = False
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"))
    return context
