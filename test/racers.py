"""Processes that write to one store at once."""

import asyncio
import os
import signal
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from fedn_py.store.mongodb import open_mongodb
from fedn_py.store.ports import Documents
from fedn_py.store.sqlite import open_sqlite

Place = tuple[str, ...]
"""("sqlite", path) or ("mongodb", uri, database): what another process opens for itself."""


async def open_place(place: Place) -> Documents:
    """Open the documents at a place."""
    if place[0] == "sqlite":
        return await open_sqlite(Path(place[1]))
    return await open_mongodb(place[1], place[2])


def race(place: Place, name: str, n_rounds: int, barrier: Barrier, outcomes: "Queue[tuple[int, str, str]]") -> None:
    """In each round, with all others, write the next version of one document; report what came of it."""
    with asyncio.Runner() as runner:
        documents = runner.run(open_place(place))
        for number in range(1, n_rounds + 1):
            barrier.wait()
            write = documents.update("rounds", "contested", {}, version=number, fence=1, operation=f"{name}-{number}")
            outcomes.put((number, name, runner.run(write)))
        runner.run(documents.close())


def insert_and_die(place: Place, n_documents: int) -> None:
    """Insert documents and be killed right after the last one is acknowledged."""

    async def insert() -> None:
        documents = await open_place(place)
        for number in range(n_documents):
            assert await documents.insert("events", f"{number}", {"seq": number}, fence=1, operation="o") == "ok"
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(insert())
