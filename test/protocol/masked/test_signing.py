"""Signatures: the published answers, and nothing that is altered."""

from dataclasses import replace

import masked_world as world
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fedn_py.masking.hashing import tagged_hash
from fedn_py.protocol.masked import signing
from fedn_py.protocol.masked.encoding import MalformedMessage
from fedn_py.protocol.masked.round_messages import Abort, Echo, NotOpened
from fedn_py.protocol.masked.signing import (
    BadSignature,
    KnownSignatures,
    Signed,
    WrongSigner,
    read_signed,
    sign,
    verify,
)

ABORT = Abort(b"c" * 32, "asked to")
KEY = world.key_of("anna")


@pytest.mark.parametrize(
    ("secret", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ),
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
                "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_the_scheme_is_that_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    """Section 7.1, tests 1 to 3."""
    key = SigningKey(bytes.fromhex(secret))
    assert bytes(key.verify_key).hex() == public
    assert key.sign(bytes.fromhex(message)).signature.hex() == signature


def test_a_signature_is_over_the_kind_and_the_bytes() -> None:
    signed = sign(ABORT, KEY)
    KEY.verify_key.verify(tagged_hash("sign/abort", ABORT.encode()), signed.signature)
    assert read_signed(signed, Abort) == ABORT
    assert read_signed(signed, Abort, signer=bytes(KEY.verify_key)) == ABORT


def test_the_bytes_as_received_are_what_is_checked() -> None:
    signed = Signed.decode(sign(ABORT, KEY).encode())
    assert signed.body == ABORT.encode()


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_is_refused(place: int, bit: int) -> None:
    data = bytearray(sign(ABORT, KEY).encode())
    data[place % len(data)] ^= 1 << bit
    with pytest.raises((BadSignature, MalformedMessage)):
        read_signed(Signed.decode(bytes(data)), Abort)


def test_one_kind_is_not_taken_for_another_of_the_same_bytes() -> None:
    signed = sign(ABORT, KEY)
    assert NotOpened(b"c" * 32, "asked to").encode() == ABORT.encode()
    with pytest.raises(MalformedMessage, match="said is 'abort'"):
        read_signed(signed, NotOpened)
    with pytest.raises(BadSignature):
        read_signed(replace(signed, said=NotOpened.kind), NotOpened)


def test_another_key_than_the_one_expected_is_refused() -> None:
    with pytest.raises(WrongSigner):
        read_signed(sign(ABORT, KEY), Abort, signer=bytes(world.REDUCER.verify_key))
    with pytest.raises(BadSignature):
        read_signed(replace(sign(ABORT, KEY), signer=bytes(world.REDUCER.verify_key)), Abort)


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), b"\xff" * 32])
def test_keys_that_sign_everything_are_refused(public: bytes) -> None:
    """Under a key of small order a signature of zeros fits many messages."""
    with pytest.raises(BadSignature):
        verify("echo", Echo(b"c" * 32, b"h" * 32).encode(), public, b"\1" + bytes(63))


def test_a_signature_has_one_form() -> None:
    """S plus the group's order would fit as well, if it were let through."""
    signed = sign(ABORT, KEY)
    order = 2**252 + 27742317777372353535851937790883648493
    moved = int.from_bytes(signed.signature[32:], "little") + order
    with pytest.raises(BadSignature):
        read_signed(replace(signed, signature=signed.signature[:32] + moved.to_bytes(32, "little")), Abort)


# ---- signatures that are known


def test_a_signature_that_was_found_right_is_not_verified_again_until_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified: list[bytes] = []

    def noted(kind: str, body: bytes, signer: bytes, signature: bytes) -> None:
        verified.append(body)
        verify(kind, body, signer, signature)

    monkeypatch.setattr(signing, "verify", noted)
    known = KnownSignatures(most=2)
    one, two, three = (sign(Echo(bytes([number]) * 32, b"h" * 32), world.OPERATOR) for number in (1, 2, 3))
    for message in (one, two, one, two, one, three, one, two):
        assert read_signed(message, Echo, known=known) == Echo.decode(message.body)
    assert verified == [one.body, two.body, three.body, two.body]


def test_a_known_signature_says_nothing_of_another_message_kind_or_signer() -> None:
    known = KnownSignatures()
    good, other = sign(Echo(b"1" * 32, b"h" * 32), world.OPERATOR), sign(Echo(b"2" * 32, b"h" * 32), world.OPERATOR)
    read_signed(good, Echo, known=known)
    for altered in (
        replace(good, body=other.body),
        replace(good, signature=other.signature),
        replace(good, signer=bytes(SigningKey(b"s" * 32).verify_key)),
    ):
        for _ in range(2):  # nor is one that was refused taken for known
            with pytest.raises(BadSignature):
                read_signed(altered, Echo, known=known)
    with pytest.raises(MalformedMessage):
        read_signed(good, NotOpened, known=known)
    with pytest.raises(BadSignature):
        read_signed(replace(good, said=NotOpened.kind), NotOpened, known=known)
    with pytest.raises(WrongSigner):
        read_signed(good, Echo, signer=b"k" * 32, known=known)
