"""Sessions in the document store: begun, found again after a restart, listed."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, ClientName, Generation, SessionId, parse_name
from fedn_py.protocol.masked.options import LEAST_CLIENTS, MaskedOptions, faults_of
from fedn_py.protocol.messages import RoundCommitted
from fedn_py.protocol.reducer import first_generation
from fedn_py.protocol.reducer_terms import Progress, SessionLimits, SessionTerms, limits_of, with_limits
from fedn_py.protocol.reducer_work import SessionStarted, Updating, Validating
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.control_faults import SessionUnderWay, UnknownModel, UnknownSession
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import LEASE_KEY
from fedn_py.reducer.ledger import Fields, Ledger
from fedn_py.reducer.masked_sessions import check_policy, found_attempt, masked_terms, unfinished, with_history
from fedn_py.reducer.planning import Speaker
from fedn_py.reducer.privacy import privacy_view
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.records import (
    UNDER_WAY,
    ClientRecord,
    FailedAttempt,
    RoundRecord,
    SeedModelRecord,
    SessionRecord,
    round_key,
    with_failure,
)
from fedn_py.reducer.restored import next_number
from fedn_py.reducer.round_records import CommittedElsewhere, cells_of
from fedn_py.reducer.session_limits import SessionChanges, faults_of_limits, faults_of_masked_limits
from fedn_py.reducer.shown_sessions import SessionOptions

INTERRUPTED = "ReducerRestarted: the reducer was started anew while the attempt began or ended"
"""Why a masked attempt failed that an earlier life of the reducer had not planned yet, or was giving up."""

_VALIDATIONS_AT_MOST = 1_000_000
MOST_PARAMETER_BYTES = 64 * 1024


class InvalidSession(PeerFault):
    """A session cannot be what was asked for; says everything that is wrong with it."""


class Sessions:
    """Begins sessions and finds them again.

    Args:
        clock: seconds since 1970.
        speaker: speaks for the reducer in masked rounds; None where it runs none.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalogue: Catalogue,
        events: EventLog,
        clock: Callable[[], float] = time.time,
        *,
        speaker: Speaker | None = None,
    ) -> None:
        self._speaker = speaker
        self._ledger = ledger
        self._catalogue = catalogue
        self._events = events
        self._clock = clock

    async def begin(self, options: SessionOptions) -> SessionRecord:
        """Write a new session down.

        Raises:
            InvalidSession, UnknownPackage, UnknownModel: it cannot be.
            MaskingNotSetUp, BeyondPolicy: it cannot be masked.
            SessionUnderWay: another one is.
        """
        _check(options)
        await self._catalogue.package(options.package)
        model = await self._catalogue.model(options.seed_model)
        if isinstance(model, RoundRecord) and model.model is None:
            raise UnknownModel(options.seed_model)
        for status in UNDER_WAY:
            under_way = await self._ledger.find("sessions", SessionRecord, {"status": status}, limit=1)
            if under_way:
                raise SessionUnderWay(under_way[0].terms.session)
        number = await next_number(self._ledger)
        session = SessionId(secrets.token_hex(16))
        terms = SessionTerms(
            session=session,
            number=number,
            rounds=options.rounds,
            package=options.package,
            seed_model=options.seed_model,
            parameters=json.dumps(dict(options.parameters), sort_keys=True),
            masking=options.masking,
            masked=options.masked,
            clients_wanted=options.clients_wanted,
            clients_required=options.clients_required,
            update_timeout_s=options.update_timeout_s,
            validate=options.validate,
            validation_timeout_s=options.validation_timeout_s,
            max_attempts=options.max_attempts,
            retry_delay_s=options.retry_delay_s,
            gather_timeout_s=options.gather_timeout_s,
        )
        if terms.masking != "none":
            size = model.parameters if isinstance(model, SeedModelRecord) else 1
            terms = masked_terms(terms, self._speaker, size)
        name = options.name or f"session-{number}"
        record = SessionRecord(name, terms, "running", "", self._clock())
        await self._ledger.add("sessions", session, record, number=number, status="running")
        await self._ledger.stamp("network", LEASE_KEY)
        text = f"session {name} started: {options.rounds} rounds, masking {options.masking}"
        self._events.tell("session.started", text, session=session)
        return record

    async def changed_limits(self, session: SessionId, changes: SessionChanges) -> SessionLimits:
        """Return the limits that a session shall have, by the rules that it was started by.

        Raises:
            UnknownSession, InvalidSession: it is not there, or cannot have these.
            BeyondPolicy: they do not fit its masking.
        """
        record = await self.get(session)
        limits = changes.made_to(record.changed or limits_of(record.terms))
        terms = with_limits(record.terms, limits)
        wrong = [*faults_of_limits(limits)]
        if terms.masking != "none":
            wrong += faults_of_masked_limits(terms)
        if wrong:
            raise InvalidSession("; ".join(wrong), remedy="Correct these limits and change the session again.")
        if terms.masking != "none" and self._speaker is not None:
            check_policy(terms, self._speaker, n_parameters=1)
        return limits

    async def get(self, session: SessionId) -> SessionRecord:
        """Return a session's record, or raise UnknownSession."""
        record = await self._ledger.get("sessions", session, SessionRecord)
        if record is None:
            raise UnknownSession(session)
        return record

    async def privacy(self, session: SessionId) -> PrivacyView:
        """Return what each party sees in a session; raises UnknownSession."""
        record = await self.get(session)
        policy = None if self._speaker is None else self._speaker.policy
        return privacy_view(record, await self._newest({"session": session}), policy, self._clock())

    async def page(self, after: int | None, limit: int) -> Sequence[SessionRecord]:
        """Return sessions, newest first, beyond the session number ``after``."""
        return await self._ledger.find(
            "sessions", SessionRecord, order_by="number", descending=True, limit=limit, after=after
        )

    async def under_way(self) -> SessionStarted | None:
        """Take over the session under way and return where it goes on, None where there is none."""
        for status in UNDER_WAY:
            found = await self._ledger.find("sessions", SessionRecord, {"status": status}, limit=1)
            if found:
                return await self._where_it_was(await self._take_over(found[0].terms.session))
        return None

    async def _where_it_was(self, record: SessionRecord) -> SessionStarted:
        terms = record.terms
        progress = replace(first_progress(terms), intent=record.intent, changed=record.changed)
        newest = await self._newest({"session": terms.session})
        committed = await self._newest({"session": terms.session, "status": "committed"})
        if committed is not None and committed.model is not None:
            progress = replace(progress, committed=committed.plan.round_number, head=committed.model)
        if newest is not None:
            progress = replace(
                progress,
                attempt=1 if newest.status == "committed" else newest.plan.attempt + 1,
                drawn=len({client for cell in newest.cells for client in cell.clients}),
                generation=max(progress.generation, newest.generation),
            )
        paused = (record.reason or "it was paused") if record.status == "paused" else ""
        if terms.masking != "none" and newest is not None:
            return await self._masked(progress, newest, paused)
        if newest is not None and newest.status == "running":
            before = replace(progress, attempt=newest.plan.attempt)
            return SessionStarted(before, paused, Updating(before, newest.plan, cells_of(newest)))
        return _between_attempts(progress, newest, paused)

    async def last_commit(self) -> RoundCommitted | None:
        """Return the newest commit of the newest session: combiners and clients may have missed it."""
        for session in await self.page(None, 1):
            where = {"session": session.terms.session, "status": "committed"}
            record = await self._newest(where)
            if record is not None and record.model is not None:
                return RoundCommitted(record.plan.session, record.plan.round_number, record.model)
        return None

    async def _masked(self, progress: Progress, newest: RoundRecord, paused: str) -> SessionStarted:
        """Return where a masked session goes on: with the attempt that its newest round's document has."""
        names = await self._client_names()
        attempt = unfinished(newest)
        if attempt is not None:
            before = replace(progress, committed=newest.plan.round_number - 1, head=newest.plan.base_model)
            before = with_history(before, newest, names)
            return SessionStarted(before, paused, found_attempt(before, newest, attempt, INTERRUPTED))
        if newest.status != "committed":
            progress = with_history(progress, newest, names)
        return _between_attempts(progress, newest, paused)

    async def _client_names(self) -> dict[ClientId, ClientName]:
        return {record.client: record.name for record in await self._ledger.find("clients", ClientRecord)}

    async def _newest(self, equals: Fields) -> RoundRecord | None:
        """Return the newest round of a session, by its key, which has the number in it."""
        found = await self._ledger.find("rounds", RoundRecord, equals, descending=True, limit=1)
        return found[0] if found else None

    async def _take_over(self, session: SessionId) -> SessionRecord:
        """Stamp this reducer's fence on a session and its newest round, so that no older reducer writes them again.

        Validation orders take generations that are not written down: room is left for those of earlier reducers. An
        attempt that was to be masked and has no plan cannot be gone on with: it is closed as failed.
        """
        record = await self._ledger.change("sessions", session, SessionRecord, lambda old: old)
        for newest in await self._ledger.find("rounds", RoundRecord, {"session": session}, descending=True, limit=1):
            key = round_key(session, newest.plan.round_number)
            seen = await self._ledger.change("rounds", key, RoundRecord, _with_room)
            if seen.status == "running" and seen.plan.masking != "none" and unfinished(seen) is None:
                await self._close_interrupted(key, seen)
        return record

    async def _close_interrupted(self, key: str, record: RoundRecord) -> None:
        plan = record.plan
        failure = FailedAttempt(plan.attempt, INTERRUPTED, self._clock())

        def closed(now: RoundRecord) -> RoundRecord:
            if now.plan != plan or now.status != "running":
                raise CommittedElsewhere(plan)
            return with_failure(now, failure, ())

        await self._ledger.change("rounds", key, RoundRecord, closed, status="failed")
        text = f"round {plan.round_number}, attempt {plan.attempt} failed: {INTERRUPTED}"
        self._events.tell("round.failed", text, "warning", session=plan.session, round=str(plan.round_number))

    async def forsake(self, session: SessionId, reason: str) -> bool:
        """Write a session as stopped that nobody works on; False where it has ended already."""
        record = await self.get(session)
        if record.status not in UNDER_WAY:
            return False
        await self._ledger.change(
            "sessions",
            session,
            SessionRecord,
            lambda old: replace(old, status="stopped", reason=reason),
            status="stopped",
        )
        self._events.tell("session.stopped", f"session stopped: {reason}", session=session)
        return True


def _with_room(record: RoundRecord) -> RoundRecord:
    return replace(record, generation=Generation(record.generation + _VALIDATIONS_AT_MOST))


def _between_attempts(progress: Progress, newest: RoundRecord | None, paused: str) -> SessionStarted:
    """Return where a session goes on that runs no attempt: with the validation that its newest model lacks, if any."""
    lacks = newest is not None and newest.status == "committed" and newest.validation is None
    if newest is None or not lacks or paused or not progress.terms.validate:
        return SessionStarted(progress, paused)
    asked = frozenset(client for cell in newest.cells for client in cell.clients)
    return SessionStarted(progress, paused, Validating(progress, {}, away=asked))


def first_progress(terms: SessionTerms) -> Progress:
    """Return where a session begins."""
    return Progress(terms, 0, terms.seed_model, 1, first_generation(terms.number))


def _check(options: SessionOptions) -> None:
    limits = SessionLimits(**{one.name: getattr(options, one.name) for one in fields(SessionLimits)})
    wrong = [*faults_of_limits(limits), *_faults_of_masking(options)]
    try:
        if len(json.dumps(dict(options.parameters), allow_nan=False)) > MOST_PARAMETER_BYTES:
            wrong.append(f"parameters are larger than {MOST_PARAMETER_BYTES} bytes")
        if options.name:
            parse_name(options.name, "session name")
    except FednError as fault:
        wrong.append(fault.message)
    except (TypeError, ValueError) as fault:
        wrong.append(f"parameters are no JSON object: {fault}")
    if wrong:
        raise InvalidSession("; ".join(wrong), remedy="Correct these options and start the session again.")


def _faults_of_masking(options: SessionOptions) -> Iterator[str]:
    if options.masking == "none":
        if options.masked != MaskedOptions():
            yield "terms of masked rounds are given, but masking is none: updates would not be hidden"
        return
    least = options.masked.g_min or LEAST_CLIENTS
    if 0 < options.clients_wanted < least:
        yield f"clients_wanted is {options.clients_wanted}, but a masked sum needs at least {least} clients"
    yield from faults_of(options.masked)
