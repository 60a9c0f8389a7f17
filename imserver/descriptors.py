"""How many descriptors a process may have, and so how many sessions: each session is a socket."""

import resource

from imserver.config import Settings

# What a worker needs beside its sessions: listening sockets, poller, links, control channel, log, threads.
RESERVED_DESCRIPTORS = 64
# Some systems name an infinite hard limit but refuse to set it; macOS takes no more than kern.maxfilesperproc.
_INSTEAD_OF_INFINITY = (1 << 20, 1 << 18, 1 << 16, 10_240)


def raise_descriptor_limit() -> int:
    """Raises this process's limit, which its children inherit, as far as it is allowed; gives what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _INSTEAD_OF_INFINITY if hard == resource.RLIM_INFINITY else (hard,)
    for limit in wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, soft), hard))
        except (ValueError, OSError):
            continue
        break
    return descriptor_limit()


def descriptor_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _INSTEAD_OF_INFINITY[0] if soft == resource.RLIM_INFINITY else soft


def sessions_per_worker(settings: Settings) -> int:
    """How many sessions one worker takes, under the present descriptor limit and `sessions_max`."""
    allowed = max(1, descriptor_limit() - RESERVED_DESCRIPTORS)
    return min(allowed, settings.sessions_max) if settings.sessions_max else allowed
