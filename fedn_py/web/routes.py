"""The routes of the REST API, version 1. They only translate: what is allowed and what happens is the reducer's."""

from typing import Any

from flask import Response, g, request
from flask_openapi3.blueprint import APIBlueprint

from fedn_py.identity import ClientId, Digest, SessionId, TokenId
from fedn_py.reducer.control import Control
from fedn_py.reducer.privacy_words import PrivacyView
from fedn_py.reducer.shown_contents import PackageFileView, TensorView
from fedn_py.reducer.shown_events import EventView
from fedn_py.reducer.shown_measurements import ValidationView
from fedn_py.reducer.shown_network import ClientView, CombinerView, StatusView
from fedn_py.reducer.shown_objects import ModelView, PackageView, VerificationView
from fedn_py.reducer.shown_rounds import RoundView
from fedn_py.reducer.shown_sessions import SessionView
from fedn_py.reducer.shown_tokens import TokenView
from fedn_py.settings import LimitSettings
from fedn_py.web.areas import as_file, created, new_area
from fedn_py.web.bridge import Bridge, upload
from fedn_py.web.schemas import (
    ChangeSession,
    ClientPath,
    CreateToken,
    DigestPath,
    EventPath,
    EventQuery,
    ModelQuery,
    NewToken,
    Paging,
    ResumeQuery,
    RoundPath,
    SessionPath,
    SignInLink,
    StartSession,
    StopQuery,
    TokenPath,
    answer_json,
    described,
    json_lines,
    page_of,
    session_id,
)
from fedn_py.web.sign_in import LINK_VALID_S, SignInLinks
from fedn_py.web.tables import VALIDATION_COLUMNS, validations_csv
from fedn_py.web.ui.privacy_report import privacy_report

_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}
_STEPS: dict[str, Any] = {
    "description": "How far it is, one JSON object a line",
    "content": {"application/x-ndjson": {"schema": described(VerificationView).model_json_schema()}},
}
_TABLE: dict[str, Any] = {"description": f"Columns: {', '.join(VALIDATION_COLUMNS)}", "content": {"text/csv": {}}}
_REPORT: dict[str, Any] = {"description": "One page that needs nothing from elsewhere", "content": {"text/html": {}}}
_BYTES: dict[str, Any] = {"description": "The file", "content": {"application/octet-stream": {}}}


def network_routes(control: Control, bridge: Bridge) -> APIBlueprint:
    """Return the routes that show the network: status, combiners, clients, events."""
    area = new_area("network", "What is there and what happens")

    @area.get("/status", responses={200: described(StatusView)})
    def show_status() -> Response:
        """What the reducer does now."""
        return answer_json(bridge.call(control.status()))

    @area.get("/combiners", responses={200: page_of(CombinerView)})
    def list_combiners() -> Response:
        """All combiners that ever joined."""
        return answer_json({"items": bridge.call(control.combiners()), "next": None})

    @area.get("/clients", responses={200: page_of(ClientView)})
    def list_clients(query: Paging) -> Response:
        """All clients that ever joined."""
        return answer_json(bridge.call(control.clients(after=query.after, limit=query.limit)))

    @area.get("/clients/<client>", responses={200: described(ClientView)})
    def show_client(path: ClientPath) -> Response:
        """One client, and what became of its last update."""
        return answer_json(bridge.call(control.client(ClientId(path.client))))

    @area.post("/clients/<client>/revoke", responses={200: described(ClientView)})
    def revoke_client(path: ClientPath) -> Response:
        """Revoke the token that a client came by, and cut off everybody who came by it."""
        return answer_json(bridge.call(control.revoke_client(ClientId(path.client))))

    @area.get("/events", responses={200: page_of(EventView)})
    def list_events(query: EventQuery) -> Response:
        """The event log: the newest, oldest first; or those behind a number, or below one with the newest first."""
        return answer_json(bridge.call(control.events(**query.asked())))

    @area.get("/events/<int:seq>", responses={200: described(EventView)})
    def show_event(path: EventPath) -> Response:
        """One event."""
        return answer_json(bridge.call(control.event(path.seq)))

    return area


def session_routes(control: Control, bridge: Bridge) -> APIBlueprint:
    """Return the routes of sessions and their rounds."""
    area = new_area("sessions", "Sessions and their rounds")
    session = described(SessionView)

    @area.get("/sessions", responses={200: page_of(SessionView)})
    def list_sessions(query: Paging) -> Response:
        """All sessions, newest first."""
        return answer_json(bridge.call(control.sessions(after=query.after, limit=query.limit)))

    @area.post("/sessions", responses={201: session})
    def start_session(body: StartSession) -> Response:
        """Begin a session."""
        started = bridge.call(control.start_session(body.options()))
        return created(started, f"sessions/{started.id}")

    @area.get("/sessions/<session>", responses={200: session})
    def show_session(path: SessionPath) -> Response:
        """One session."""
        return answer_json(bridge.call(control.session(session_id(path))))

    @area.get("/sessions/<session>/privacy", responses={200: described(PrivacyView)})
    def show_privacy(path: SessionPath) -> Response:
        """What each party sees in a session, what that rests on and what breaks it."""
        return answer_json(bridge.call(control.privacy(session_id(path))))

    @area.get("/sessions/<session>/privacy.html", responses={200: _REPORT})
    def report_privacy(path: SessionPath) -> Response:
        """The same as a report for your records."""
        view = bridge.call(control.privacy(session_id(path)))
        return as_file(privacy_report(view), f"privacy-{view.session[:12]}.html", "text/html")

    @area.patch("/sessions/<session>", responses={200: session})
    def change_session(path: SessionPath, body: ChangeSession) -> Response:
        """Let other limits hold from the next attempt on; the one under way keeps those it began with."""
        return answer_json(bridge.call(control.change_session(session_id(path), body.changes())))

    @area.post("/sessions/<session>/pause", responses={200: session})
    def pause_session(path: SessionPath) -> Response:
        """Begin no further round after the one under way."""
        return answer_json(bridge.call(control.pause_session(session_id(path))))

    @area.post("/sessions/<session>/resume", responses={200: session})
    def resume_session(path: SessionPath, query: ResumeQuery) -> Response:
        """Go on with a paused or failed session."""
        return answer_json(bridge.call(control.resume_session(session_id(path), new_work=query.new_work)))

    @area.post("/sessions/<session>/stop", responses={200: session})
    def stop_session(path: SessionPath, query: StopQuery) -> Response:
        """End a session for good."""
        return answer_json(bridge.call(control.stop_session(session_id(path), after_round=query.after_round)))

    @area.get("/sessions/<session>/rounds", responses={200: page_of(RoundView)})
    def list_rounds(path: SessionPath, query: Paging) -> Response:
        """A session's rounds, oldest first."""
        return answer_json(bridge.call(control.rounds(session_id(path), after=query.after, limit=query.limit)))

    @area.get("/sessions/<session>/rounds/<int:number>", responses={200: described(RoundView)})
    def show_round(path: RoundPath) -> Response:
        """One round."""
        return answer_json(bridge.call(control.round(session_id(path), path.number)))

    @area.get("/sessions/<session>/validations", responses={200: page_of(ValidationView)})
    def list_validations(path: SessionPath, query: Paging) -> Response:
        """What was measured in a session's committed rounds, oldest first."""
        return answer_json(bridge.call(control.validations(session_id(path), after=query.after, limit=query.limit)))

    @area.get("/sessions/<session>/validations.csv", responses={200: _TABLE})
    def table_validations(path: SessionPath) -> Response:
        """The same of all rounds as a table: a row for each mean and each client's value."""
        wanted = session_id(path)
        bridge.call(control.session(wanted))  # refused before the answer begins
        response = Response(bridge.download(validations_csv(control, wanted), request), mimetype="text/csv")
        response.headers["Content-Disposition"] = f'attachment; filename="validations-{wanted[:12]}.csv"'
        return response

    return area


def model_routes(control: Control, bridge: Bridge, limits: LimitSettings) -> APIBlueprint:
    """Return the routes of models."""
    area = new_area("models", "The model trail")

    @area.get("/models", responses={200: page_of(ModelView)})
    def list_models(query: ModelQuery) -> Response:
        """Models, newest first."""
        session = SessionId(query.session) if query.session else None
        return answer_json(bridge.call(control.models(session, after=query.after, limit=query.limit)))

    @area.post("/models", responses={201: described(ModelView)}, openapi_extensions=_BODY)
    def upload_model() -> Response:
        """Store a seed model: the body is a safetensors file."""
        stored = bridge.call(control.upload_model(upload(request, limits.max_model_bytes)))
        return created(stored, f"models/{stored.digest}")

    @area.get("/models/<digest>", responses={200: described(ModelView)})
    def show_model(path: DigestPath) -> Response:
        """What is known of one model."""
        return answer_json(bridge.call(control.model(Digest(path.digest))))

    @area.get("/models/<digest>/content", responses={200: _BYTES, 304: {"description": "You have it already"}})
    def download_model(path: DigestPath) -> Response:
        """One model's bytes, a safetensors file."""
        if path.digest in request.if_none_match:
            return Response(status=304)
        size, pieces = bridge.call(control.open_model(Digest(path.digest)))
        response = Response(bridge.download(pieces, request), mimetype="application/octet-stream")
        response.content_length = size
        response.set_etag(path.digest)
        response.headers["Content-Disposition"] = f'attachment; filename="{path.digest[:12]}.safetensors"'
        return response

    @area.get("/models/<digest>/tensors", responses={200: page_of(TensorView)})
    def list_tensors(path: DigestPath) -> Response:
        """A model's tensors and what their numbers are like. Of a large model the first answer takes a while."""
        return answer_json({"items": bridge.call(control.model_tensors(Digest(path.digest))), "next": None})

    @area.post("/objects/<digest>/verify", responses={200: _STEPS})
    def verify_object(path: DigestPath) -> Response:
        """Read a model's or package's object to its end: one JSON object a line, how far it is, at last the outcome."""
        steps = bridge.call(control.verify_object(Digest(path.digest)))
        return Response(bridge.download(json_lines(steps), request), mimetype="application/x-ndjson")

    return area


def package_routes(control: Control, bridge: Bridge, limits: LimitSettings) -> APIBlueprint:
    """Return the routes of compute packages."""
    area = new_area("packages", "Compute packages")

    @area.get("/packages", responses={200: page_of(PackageView)})
    def list_packages(query: Paging) -> Response:
        """Compute packages, newest first."""
        return answer_json(bridge.call(control.packages(after=query.after, limit=query.limit)))

    @area.post("/packages", responses={201: described(PackageView)}, openapi_extensions=_BODY)
    def upload_package() -> Response:
        """Store a compute package: the body is a .tar.gz with fedn.yaml at its root."""
        stored = bridge.call(control.upload_package(upload(request, limits.max_package_bytes)))
        return created(stored, f"packages/{stored.digest}")

    @area.get("/packages/<digest>", responses={200: described(PackageView)})
    def show_package(path: DigestPath) -> Response:
        """What is known of one compute package."""
        return answer_json(bridge.call(control.package(Digest(path.digest))))

    @area.get("/packages/<digest>/files", responses={200: page_of(PackageFileView)})
    def list_files(path: DigestPath) -> Response:
        """A compute package's files and their sizes."""
        return answer_json({"items": bridge.call(control.package_files(Digest(path.digest))), "next": None})

    return area


def token_routes(control: Control, bridge: Bridge) -> APIBlueprint:
    """Return the routes of tokens."""
    area = new_area("tokens", "Tokens; their secrets are shown once, when they are made")
    token = described(TokenView)

    @area.get("/tokens", responses={200: page_of(TokenView)})
    def list_tokens(query: Paging) -> Response:
        """All tokens, newest first."""
        return answer_json(bridge.call(control.tokens(after=query.after, limit=query.limit)))

    @area.post("/tokens", responses={201: described(NewToken)})
    def create_token(body: CreateToken) -> Response:
        """Make a token; its text is in this answer and nowhere else."""
        text, view = bridge.call(control.create_token(body.role, body.label, body.valid_s))
        return answer_json(NewToken(text, view), 201)

    @area.delete("/tokens/<token>", responses={200: token})
    def revoke_token(path: TokenPath) -> Response:
        """Make a token worthless from now on."""
        return answer_json(bridge.call(control.revoke_token(TokenId(path.token))))

    return area


def sign_in_routes(links: SignInLinks) -> APIBlueprint:
    """Return the route that makes one-time links to sign in a browser."""
    area = new_area("sign_in", "Signing in a browser")

    @area.post("/sign-in-links", responses={201: described(SignInLink)})
    def make_link() -> Response:
        """Make a link that signs in once, as whoever asks for it; its text is in this answer and nowhere else."""
        return answer_json(SignInLink(links.make(g.caller.token), LINK_VALID_S), 201)

    return area
