"""The client's own folder: its key and its memory, made on its first start, and a lock, so that two do not share it."""

import fcntl
import re
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from nacl.signing import SigningKey

from fedn_py.client.durable_files import StateDamaged, sync_folder
from fedn_py.client.masked_memory import NEW_IDENTITY, MaskedMemory, create_memory
from fedn_py.client.registration import Registration
from fedn_py.errors import OwnFault
from fedn_py.runtime.secret_files import write_secret

KEY_FILE = "identity.key"
MEMORY_FILE = "memory.sqlite"
MASKED_FOLDER = "masked"
"""Where what may have to be sent again is."""

_KEY_BYTES = 32


class StateFolderInUse(OwnFault):
    """Another client runs with this state folder."""


class KeyExposed(OwnFault):
    """Others on this host can read the client's key."""


class StateFolder:
    """A client's state folder, held by this process; a context manager.

    Attributes:
        memory: what it must not forget.
        registration: what makes it a client of its network.
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
            key = _key_and_memory(path)
            self.memory = MaskedMemory(path / MEMORY_FILE, bytes(key.verify_key))
            self.registration = Registration(key, self.memory)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.close()
        self._lock.close()


def _key_and_memory(folder: Path) -> SigningKey:
    """Return the client's key, made with an empty memory where the folder has neither."""
    file, memory, young = folder / KEY_FILE, folder / MEMORY_FILE, folder / f".{MEMORY_FILE}.new"
    if not file.exists():
        if memory.exists():
            raise StateDamaged(f"{file} is missing, and {memory} is the memory of who held it", remedy=NEW_IDENTITY)
        _make(file, young)
    key = _read_key(file)
    if young.exists():  # its key is there, so its making has ended but for this
        young.replace(memory)
        sync_folder(folder)
    if not memory.exists():
        raise StateDamaged(f"{memory} is missing, and {file} is the key of who needs it", remedy=NEW_IDENTITY)
    return key


def _make(file: Path, young: Path) -> None:
    for left in young.parent.glob(f"{young.name}*"):  # by a first start that was cut short
        left.unlink()
    seed = secrets.token_bytes(_KEY_BYTES)
    create_memory(young, bytes(SigningKey(seed).verify_key))
    write_secret(file, seed.hex() + "\n")
    sync_folder(file.parent)


def _read_key(file: Path) -> SigningKey:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text(encoding="ascii").strip()
        if not re.fullmatch(f"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
            raise ValueError(f"it is not {2 * _KEY_BYTES} lower-case hex digits")
    except (OSError, ValueError) as fault:
        # The text that was read may be most of a key: a decoding fault would quote it.
        reason = "it is not text" if isinstance(fault, UnicodeDecodeError) else str(fault)
        raise StateDamaged(f"the key in {file} cannot be read: {reason}", remedy=NEW_IDENTITY) from None
    if mode & 0o077:
        raise KeyExposed(
            f"{file} can be read by others (mode {mode:04o})",
            remedy=f"Run: chmod 600 {file}; and if others may have read it, give the client a new, empty state_dir.",
        )
    return SigningKey(bytes.fromhex(text))
