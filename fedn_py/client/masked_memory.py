"""What a client must not forget: by it, and not by what servers say, it decides what it may send.

Rules it keeps:

- What was written is on the disk when a method returns, after a power cut too; what belongs together is written at
  once or not at all. Nobody sees a change before it is on the disk.
- A file that is missing, of another client or not what it should be stops the client by name: starting empty would
  let it send a second time what it may send once.
- It never holds a secret of a round: no mask seed, no key of a seat, no nonce, no sum in the clear.

It is an SQLite database with a write-ahead log beside it, so that a write costs one sync. While a client runs, and
after it was cut, what was written last is in the log alone. So the database itself says that it is not whole without
one: a log that is missing, or whose header is damaged, stops the client like any other part. Damage further inside it
is not noticed: it looks like a commit that a power cut tore, and SQLite lets go of that one and of all that follow.

Writing blocks, for worker threads, one at a time; looking does not, since all of it is in memory too.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from fedn_py.client.durable_files import StateDamaged, sync_folder
from fedn_py.client.memory_log import NEEDS_LOG, fault_of_log
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
_UPSERT = """
    INSERT INTO records (kind, key, value) VALUES (?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value
"""
_ONE = b""
_MOST_IN_LOG = 250
"""Commits, of a few pages of 4 KiB each."""

_Change: TypeAlias = tuple[str, bytes, Body | None]
"""Kind and key of a row, and what it is from now on; None for gone."""

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
        self._writing, self._looking = threading.Lock(), threading.Lock()
        self._in_log = 0
        with self._faults():
            if fault := fault_of_log(path):
                raise self._damaged(fault)
            self._db = _connected(path, "rw")
            try:
                self._check()
                self._rows = self._read_rows()
                if self._one("client", _ONE, Hash) != Hash(client_key):
                    raise self._damaged("it is another client's")
                self._member = MemberMemory(
                    self._all("promise", PromiseRecord), frozenset(row.value for row in self._all("forgotten", Hash))
                )
                self._epoch = _epoch_of(self.policy())
                self._db.execute("PRAGMA journal_mode = WAL")
                self._shelve()
                sync_folder(path.parent)  # the log has its name for good
            except BaseException:
                self._close()
                raise

    def close(self) -> None:
        """Close the database; what its log holds comes into it, or stays there for the next start."""
        with self._writing:
            self._close()

    # ---- the network

    def pinned(self) -> Pinned | None:
        """Return the network that this client belongs to."""
        return self._one("pinned", _ONE, Pinned)

    def save_pinned(self, pinned: Pinned) -> None:
        """Remember the network and the chain."""
        self._write(_put("pinned", _ONE, pinned))

    def policy(self) -> Signed | None:
        """Return the newest policy seen."""
        return self._one("policy", _ONE, Signed)

    def save_policy(self, policy: Signed) -> None:
        """Remember the newest policy."""
        epoch = _epoch_of(policy)
        self._write(_put("policy", _ONE, policy))
        self._epoch = epoch

    def reducers(self) -> dict[bytes, int]:
        """Return the keys of all reducers that the operator certified to this client, and when that ends."""
        return {row.key: row.not_after for row in self._all("reducer", ReducerRow)}

    def save_reducer(self, key: bytes, not_after: int) -> None:
        """Remember a reducer's key, and when its certificate ends."""
        self._write(_put("reducer", key, ReducerRow(key, not_after)))

    # ---- sessions and rounds

    def beacon(self, session: bytes) -> KnownBeacon | None:
        """Return the last beacon known of a session."""
        row = self._one("beacon", session, BeaconRow)
        if row is None:
            return None
        return KnownBeacon(row.session, row.session_number, row.round, row.beacon, row.parent_commit)

    def save_beacon(self, known: KnownBeacon, work: bytes | None = None) -> None:
        """Remember the last beacon of its session.

        Args:
            work: of the plan that shows it, remembered together with it as one that is to be masked.
        """
        row = BeaconRow(known.session, known.session_number, known.round, known.beacon, known.parent_commit)
        first = [self._marked(known.session_number)] if self.highest_session() is None else []
        masked = [] if work is None else [_put("masked", work, Hash(work))]
        self._write(_put("beacon", known.session, row), *first, *masked)

    def highest_session(self) -> int | None:
        """Return the highest number of a session that this client has uploaded in, or of the first that it saw.

        A session that was only heard of costs nobody anything, so its number moves nothing. None where nothing is known
        in the newest policy's epoch: by beginning one, the operator lets each client find its place once more.
        """
        mark = self._one("session", _ONE, SessionMark)
        return mark.session_number if mark is not None and mark.epoch == self._epoch else None

    def seen(self) -> dict[bytes, Seen]:
        """Return the last plan seen of each session."""
        return {row.session: Seen(row.round, row.attempt, row.plan_hash) for row in self._all("seen", SeenRow)}

    def save_seen(self, session: bytes, seen: Seen) -> None:
        """Remember the last plan of a session."""
        self._write(_put("seen", session, SeenRow(session, seen.round, seen.attempt, seen.plan_hash)))

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
            _put("sent", plain_hash(record.encode()), record),
            _put("upload", upload.ctx0, upload),
            *([self._marked(known.session_number)] if known is not None and further else []),
        )

    def drop_uploads(self) -> None:
        """Let go of the bytes of uploads; that they were sent stays."""
        self._write(*(_drop("upload", upload.ctx0) for upload in self.uploads()))

    # ---- what was promised

    def memberships(self) -> frozenset[tuple[bytes, int, int]]:
        """Return (session, round, attempt) of all offers of a key."""
        rows = self._all("membership", MembershipRow)
        return frozenset((row.session, row.round, row.attempt) for row in rows)

    def save_membership(self, session: bytes, round_number: int, attempt: int) -> None:
        """Remember that a key was offered."""
        row = MembershipRow(session, round_number, attempt)
        self._write(_put("membership", row.encode(), row))

    def member(self) -> MemberMemory:
        """Return what was promised, as it is on the disk."""
        with self._looking:
            return self._member

    def save_promise(self, record: PromiseRecord) -> None:
        """Remember a promise; beyond the most that are kept whole the oldest become forgotten works."""
        before = self.member()
        after = before.with_promise(record, self._most_promises)
        kept = {one.ctx for one in after.promised}
        gone = [_drop("promise", one.ctx) for one in before.promised if one.ctx not in kept]
        forgotten = [_put("forgotten", work, Hash(work)) for work in after.forgotten - before.forgotten]
        # Dropped first: a promise that is made again is the newest.
        self._write(_drop("promise", record.ctx), *gone, _put("promise", record.ctx, record), *forgotten)
        with self._looking:
            self._member = after

    def aborted(self) -> frozenset[bytes]:
        """Return the contexts of the cells that this member gave up."""
        return frozenset(row.value for row in self._all("aborted", Hash))

    def save_abort(self, ctx: bytes) -> None:
        """Remember that a cell was given up."""
        self._write(_put("aborted", ctx, Hash(ctx)))

    def answers(self) -> tuple[KeptAnswer, ...]:
        """Return the answers whose streams are kept."""
        return self._all("answer", KeptAnswer)

    def save_answer(self, answer: KeptAnswer) -> None:
        """Remember an answer until its round is committed."""
        self._write(_put("answer", answer.ctx, answer))

    def drop_answer(self, ctx: bytes) -> None:
        """Let go of an answer; what was promised stays."""
        self._write(_drop("answer", ctx))

    # ---- what is in memory

    def _one(self, kind: str, key: bytes, row: type[Row]) -> Row | None:
        with self._looking:
            found = self._rows[kind].get(key)
        return found if isinstance(found, row) else None

    def _all(self, kind: str, row: type[Row]) -> tuple[Row, ...]:
        with self._looking:
            return tuple(one for one in self._rows[kind].values() if isinstance(one, row))

    def _holds(self, change: _Change) -> bool:
        kind, key, value = change
        return self._rows[kind].get(key) == value

    # ---- the file

    def _check(self) -> None:
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != "ok":
            raise self._damaged(found)
        if schema != _SCHEMA:
            raise self._damaged(f"it is of version {schema}, this program reads {_SCHEMA}")

    def _read_rows(self) -> dict[str, dict[bytes, Body]]:
        """Return all rows by their kind and key, in the order in which they came."""
        rows: dict[str, dict[bytes, Body]] = {kind: {} for kind in _READ}
        for kind, key, value in self._db.execute("SELECT kind, key, value FROM records ORDER BY number"):
            if kind not in rows:
                continue
            try:
                rows[kind][key] = _READ[kind].decode(value)
            except (MalformedMessage, TypeError) as fault:
                raise self._damaged(f"a {_READ[kind].kind} in it cannot be read") from fault
        return rows

    def _marked(self, session_number: int) -> _Change:
        return _put("session", _ONE, SessionMark(session_number, self._epoch))

    def _write(self, *changes: _Change) -> None:
        """Make changes together; where they change nothing, all of it is on the disk already."""
        with self._faults(), self._writing:
            if all(self._holds(change) for change in changes):
                return
            if self._in_log >= _MOST_IN_LOG:
                self._shelve()  # before the changes: where it fails, they are not made
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for kind, key, value in changes:
                    if value is None:
                        self._db.execute("DELETE FROM records WHERE kind = ? AND key = ?", (kind, key))
                    else:
                        self._db.execute(_UPSERT, (kind, key, value.encode()))
            with self._looking:
                for kind, key, value in changes:
                    if value is None:
                        self._rows[kind].pop(key, None)
                    else:
                        self._rows[kind][key] = value
            self._in_log += 1

    def _shelve(self) -> None:
        """Bring what the log holds into the database, marked as in need of a log from then on.

        The mark goes along, and is taken back in the log alone: whoever brings the two together takes it back.
        """
        self._db.execute(f"PRAGMA application_id = {NEEDS_LOG}")
        try:
            busy, frames, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            self._db.execute("PRAGMA application_id = 0")
        # Past somebody who reads it not all comes in, and the mark does not either; then the next write tries again.
        self._in_log = _MOST_IN_LOG if busy or moved < frames else 0

    def _close(self) -> None:
        """Close the database; the log stays where the mark that asks for it cannot be taken back."""
        try:
            (part,) = self._db.execute("PRAGMA application_id").fetchone()
            if part == NEEDS_LOG:
                self._db.execute("PRAGMA application_id = 0")
        except sqlite3.Error:
            # Whoever is the last to close brings the log in and deletes it, unless it may only read.
            with suppress(sqlite3.Error), closing(_connected(self._path, "ro")) as last:
                last.execute("PRAGMA application_id").fetchone()  # from here on it counts as one who has it open
                self._db.close()
        finally:
            self._db.close()

    def _damaged(self, reason: str) -> StateDamaged:
        return StateDamaged(
            f"the memory in {self._path} cannot be used: {reason}",
            remedy=NEW_IDENTITY,
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as fault:
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


_READ: dict[str, type[Body]] = {"client": Hash, **_KINDS}


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
    # Every commit is synced: the log's, and while the database is made, whose journal's end is a change of the folder,
    # the folder's too.
    db.execute("PRAGMA synchronous = EXTRA")
    # By SQLite itself a log would be brought into the database without its mark.
    db.execute("PRAGMA wal_autocheckpoint = 0")
    return db


def _put(kind: str, key: bytes, value: Body) -> _Change:
    return kind, key, value


def _drop(kind: str, key: bytes) -> _Change:
    return kind, key, None


def _epoch_of(policy: Signed | None) -> bytes:
    return bytes(32) if policy is None else Policy.decode(policy.body).epoch_seed


def unreferenced(files: Iterable[Path], memory: MaskedMemory) -> list[Path]:
    """Return the files that no upload or answer in memory needs."""
    named = {upload.file_name for upload in memory.uploads()} | {answer.file_name for answer in memory.answers()}
    return [file for file in files if file.name not in named]
