"""The newest masked attempt, named in a file on this reducer's own disk: what a restored store does not know of.

An attempt's document says whether its sets may have been opened. A document that was restored from a backup may be of
a time before, and NotOpened must never be signed on its word: so the file names the newest attempt, and whether its
opening has begun, before any order of it is sent or any answer to it is decrypted.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fedn_py.errors import OwnFault
from fedn_py.identity import SessionId
from fedn_py.protocol.masked.contexts import plan_hash
from fedn_py.protocol.masked.opening_work import Attempt
from fedn_py.protocol.masked.signing import Signed
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import AttemptDocument, as_json, attempt_of, signed_of
from fedn_py.reducer.records import UNDER_WAY, RoundRecord, SessionRecord, round_key
from fedn_py.runtime.scratch import disk_faults
from fedn_py.runtime.secret_files import write_secret
from fedn_py.transport.completion import in_thread

FILE_NAME = "newest-attempt.json"
_WAY_OUT = (
    "The clients of its attempts are not released by this reducer, as their updates may have been opened. Where that "
    "leaves too few, the session rests in a privacy hold: bring all members of the committees online, so that they "
    "abort, or resume the session with a new work (fedn-py session resume --new-work)."
)


class NewestAttemptUnreadable(OwnFault):
    """The file that names the newest masked attempt is not what it should be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be read: {why}",
            remedy="Put it there again from a backup, or remove it: then no client of an attempt that is under way "
            "is released, as it may have been opened.",
        )


@dataclass(frozen=True, slots=True)
class NewestAttempt:
    """One attempt that was planned.

    Attributes:
        session: empty where none was planned yet.
        plan: hash of the signed plan, in hex.
        opening: whether its sums may have been opened.
    """

    session: str = ""
    round: int = 0
    attempt: int = 0
    plan: str = ""
    opening: bool = False

    def __str__(self) -> str:
        """Return it as people read it."""
        if not self.session:
            return "no attempt"
        began = ", which has begun to be opened" if self.opening else ""
        return f"round {self.round}, attempt {self.attempt} of session {self.session}{began}"


def newest(session: SessionId, attempt: Attempt, plan: Signed) -> NewestAttempt:
    """Return an attempt as the file names it."""
    digest = plan_hash(plan.body).hex()
    return NewestAttempt(session, attempt.round, attempt.attempt, digest, opening=bool(attempt.opening))


class NewestAttemptFile:
    """The file; ``state_dir`` holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> NewestAttempt | None:
        """Return what it names, None where there is none; raises NewestAttemptUnreadable, NoFilesLeft, DiskFailed."""
        if not self.path.exists():
            return None
        try:
            with disk_faults("reading the newest masked attempt"):
                return NewestAttempt(**json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as fault:
            raise NewestAttemptUnreadable(self.path, str(fault)) from fault

    async def write(self, named: NewestAttempt) -> None:
        """Name another attempt; it is on the disk when this returns. Raises DiskFull, DiskFailed."""
        await in_thread(self._write, json.dumps(asdict(named)) + "\n")

    def _write(self, text: str) -> None:
        with disk_faults("naming the newest masked attempt"):
            write_secret(self.path, text)


# ---- while another reducer is active


async def follow(ledger: Ledger, file: NewestAttemptFile) -> None:
    """Name in the file what the documents have as the newest attempt: the reducer that is alive vouches for them.

    Stores that are behind the file stay behind it, as whoever is active may not know what this disk knows.

    Raises:
        NewestAttemptUnreadable: of the file.
        AttemptDamaged: of the documents.
    """
    named = await in_thread(file.read)
    if named is not None and await _is_behind(ledger, named):
        return
    found = named or NewestAttempt()
    for record in await _under_way(ledger):
        if record.document is not None and record.document.attempts:
            kept = record.document.attempts[-1]
            found = newest(record.plan.session, attempt_of(kept), signed_of(kept.plan))
    if found != named:
        await file.write(found)


# ---- after a start


async def hold_back_restored(ledger: Ledger, file: NewestAttemptFile, events: EventLog) -> None:
    """Have nobody released of attempts in stores that are behind the file; to be done before any is taken up.

    Without a file, stores with attempts of a session under way count as behind.

    Raises:
        NewestAttemptUnreadable: of the file.
        AttemptDamaged: of the documents.
    """
    named = file.read()
    under_way = await _under_way(ledger)
    if named is None and not any(record.document is not None for record in under_way):
        await file.write(NewestAttempt())
        return
    if named is not None and not await _is_behind(ledger, named):
        return
    if not await _has_session_under_way(ledger):
        return  # nobody is released of an attempt that nobody goes on with
    for record in under_way:
        key = round_key(record.plan.session, record.plan.round_number)
        await ledger.change("rounds", key, RoundRecord, _held_back)
    known = f"{file.path.name} names {named}" if named is not None else f"there is no file {file.path.name}"
    ends = [
        f"round {one.plan.round_number}, attempt {one.plan.attempt} of session {one.plan.session}" for one in under_way
    ]
    text = (
        f"the stores are behind this reducer's own disk, as if restored from a backup: {known}, and the documents of "
        f"the session under way end with {', '.join(ends) or 'no attempt'}. {_WAY_OUT}"
    )
    events.tell("stores.restored", text, "error", **({"session": under_way[0].plan.session} if under_way else {}))


async def _under_way(ledger: Ledger) -> Sequence[RoundRecord]:
    """Return the newest round of each session that is under way."""
    rounds: list[RoundRecord] = []
    for status in UNDER_WAY:
        for session in await ledger.find("sessions", SessionRecord, {"status": status}):
            where = {"session": session.terms.session}
            rounds += await ledger.find("rounds", RoundRecord, where, descending=True, limit=1)
    return rounds


async def _has_session_under_way(ledger: Ledger) -> bool:
    for status in UNDER_WAY:
        if await ledger.find("sessions", SessionRecord, {"status": status}, limit=1):
            return True
    return False


async def _is_behind(ledger: Ledger, named: NewestAttempt) -> bool:
    """Say whether the documents do not know of the attempt that the file names, or of its opening."""
    if not named.session:
        return False
    record = await ledger.get("rounds", round_key(SessionId(named.session), named.round), RoundRecord)
    kept = None if record is None or record.document is None else record.document.of(named.attempt)
    if kept is None or plan_hash(signed_of(kept.plan).body).hex() != named.plan:
        return True
    attempt = attempt_of(kept)
    return named.opening and not attempt.opening and not attempt.before_restore


def _held_back(record: RoundRecord) -> RoundRecord:
    if record.document is None:
        return record
    attempts = tuple(_marked(kept) for kept in record.document.attempts)
    return replace(record, document=replace(record.document, attempts=attempts))


def _marked(kept: AttemptDocument) -> AttemptDocument:
    return replace(kept, attempt=as_json(replace(attempt_of(kept), before_restore=True)))
