"""Secrets that live in this process alone, in bytes that can be overwritten.

Erasing is best effort: libraries that were handed a copy keep theirs until their memory is used again.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from nacl.bindings import crypto_scalarmult_base

from fedn_py.masking.pet import SEED_BYTES

SECRET_BYTES = 32


def draw(size: int = SECRET_BYTES) -> bytearray:
    """Return fresh random bytes."""
    return bytearray(secrets.token_bytes(size))


def erase(secret: bytearray) -> None:
    """Overwrite a secret."""
    secret[:] = bytes(len(secret))


@dataclass(slots=True)
class SeatKeys:
    """What a sum participant keeps for one slot of one attempt, and nowhere else.

    Attributes:
        esk: X25519 secret key. nonce: what its answer reveals.
        seeds: client id to the hash of its header and its seed.
    """

    esk: bytearray = field(default_factory=draw, repr=False)
    nonce: bytearray = field(default_factory=draw, repr=False)
    seeds: dict[bytes, tuple[bytes, bytearray]] = field(default_factory=dict, repr=False)
    erased: bool = False

    @property
    def epk(self) -> bytes:
        """The public key of ``esk``."""
        return crypto_scalarmult_base(bytes(self.esk))

    def keep(self, client_id: bytes, header_hash: bytes, seed: bytes) -> None:
        """Keep a client's seed in the place of the one before; nothing is kept once the keys are erased."""
        if client_id in self.seeds:
            erase(self.seeds[client_id][1])
        if not self.erased:
            self.seeds[client_id] = (header_hash, bytearray(seed))

    def erase(self) -> None:
        """Overwrite all of it."""
        self.erased = True
        for secret in (self.esk, self.nonce, *(seed for _, seed in self.seeds.values())):
            erase(secret)
        self.seeds.clear()


@dataclass(slots=True)
class DrawnForUpload:
    """The random bytes of one upload.

    Attributes:
        seeds: one for each slot. rounding: of the encoder.
        ephemeral: one for each member's box.
    """

    seeds: list[bytearray] = field(repr=False)
    rounding: bytearray = field(repr=False)
    ephemeral: list[bytearray] = field(repr=False)

    @classmethod
    def fresh(cls, slots: int, members: int) -> "DrawnForUpload":
        """Draw them."""
        return cls([draw(SEED_BYTES) for _ in range(slots)], draw(), [draw() for _ in range(members)])

    def erase(self) -> None:
        """Overwrite them."""
        for secret in self._all():
            erase(secret)

    def _all(self) -> Iterable[bytearray]:
        return (*self.seeds, self.rounding, *self.ephemeral)
