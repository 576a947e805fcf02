"""The key that the secret keys of attempts are wrapped with in their documents: on this disk, never in a store.

Whoever has the stores alone can open nothing; reducers that stand by for each other share the file.
"""

import secrets
from hashlib import sha256
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from fedn_py.errors import OwnFault
from fedn_py.reducer.masked_documents import AttemptDamaged, bytes_of, text_of
from fedn_py.runtime.secret_files import write_secret


class WrongStateKey(OwnFault):
    """A key in a document was wrapped with another state key than the one here."""

    def __init__(self) -> None:
        super().__init__(
            "the key of an attempt does not open with this reducer's state key",
            remedy="Was state.key lost or replaced? Put the old one back into the reducer's state_dir; without it the "
            "attempt cannot be finished.",
        )


class StateKeyUnreadable(OwnFault):
    """The state key's file is not what it should be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"the state key {path} cannot be read: {why}", remedy="Put it there again from a backup.")


class StateKey:
    """Wraps and unwraps the keys of attempts."""

    def __init__(self, key: bytes) -> None:
        self._box = SecretBox(key)
        self.fingerprint = sha256(b"fedn_py state key" + key).hexdigest()[:32]
        """By which two reducers know that they have the same key; it says nothing else of it."""

    @classmethod
    def at(cls, path: Path) -> "StateKey":
        """Read the key from its file, or make one where there is none; raises StateKeyUnreadable."""
        try:
            if not path.exists():
                write_secret(path, text_of(secrets.token_bytes(SecretBox.KEY_SIZE)) + "\n")
            key = bytes_of(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError, AttemptDamaged) as fault:
            raise StateKeyUnreadable(path, str(fault)) from fault
        if len(key) != SecretBox.KEY_SIZE:
            raise StateKeyUnreadable(path, f"it has {len(key)} bytes of {SecretBox.KEY_SIZE}")
        return cls(key)

    def wrap(self, secret: bytes) -> str:
        """Return a secret as it may stand in a document."""
        return text_of(bytes(self._box.encrypt(secret)))

    def unwrap(self, wrapped: str) -> bytes:
        """Return a secret that was wrapped here; raises WrongStateKey."""
        try:
            return self._box.decrypt(bytes_of(wrapped))
        except (CryptoError, ValueError, AttemptDamaged):
            raise WrongStateKey from None
