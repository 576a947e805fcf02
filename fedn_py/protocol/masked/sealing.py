"""libsodium's sealed boxes, with the one random thing in them given by the caller.

Source: libsodium's crypto_box_seal (X25519, XSalsa20-Poly1305, nonce = BLAKE2b-192 of both public keys).
"""

import hashlib

from nacl.bindings import crypto_box, crypto_box_seal_open, crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError

from fedn_py.errors import PeerFault

SEAL_BYTES = 48
"""What a sealed box has beyond its message."""


class NotSealed(PeerFault):
    """A sealed box is not for this key, or was altered."""

    def __init__(self) -> None:
        super().__init__(
            "a sealed box does not open", remedy="It was altered, or sealed to another key than the one here."
        )


def seal(message: bytes, public_key: bytes, ephemeral_secret: bytes) -> bytes:
    """Return libsodium's sealed box of a message.

    Args:
        public_key: X25519, of whoever may open it.
        ephemeral_secret: 32 fresh random bytes for this one box.

    Raises:
        NotSealed: nothing can be sealed to this key.
    """
    ephemeral = crypto_scalarmult_base(ephemeral_secret)
    nonce = hashlib.blake2b(ephemeral + public_key, digest_size=24).digest()
    try:
        return ephemeral + crypto_box(message, nonce, public_key, ephemeral_secret)
    except (CryptoError, ValueError):
        raise NotSealed from None


def unseal(sealed: bytes, secret_key: bytes) -> bytes:
    """Return the message of a sealed box, or raise NotSealed."""
    try:
        return crypto_box_seal_open(sealed, crypto_scalarmult_base(secret_key), secret_key)
    except (CryptoError, ValueError):
        raise NotSealed from None


def usable_key(public_key: bytes) -> bool:
    """Say whether an X25519 key can be sealed to: one of small order gives everybody the same secret."""
    try:
        crypto_scalarmult(b"\x01" * 32, public_key)
    except (CryptoError, ValueError):
        return False
    return True
