"""What a client must not forget, in one file: by it, and not by what servers say, it decides what it may send.

Rules it keeps:

- What was written is on the disk when a method returns, after a power cut too; what belongs together is written at
  once or not at all.
- A file that is missing, of another client or not what it should be stops the client by name: starting empty would
  let it send a second time what it may send once.
- It never holds a secret of a round: no mask seed, no key of a seat, no nonce, no sum in the clear.

Blocking, for worker threads; one at a time.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from fedn_py.client.durable_files import StateDamaged
from fedn_py.client.memory_rows import (
    BeaconRow,
    Hash,
    KeptAnswer,
    KeptUpload,
    MembershipRow,
    Pinned,
    ReducerRow,
    SeenRow,
    SessionMark,
)
from fedn_py.errors import OwnFault
from fedn_py.masking.hashing import plain_hash
from fedn_py.protocol.masked.beacon import KnownBeacon
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.differencing import MemberMemory, PromiseRecord, SentRecord
from fedn_py.protocol.masked.encoding import Body, MalformedMessage
from fedn_py.protocol.masked.participant_work import Seen
from fedn_py.protocol.masked.signing import Signed

_SCHEMA = 1
_MOST_PROMISES = 1_000
_TABLE = """
    CREATE TABLE records (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        key BLOB NOT NULL,
        value BLOB NOT NULL,
        UNIQUE (kind, key)
    )
"""
_ONE = b""

Row = TypeVar("Row", bound=Body)

NEW_IDENTITY = (
    "Remove the whole state folder and give this client a new token: it joins as a new one. Never put back an older "
    "copy: it has forgotten which updates were sent since and which sets were promised, and the client could send or "
    "open one of them a second time, which would show it."
)
"""The way out of a lost memory."""


class MemoryUnwritable(OwnFault):
    """The client's memory cannot be written; it stops rather than do what it could not remember."""


class MaskedMemory:
    """A client's memory.

    Args:
        path: made by ``create_memory``.
        client_key: whose memory it is.
        most_promises: how many promises are kept whole; of older ones the work is.

    Raises:
        StateDamaged: it is missing, another client's, or cannot be read.
    """

    def __init__(self, path: Path, client_key: bytes, most_promises: int = _MOST_PROMISES) -> None:
        self._path, self._most_promises = path, most_promises
        self._lock = threading.Lock()
        with self._faults():
            self._db = _connected(path, "rw")
            try:
                self._check(client_key)
                self._member = self._read_member()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # ---- the network

    def pinned(self) -> Pinned | None:
        """Return the network that this client belongs to."""
        return self._one("pinned", _ONE, Pinned)

    def save_pinned(self, pinned: Pinned) -> None:
        """Remember the network and the chain."""
        self._write(self._put("pinned", _ONE, pinned))

    def policy(self) -> Signed | None:
        """Return the newest policy seen."""
        return self._one("policy", _ONE, Signed)

    def save_policy(self, policy: Signed) -> None:
        """Remember the newest policy."""
        self._write(self._put("policy", _ONE, policy))

    def reducers(self) -> dict[bytes, int]:
        """Return the keys of all reducers that the operator certified to this client, and when that ends."""
        return {row.key: row.not_after for row in self._all("reducer", ReducerRow)}

    def save_reducer(self, key: bytes, not_after: int) -> None:
        """Remember a reducer's key, and when its certificate ends."""
        self._write(self._put("reducer", key, ReducerRow(key, not_after)))

    # ---- sessions and rounds

    def beacon(self, session: bytes) -> KnownBeacon | None:
        """Return the last beacon known of a session."""
        row = self._one("beacon", session, BeaconRow)
        if row is None:
            return None
        return KnownBeacon(row.session, row.session_number, row.round, row.beacon, row.parent_commit)

    def save_beacon(self, known: KnownBeacon) -> None:
        """Remember the last beacon of its session."""
        row = BeaconRow(known.session, known.session_number, known.round, known.beacon, known.parent_commit)
        first = [self._marked(known.session_number)] if self.highest_session() is None else []
        self._write(self._put("beacon", known.session, row), *first)

    def highest_session(self) -> int | None:
        """Return the highest number of a session that this client has uploaded in, or of the first that it saw.

        A session that was only heard of costs nobody anything, so its number moves nothing. None where nothing is known
        in the newest policy's epoch: by beginning one, the operator lets each client find its place once more.
        """
        mark = self._one("session", _ONE, SessionMark)
        return mark.session_number if mark is not None and mark.epoch == self._epoch() else None

    def seen(self) -> dict[bytes, Seen]:
        """Return the last plan seen of each session."""
        return {row.session: Seen(row.round, row.attempt, row.plan_hash) for row in self._all("seen", SeenRow)}

    def save_seen(self, session: bytes, seen: Seen) -> None:
        """Remember the last plan of a session."""
        self._write(self._put("seen", session, SeenRow(session, seen.round, seen.attempt, seen.plan_hash)))

    def save_masked(self, work: bytes) -> None:
        """Remember that a work is to be masked."""
        self._write(self._put("masked", work, Hash(work)))

    def was_masked(self, work: bytes) -> bool:
        """Say whether a work was to be masked, or was sent so."""
        return self._one("masked", work, Hash) is not None or any(record.work == work for record in self.sent())

    # ---- what was sent

    def sent(self) -> tuple[SentRecord, ...]:
        """Return the records of all uploads, oldest first."""
        return self._all("sent", SentRecord)

    def uploads(self) -> tuple[KeptUpload, ...]:
        """Return the uploads whose bytes are kept."""
        return self._all("upload", KeptUpload)

    def save_sent(self, record: SentRecord, upload: KeptUpload) -> None:
        """Remember an upload for ever, and its bytes until its round ends, both at once."""
        known, highest = self.beacon(upload.session), self.highest_session()
        further = known is not None and (highest is None or known.session_number > highest)
        self._write(
            self._put("sent", plain_hash(record.encode()), record),
            self._put("upload", upload.ctx0, upload),
            *([self._marked(known.session_number)] if known is not None and further else []),
        )

    def drop_uploads(self) -> None:
        """Let go of the bytes of uploads; that they were sent stays."""
        self._write(("DELETE FROM records WHERE kind = 'upload'", ()))

    # ---- what was promised

    def memberships(self) -> frozenset[tuple[bytes, int, int]]:
        """Return (session, round, attempt) of all offers of a key."""
        rows = self._all("membership", MembershipRow)
        return frozenset((row.session, row.round, row.attempt) for row in rows)

    def save_membership(self, session: bytes, round_number: int, attempt: int) -> None:
        """Remember that a key was offered."""
        row = MembershipRow(session, round_number, attempt)
        self._write(self._put("membership", row.encode(), row))

    def member(self) -> MemberMemory:
        """Return what was promised, as it is on the disk."""
        with self._lock:
            return self._member

    def save_promise(self, record: PromiseRecord) -> None:
        """Remember a promise; beyond the most that are kept whole the oldest become forgotten works."""
        before = self.member()
        after = before.with_promise(record, self._most_promises)
        kept = {one.ctx for one in after.promised}
        gone = [("DELETE FROM records WHERE kind = 'promise' AND key = ?", (record.ctx,))]
        gone += [
            ("DELETE FROM records WHERE kind = 'promise' AND key = ?", (one.ctx,))
            for one in before.promised
            if one.ctx not in kept
        ]
        forgotten = [self._put("forgotten", work, Hash(work)) for work in after.forgotten - before.forgotten]
        self._write(*gone, self._put("promise", record.ctx, record), *forgotten)
        with self._lock:
            self._member = after

    def aborted(self) -> frozenset[bytes]:
        """Return the contexts of the cells that this member gave up."""
        return frozenset(row.value for row in self._all("aborted", Hash))

    def save_abort(self, ctx: bytes) -> None:
        """Remember that a cell was given up."""
        self._write(self._put("aborted", ctx, Hash(ctx)))

    def answers(self) -> tuple[KeptAnswer, ...]:
        """Return the answers whose streams are kept."""
        return self._all("answer", KeptAnswer)

    def save_answer(self, answer: KeptAnswer) -> None:
        """Remember an answer until its round is committed."""
        self._write(self._put("answer", answer.ctx, answer))

    def drop_answer(self, ctx: bytes) -> None:
        """Let go of an answer; what was promised stays."""
        self._write(("DELETE FROM records WHERE kind = 'answer' AND key = ?", (ctx,)))

    # ---- the file

    def _read_member(self) -> MemberMemory:
        forgotten = frozenset(row.value for row in self._all("forgotten", Hash))
        return MemberMemory(self._all("promise", PromiseRecord), forgotten)

    def _check(self, client_key: bytes) -> None:
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != "ok":
            raise self._damaged(found)
        if schema != _SCHEMA:
            raise self._damaged(f"it is of version {schema}, this program reads {_SCHEMA}")
        owner = self._one("client", _ONE, Hash)
        if owner is None or owner.value != client_key:
            raise self._damaged("it is another client's")
        for kind, row in _KINDS.items():
            self._all(kind, row)

    def _one(self, kind: str, key: bytes, row: type[Row]) -> Row | None:
        rows = self._select("SELECT value FROM records WHERE kind = ? AND key = ?", (kind, key), row)
        return rows[0] if rows else None

    def _all(self, kind: str, row: type[Row]) -> tuple[Row, ...]:
        return self._select("SELECT value FROM records WHERE kind = ? ORDER BY number", (kind,), row)

    def _select(self, query: str, values: tuple[object, ...], row: type[Row]) -> tuple[Row, ...]:
        with self._faults(), self._lock:
            found = self._db.execute(query, values).fetchall()
        try:
            return tuple(row.decode(value) for (value,) in found)
        except (MalformedMessage, TypeError) as fault:
            raise self._damaged(f"a {row.kind} in it cannot be read") from fault

    def _marked(self, session_number: int) -> tuple[str, tuple[object, ...]]:
        return self._put("session", _ONE, SessionMark(session_number, self._epoch()))

    def _epoch(self) -> bytes:
        policy = self.policy()
        return bytes(32) if policy is None else Policy.decode(policy.body).epoch_seed

    def _put(self, kind: str, key: bytes, value: Body) -> tuple[str, tuple[object, ...]]:
        insert = "INSERT INTO records (kind, key, value) VALUES (?, ?, ?)"
        return f"{insert} ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value", (kind, key, value.encode())

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        with self._faults(), self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._db.execute(statement, values)

    def _damaged(self, reason: str) -> StateDamaged:
        return StateDamaged(
            f"the memory in {self._path} cannot be used: {reason}",
            remedy=NEW_IDENTITY,
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as fault:
            raise MemoryUnwritable(
                f"the memory in {self._path} cannot be read or written: {fault}",
                remedy="Look at the disk and at the rights of state_dir, then start the client again.",
            ) from fault
        except sqlite3.DatabaseError as fault:
            raise self._damaged(str(fault)) from fault


_KINDS: dict[str, type[Body]] = {
    "pinned": Pinned,
    "policy": Signed,
    "reducer": ReducerRow,
    "beacon": BeaconRow,
    "session": SessionMark,
    "seen": SeenRow,
    "masked": Hash,
    "sent": SentRecord,
    "upload": KeptUpload,
    "membership": MembershipRow,
    "promise": PromiseRecord,
    "forgotten": Hash,
    "aborted": Hash,
    "answer": KeptAnswer,
}


def create_memory(path: Path, client_key: bytes) -> None:
    """Make the empty memory of a new client."""
    db = _connected(path, "rwc")
    try:
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_TABLE)
            db.execute(
                "INSERT INTO records (kind, key, value) VALUES ('client', ?, ?)", (_ONE, Hash(client_key).encode())
            )
            db.execute(f"PRAGMA user_version = {_SCHEMA}")
    finally:
        db.close()
    path.chmod(0o600)


def read_uploads(path: Path) -> tuple[KeptUpload, ...]:
    """Read which uploads' bytes are kept, beside a client that runs.

    Raises:
        StateDamaged: the memory cannot be read, or is not there.
    """
    try:
        with closing(_connected(path, "ro")) as db:
            found = db.execute("SELECT value FROM records WHERE kind = 'upload' ORDER BY number").fetchall()
        return tuple(KeptUpload.decode(value) for (value,) in found)
    except (sqlite3.Error, MalformedMessage) as fault:
        raise StateDamaged(f"the memory in {path} cannot be read: {fault}", remedy="Has its client started?") from fault


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    # FULL, and the folder's sync when a transaction's journal goes: a power cut right behind a commit would bring the
    # journal back, and with it the time before the commit.
    db.execute("PRAGMA synchronous = EXTRA")
    return db


def unreferenced(files: Iterable[Path], memory: MaskedMemory) -> list[Path]:
    """Return the files that no upload or answer in memory needs."""
    named = {upload.file_name for upload in memory.uploads()} | {answer.file_name for answer in memory.answers()}
    return [file for file in files if file.name not in named]
