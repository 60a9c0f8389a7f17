"""Passwords: argon2id, in a bounded number of threads.

One hash takes tens of milliseconds and tens of megabytes; the bound keeps a wave of logins from taking all of both.
Whoever comes back uses a token and never gets here.
"""

import argon2
import trio


class Passwords:
    def __init__(self, *, memory_kib: int, rounds: int, threads: int) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=rounds, memory_cost=memory_kib, parallelism=1)
        self._limiter = trio.CapacityLimiter(threads)
        # Checked when there is no such user: a stranger can't tell by the clock which users exist.
        self._nobody = argon2.PasswordHasher(time_cost=rounds, memory_cost=memory_kib, parallelism=1).hash("nobody")

    async def hash(self, password: str) -> str:
        return await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def is_right(self, known_hash: str | None, password: str) -> bool:
        """`known_hash` None or empty (no such user, or no password): False, after as much work."""
        return await trio.to_thread.run_sync(self._verify, known_hash or None, password, limiter=self._limiter)

    def _verify(self, known_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(known_hash or self._nobody, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return known_hash is not None


def hash_now(password: str, *, memory_kib: int, rounds: int) -> str:
    """The same for the admin commands, which have nobody else to serve."""
    return argon2.PasswordHasher(time_cost=rounds, memory_cost=memory_kib, parallelism=1).hash(password)
