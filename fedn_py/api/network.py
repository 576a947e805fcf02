"""The Python client of a reducer, for notebooks, scripts and the command line: typed, synchronous, streaming."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fedn_py.api.asking import Asking, query
from fedn_py.api.connection import Connection, Progress, no_progress
from fedn_py.api.faults import ReducerUnreachable, WaitedTooLong
from fedn_py.api.profile import Profile
from fedn_py.api.rows import Rows
from fedn_py.identity import Digest
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_events import EventView, Severity
from fedn_py.reducer.shown_measurements import ValidationView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView
from fedn_py.reducer.shown_objects import ModelView, PackageView, VerificationView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.reducer.shown_tokens import Role, TokenView

ENDED = frozenset({"finished", "stopped", "failed"})
"""The statuses in which a session does nothing more by itself."""

NEWEST = 2**53
"""A number beyond that of every event."""

AWAY_AT_MOST_S = 120.0
"""How long ``wait`` and ``follow`` bear a reducer that is away."""


class Network:
    """A federated network, seen through its reducer.

    Every method may raise ReducerUnreachable, and RemoteRefusal with the reducer's own code, words and remedy. Lists
    come as ``Rows``: a notebook shows them as tables, ``.records()`` and ``.to_pandas()`` make something else of them.

    Example:
        >>> network = Network("https://reducer.example.org:8090", token, ca_file="authority.pem")
        >>> network.status().phase
        'idle'

    Args:
        url: https://host:port of the reducer, or of each where others stand by.
        token: of role viewer or admin.
        ca_file: PEM, the authority of the reducer's certificate; None for the system's.
    """

    def __init__(self, url: str | Sequence[str], token: str, ca_file: str | Path | None = None) -> None:
        urls = [url] if isinstance(url, str) else url
        self._connection = Connection(urls, token, Path(ca_file) if ca_file else None)
        self._asking = Asking(self._connection)

    @classmethod
    def of(cls, profile: Profile) -> "Network":
        """Return the network that a profile names."""
        return cls(profile.urls, profile.token, profile.authority_file)

    def status(self) -> StatusView:
        """Return what the reducer does now."""
        return self._asking.one("GET", "/status", StatusView)

    def follow(self, *, again_s: float = 1.0) -> Iterator[int]:
        """Give the number of changes so far: at once, and anew soon after something in the network has changed.

        It says that there is something new, not what: ask for what you watch. Changes within half a second come as
        one. A connection that breaks is made again, and tells once more where things stand.

        Example:
            >>> for _ in network.follow():
            ...     print(network.status().phase)

        Args:
            again_s: before it connects again.

        Raises:
            ReducerUnreachable: it was away for longer than AWAY_AT_MOST_S; shorter absences are waited out.
        """
        away_since = 0.0
        while True:
            try:
                # No Last-Event-ID: a reducer that takes over counts anew, and may by chance stand at the same number.
                for told in self._connection.events("/live"):
                    away_since = 0.0
                    yield int(told["changes"])
            except ReducerUnreachable:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > AWAY_AT_MOST_S:
                    raise
            time.sleep(again_s)

    # ---- sessions and rounds

    def sessions(self) -> Rows[SessionView]:
        """Return all sessions, newest first.

        Example:
            >>> network.sessions().to_pandas()[["name", "status", "rounds_done"]]
        """
        return self._asking.rows("/sessions", SessionView)

    def session(self, session: str) -> SessionView:
        """Return one session."""
        return self._asking.one("GET", f"/sessions/{session}", SessionView)

    def start_session(self, options: SessionOptions | None = None, **terms: Any) -> SessionView:
        """Begin a session.

        Args:
            options: all that it shall be; or give the fields of ``SessionOptions`` one by one.
            terms: ``package`` and ``seed_model`` are digests, or what an upload or a list returned.

        Example:
            >>> session = network.start_session(package=package, seed_model=seed, rounds=5)
        """
        if options is None:
            named = {name: digest_of(one) for name, one in terms.items() if name in {"package", "seed_model"}}
            options = SessionOptions(**{**terms, **named})
        elif terms:
            raise TypeError("start_session takes SessionOptions, or their fields one by one")
        body = TypeAdapter(SessionOptions).dump_python(options, mode="json")
        return self._asking.one("POST", "/sessions", SessionView, body)

    def pause_session(self, session: str) -> SessionView:
        """Begin no further round after the one under way."""
        return self._asking.one("POST", f"/sessions/{session}/pause", SessionView)

    def resume_session(self, session: str, *, new_work: bool = False) -> SessionView:
        """Go on with a paused or failed session.

        Args:
            new_work: train anew from the same global model with another seed: the way out of a privacy hold.
        """
        asked = query(new_work="true" if new_work else None)
        return self._asking.one("POST", f"/sessions/{session}/resume{asked}", SessionView)

    def privacy(self, session: str) -> PrivacyView:
        """Return what each party sees in a session, what that rests on and what breaks it."""
        return self._asking.one("GET", f"/sessions/{session}/privacy", PrivacyView)

    def change_session(self, session: str, **changes: float) -> SessionView:
        """Let other limits hold from the next attempt on; the one under way keeps those it began with.

        Args:
            changes: of ``SessionChanges``, such as rounds or clients_required; what is not given stays.
        """
        return self._asking.one("PATCH", f"/sessions/{session}", SessionView, changes)

    def stop_session(self, session: str, *, after_round: bool = False) -> SessionView:
        """End a session for good.

        Args:
            after_round: finish the round under way; otherwise it is given up.
        """
        asked = query(after_round="true" if after_round else None)
        return self._asking.one("POST", f"/sessions/{session}/stop{asked}", SessionView)

    def rounds(self, session: str, *, after: int = 0) -> Rows[RoundView]:
        """Return a session's rounds, oldest first: those behind number ``after``.

        Example:
            >>> network.rounds(session.id).to_pandas().plot(x="number", y="metrics.accuracy")
        """
        return self._asking.rows(f"/sessions/{session}/rounds", RoundView, begin=str(after) if after else None)

    def round(self, session: str, number: int) -> RoundView:
        """Return one round."""
        return self._asking.one("GET", f"/sessions/{session}/rounds/{number}", RoundView)

    def validations(self, session: str, *, after: int = 0) -> Rows[ValidationView]:
        """Return what was measured in a session's committed rounds, oldest first: those behind number ``after``.

        Example:
            >>> [(one.name, one.mean, one.hidden) for one in network.validations(session.id)[-1].metrics]
            [('accuracy', 0.93, '')]
        """
        begin = str(after) if after else None
        return self._asking.rows(f"/sessions/{session}/validations", ValidationView, begin=begin)

    def wait(
        self,
        session: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 1.0,
        on_change: Callable[[SessionView, list[RoundView]], None] | None = None,
    ) -> SessionView:
        """Wait until a session has ended and return it.

        Example:
            >>> def tell(session, rounds):
            ...     print(session.status, [(one.number, dict(one.metrics)) for one in rounds])
            >>> session = network.wait(session.id, on_change=tell)

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

    def models(self, session: str | None = None) -> Rows[ModelView]:
        """Return the models of a session (None: of all, and the seed models), newest first.

        Example:
            >>> newest = network.models(session.id)[0]
        """
        return self._asking.rows("/models", ModelView, session=session)

    def model(self, digest: str) -> ModelView:
        """Return what is known of one model."""
        return self._asking.one("GET", f"/models/{digest}", ModelView)

    def model_tensors(self, model: str | ModelView) -> Rows[TensorView]:
        """Return a model's tensors and what their numbers are like.

        The reducer reads the whole model for it once. Of one of many GB that may take longer than an answer may
        (ReducerUnreachable): it goes on meanwhile, so ask again.

        Example:
            >>> network.model_tensors(session.final_model).to_pandas()[["name", "mean", "deviation", "zeros"]]
        """
        return self._asking.rows(f"/models/{digest_of(model)}/tensors", TensorView, limit=None)

    def upload_seed_model(self, file: str | Path, progress: Progress = no_progress) -> ModelView:
        """Store a seed model, a safetensors file.

        Example:
            >>> seed = network.upload_seed_model("seed.safetensors")
        """
        return TypeAdapter(ModelView).validate_python(self._connection.upload("/models", Path(file), progress))

    def download_model(self, model: str | ModelView, file: str | Path, progress: Progress = no_progress) -> Path:
        """Fetch a model into a file, checked against its digest; return the file.

        Example:
            >>> network.download_model(session.final_model, "model.safetensors")
        """
        digest = digest_of(model)
        self._connection.download(f"/models/{digest}/content", digest, Path(file), progress)
        return Path(file)

    def packages(self) -> Rows[PackageView]:
        """Return all compute packages, newest first."""
        return self._asking.rows("/packages", PackageView)

    def package(self, digest: str) -> PackageView:
        """Return what is known of one compute package."""
        return self._asking.one("GET", f"/packages/{digest}", PackageView)

    def package_files(self, package: str | PackageView) -> Rows[PackageFileView]:
        """Return the files of a compute package and their sizes.

        Example:
            >>> network.package_files(package)
        """
        return self._asking.rows(f"/packages/{digest_of(package)}/files", PackageFileView, limit=None)

    def upload_package(self, file: str | Path, progress: Progress = no_progress) -> PackageView:
        """Store a compute package, a .tar.gz.

        Example:
            >>> package = network.upload_package("package.tar.gz")
        """
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

    def combiners(self) -> Rows[CombinerView]:
        """Return all combiners that ever joined, by name.

        Example:
            >>> [one.name for one in network.combiners() if one.connected]
        """
        return self._asking.rows("/combiners", CombinerView, limit=None)

    def clients(self) -> Rows[ClientView]:
        """Return all clients that ever joined, by name; each with its result in the newest rounds.

        Example:
            >>> network.clients().to_pandas()[["name", "connected", "last_result.outcome", "last_result.reason"]]
        """
        return self._asking.rows("/clients", ClientView)

    def client(self, client: str) -> ClientView:
        """Return one client by its id, with its last result.

        Example:
            >>> network.client(network.clients()[0].id).last_result
        """
        return self._asking.one("GET", f"/clients/{client}", ClientView)

    def revoke_client(self, client: str | ClientView) -> ClientView:
        """Make the token worthless that a client came by, and cut off everybody who came by that one.

        Example:
            >>> network.revoke_client(network.clients()[0]).revoked
            True
        """
        identity = client if isinstance(client, str) else client.id
        return self._asking.one("POST", f"/clients/{identity}/revoke", ClientView)

    def events(
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
    ) -> Rows[EventView]:
        """Return at most ``limit`` events that fit all that is given.

        Args:
            after: those behind this number, oldest first.
            before: those below this number, newest first. Without either the newest ones come, oldest first.
            text: stands somewhere in the text or the kind, in upper or lower case.
            session, round_number, client, combiner: what they are about; clients and combiners by name.

        Example:
            >>> network.events(text="refused", session=session.id, client="hospital-a", limit=20)
        """
        filters = {
            "kind": kind,
            "severity": severity,
            "text": text,
            "session": session,
            "round": round_number,
            "client": client,
            "combiner": combiner,
        }
        wanted = {name: value for name, value in filters.items() if value}
        if after is not None:
            return self._asking.some("/events", EventView, limit=limit, direction="after", begin=after, filters=wanted)
        begin = NEWEST if before is None else before
        found = self._asking.some("/events", EventView, limit=limit, direction="before", begin=begin, filters=wanted)
        return found if before is not None else Rows(reversed(found))

    def event(self, seq: int) -> EventView:
        """Return one event by its number.

        Example:
            >>> network.event(1).text
        """
        return self._asking.one("GET", f"/events/{seq}", EventView)

    def tokens(self) -> Rows[TokenView]:
        """Return all tokens, newest first."""
        return self._asking.rows("/tokens", TokenView)

    def create_token(self, role: Role, label: str, valid_s: float = 365 * 86_400.0) -> tuple[str, TokenView]:
        """Make a token; return its text, which is kept nowhere, and what is known of it."""
        made = self._connection.ask("POST", "/tokens", {"role": role, "label": label, "valid_s": valid_s})
        return made["text"], TypeAdapter(TokenView).validate_python(made["token"])

    def sign_in_link(self) -> str:
        """Return a link to the web pages that signs a browser in once, as whoever this token belongs to."""
        return self._connection.url + str(self._connection.ask("POST", "/sign-in-links")["path"])

    def revoke_token(self, token: str) -> TokenView:
        """Make a token worthless from now on."""
        return self._asking.one("DELETE", f"/tokens/{token}", TokenView)


def digest_of(named: str | ModelView | PackageView) -> Digest:
    """Return the digest of a model or package that is given by it or by its view."""
    return Digest(named if isinstance(named, str) else named.digest)


def is_settled(view: RoundView) -> bool:
    """Tell whether nothing more will be said of a round: it is committed, and its validation is over."""
    return view.status == "done" and view.phase == "done"


def _is_past(deadline: float | None, next_look_s: float) -> bool:
    return deadline is not None and time.monotonic() + next_look_s > deadline
