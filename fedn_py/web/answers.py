"""What every answer carries, whoever gives it."""

from flask import Response, request

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HSTS = "max-age=31536000"
_STATIC_FOR_S = 31_536_000
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def add_headers(response: Response) -> Response:
    """Tell browsers to take an answer for what it is, to run nothing but our own files, and to keep no page."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    if _host() not in _LOOPBACK:
        # Of a whole host, whatever the port: on loopback it would shut out whatever else people run there.
        response.headers["Strict-Transport-Security"] = _HSTS
    if request.endpoint == "ui.static" and response.status_code == 200 and "v" in request.args:
        response.headers["Cache-Control"] = f"public, max-age={_STATIC_FOR_S}, immutable"
    else:
        response.headers["Cache-Control"] = "no-store"
    return response


def _host() -> str:
    return request.host.rpartition(":")[0].strip("[]") or request.host
