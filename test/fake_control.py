"""A reducer of the tests' own: everything that can be asked of one, kept in plain dictionaries."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, SessionId, TokenId
from fedn_py.reducer.bell import Bell
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import (
    NotAuthenticated,
    SessionUnderWay,
    UnknownClient,
    UnknownEvent,
    UnknownModel,
    UnknownObject,
    UnknownPackage,
    UnknownRound,
    UnknownSession,
    UnknownToken,
    WrongSessionStatus,
)
from fedn_py.reducer.privacy_words import Assumption, PrivacyRow, PrivacyView
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_events import EventView, Severity
from fedn_py.reducer.shown_measurements import MetricView, ValidationView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView, StoreView
from fedn_py.reducer.shown_objects import ModelView, PackageView, VerificationView
from fedn_py.reducer.shown_rounds import (
    ContributorView,
    MaskedCellView,
    RoundMaskingView,
    RoundView,
    SumParticipantView,
)
from fedn_py.reducer.shown_sessions import SessionOptions, SessionStatus, SessionView
from fedn_py.reducer.shown_tokens import Caller, Role, TokenView

Item = TypeVar("Item")


class NotAModelFile(PeerFault):
    """An uploaded model that does not begin as one."""


def page(items: Sequence[Item], after: str, limit: int) -> Page[Item]:
    """Cut a list; the cursor is how many came before."""
    start = int(after or 0)
    rest = start + limit
    return Page(tuple(items[start:rest]), str(rest) if rest < len(items) else None)


class FakeControl:
    """Holds what it is told; tests reach into its dictionaries.

    Attributes:
        told: fields of the status that are otherwise than they follow from the rest.
    """

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}
        self.session_views: dict[str, SessionView] = {}
        self.round_views: list[RoundView] = []
        self.objects: dict[str, bytes] = {}
        self.model_views: list[ModelView] = []
        self.validation_views: list[ValidationView] = []
        self.package_views: list[PackageView] = []
        self.privacy_views: dict[SessionId, PrivacyView] = {}
        self.token_views: dict[str, TokenView] = {}
        self.client_views: dict[ClientId, ClientView] = {}
        for name in ("anna", "bert"):
            view = ClientView(
                ClientId(name.encode().hex()), ClientName(name), CombinerName("combiner-1"), connected=True,
                last_seen=1.0, since=1.0,
            )  # fmt: skip
            self.client_views[view.id] = view
        self.combiner_views = [
            CombinerView(CombinerName("combiner-1"), "localhost:12080", 2, 10, connected=True, last_seen=1.0)
        ]
        self.event_views: list[EventView] = []
        self.events_at_once = 1_000
        self.events_asked = 0
        self.healthy = True
        self.told: dict[str, Any] = {}
        self.new_works = 0
        self.bell = Bell()
        self._ids = itertools.count(1)

    def let_in(self, role: Role) -> str:
        """Return a bearer of this role."""
        bearer = f"fedn1.{next(self._ids):016x}.{role:x<43}"
        self.callers[bearer] = Caller(TokenId(bearer[6:22]), role, f"a {role}")
        return bearer

    async def authenticate(self, bearer: str) -> Caller:
        if bearer not in self.callers:
            raise NotAuthenticated("the token is unknown", remedy="Make another.")
        return self.callers[bearer]

    async def recognise(self, token: TokenId) -> Caller:
        for caller in self.callers.values():
            if caller.token == token:
                return caller
        raise NotAuthenticated("the token is unknown", remedy="Make another.")

    async def changed(self, after: int) -> int:
        return await self.bell.rings(after)

    async def not_ready(self) -> tuple[str, ...]:
        return () if self.healthy else ("documents (memory): does not answer",)

    async def status(self) -> StatusView:
        running = [view for view in self.session_views.values() if view.status not in {"finished", "stopped"}]
        status = StatusView(
            reducer="reducer",
            deployment="test",
            software="0",
            stores=(StoreView("documents", "memory", self.healthy),),
            phase="collecting" if running else "idle",
            waiting="",
            active_session=running[0].id if running else None,
            round_number=1 if running else None,
            clients=2,
            combiners=1,
            started_at=1.0,
        )
        return replace(status, **self.told)

    async def sessions(self, *, after: str = "", limit: int = 100) -> Page[SessionView]:
        return page(list(self.session_views.values())[::-1], after, limit)

    async def session(self, session: SessionId) -> SessionView:
        if session not in self.session_views:
            raise UnknownSession(session)
        return self.session_views[session]

    async def start_session(self, options: SessionOptions) -> SessionView:
        for view in self.session_views.values():
            if view.status == "running":
                raise SessionUnderWay(view.id)
        await self.package(options.package)
        await self.model(options.seed_model)
        number = next(self._ids)
        identity = SessionId(f"{number:032x}")
        name = options.name or f"session-{number}"
        view = SessionView(identity, number, name, "running", options.rounds, 0, options, "", 1.0)
        self.session_views[identity] = view
        return view

    async def become(self, session: SessionId, status: SessionStatus, done: str) -> SessionView:
        """Put a session into a status."""
        old = await self.session(session)
        if old.status == status:
            raise WrongSessionStatus(session, old.status, done)
        view = SessionView(
            old.id, old.number, old.name, status, old.rounds_wanted, old.rounds_done, old.options, "", old.created_at
        )
        self.session_views[session] = view
        return view

    async def pause_session(self, session: SessionId) -> SessionView:
        return await self.become(session, "paused", "paused")

    async def resume_session(self, session: SessionId, *, new_work: bool = False) -> SessionView:
        self.new_works += new_work
        return await self.become(session, "running", "resumed")

    async def privacy(self, session: SessionId) -> PrivacyView:
        view = await self.session(session)
        if session in self.privacy_views:
            return self.privacy_views[session]
        rows = (
            PrivacyRow("combiner", "update of one client", "masked", "It adds numbers that look random."),
            PrivacyRow("reducer", "update of one client", "never", "It can open sums of 3 clients."),
        )
        rests = (Assumption("One of 2 slots is honest.", "The combiner with 2 sum participants."),)
        return PrivacyView(view.id, view.name, "pet", 2, 1, 3, "reducer", 64, 1, ("loss",), False, 1, 1.0, rows, rests)

    async def change_session(self, session: SessionId, changes: SessionChanges) -> SessionView:
        old = await self.session(session)
        if old.status == "stopped":
            raise WrongSessionStatus(session, old.status, "changed")
        given = {name: value for name, value in asdict(changes).items() if value is not None}
        options = replace(old.options, **given)
        view = replace(old, options=options, rounds_wanted=options.rounds)
        self.session_views[session] = view
        return view

    async def stop_session(self, session: SessionId, *, after_round: bool = False) -> SessionView:
        if after_round:
            self.session_views[session] = replace(await self.session(session), intent="end")
            return self.session_views[session]
        return await self.become(session, "stopped", "stopped")

    def finish_round(self, session: SessionId, number: int, accuracy: float) -> RoundView:
        """Record a round that is done."""
        view = RoundView(
            session,
            number,
            1,
            "done",
            "done",
            1.0,
            2.5,
            clients=(ContributorView(ClientName("anna"), 10), ContributorView(ClientName("bert"), 20)),
            combiners=(CombinerName("combiner-1"),),
            samples=30,
            metrics={"accuracy": accuracy},
            model=Digest("ab" * 32),
        )
        self.round_views.append(view)
        released = {"anna": accuracy - 0.25, "bert": accuracy + 0.25}
        low, high = released.values()
        metric = MetricView("accuracy", accuracy, 2, "", low, low, accuracy, high, high, released)
        self.validation_views.append(
            ValidationView(session, number, Digest("ab" * 32), validated=True, clients=2, samples=30, seconds=2.5,
                           metrics=(metric,), training=(MetricView("loss", None, 1, "1 clients gave it"),))
        )  # fmt: skip
        return view

    def mask_round(self, session: SessionId, number: int) -> RoundView:
        """Record a masked round that is done."""
        plain = self.finish_round(session, number, 0.75)
        members = (
            SumParticipantView(ClientName("bert"), 0, 0, answered=True),
            SumParticipantView(ClientName("anna"), 1, 0, answered=False),
        )
        cells = (
            MaskedCellView(CombinerName("combiner-1"), 5, members, opened=True),
            MaskedCellView(CombinerName("combiner-2"), 0, (), opened=False, reason="TooFewUpdates: 1 of 3"),
        )
        masked = replace(
            plain,
            clients=(ContributorView(ClientName("anna"), None), ContributorView(ClientName("bert"), None)),
            training_metrics={"clip_fraction": 0.125},
            masking=RoundMaskingView("pet", 2, 1, 3, "reducer", cells),
        )
        self.round_views[-1] = masked
        return masked

    async def rounds(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[RoundView]:
        if session not in self.session_views:
            raise UnknownSession(session)
        return page([view for view in self.round_views if view.session == session], after, limit)

    async def round(self, session: SessionId, number: int) -> RoundView:
        for view in self.round_views:
            if (view.session, view.number) == (session, number):
                return view
        raise UnknownRound(session, number)

    async def validations(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[ValidationView]:
        await self.session(session)
        return page([view for view in self.validation_views if view.session == session], after, limit)

    async def models(self, session: SessionId | None, *, after: str = "", limit: int = 100) -> Page[ModelView]:
        chosen = [view for view in self.model_views if session is None or view.session == session]
        return page(chosen[::-1], after, limit)

    async def model(self, digest: Digest) -> ModelView:
        for view in self.model_views:
            if view.digest == digest:
                return view
        raise UnknownModel(digest)

    async def open_model(self, digest: Digest) -> tuple[int, AsyncIterator[bytes]]:
        await self.model(digest)
        content = self.objects[digest]

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1 << 20):
                yield content[start : start + (1 << 20)]

        return len(content), pieces()

    async def _store(self, chunks: AsyncIterator[bytes]) -> Digest:
        content = b"".join([chunk async for chunk in chunks])
        digest = Digest(hashlib.sha256(content).hexdigest())
        self.objects[digest] = content
        return digest

    async def model_tensors(self, digest: Digest) -> tuple[TensorView, ...]:
        await self.model(digest)
        return (
            TensorView("b", "F32", (), 4, 0.5, 0.5, 0.5, 0.0, 0.0, 0),
            TensorView("w", "F32", (2, 3), 24, None, None, None, None, 0.0, 6),
        )

    async def upload_model(self, chunks: AsyncIterator[bytes]) -> ModelView:
        first = await anext(chunks, b"")
        if first.startswith(b"not a model"):
            raise NotAModelFile("the file is no safetensors file", remedy="Save it with fedn_py.package.save_model.")

        async def all_chunks() -> AsyncIterator[bytes]:
            yield first
            async for chunk in chunks:
                yield chunk

        digest = await self._store(all_chunks())
        view = ModelView(digest, 0, None, None, len(self.objects[digest]), 1.0)
        self.model_views.append(view)
        return view

    async def packages(self, *, after: str = "", limit: int = 100) -> Page[PackageView]:
        return page(self.package_views[::-1], after, limit)

    async def package(self, digest: Digest) -> PackageView:
        for view in self.package_views:
            if view.digest == digest:
                return view
        raise UnknownPackage(digest)

    async def package_files(self, digest: Digest) -> tuple[PackageFileView, ...]:
        await self.package(digest)
        return (PackageFileView("fedn.yaml", 120), PackageFileView("src/train.py", 2048))

    async def upload_package(self, chunks: AsyncIterator[bytes]) -> PackageView:
        digest = await self._store(chunks)
        view = PackageView(digest, "digits", "1", len(self.objects[digest]), 3, {"train": "python train.py"}, 1.0)
        self.package_views.append(view)
        return view

    async def verify_object(self, digest: Digest) -> AsyncIterator[VerificationView]:
        if digest not in self.objects and digest not in {view.digest for view in self.model_views}:
            raise UnknownObject(digest)
        content = self.objects.get(digest)

        async def steps() -> AsyncIterator[VerificationView]:
            if content is None:
                yield VerificationView(digest, 0, 0, "missing", "it is missing. Put it back.")
                return
            yield VerificationView(digest, len(content) // 2, len(content), "reading")
            whole = hashlib.sha256(content).hexdigest() == digest
            fault = "" if whole else "it is not what it was. Put it back."
            yield VerificationView(digest, len(content), len(content), "whole" if whole else "corrupt", fault)

        return steps()

    async def combiners(self) -> tuple[CombinerView, ...]:
        return tuple(self.combiner_views)

    async def clients(self, *, after: str = "", limit: int = 100) -> Page[ClientView]:
        return page(list(self.client_views.values()), after, limit)

    async def client(self, client: ClientId) -> ClientView:
        if client not in self.client_views:
            raise UnknownClient(client)
        return self.client_views[client]

    async def revoke_client(self, client: ClientId) -> ClientView:
        view = replace(await self.client(client), revoked=True, connected=False, combiner=None)
        self.client_views[client] = view
        return view

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
        self.events_asked += 1
        about = {"session": session, "round": str(round_number or ""), "client": client, "combiner": combiner}
        chosen = [
            view
            for view in self.event_views
            if kind in {"", view.kind}
            and severity in {None, view.severity}
            and text.lower() in f"{view.kind} {view.text}".lower()
            and all(view.subject.get(name) == value for name, value in about.items() if value)
        ]
        # A search that looks at events_at_once of them and says where to go on.
        if before is not None:
            looked = [view for view in self.event_views[::-1] if view.seq < before][: self.events_at_once]
            items = [view for view in looked if view in chosen][:limit]
        else:
            looked = [view for view in self.event_views if view.seq > (after or 0)]
            looked = looked[-self.events_at_once :] if after is None else looked[: self.events_at_once]
            items = [view for view in looked if view in chosen]
            items = items[-limit:] if after is None else items[:limit]
        mark = items[-1].seq if len(items) == limit else looked[-1].seq if len(looked) == self.events_at_once else None
        return Page(tuple(items), None if mark is None else str(mark))

    async def event(self, seq: int) -> EventView:
        for view in self.event_views:
            if view.seq == seq:
                return view
        raise UnknownEvent(seq)

    async def tokens(self, *, after: str = "", limit: int = 100) -> Page[TokenView]:
        return page(list(self.token_views.values())[::-1], after, limit)

    async def create_token(self, role: Role, label: str, valid_s: float) -> tuple[str, TokenView]:
        text = self.let_in(role)
        view = TokenView(self.callers[text].token, role, label, 1.0, 1.0 + valid_s, revoked=False, last_used=None)
        self.token_views[view.id] = view
        return text, view

    async def revoke_token(self, token: TokenId) -> TokenView:
        if token not in self.token_views:
            raise UnknownToken(token)
        old = self.token_views[token]
        view = TokenView(old.id, old.role, old.label, old.created, old.not_after, revoked=True, last_used=None)
        self.token_views[token] = view
        return view
