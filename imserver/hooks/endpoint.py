"""One endpoint: POSTs over httpx, one at a time, on a connection that is kept."""

import ssl
import time
from collections.abc import Sequence

import httpx
import trio

from imserver import __version__
from imserver.errors import SetupError
from imserver.hooks.answer import Done, Failed, meaning_of
from imserver.hooks.signature import signed_headers

MOST_ANSWER_BYTES = 65536  # a reply is a message
_HEADERS = {
    "content-type": "application/json",
    "user-agent": f"imserver-hooks/{__version__}",
    "accept-encoding": "identity",  # what is unpacked has no bound
}


class Endpoint:
    def __init__(self, url: str, secrets: Sequence[bytes], ca: str | None, timeout_seconds: float) -> None:
        """`ca`: a file; None: the system's certificates. Raises SetupError."""
        self._url = url
        self._secrets = secrets
        self._timeout_seconds = timeout_seconds
        self._http = httpx.AsyncClient(verify=tls_context(ca), timeout=None, follow_redirects=False)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def post(self, key: str, body: bytes) -> Done | Failed:
        headers = _HEADERS | signed_headers(self._secrets, key, int(time.time()), body)
        with trio.move_on_after(self._timeout_seconds):
            try:
                return await self._exchange(headers, body)
            except httpx.HTTPError as error:
                return Failed("connection", _reason(error))
        return Failed("timeout", f"it has not answered within {self._timeout_seconds:g} s")

    async def _exchange(self, headers: dict[str, str], body: bytes) -> Done | Failed:
        """An answer counts once it is here to its end: what is cut off may be the reply."""
        content = b""
        async with self._http.stream("POST", self._url, content=body, headers=headers) as response:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    content = b""
                    break
        return meaning_of(response.status_code, response.headers.get("retry-after"), content, time.time())


def _reason(error: BaseException) -> str:
    """What the operating system or TLS said, which httpx wraps."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__


def tls_context(ca: str | None) -> ssl.SSLContext:
    """Certificates are verified, always. Raises SetupError."""
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"ca: {ca} can't be used: {error}") from None
