"""The Python client of a reducer, for notebooks, scripts and the command line: typed, synchronous, streaming."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import TypeAdapter

from fedn_py.api.connection import Connection, Progress, no_progress
from fedn_py.api.faults import ReducerUnreachable, WaitedTooLong
from fedn_py.api.profile import Profile
from fedn_py.reducer.control import (
    ClientView,
    CombinerView,
    EventView,
    ModelView,
    PackageView,
    Role,
    RoundView,
    SessionOptions,
    SessionView,
    Severity,
    StatusView,
    TokenView,
    VerificationView,
)

View = TypeVar("View")

ENDED = frozenset({"finished", "stopped", "failed"})
"""The statuses in which a session does nothing more by itself."""

AWAY_AT_MOST_S = 120.0
"""How long ``wait`` bears a reducer that is away."""


class Network:
    """A federated network, seen through its reducer.

    Every method may raise ReducerUnreachable, and RemoteRefusal with the reducer's own code, words and remedy.

    Args:
        url: https://host:port of the reducer, or of each where others stand by.
        token: of role viewer or admin.
        ca_file: PEM, the authority of the reducer's certificate; None for the system's.
    """

    def __init__(self, url: str | Sequence[str], token: str, ca_file: str | Path | None = None) -> None:
        urls = [url] if isinstance(url, str) else url
        self._connection = Connection(urls, token, Path(ca_file) if ca_file else None)

    @classmethod
    def of(cls, profile: Profile) -> "Network":
        """Return the network that a profile names."""
        return cls(profile.urls, profile.token, profile.authority_file)

    def status(self) -> StatusView:
        """Return what the reducer does now."""
        return self._one("GET", "/status", StatusView)

    # ---- sessions and rounds

    def sessions(self) -> list[SessionView]:
        """Return all sessions, newest first."""
        return list(self._all("/sessions", SessionView))

    def session(self, session: str) -> SessionView:
        """Return one session."""
        return self._one("GET", f"/sessions/{session}", SessionView)

    def start_session(self, options: SessionOptions) -> SessionView:
        """Begin a session."""
        return self._one(
            "POST", "/sessions", SessionView, TypeAdapter(SessionOptions).dump_python(options, mode="json")
        )

    def pause_session(self, session: str) -> SessionView:
        """Begin no further round after the one under way."""
        return self._one("POST", f"/sessions/{session}/pause", SessionView)

    def resume_session(self, session: str, *, new_work: bool = False) -> SessionView:
        """Go on with a paused or failed session.

        Args:
            new_work: train anew from the same global model with another seed: the way out of a privacy hold.
        """
        query = _query(new_work="true" if new_work else None)
        return self._one("POST", f"/sessions/{session}/resume{query}", SessionView)

    def change_session(self, session: str, **changes: float) -> SessionView:
        """Let other limits hold from the next attempt on; the one under way keeps those it began with.

        Args:
            changes: of ``SessionChanges``, such as rounds or clients_required; what is not given stays.
        """
        return self._one("PATCH", f"/sessions/{session}", SessionView, changes)

    def stop_session(self, session: str, *, after_round: bool = False) -> SessionView:
        """End a session for good.

        Args:
            after_round: finish the round under way; otherwise it is given up.
        """
        query = _query(after_round="true" if after_round else None)
        return self._one("POST", f"/sessions/{session}/stop{query}", SessionView)

    def rounds(self, session: str, *, after: int = 0) -> list[RoundView]:
        """Return a session's rounds, oldest first: those behind number ``after``."""
        return list(self._all(f"/sessions/{session}/rounds", RoundView, begin=str(after) if after else None))

    def round(self, session: str, number: int) -> RoundView:
        """Return one round."""
        return self._one("GET", f"/sessions/{session}/rounds/{number}", RoundView)

    def wait(
        self,
        session: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 1.0,
        on_change: Callable[[SessionView, list[RoundView]], None] | None = None,
    ) -> SessionView:
        """Wait until a session has ended and return it.

        Args:
            timeout_s: None for as long as it takes.
            poll_s: between two looks.
            on_change: told on each look of the session and of its rounds that are new since the last look, or not
                settled yet.

        Raises:
            WaitedTooLong: it had not ended after ``timeout_s``.
            ReducerUnreachable: it was away for longer than AWAY_AT_MOST_S; shorter absences are waited out.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        settled, away_since = 0, 0.0
        while True:
            try:
                view = self.session(session)
                rounds = self.rounds(session, after=settled) if on_change is not None else []
            except ReducerUnreachable:
                # A reducer that is started anew goes on with the session; so does who waits for it.
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_AT_MOST_S or _is_past(deadline, poll_s):
                    raise
                time.sleep(poll_s)
                continue
            away_since = 0.0
            if on_change is not None:
                on_change(view, rounds)
                settled = max([settled, *(one.number for one in rounds if is_settled(one))])
            if view.status in ENDED:
                return view
            if _is_past(deadline, poll_s):
                raise WaitedTooLong(
                    f"session {view.name} is {view.status} after {timeout_s:g} s: "
                    f"{view.rounds_done} of {view.rounds_wanted} rounds",
                    remedy=f"It goes on; see fedn-py session show {view.id}.",
                )
            time.sleep(poll_s)

    # ---- models and packages

    def models(self, session: str | None = None) -> list[ModelView]:
        """Return the models of a session (None: of all, and the seed models), newest first."""
        return list(self._all("/models", ModelView, session=session))

    def model(self, digest: str) -> ModelView:
        """Return what is known of one model."""
        return self._one("GET", f"/models/{digest}", ModelView)

    def upload_model(self, file: str | Path, progress: Progress = no_progress) -> ModelView:
        """Store a seed model, a safetensors file."""
        return TypeAdapter(ModelView).validate_python(self._connection.upload("/models", Path(file), progress))

    def download_model(self, digest: str, file: str | Path, progress: Progress = no_progress) -> Path:
        """Fetch a model into a file, checked against its digest; return the file."""
        self._connection.download(f"/models/{digest}/content", digest, Path(file), progress)
        return Path(file)

    def packages(self) -> list[PackageView]:
        """Return all compute packages, newest first."""
        return list(self._all("/packages", PackageView))

    def package(self, digest: str) -> PackageView:
        """Return what is known of one compute package."""
        return self._one("GET", f"/packages/{digest}", PackageView)

    def upload_package(self, file: str | Path, progress: Progress = no_progress) -> PackageView:
        """Store a compute package, a .tar.gz."""
        return TypeAdapter(PackageView).validate_python(self._connection.upload("/packages", Path(file), progress))

    def verify_object(self, digest: str, progress: Progress = no_progress) -> VerificationView:
        """Have the reducer read a model's or a package's object to its end; return what came of it."""
        step = None
        for line in self._connection.lines("POST", f"/objects/{digest}/verify"):
            step = TypeAdapter(VerificationView).validate_python(line)
            progress(step.done, step.size)
        if step is None or step.outcome == "reading":
            raise ReducerUnreachable(f"the reducer broke off while it read {digest[:12]}", remedy="Try again.")
        return step

    # ---- the network

    def combiners(self) -> list[CombinerView]:
        """Return all combiners that ever joined, by name."""
        return list(self._all("/combiners", CombinerView, limit=None))

    def clients(self) -> list[ClientView]:
        """Return all clients that ever joined, by name."""
        return list(self._all("/clients", ClientView))

    def events(
        self, *, after: int | None = None, limit: int = 100, kind: str = "", severity: Severity | None = None
    ) -> list[EventView]:
        """Return events, oldest first: those behind ``after``, or the newest ``limit`` when it is None."""
        query = _query(after=after, limit=limit, kind=kind or None, severity=severity)
        return TypeAdapter(list[EventView]).validate_python(self._connection.ask("GET", f"/events{query}")["items"])

    def tokens(self) -> list[TokenView]:
        """Return all tokens, newest first."""
        return list(self._all("/tokens", TokenView))

    def create_token(self, role: Role, label: str, valid_s: float = 365 * 86_400.0) -> tuple[str, TokenView]:
        """Make a token; return its text, which is kept nowhere, and what is known of it."""
        made = self._connection.ask("POST", "/tokens", {"role": role, "label": label, "valid_s": valid_s})
        return made["text"], TypeAdapter(TokenView).validate_python(made["token"])

    def sign_in_link(self) -> str:
        """Return a link to the web pages that signs a browser in once, as whoever this token belongs to."""
        return self._connection.url + str(self._connection.ask("POST", "/sign-in-links")["path"])

    def revoke_token(self, token: str) -> TokenView:
        """Make a token worthless from now on."""
        return self._one("DELETE", f"/tokens/{token}", TokenView)

    def _one(self, method: str, path: str, view: type[View], body: object = None) -> View:
        return TypeAdapter(view).validate_python(self._connection.ask(method, path, body))

    def _all(
        self, path: str, view: type[View], *, limit: int | None = 500, begin: str | None = None, **filters: Any
    ) -> Iterator[View]:
        after = begin
        items = TypeAdapter(list[view])  # type: ignore[valid-type]
        while True:
            page = self._connection.ask("GET", path + _query(after=after, limit=limit, **filters))
            yield from items.validate_python(page["items"])
            after = page.get("next")
            if after is None:
                return


def is_settled(view: RoundView) -> bool:
    """Tell whether nothing more will be said of a round: it is committed, and its validation is over."""
    return view.status == "done" and view.phase == "done"


def _is_past(deadline: float | None, next_look_s: float) -> bool:
    return deadline is not None and time.monotonic() + next_look_s > deadline


def _query(**values: object) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
