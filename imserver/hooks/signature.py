"""Who posts, and that nobody changed it.

Signatures are as "Standard Webhooks" has them, for which most languages have a library: HMAC-SHA256 over
`<key>.<timestamp>.<body>`, in base64. With several secrets there are several, separated by spaces, so that a secret can
be replaced without a moment in which the endpoint knows the wrong one.
"""

import base64
import hmac
from collections.abc import Sequence


def signed_headers(secrets: Sequence[bytes], key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """`timestamp`: unix seconds, of this attempt."""
    signed = b"%b.%d.%b" % (key.encode(), timestamp, body)
    signatures = (base64.b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets)
    return {
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
