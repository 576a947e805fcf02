"""Every operation of a trial with its start, end and result, line by line in a file; written by several threads.

Results are "ok", "refused" and "unknown": of a write that may have happened or not, and of a look that showed nothing.
Times are seconds of this machine's monotonic clock.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from fedn_py.api.faults import ReducerUnreachable, RemoteRefusal
from fedn_py.api.network import Network

WATCHED = ("rounds", "sessions", "network")
"""Collections whose documents are followed."""

Entry = dict[str, Any]

_LOOK_EVERY_S = 0.5


class History:
    """The file, and the operations that go into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._file = path.open("a", encoding="utf-8")

    def add(self, **entry: Any) -> None:
        """Write one operation down."""
        with self._turn:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()

    def fault(self, what: str) -> None:
        """Note what was done to the network."""
        self.add(op="fault", what=what, start=time.monotonic())

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._file.close()

    def entries(self) -> list[Entry]:
        """Return all operations so far."""
        return read(self.path)


def read(path: Path) -> list[Entry]:
    """Return the operations in a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def facts_of(collection: str, stored: Mapping[str, Any]) -> Entry:
    """Return what a history keeps of a document as it is stored."""
    facts: Entry = {"version": int(stored["version"]), "fence": int(stored["fence"])}
    record = stored.get("content", {}).get("record")
    if collection == "rounds" and record is not None:
        plan = record["plan"]
        facts |= {
            "session": plan["session"],
            "round": int(plan["round_number"]),
            "attempt": int(plan["attempt"]),
            "base": plan["base_model"],
            "status": record["status"],
            "model": record["model"],
        }
    return facts


# ---- those who look, again and again


@contextmanager
def observed(history: History, networks: Mapping[str, Network], mongodb_uri: str, session: str) -> Iterator[None]:
    """Have a session looked at until the end: by two observers of each reducer's REST API, and in the documents."""
    end = threading.Event()
    looks: list[Callable[[], None]] = []
    for name, network in networks.items():
        for number in (1, 2):
            looks.append(lambda by=f"{name}-{number}", network=network: _look_at_rounds(history, by, network, session))  # type: ignore[misc]
    client = pymongo.MongoClient[Entry](mongodb_uri, serverSelectionTimeoutMS=500, socketTimeoutMS=2_000)
    looks.append(lambda: _look_at_documents(history, client, session))

    def again(look: Callable[[], None]) -> None:
        while not end.wait(_LOOK_EVERY_S):
            look()

    threads = [threading.Thread(target=again, args=(look,), daemon=True) for look in looks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(30.0)
        for look in looks:  # once more, when all is quiet: what was seen has to be there
            with suppress(PyMongoError):
                look()
        client.close()


def _look_at_rounds(history: History, by: str, network: Network, session: str) -> None:
    start, committed = time.monotonic(), []
    try:
        committed = [[one.number, one.model] for one in network.rounds(session) if one.status == "done"]
        result = "ok"
    except RemoteRefusal:
        result = "refused"
    except ReducerUnreachable:
        result = "unknown"
    history.add(
        op="look", by=by, session=session, committed=committed, start=start, end=time.monotonic(), result=result
    )


def _look_at_documents(history: History, client: "pymongo.MongoClient[Entry]", session: str) -> None:
    start, seen = time.monotonic(), {}
    try:
        for collection, stored in _documents_of(client["fedn_py"], session):
            seen[f"{collection}/{stored['_id']}"] = facts_of(collection, stored)
        result = "ok"
    except PyMongoError:
        seen, result = {}, "unknown"
    history.add(op="documents", by="store", seen=seen, start=start, end=time.monotonic(), result=result)


def _documents_of(database: "Database[Entry]", session: str) -> Iterator[tuple[str, Entry]]:
    """Yield what is stored of a session, each document asked for by its key, which every server has an index for."""
    for stored in database["network"].find():
        yield "network", stored
    stored_session = database["sessions"].find_one({"_id": session})
    if stored_session is not None:
        yield "sessions", stored_session
    for number in itertools.count(1):
        stored_round = database["rounds"].find_one({"_id": f"{session}/{number:06d}"})
        if stored_round is None:
            return
        yield "rounds", stored_round
