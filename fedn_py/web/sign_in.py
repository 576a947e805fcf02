"""People at a browser: signed in by a token or a one-time link, known again by a signed cookie.

Rules: the cookie names a token and holds no secret; the token is looked up again for every request, so that revoking it
signs its holder out; a request by cookie that changes anything shows a CSRF token; the key that cookies are signed with
is in a file of this reducer's own, not in the store, so that who reads the store can sign nothing.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flask import Flask, session
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf

from fedn_py.errors import PeerFault
from fedn_py.identity import TokenId
from fedn_py.reducer.control_faults import NotAllowed, NotAuthenticated
from fedn_py.runtime.scratch import disk_faults
from fedn_py.runtime.secret_files import write_secret

SIGNED_IN_FOR = timedelta(hours=12)
LINK_VALID_S = 900.0
FIRST_LINK_VALID_S = 86_400.0
ENTER = "/enter"
"""Where a one-time link leads to."""

_MOST_LINKS = 1_000
_SHOWN = "shown"


class LinkSpent(PeerFault):
    """A one-time link that was used before, is too old, or was made before this reducer started."""

    def __init__(self) -> None:
        super().__init__(
            "this link signs nobody in: it was used before, or is too old",
            remedy="Make another one: fedn-py open. Or sign in with a token.",
        )


@dataclass(frozen=True, slots=True)
class _Link:
    token: TokenId
    not_after: float


class SignInLinks:
    """One-time links; only the hash of a link's secret is held, and nothing outlives the process.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._open: dict[str, _Link] = {}

    def make(self, token: TokenId, valid_s: float = LINK_VALID_S) -> str:
        """Return the path of a new link that signs in whom ``token`` belongs to."""
        code = secrets.token_urlsafe(32)
        while len(self._open) >= _MOST_LINKS:
            del self._open[next(iter(self._open))]
        self._open[_hashed(code)] = _Link(token, self._clock() + valid_s)
        return f"{ENTER}?code={code}"

    def take(self, code: str) -> TokenId:
        """Return whose link this is, once; raises LinkSpent."""
        link = self._open.pop(_hashed(code), None)
        if link is None or link.not_after < self._clock():
            raise LinkSpent
        return link.token


def _hashed(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def cookie_key(file: Path) -> bytes:
    """Return the key that cookies are signed with, made if the file is not there; its owner alone can read it."""
    with disk_faults("reading the key of the web pages' cookies"):
        if file.exists() and len(kept := file.read_bytes()) >= 32:
            return kept
    key = secrets.token_hex(32)
    with disk_faults("writing the key of the web pages' cookies"):
        write_secret(file, key)
    return key.encode()


def install_sign_in(app: Flask, key: bytes) -> CSRFProtect:
    """Have an application know browsers again; returns what checks CSRF tokens."""
    app.config.update(
        SECRET_KEY=key,
        # Ports do not separate cookies, so two reducers on one host would sign each other's people out.
        SESSION_COOKIE_NAME=f"__Host-fedn-{hashlib.sha256(key).hexdigest()[:8]}",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PATH="/",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=SIGNED_IN_FOR,
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,
    )
    return CSRFProtect(app)


def sign_in(token: TokenId) -> None:
    """Have this browser known again."""
    session.clear()
    session.permanent = True
    session[_SHOWN] = token


def sign_out() -> None:
    """Forget this browser."""
    session.clear()


def signed_in() -> TokenId:
    """Return the token that this browser signed in with, or raise NotAuthenticated."""
    token = session.get(_SHOWN)
    if not token:
        raise NotAuthenticated(
            "the request shows no token",
            remedy="Send the header Authorization: Bearer TOKEN, or sign in; make a token: fedn-py token create.",
        )
    return TokenId(token)


def check_csrf(csrf: CSRFProtect) -> None:
    """Raise NotAllowed unless this request was made by a page of ours."""
    try:
        csrf.protect()
    except CSRFError as fault:
        raise NotAllowed(
            f"this was not sent by a page of this reducer: {fault.description}", remedy="Load the page again."
        ) from fault


def csrf_token() -> str:
    """Return what a page's requests show, to be told from those of other sites."""
    token: str = generate_csrf()
    return token
