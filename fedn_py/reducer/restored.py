"""Stores that were set back to an older state: what is written down of it, and what becomes of sessions under way.

A session that goes on behind a round that is lost would commit that round's number a second time, and somebody may
have the first one's model. So it is stopped by name, and a new session, which has numbers of its own, begins with the
newest model that is there. Session numbers jump ahead of those that may be lost: orders, seeds and the lottery's draws
come from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedn_py.identity import Digest
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import UNDER_WAY, FailedAttempt, RoundRecord, SessionRecord, round_key, with_failure

KEY = "restored"
KIND = "stores.restored"
"""Of the event that tells of it."""

NUMBERS_SKIPPED = 8
"""As many sessions may have begun after a backup; clients of masked rounds follow a jump of 16."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The last time that the stores were set back.

    Attributes:
        time: when it was done, or noticed; seconds since 1970.
        by: who did it, where that is known.
        backup: the hash of the whole backup, where it is known.
        text: what was done and what to do, for people.
        next_session: the lowest number that a new session may have.
    """

    time: float
    by: str
    backup: str
    text: str
    next_session: int


async def restored(ledger: Ledger) -> Restored | None:
    """Return what is written down of it, None where the stores were never set back."""
    return await ledger.get("network", KEY, Restored)


async def write_restored(ledger: Ledger, record: Restored) -> None:
    """Write it down, over the time before."""
    await ledger.put("network", KEY, record)


async def newest_session(ledger: Ledger) -> SessionRecord | None:
    """Return the session with the highest number."""
    found = await ledger.find("sessions", SessionRecord, order_by="number", descending=True, limit=1)
    return found[0] if found else None


async def next_number(ledger: Ledger) -> int:
    """Return the number that a session which begins now has."""
    newest, record = await newest_session(ledger), await restored(ledger)
    return max(newest.terms.number + 1 if newest else 1, record.next_session if record else 1)


async def what_was_lost(ledger: Ledger) -> str:
    """Return what was written down when the stores were set back, until a session has begun since."""
    newest, record = await newest_session(ledger), await restored(ledger)
    if record is None or (newest is not None and newest.terms.number >= record.next_session):
        return ""
    return record.text


async def stop_sessions(ledger: Ledger, why: str, now: float) -> Sequence[str]:
    """Stop every session that is under way, and return how each is gone on with; to be done again if broken off.

    Args:
        why: the beginning of the reason that each of them shows.
    """
    told = []
    for status in UNDER_WAY:
        for session in await ledger.find("sessions", SessionRecord, {"status": status}):
            told.append(await _stop(ledger, session, why, now))
    return told


async def _stop(ledger: Ledger, session: SessionRecord, why: str, now: float) -> str:
    terms = session.terms
    of_it = {"session": terms.session}
    head: Digest = terms.seed_model
    done = 0
    for newest in await ledger.find("rounds", RoundRecord, {**of_it, "status": "committed"}, descending=True, limit=1):
        head, done = newest.model or head, newest.plan.round_number
    for record in await ledger.find("rounds", RoundRecord, {**of_it, "status": "running"}):
        await _close(ledger, record, why, now)
    how = (
        f"session {session.name} ends with {f'the model of round {done}' if done else 'its seed model'}; train on from "
        f"there in a new session: fedn-py session start --package {terms.package[:12]} --model {head[:12]} "
        f"--rounds {max(1, terms.rounds - done)}"
    )
    reason = f"{why}; {how}"
    await ledger.change(
        "sessions",
        terms.session,
        SessionRecord,
        lambda old: replace(old, status="stopped", reason=reason),
        status="stopped",
    )
    return how


async def _close(ledger: Ledger, record: RoundRecord, why: str, now: float) -> None:
    """Write an attempt as failed that nobody goes on with; its key, if it had one, is gone."""
    plan = record.plan

    def closed(old: RoundRecord) -> RoundRecord:
        document = replace(old.document, round_key="") if old.document is not None else None
        return replace(with_failure(old, FailedAttempt(plan.attempt, why, now), ()), document=document)

    key = round_key(plan.session, plan.round_number)
    await ledger.change("rounds", key, RoundRecord, closed, status="failed")
    if record.document is not None:
        await ledger.forget()
