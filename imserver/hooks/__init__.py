"""`imserver hooks`: what happens to an account is posted to an HTTP endpoint.

    serve       the process: a task for each hook, the admin port, signals
    hook        one hook's life: follows the account's logs as a device of its own, posts one entry after the other
    holes       what a group said while the hook was away for too long, from the history
    payload     which entries are wanted, and what is posted
    signature   how the endpoint knows who posts
    endpoint    one POST, over httpx
    answer      what the endpoint's answer means
    metrics     what is counted, as text for Prometheus
    config      the settings

A client of the server like any other: it imports imclient, and nothing of the server but what all parts share.

**Invariant: an entry is acknowledged only once the endpoint has answered 2xx, it was given up, or it is not wanted.**
The server keeps the hook's position with its device, so the process keeps nothing, and may be killed at any moment:
what was not acknowledged comes again, and is posted again under the same key.
"""
