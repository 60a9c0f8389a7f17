"""A program that may be killed at any moment: it sends numbered messages, and prints those that it gets.

talker.py URL STORE PARTNER COUNT LOOP: ends when it has both queued and got number COUNT - 1. What it sends begins with
what is not in the store, among what was sent or what is still to be sent.
"""

import sqlite3
import sys
from pathlib import Path

import anyio
import imclient


def said_so_far(store: str, me: str) -> int:
    if not Path(store).exists():
        return 0
    sqlite = sqlite3.connect(store)
    [(sent,)] = sqlite.execute("SELECT count(*) FROM entries WHERE sender = ?", (me,))
    [(unsent,)] = sqlite.execute("SELECT count(*) FROM outbox WHERE NOT is_confirmed")
    sqlite.close()
    return int(sent) + int(unsent)


async def main(url: str, store: str, partner: str, count: int, said: int) -> None:
    async with imclient.connect(url, password="secret", store=store) as me, anyio.create_task_group() as tasks:

        async def talk() -> None:
            for number in range(said, count):
                await me.queue(partner, str(number))

        tasks.start_soon(talk)
        async for message in me.messages():
            print(message.body, flush=True)
            if message.body == str(count - 1):
                break


if __name__ == "__main__":
    url, store, partner, count = sys.argv[1:5]
    said = said_so_far(store, url.partition("://")[2].partition("@")[0])
    anyio.run(main, url, store, partner, int(count), said, backend=sys.argv[5])
