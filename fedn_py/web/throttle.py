"""Slows down who tries to guess: after so many failed attempts to sign in, an address waits for a while."""

from flask import Flask, Response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

FAILURES = "10 per minute"
_DOORS = frozenset({"ui.sign_in_by_token", "ui.enter"})


def install_throttle(app: Flask) -> None:
    """Answer 429 once too many attempts have failed; the counts end with the process."""
    limiter = Limiter(
        get_remote_address,
        app=app,
        application_limits=[FAILURES],
        application_limits_deduct_when=_has_failed,
        headers_enabled=True,
        storage_uri="memory://",
    )
    limiter.request_filter(_is_no_door)


def _has_failed(response: Response) -> bool:
    return response.status_code in {401, 403}


def _is_no_door() -> bool:
    return request.endpoint not in _DOORS
