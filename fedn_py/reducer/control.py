"""What people and programs can ask of a reducer: the interface behind REST, and the values it answers with.

Instants are seconds since 1970 in UTC, durations are in seconds. A list that can grow comes in pages: ask again with
the page's ``next`` as ``after`` until ``next`` is None.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fedn_py.identity import ClientId, Digest, SessionId, TokenId
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.session_limits import SessionChanges
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_events import EventView, Severity
from fedn_py.reducer.shown_measurements import ValidationView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView
from fedn_py.reducer.shown_objects import ModelView, PackageView, VerificationView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.reducer.shown_tokens import Caller, Role, TokenView

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list.

    Attributes:
        next: give it as ``after`` to get the next page; None at the end.
    """

    items: tuple[Item, ...]
    next: str | None = None


class Control(Protocol):
    """Everything that people and programs can ask of a reducer.

    Each method may raise StoreUnavailable; those that take an id raise the Unknown of its kind, and those that change
    something a Conflict when it does not fit.
    """

    async def authenticate(self, bearer: str) -> Caller:
        """Return whose token this is, or raise NotAuthenticated."""
        ...

    async def recognise(self, token: TokenId) -> Caller:
        """Return whose token this is, of which the holder has proved before that it is theirs.

        Raises NotAuthenticated once it is revoked or expired.
        """
        ...

    async def not_ready(self) -> tuple[str, ...]:
        """Return why this reducer cannot work now, nothing where it can."""
        ...

    async def changed(self, after: int) -> int:
        """Wait until the number of changes in the network is another one than ``after``, and return it.

        It begins anew with each start of a reducer; -1 is never one, so it waits for nothing.
        """
        ...

    async def status(self) -> StatusView:
        """Return what the reducer does now."""
        ...

    async def sessions(self, *, after: str = "", limit: int = 100) -> Page[SessionView]:
        """Return sessions, newest first."""
        ...

    async def session(self, session: SessionId) -> SessionView:
        """Return one session."""
        ...

    async def start_session(self, options: SessionOptions) -> SessionView:
        """Begin a session; raises UnknownPackage, UnknownModel, SessionUnderWay."""
        ...

    async def pause_session(self, session: SessionId) -> SessionView:
        """Begin no further round after the one under way."""
        ...

    async def resume_session(self, session: SessionId, *, new_work: bool = False) -> SessionView:
        """Go on with a paused or failed session.

        Args:
            new_work: train anew from the same global model with another seed: the way out of a privacy hold.
        """
        ...

    async def privacy(self, session: SessionId) -> PrivacyView:
        """Return what each party sees in a session, what that rests on and what breaks it."""
        ...

    async def change_session(self, session: SessionId, changes: SessionChanges) -> SessionView:
        """Let other limits hold from the next attempt on; the one under way keeps those it began with.

        Raises:
            InvalidSession, FewerRoundsThanDone, BeyondPolicy: the session cannot have these.
            WrongSessionStatus: it has ended.
        """
        ...

    async def stop_session(self, session: SessionId, *, after_round: bool = False) -> SessionView:
        """End a session for good.

        Args:
            after_round: finish the round under way; otherwise it is given up. Without one the session ends at once.
        """
        ...

    async def rounds(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[RoundView]:
        """Return a session's rounds, oldest first."""
        ...

    async def round(self, session: SessionId, number: int) -> RoundView:
        """Return one round."""
        ...

    async def validations(self, session: SessionId, *, after: str = "", limit: int = 100) -> Page[ValidationView]:
        """Return what was measured in a session's committed rounds, oldest first."""
        ...

    async def models(self, session: SessionId | None, *, after: str = "", limit: int = 100) -> Page[ModelView]:
        """Return the models of a session (None: of all, and the seed models), newest first."""
        ...

    async def model(self, digest: Digest) -> ModelView:
        """Return what is known of one model."""
        ...

    async def open_model(self, digest: Digest) -> tuple[int, AsyncIterator[bytes]]:
        """Return a model's size in bytes and a stream of them."""
        ...

    async def model_tensors(self, digest: Digest) -> tuple[TensorView, ...]:
        """Return the tensors of a model and what their numbers are like, in the order of their bytes."""
        ...

    async def upload_model(self, chunks: AsyncIterator[bytes]) -> ModelView:
        """Store a seed model; refused unless it is a safetensors file."""
        ...

    async def packages(self, *, after: str = "", limit: int = 100) -> Page[PackageView]:
        """Return compute packages, newest first."""
        ...

    async def package(self, digest: Digest) -> PackageView:
        """Return what is known of one compute package."""
        ...

    async def package_files(self, digest: Digest) -> tuple[PackageFileView, ...]:
        """Return the files of a compute package and their sizes, in the archive's order."""
        ...

    async def upload_package(self, chunks: AsyncIterator[bytes]) -> PackageView:
        """Store a compute package; refused unless it is one that clients can unpack safely."""
        ...

    async def verify_object(self, digest: Digest) -> AsyncIterator[VerificationView]:
        """Read a model's or a package's object to its end, as a stream of how far it is; the last one has ended."""
        ...

    async def combiners(self) -> tuple[CombinerView, ...]:
        """Return all combiners that ever joined, by name."""
        ...

    async def clients(self, *, after: str = "", limit: int = 100) -> Page[ClientView]:
        """Return all clients that ever joined, by name."""
        ...

    async def client(self, client: ClientId) -> ClientView:
        """Return one client; its last result is looked for in more rounds than that of a list."""
        ...

    async def revoke_client(self, client: ClientId) -> ClientView:
        """Make the token worthless that a client came by, and cut off everybody who came by that one.

        Raises UnknownClient, and TokenNotKnown where nobody knows its token.
        """
        ...

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
        """Return events; a search reads a bounded number of them, so a page may hold fewer than there are behind it.

        Args:
            after: those behind this number, oldest first; the page's ``next`` goes on as ``after``.
            before: those below this number, newest first; the page's ``next`` goes on as ``before``. Without either,
                the newest ones come, oldest first, and ``next`` is what follows them as ``after``.
            text: stands somewhere in the text or the kind, in upper or lower case.
            session, round_number, client, combiner: what they are about; clients and combiners by name.
        """
        ...

    async def event(self, seq: int) -> EventView:
        """Return one event; raises UnknownEvent."""
        ...

    async def tokens(self, *, after: str = "", limit: int = 100) -> Page[TokenView]:
        """Return tokens, newest first."""
        ...

    async def create_token(self, role: Role, label: str, valid_s: float) -> tuple[str, TokenView]:
        """Make a token and return its text, which is kept nowhere, and what is known of it."""
        ...

    async def revoke_token(self, token: TokenId) -> TokenView:
        """Make a token worthless from now on."""
        ...
