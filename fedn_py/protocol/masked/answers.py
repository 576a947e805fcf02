"""A member's answer: its slot's mask sum, sealed to the reducer and to nobody on the way there.

    sealed_key = SealedBox(rpk, fresh key 32 | digest 32)      digest = sha256 of the plain mask sum
    piece n    = ChaCha20-Poly1305 of 1 MiB, nonce = u32 n | u8 last | 7 zeros,
                 aad = H("answer", ctx, H(U), client_id, u8 slot)

The digest is sealed too: in the clear it would let a combiner who holds the other slots test guesses of a small sum.
Pieces are sealed and opened one by one, in order; the last one says that it is, so a stream cannot be cut short.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import DIGEST_BYTES, tagged_hash, u8, u32
from fedn_py.protocol.masked.sealing import NotSealed, seal, unseal

PIECE_BYTES = 2**20
TAG_BYTES = 16
KEY_BYTES = 32


class BadAnswer(PeerFault):
    """A member's answer is not usable; another replica of its slot is asked.

    Attributes:
        member: whose it is.
    """

    def __init__(self, member: bytes, reason: str) -> None:
        super().__init__(
            f"the answer of member {member.hex()[:16]} is refused: {reason}",
            remedy="Another replica of the slot is asked; if there is none, the cell is left out.",
        )
        self.member = member


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Which answer it is."""

    ctx: bytes
    included_hash: bytes
    client_id: bytes
    slot: int

    @property
    def bound(self) -> bytes:
        """What every piece is tied to."""
        return tagged_hash("answer", self.ctx, self.included_hash, self.client_id, u8(self.slot))


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What the reducer unseals: the stream's key, and the digest of what is in the stream."""

    key: bytes = field(repr=False)
    digest: bytes = field(repr=False)


def sealed_bytes(plain: int) -> int:
    """Return the length of the sealed stream of so many plain bytes."""
    return plain + max(1, -(-plain // PIECE_BYTES)) * TAG_BYTES


def _nonce(number: int, *, last: bool) -> bytes:
    return u32(number) + u8(last) + bytes(7)


class AnswerSealer:
    """Seals a mask sum as it is computed.

    Args:
        key: 32 fresh random bytes, for this one answer.
    """

    def __init__(self, place: AnswerPlace, key: bytes) -> None:
        self._key, self._cipher, self._bound = key, ChaCha20Poly1305(key), place.bound
        self._digest, self._stream = hashlib.sha256(), hashlib.sha256()
        self._next, self._done = 0, False

    def piece(self, plain: bytes | memoryview, *, last: bool) -> bytes:
        """Return the next piece, sealed.

        Args:
            plain: 1 MiB; the last piece may be shorter.
        """
        if self._done or len(plain) > PIECE_BYTES or (len(plain) < PIECE_BYTES and not last):
            raise ValueError("pieces have 1 MiB each, and none follows the last one")
        self._digest.update(plain)
        sealed = self._cipher.encrypt(_nonce(self._next, last=last), plain, self._bound)
        self._stream.update(sealed)
        self._next, self._done = self._next + 1, last
        return sealed

    def finish(self, rpk: bytes, ephemeral_secret: bytes) -> tuple[bytes, bytes]:
        """Return the sealed key and the sha256 of the sealed stream, after the last piece.

        Args:
            rpk: the plan's key.
            ephemeral_secret: 32 fresh random bytes.

        Raises:
            NotSealed: nothing can be sealed to rpk.
        """
        if not self._done:
            raise ValueError("the last piece has not been sealed")
        return seal(self._key + self._digest.digest(), rpk, ephemeral_secret), self._stream.digest()


def unseal_key(place: AnswerPlace, sealed_key: bytes, rsk: bytes) -> AnswerKey:
    """Return the key and the digest of an answer.

    Raises:
        BadAnswer: they are not sealed to this attempt's key.
    """
    try:
        content = unseal(sealed_key, rsk)
    except NotSealed as error:
        raise BadAnswer(place.client_id, "its key does not open") from error
    if len(content) != KEY_BYTES + DIGEST_BYTES:
        raise BadAnswer(place.client_id, "its key has another length")
    return AnswerKey(content[:KEY_BYTES], content[KEY_BYTES:])


def sealed_pieces(sealed: Iterable[bytes], plain_bytes: int) -> Iterator[bytes]:
    """Cut a sealed stream that comes in chunks of any size into its pieces."""
    waiting, total, whole = bytearray(), 0, PIECE_BYTES + TAG_BYTES
    for chunk in sealed:
        total += len(chunk)
        if not waiting and len(chunk) == whole and total <= sealed_bytes(plain_bytes):
            yield chunk  # as it came: nothing is copied
            continue
        waiting += chunk
        if total > sealed_bytes(plain_bytes):
            break
        while len(waiting) >= whole:
            yield bytes(memoryview(waiting)[:whole])
            del waiting[:whole]
    if waiting or not total:
        yield bytes(waiting)


def open_stream(place: AnswerPlace, key: AnswerKey, sealed: Iterable[bytes], plain_bytes: int) -> Iterator[bytes]:
    """Yield the plain mask sum in pieces of 1 MiB; what was yielded counts only when the iterator ends by itself.

    Args:
        sealed: the stream in chunks of any size.
        plain_bytes: how long the mask sum is, 4 L.

    Raises:
        BadAnswer: it was altered, cut, continued or reordered, or is not what the digest says.
    """
    cipher, bound = ChaCha20Poly1305(key.key), place.bound
    digest, total, pieces = hashlib.sha256(), 0, -(-plain_bytes // PIECE_BYTES)
    for number, piece in enumerate(sealed_pieces(sealed, plain_bytes)):
        try:
            plain = cipher.decrypt(_nonce(number, last=number == pieces - 1), piece, bound)
        except (InvalidTag, ValueError):
            raise BadAnswer(place.client_id, f"piece {number} of its stream does not open") from None
        digest.update(plain)
        total += len(plain)
        yield plain
    if total != plain_bytes:
        raise BadAnswer(place.client_id, f"its stream has {total} bytes of {plain_bytes}")
    if digest.digest() != key.digest:
        raise BadAnswer(place.client_id, "its stream is not what its digest says")
