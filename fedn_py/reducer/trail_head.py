"""The head of the trail, named in a file on this reducer's own disk: what stores that were set back do not have.

Before anybody is told of a commit the file names it. At a start the stores must still have what the file names: the
session, and that round with that model. Where they do not, an older backup was put in their place, or these are other
stores; then no session goes on by itself, for a round's number would be committed a second time.
"""

import json
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fedn_py.errors import OwnFault
from fedn_py.identity import SessionId
from fedn_py.protocol.messages import RoundCommitted
from fedn_py.protocol.reducer_work import Effect, Event, TellCommitted
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import RoundRecord, SessionRecord, round_key
from fedn_py.reducer.restored import (
    KIND,
    NUMBERS_SKIPPED,
    Restored,
    newest_session,
    restored,
    stop_sessions,
    write_restored,
)
from fedn_py.runtime.scratch import disk_faults
from fedn_py.runtime.secret_files import write_secret
from fedn_py.transport.completion import in_thread

FILE_NAME = "trail-head.json"


class TrailHeadUnreadable(OwnFault):
    """The file that names the head of the trail is not what it should be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} cannot be read: {why}",
            remedy="Remove it, if you know that the stores were not set back to an older state.",
        )


@dataclass(frozen=True, slots=True)
class TrailHead:
    """The newest of the trail that this reducer has seen.

    Attributes:
        session: the newest session; empty where there was none yet.
        number: of the session.
        round: its last committed round; 0 where there was none yet.
        model: that round's.
        restored: when the stores were last set back, as it was written down there; 0 where they never were.
        fence: the highest that this reducer has had, or seen another one have; combiners that obeyed it obey none
            below.
    """

    session: str = ""
    number: int = 0
    round: int = 0
    model: str = ""
    restored: float = 0.0
    fence: int = 0

    def __str__(self) -> str:
        """Return it as people read it."""
        if not self.session:
            return "no session"
        made = f"round {self.round} with model {self.model[:12]}" if self.round else "its seed model"
        return f"session {self.session} (number {self.number}) at {made}"


class TrailHeadFile:
    """The file; ``state_dir`` holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> TrailHead | None:
        """Return what it names, None where there is no file; raises TrailHeadUnreadable, NoFilesLeft, DiskFailed."""
        if not self.path.exists():
            return None
        try:
            with disk_faults("reading the head of the trail"):
                return TrailHead(**json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as fault:
            raise TrailHeadUnreadable(self.path, str(fault)) from fault

    async def write(self, head: TrailHead) -> None:
        """Name another head; it is on the disk when this returns. Raises DiskFull, DiskFailed."""
        await in_thread(self._write, json.dumps(asdict(head)) + "\n")

    def _write(self, text: str) -> None:
        with disk_faults("naming the head of the trail"):
            write_secret(self.path, text)


async def head_of(ledger: Ledger) -> TrailHead:
    """Return the head of the trail that the stores have."""
    newest, record = await newest_session(ledger), await restored(ledger)
    at = record.time if record is not None else 0.0
    if newest is None:
        return TrailHead(restored=at, fence=ledger.fence)
    session, number = newest.terms.session, newest.terms.number
    of_it = {"session": session, "status": "committed"}
    for made in await ledger.find("rounds", RoundRecord, of_it, descending=True, limit=1):
        return TrailHead(session, number, made.plan.round_number, made.model or "", at, ledger.fence)
    return TrailHead(session, number, restored=at, fence=ledger.fence)


class HeadKept:
    """Performs effects by another, and names each commit in the file before anybody is told of it."""

    def __init__(
        self,
        perform: Callable[[Effect], Awaitable[Iterable[Event] | None]],
        file: TrailHeadFile,
        ledger: Ledger,
        patience: Patience,
    ) -> None:
        self._perform, self._file, self._ledger, self._patience = perform, file, ledger, patience
        self._named: TrailHead | None = None

    async def perform(self, effect: Effect) -> Iterable[Event] | None:
        """Do one effect."""
        if isinstance(effect, TellCommitted):
            await self._patience.until_done(lambda: self._name(effect.committed))
        return await self._perform(effect)

    async def _name(self, committed: RoundCommitted) -> None:
        head = self._named
        if head is not None and head.session == committed.session:
            head = replace(head, round=committed.round_number, model=committed.model)
        else:
            head = await head_of(self._ledger)
        await self._file.write(head)
        self._named = head


async def follow(ledger: Ledger, file: TrailHeadFile, fence: int) -> None:
    """Name the head that another reducer has made, and its fence.

    Stores that lack what the file names are looked at when that reducer ends.
    """
    seen, here = file.read(), await head_of(ledger)
    if seen is not None and not await _has(ledger, seen):
        here = seen
    here = replace(here, fence=max(fence, seen.fence if seen is not None else 0))
    if seen != here:
        await file.write(here)


async def notice_restored(ledger: Ledger, file: TrailHeadFile, events: EventLog) -> None:
    """Look whether the stores still have what the file names; to be done before any session is taken up.

    Where they do not, sessions under way are stopped and it is told what is lost and what to do. Nothing is done
    where that is known already, and a session has begun since: this reducer may have stood by for long.

    Raises:
        TrailHeadUnreadable: of the file.
    """
    seen, here = file.read(), await head_of(ledger)
    if seen is not None and not await _has(ledger, seen) and not await _is_behind_us(ledger, seen, here):
        await _tell_lost(ledger, seen, here, events)
        here = await head_of(ledger)
    await file.write(here)


async def _tell_lost(ledger: Ledger, seen: TrailHead, here: TrailHead, events: EventLog) -> None:
    why = (
        f"the stores are not as this reducer left them: its own disk names {seen}, and they end with {here}, "
        "as if they were restored from a backup"
    )
    stopped = await stop_sessions(ledger, why, time.time())
    text = (
        f"{why}. What is between is lost, unless a newer backup has it: then stop this reducer and restore that one. "
        "Or do the settings name other stores than before? No round is committed twice under one number, so no "
        f"session goes on. {' '.join(stopped)}"
    ).strip()
    lowest = max(seen.number, here.number) + 1 + NUMBERS_SKIPPED
    await write_restored(ledger, Restored(time.time(), "", "", text, lowest))
    events.tell(KIND, text, "error", session=seen.session)


async def _is_behind_us(ledger: Ledger, seen: TrailHead, here: TrailHead) -> bool:
    record = await restored(ledger)
    return record is not None and record.time != seen.restored and here.number >= record.next_session


async def _has(ledger: Ledger, seen: TrailHead) -> bool:
    if not seen.session:
        return True
    if not seen.round:
        return await ledger.get("sessions", seen.session, SessionRecord) is not None
    record = await ledger.get("rounds", round_key(SessionId(seen.session), seen.round), RoundRecord)
    return record is not None and record.status == "committed" and record.model == seen.model
