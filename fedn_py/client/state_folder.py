"""The client's own folder: its identity, made on its first start, and a lock, so that two do not share it."""

import fcntl
import json
import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from fedn_py.errors import OwnFault
from fedn_py.identity import ClientId
from fedn_py.runtime.secret_files import write_secret

_ID_BYTES = 32


class StateFolderInUse(OwnFault):
    """Another client runs with this state folder."""


class StateDamaged(OwnFault):
    """The identity in the state folder cannot be read."""


class StateFolder:
    """A client's state folder, held by this process; a context manager.

    Attributes:
        client: the client's identity.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (path / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            self._lock.close()
            raise StateFolderInUse(
                f"another client runs with the state folder {path}",
                remedy="Stop it, or give this client a state_dir of its own.",
            ) from fault
        try:
            self.client = _identity(path / "identity.json")
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()


def _identity(file: Path) -> ClientId:
    if not file.exists():
        client = secrets.token_hex(_ID_BYTES)
        write_secret(file, json.dumps({"client": client}) + "\n")
        return ClientId(client)
    try:
        client = json.loads(file.read_text(encoding="utf-8"))["client"]
        if not re.fullmatch(f"[0-9a-f]{{{2 * _ID_BYTES}}}", client):
            raise ValueError(f"it is not {2 * _ID_BYTES} lower-case hex digits")
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise StateDamaged(
            f"the identity in {file} cannot be read: {fault}",
            remedy="Restore it from a backup; or remove it, and the client joins as a new one.",
        ) from fault
    return ClientId(client)
