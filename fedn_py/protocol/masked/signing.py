"""Signed bodies: who says what, over the bytes that were said.

The signature is Ed25519 over H("sign/" + kind, body). The bytes of ``body`` as received are what is hashed, stored and
forwarded; nothing is ever written anew to be checked.

Source: RFC 8032 (Ed25519); libsodium refuses keys of small order and signatures that are not in canonical form.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import plain_hash, tagged_hash
from fedn_py.protocol.masked.encoding import Body, Bytes32, Bytes64, MalformedMessage, Text, UpTo

MOST_BODY_BYTES = 2**20

Said = TypeVar("Said", bound=Body)


class BadSignature(PeerFault):
    """A signature is not by the key that it names, over these bytes."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"the signature of a {kind} does not fit",
            remedy="The message was altered on its way, or its sender does not hold the key that it names.",
        )


class WrongSigner(PeerFault):
    """A message is signed by somebody who may not say it."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"a {kind} is {reason}", remedy="Somebody between here and the sender puts in messages.")


@dataclass(frozen=True, slots=True)
class Signed(Body):
    """A body with a signature.

    Attributes:
        said: the kind of the body.
        body: its bytes.
        signer: Ed25519 public key.
    """

    kind: ClassVar[str] = "signed message"
    said: Annotated[str, Text(32)]
    body: Annotated[bytes, UpTo(MOST_BODY_BYTES)]
    signer: Bytes32
    signature: Bytes64


def sign(body: Body, key: SigningKey) -> Signed:
    """Return the body, signed."""
    data = body.encode()
    return Signed(body.kind, data, bytes(key.verify_key), signature_over(body.kind, data, key))


def signature_over(kind: str, body: bytes, key: SigningKey) -> bytes:
    """Return the 64 bytes of a signature."""
    return key.sign(tagged_hash(f"sign/{kind}", body)).signature


def verify(kind: str, body: bytes, signer: bytes, signature: bytes) -> None:
    """Raise BadSignature unless ``signer`` signed this body as one of this kind."""
    try:
        VerifyKey(signer).verify(tagged_hash(f"sign/{kind}", body), signature)
    except (BadSignatureError, ValueError):
        raise BadSignature(kind) from None


class KnownSignatures:
    """Signed messages whose signatures were found right, by the hash of all of their bytes; for any thread.

    A plan, an order or a key comes more than once, and what its signature says never changes.

    Args:
        most: how many are remembered; the least recently used go first.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def verify(self, signed: Signed) -> None:
        """Raise BadSignature unless the message is by the key that it names; the same bytes are not verified again."""
        key = plain_hash(signed.encode())
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return
        verify(signed.said, signed.body, signed.signer, signed.signature)
        with self._lock:
            self._known[key] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)


def read_signed(
    signed: Signed, body: type[Said], *, signer: bytes | None = None, known: KnownSignatures | None = None
) -> Said:
    """Return what a message says, after its signature was found right.

    Args:
        body: the kind that it must be.
        signer: the key that it must be signed by; anybody's where None.
        known: where it is looked up whether this signature was verified before.

    Raises:
        MalformedMessage, WrongSigner, BadSignature: it says nothing.
    """
    if signed.said != body.kind:
        raise MalformedMessage(body.kind, "said", f"is {signed.said!r}")
    if signer is not None and signed.signer != signer:
        raise WrongSigner(body.kind, "signed by another key than the one that it comes from")
    if known is None:
        verify(signed.said, signed.body, signed.signer, signed.signature)
    else:
        known.verify(signed)
    return body.decode(signed.body)
