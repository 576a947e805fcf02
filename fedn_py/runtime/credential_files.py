"""The files that the keys of masked rounds are kept in: text, a line for each credential, ``fedn-<what>-1:<base64>``.

What is secret is readable by its owner alone, and never replaced unless that is asked for: a key that is lost cannot
be made again. A client's token file has the bearer secret in its first line; the second one, if there is one, is the
join credential, which never leaves the site.
"""

import base64
import binascii
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fedn_py.errors import OwnFault
from fedn_py.protocol.masked.certificates import JoinCredential, OperatorSecret, ServerCredential
from fedn_py.protocol.masked.encoding import Body, MalformedMessage
from fedn_py.protocol.masked.signing import Signed
from fedn_py.runtime.secret_files import bearer_of, write_secret

Kept = TypeVar("Kept", bound=Body)

_VERSION = 1
_MOST_BYTES = 4 * 2**20
_COMMANDS = {
    "operator": "fedn-py operator init",
    "server": "fedn-py operator certify",
    "policy": "fedn-py operator policy",
    "join": "fedn-py token create --operator-key",
}
"""What is kept in a file, to the command that makes it."""


class CredentialUnreadable(OwnFault):
    """A credential's file is not there, is not what it should be, or is open to others."""


class CredentialExists(OwnFault):
    """A credential would take another one's place."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is there already, and a key that is lost cannot be made again",
            remedy="Name another file, or move this one away first.",
        )


@dataclass(frozen=True, slots=True)
class TokenFile:
    """What a client's token file holds.

    Attributes:
        bearer: the secret that the reducer lets the client in by.
        join: what makes it a client of masked rounds; None where the file has one line.
    """

    bearer: str = field(repr=False)
    join: JoinCredential | None = None


def write_operator(path: Path, operator: OperatorSecret, *, replace: bool = False) -> None:
    """Write the operator's key; raises CredentialExists."""
    _write_secret(path, _line("operator", operator), replace=replace)


def read_operator(path: Path) -> OperatorSecret:
    """Read the operator's key; raises CredentialUnreadable, also where others could read it."""
    _refuse_open(path)
    return _read(path, "operator", OperatorSecret)


def write_server(path: Path, credential: ServerCredential, *, replace: bool = False) -> None:
    """Write a reducer's or combiner's credential; raises CredentialExists."""
    _write_secret(path, _line("server", credential), replace=replace)


def read_server(path: Path) -> ServerCredential:
    """Read a reducer's or combiner's credential; raises CredentialUnreadable, also where others could read it."""
    _refuse_open(path)
    return _read(path, "server", ServerCredential)


def write_policy(path: Path, policy: Signed, *, replace: bool = False) -> None:
    """Write a signed policy, which is no secret; raises CredentialExists."""
    _refuse_to_replace(path, asked=replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(_line("policy", policy), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_policy(path: Path) -> Signed:
    """Read a signed policy, whoever signed it; raises CredentialUnreadable."""
    return _read(path, "policy", Signed)


def write_token_file(path: Path, token: TokenFile, *, replace: bool = False) -> None:
    """Write a token's file; raises CredentialExists."""
    _write_secret(path, token_text(token), replace=replace)


def token_text(token: TokenFile) -> str:
    """Return what a token's file holds, all of it secret."""
    join = "" if token.join is None else _line("join", token.join)
    return f"{token.bearer}\n{join}"


def read_token_file(path: Path) -> TokenFile:
    """Read a token's file; raises CredentialUnreadable."""
    text = _text(path, "token")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= 2 or lines[0].startswith("fedn-"):
        raise CredentialUnreadable(
            f"{path} is no token's file: a token in its first line, and perhaps a join credential in a second one",
            remedy="Put the file there again, as fedn-py token create wrote it.",
        )
    return TokenFile(bearer_of(text), _parsed(path, lines[1], "join", JoinCredential) if len(lines) == 2 else None)


def kind_of(path: Path) -> str:
    """Return what a file holds: operator, server, policy, or token; raises CredentialUnreadable."""
    text = _text(path, "credential")
    return next((what for what in ("operator", "server", "policy") if text.lstrip().startswith(_prefix(what))), "token")


def _prefix(what: str) -> str:
    return f"fedn-{what}-{_VERSION}:"


def _line(what: str, body: Body) -> str:
    return f"{_prefix(what)}{base64.b64encode(body.encode()).decode()}\n"


def _write_secret(path: Path, text: str, *, replace: bool) -> None:
    _refuse_to_replace(path, asked=replace)
    write_secret(path, text)


def _refuse_to_replace(path: Path, *, asked: bool) -> None:
    if not asked and os.path.lexists(path):
        raise CredentialExists(path)


def _refuse_open(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # reading it says why
    if mode & 0o077:
        raise CredentialUnreadable(
            f"{path} can be read by others (mode {mode:04o})",
            remedy=f"Run: chmod 600 {path}; and if others may have read it, make a new one.",
        )


def _read(path: Path, what: str, body: type[Kept]) -> Kept:
    return _parsed(path, _text(path, what).strip(), what, body)


def _text(path: Path, what: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not text"
        raise CredentialUnreadable(
            f"the {what} file {path} cannot be read: {reason}", remedy="Check the path and who may read it."
        ) from fault


def _parsed(path: Path, line: str, what: str, body: type[Kept]) -> Kept:
    if not line.startswith(_prefix(what)):
        raise _unreadable(path, what, f"it does not begin with {_prefix(what)}")
    try:
        return body.decode(base64.b64decode(line.removeprefix(_prefix(what)), validate=True))
    except binascii.Error:
        raise _unreadable(path, what, "it is damaged: what follows the colon is not base64") from None
    except MalformedMessage as fault:
        raise _unreadable(path, what, f"it is damaged: {fault.message}") from None


def _unreadable(path: Path, what: str, reason: str) -> CredentialUnreadable:
    return CredentialUnreadable(
        f"{path} holds no {what} credential: {reason}",
        remedy=f"Give the file that {_COMMANDS[what]} wrote; if it is lost, make another one.",
    )
