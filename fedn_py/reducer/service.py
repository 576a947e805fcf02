"""The reducer as its callers see it: what REST asks (``Control``) and what combiners and clients say on their streams.

Calls become events of the machine or reads of the stores; nothing is decided here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import fedn_py
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, CombinerName, Digest, SessionId, TokenId
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.messages import RoundProgress
from fedn_py.protocol.reducer import BY_OPERATOR
from fedn_py.protocol.reducer_work import (
    ChangeRequested,
    Effect,
    Event,
    Gathering,
    Idle,
    PauseRequested,
    Reducer,
    ResumeRequested,
    SessionStarted,
    StopRequested,
    Work,
)
from fedn_py.reducer import views
from fedn_py.reducer.absences import Absences
from fedn_py.reducer.attendance import Attendance
from fedn_py.reducer.bell import Bell
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.contents import Contents
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import (
    NotAuthenticated,
    SessionUnderWay,
    UnknownEvent,
    UnknownRound,
    WrongSessionStatus,
)
from fedn_py.reducer.event_log import EventLog, event_key
from fedn_py.reducer.event_search import EventFilter, search
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.listing import Listing, Source, number_in
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.phase_times import PhaseTimes
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.records import (
    EventRecord,
    MadeModel,
    PackageRecord,
    RoundRecord,
    SeedModelRecord,
    SessionRecord,
    TokenKept,
    round_key,
)
from fedn_py.reducer.roster import Roster
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.sessions import Sessions, first_progress
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_events import EventView, Severity
from fedn_py.reducer.shown_measurements import ValidationView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView, StoreView
from fedn_py.reducer.shown_objects import ModelView, PackageView, VerificationView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.reducer.shown_tokens import Caller, Role, TokenView
from fedn_py.reducer.token_book import TokenBook, now_ms
from fedn_py.reducer.validations import validation_view
from fedn_py.reducer.verifying import verified
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.ports import Documents, Objects
from fedn_py.transport.authentication import TokenRecord

HEALTH_GOOD_FOR_S = 1.0

Record = TypeVar("Record")
View = TypeVar("View")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of.

    Attributes:
        store_kinds: of documents and objects, for people: "SQLite", "folder".
        progress: what each combiner last told of its work.
        phases: when the round at hand went from phase to phase.
        absences: who is away.
        masked: None where no operator has certified this reducer.
        bell: rings when anything that people look at has changed.
        lost: what was lost when the stores were set back; empty when they were not, or a session has begun since.
    """

    name: str
    deployment: str
    store_kinds: tuple[str, str]
    documents: Documents
    objects: Objects
    ledger: Ledger
    events: EventLog
    tokens: TokenBook
    catalogue: Catalogue
    sessions: Sessions
    roster: Roster
    mailbox: Mailbox[Reducer, Event, Effect]
    patience: Patience
    progress: Mapping[CombinerName, RoundProgress]
    phases: PhaseTimes
    absences: Absences
    masked: MaskedRounds | None = None
    bell: Bell = field(default_factory=Bell)
    lost: str = ""


class Health:
    """Whether the stores work, asked of them once for all who want to know within a moment.

    A check writes to the store and may take seconds where it is away; pages ask several times a second.
    """

    def __init__(self, parts: Parts) -> None:
        documents, objects = parts.store_kinds
        self._checks = (("documents", documents, parts.documents), ("objects", objects, parts.objects))
        self._checking = asyncio.Lock()
        self._found: tuple[StoreView, ...] = ()
        self._until = 0.0

    async def stores(self) -> tuple[StoreView, ...]:
        """Return what each store was like a moment ago."""
        async with self._checking:
            clock = asyncio.get_running_loop().time
            if not self._found or clock() >= self._until:
                self._found = tuple(await asyncio.gather(*(_checked(*check) for check in self._checks)))
                self._until = clock() + HEALTH_GOOD_FOR_S
            return self._found


async def _checked(keeps: str, kind: str, store: Documents | Objects) -> StoreView:
    detail = ""
    try:
        await store.check()
    except FednError as fault:
        detail = fault.message
    return StoreView(keeps, kind, not detail, detail)


class StoredControl:
    """Implements ``Control``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = time.time()
        self._starting = asyncio.Lock()
        self._health = Health(parts)
        self._contents = Contents(parts.catalogue)
        self._attendance = Attendance(parts.ledger, parts.roster, parts.tokens, parts.events)
        self._lost = parts.lost

    # ---- who asks

    async def authenticate(self, bearer: str) -> Caller:
        """Return whose token this is, or raise NotAuthenticated."""
        return await _caller(self._parts.tokens.find(bearer))

    async def recognise(self, token: TokenId) -> Caller:
        """Return whose token this is that was shown before, or raise NotAuthenticated."""
        return await _caller(self._parts.tokens.still_good(token))

    async def tokens(self, *, after: str = "", limit: int = 100) -> Page[TokenView]:
        """Return tokens, newest first."""
        return await _TOKENS.page(self._parts.ledger, after, limit)

    async def create_token(self, role: Role, label: str, valid_s: float) -> tuple[str, TokenView]:
        """Make a token."""
        text, kept = await self._parts.tokens.create(role, label, valid_s)
        return text, views.token_view(kept)

    async def revoke_token(self, token: TokenId) -> TokenView:
        """Make a token worthless from now on, and cut off whoever came in by it."""
        kept = await self._parts.tokens.revoke(token)
        self._parts.roster.revoke(token)
        return views.token_view(kept)

    # ---- what goes on

    async def not_ready(self) -> tuple[str, ...]:
        """Return why this reducer cannot work now: stores that do not answer, or work that waits for one."""
        away = [
            f"{store.keeps} ({store.kind}): {store.detail}" for store in await self._health.stores() if store.detail
        ]
        waiting = self._parts.patience.waiting_for
        return (*away, *([waiting] if waiting else []))

    async def changed(self, after: int) -> int:
        """Return the number of changes so far, once it is not ``after`` any more."""
        return await self._parts.bell.rings(after)

    async def status(self) -> StatusView:
        """Return what the reducer does now."""
        parts, work = self._parts, self._parts.mailbox.state.work
        progress = None if isinstance(work, Idle) else work.progress
        combiners = [entry for entry in parts.roster.combiners().values() if entry.outbox is not None]
        return StatusView(
            reducer=parts.name,
            deployment=parts.deployment,
            software=fedn_py.__version__,
            stores=await self._health.stores(),
            phase=views.phase_of(work),
            waiting=parts.patience.waiting_for or self._waiting(work),
            active_session=progress.terms.session if progress else None,
            round_number=views.round_number_of(work),
            clients=len(parts.roster.where()),
            combiners=len(combiners),
            started_at=self._started,
            restored=self._lost,
            phase_since=parts.phases.since,
            phase_deadline=views.deadline_of(work, parts.phases),
            masks=parts.masked is not None,
        )

    def _waiting(self, work: Work) -> str:
        """Return why nothing goes on, and whom an attempt that waits for clients misses; empty when it does."""
        reason = views.waiting_of(work)
        if not isinstance(work, Gathering):
            return reason
        return "; ".join(part for part in (reason, self._parts.absences.in_words(self._parts.roster.name_of)) if part)

    async def events(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        kind: str = "",
        severity: Severity | None = None,
        text: str = "",
        session: str = "",
        round_number: int | None = None,
        client: str = "",
        combiner: str = "",
    ) -> Page[EventView]:
        """Return events behind or below a number, or the newest ones."""
        about = {"session": session, "round": "" if round_number is None else str(round_number), "client": client}
        subject = {name: value for name, value in {**about, "combiner": combiner}.items() if value}
        wanted = EventFilter(kind=kind, severity=severity, text=text, subject=subject)
        backwards = after is None
        begin = before if backwards else after
        found = await search(self._parts.ledger, wanted, begin=begin, backwards=backwards, limit=limit)
        seen = tuple(views.event_view(record) for record in found.events)
        if not backwards or before is not None:
            return Page(seen, None if found.next is None else str(found.next))
        return Page(seen[::-1], None if found.first is None else str(found.first))

    async def event(self, seq: int) -> EventView:
        """Return one event."""
        record = await self._parts.ledger.get("events", event_key(seq), EventRecord)
        if record is None:
            raise UnknownEvent(seq)
        return views.event_view(record)

    # ---- sessions and rounds

    async def sessions(self, *, after: str = "", limit: int = 100) -> Page[SessionView]:
        """Return sessions, newest first."""
        found = await self._parts.sessions.page(number_in(after) if after else None, limit + 1)
        seen = [await self._session_view(record) for record in found[:limit]]
        return _page(found, limit, seen, lambda record: record.terms.number)

    async def session(self, session: SessionId) -> SessionView:
        """Return one session."""
        return await self._session_view(await self._parts.sessions.get(session))

    async def _session_view(self, record: SessionRecord) -> SessionView:
        done, head = await self._parts.catalogue.head(record.terms.session)
        work = self._parts.mailbox.state.work
        view = views.session_view(record, done, head, work)
        if view.status == "waiting":
            view = replace(view, reason=self._waiting(work))
        away = self._parts.patience.waiting_for
        return replace(view, reason=away) if away and view.status in {"running", "waiting"} else view

    async def start_session(self, options: SessionOptions) -> SessionView:
        """Begin a session."""
        async with self._starting:  # of two that ask at once, one is first
            work = self._parts.mailbox.state.work
            if not isinstance(work, Idle):
                raise SessionUnderWay(work.progress.terms.session)
            if self._parts.masked is not None:
                await self._parts.masked.look_for_policy()  # a session begins under the newest one
            record = await self._parts.sessions.begin(options)
            self._lost = ""
            await self._parts.mailbox.deliver(SessionStarted(first_progress(record.terms)))
        return await self.session(record.terms.session)

    async def pause_session(self, session: SessionId) -> SessionView:
        """Begin no further round after the one under way."""
        return await self._obeyed(session, PauseRequested(session), "paused")

    async def resume_session(self, session: SessionId, *, new_work: bool = False) -> SessionView:
        """Go on with a paused session."""
        return await self._obeyed(session, ResumeRequested(session, new_work), "resumed")

    async def privacy(self, session: SessionId) -> PrivacyView:
        """Return what each party sees in a session."""
        return await self._parts.sessions.privacy(session)

    async def change_session(self, session: SessionId, changes: SessionChanges) -> SessionView:
        """Let other limits hold from the next attempt on."""
        async with self._starting:  # of two changes the second one is made to what the first one left
            limits = await self._parts.sessions.changed_limits(session, changes)
            return await self._obeyed(session, ChangeRequested(session, limits), "changed")

    async def stop_session(self, session: SessionId, *, after_round: bool = False) -> SessionView:
        """End a session for good."""
        stop = StopRequested(session, after_round)
        try:
            return await self._obeyed(session, stop, "stopped")
        except WrongSessionStatus:
            async with self._starting:  # it may just be beginning
                work = self._parts.mailbox.state.work
                if not isinstance(work, Idle) and work.progress.terms.session == session:
                    return await self._obeyed(session, stop, "stopped")
                # A start whose answer was lost may have been stored after that: nobody works on it.
                if not await self._parts.sessions.forsake(session, BY_OPERATOR):
                    raise
            return await self.session(session)

    async def _obeyed(
        self,
        session: SessionId,
        wish: PauseRequested | ResumeRequested | StopRequested | ChangeRequested,
        wanted: str,
    ) -> SessionView:
        record = await self._parts.sessions.get(session)
        try:
            await self._parts.mailbox.deliver(wish)
        except UnexpectedEvent as fault:
            raise WrongSessionStatus(session, record.status, wanted) from fault
        return await self.session(session)

    async def rounds(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[RoundView]:
        """Return a session's rounds, oldest first."""
        await self._parts.sessions.get(session)
        beyond = round_key(session, number_in(after)) if after else None
        # By key, which has the number in it: the stores find it without reading all rounds of the session.
        found = await self._parts.ledger.find(
            "rounds", RoundRecord, {"session": session}, limit=limit + 1, after=beyond
        )
        return _page(found, limit, [self._round_view(one) for one in found[:limit]], lambda one: one.plan.round_number)

    async def validations(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[ValidationView]:
        """Return what was measured in a session's committed rounds, oldest first."""
        await self._parts.sessions.get(session)
        beyond = round_key(session, number_in(after)) if after else None
        of_it = {"session": session, "status": "committed"}
        found = await self._parts.ledger.find("rounds", MadeModel, of_it, limit=limit + 1, after=beyond)
        return _page(found, limit, [validation_view(one) for one in found[:limit]], lambda one: one.plan.round_number)

    async def round(self, session: SessionId, number: int) -> RoundView:
        """Return one round."""
        record = await self._parts.ledger.get("rounds", round_key(session, number), RoundRecord)
        if record is None:
            raise UnknownRound(session, number)
        return self._round_view(record)

    def _round_view(self, record: RoundRecord) -> RoundView:
        parts = self._parts
        return views.round_view(
            record,
            parts.mailbox.state.work,
            parts.progress,
            now=time.time(),
            phases=parts.phases.of(record),
            name_of=parts.roster.name_of,
        )

    # ---- models and packages

    async def models(self, session: SessionId | None, *, after: str = "", limit: int = 100) -> Page[ModelView]:
        """Return the models of a session (None: of all, and the seed models), newest first."""
        if session is None:
            return await _MODELS.page(self._parts.ledger, after, limit)
        await self._parts.sessions.get(session)
        found = await self._parts.catalogue.trail(session, number_in(after) if after else None, limit + 1)
        return _page(found, limit, [views.model_view(one) for one in found[:limit]], lambda one: one.plan.round_number)

    async def model(self, digest: Digest) -> ModelView:
        """Return what is known of one model."""
        record = await self._parts.catalogue.model(digest)
        return views.seed_view(record) if isinstance(record, SeedModelRecord) else views.model_view(record)

    async def open_model(self, digest: Digest) -> tuple[int, AsyncIterator[bytes]]:
        """Return a model's size in bytes and a stream of them."""
        return await self._parts.catalogue.open_model(digest)

    async def model_tensors(self, digest: Digest) -> tuple[TensorView, ...]:
        """Return the tensors of a model and what their numbers are like."""
        return await self._contents.model_tensors(digest)

    async def upload_model(self, chunks: AsyncIterator[bytes]) -> ModelView:
        """Store a seed model."""
        return views.seed_view(await self._parts.catalogue.add_seed_model(chunks))

    async def packages(self, *, after: str = "", limit: int = 100) -> Page[PackageView]:
        """Return compute packages, newest first."""
        return await _PACKAGES.page(self._parts.ledger, after, limit)

    async def package(self, digest: Digest) -> PackageView:
        """Return what is known of one compute package."""
        return views.package_view(await self._parts.catalogue.package(digest))

    async def package_files(self, digest: Digest) -> tuple[PackageFileView, ...]:
        """Return the files of a compute package and their sizes."""
        return await self._contents.package_files(digest)

    async def upload_package(self, chunks: AsyncIterator[bytes]) -> PackageView:
        """Store a compute package."""
        return views.package_view(await self._parts.catalogue.add_package(chunks))

    async def verify_object(self, digest: Digest) -> AsyncIterator[VerificationView]:
        """Read a model's or a package's object to its end."""
        await self._parts.catalogue.check_known(digest)
        return verified(self._parts.objects, digest, self._parts.events)

    # ---- combiners and clients

    async def combiners(self) -> tuple[CombinerView, ...]:
        """Return all combiners that ever joined, by name."""
        return await self._attendance.combiners()

    async def clients(self, *, after: str = "", limit: int = 100) -> Page[ClientView]:
        """Return all clients that ever joined, by name."""
        return await self._attendance.clients(after, limit)

    async def client(self, client: ClientId) -> ClientView:
        """Return one client, with its last result among the newest rounds."""
        return await self._attendance.client(client)

    async def revoke_client(self, client: ClientId) -> ClientView:
        """Revoke the token that a client came by, and cut off everybody who came by it."""
        return await self._attendance.revoke(client)


async def _caller(found: Awaitable[TokenRecord]) -> Caller:
    """Return who has a token that is good, or raise NotAuthenticated with what is wrong with it."""
    try:
        record = await found
    except PeerFault as fault:
        raise NotAuthenticated(fault.message, remedy=fault.remedy) from fault
    return Caller(record.id, record.role, record.label)


def _page(found: Sequence[Record], limit: int, seen: Sequence[View], number: Callable[[Record], int]) -> Page[View]:
    """Return one page of what is numbered; ``found`` has one more than the page where there is a next one."""
    return Page(tuple(seen), str(number(found[limit - 1])) if len(found) > limit else None)


_TOKENS = Listing(
    [Source("tokens", TokenKept, views.token_view)],
    "created",
    place=lambda view: now_ms(view.created),
    key=lambda view: view.id,
    read_place=number_in,
    descending=True,
)
_PACKAGES = Listing(
    [Source("packages", PackageRecord, views.package_view)],
    "created",
    place=lambda view: now_ms(view.created_at),
    key=lambda view: view.digest,
    read_place=number_in,
    descending=True,
)
_MODELS = Listing(
    [
        Source("models", SeedModelRecord, views.seed_view),
        Source("rounds", MadeModel, views.model_view, {"status": "committed"}),
    ],
    "created",
    place=lambda view: now_ms(view.created_at),
    key=lambda view: view.digest,
    read_place=number_in,
    descending=True,
)
