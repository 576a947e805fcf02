"""Sealed boxes: libsodium's own, and each tied to one client, slot and round."""

from dataclasses import replace

import masked_world as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_world import CLIENTS, REPLICATED, AnUpload, a_committee, an_upload, members_of, the_terms
from nacl.public import PrivateKey, PublicKey, SealedBox

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import plain_hash
from fedn_py.masking.pet import seed_commitment
from fedn_py.protocol.masked.boxes import (
    BadBox,
    OpenedBox,
    SealedSeeds,
    WrongShape,
    box_prefix,
    check_header,
    open_box,
    seal_seeds,
    update_header,
)
from fedn_py.protocol.masked.contexts import WrongContext, header_hash
from fedn_py.protocol.masked.registry import UnknownOperator
from fedn_py.protocol.masked.round_messages import BoxFor, UpdateHeader
from fedn_py.protocol.masked.sealing import NotSealed, seal, unseal, usable_key
from fedn_py.protocol.masked.signing import BadSignature, Signed, WrongSigner, sign

TERMS = the_terms(**REPLICATED)
COMMITTEE = a_committee(TERMS)
MEMBERS = members_of(COMMITTEE)
N_WORDS = TERMS.encoding.n_words
ANNA, BERT = CLIENTS[:2]
UPLOAD = an_upload(TERMS, COMMITTEE, ANNA)


def opened(message: BoxFor, place: int = 0) -> OpenedBox:
    member = COMMITTEE.members[place]
    secret = MEMBERS[place].esk
    return open_box(message, member, secret, committee=COMMITTEE, n_words=N_WORDS, chains=world.chains())


def boxes(upload: AnUpload) -> list[BoxFor]:
    return [upload.box_for(member.slot, member.replica) for member in COMMITTEE.members]


# ---- sealing


def test_the_sealed_box_is_libsodiums() -> None:
    secret, ephemeral, message = b"\2" * 32, b"\1" * 32, bytes(range(32))
    public = bytes(PrivateKey(secret).public_key)
    assert public.hex() == "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59"
    sealed = seal(message, public, ephemeral)
    assert sealed.hex() == (
        "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
        "73270f491f24ce24adb67dfba09fb815a3887640e3017a36aee64ab3913629e256ff7d93dfbc98a7b1f6e4ddd6438e7d"
    )
    assert SealedBox(PrivateKey(secret)).decrypt(sealed) == message
    assert unseal(sealed, secret) == message


@given(st.binary(max_size=200))
def test_what_libsodium_seals_opens_here(message: bytes) -> None:
    key = PrivateKey(b"\2" * 32)
    assert unseal(SealedBox(PublicKey(bytes(key.public_key))).encrypt(message), bytes(key)) == message


@given(st.integers(0, 79), st.integers(0, 7))
def test_an_altered_box_does_not_open(place: int, bit: int) -> None:
    sealed = bytearray(seal(bytes(32), bytes(PrivateKey(b"\2" * 32).public_key), b"\1" * 32))
    sealed[place] ^= 1 << bit
    if place != 31 or bit != 7:  # X25519 ignores the top bit of a key, the nonce does not
        with pytest.raises(NotSealed):
            unseal(bytes(sealed), b"\2" * 32)


@pytest.mark.parametrize("size", [0, 31, 47])
def test_a_short_box_does_not_open(size: int) -> None:
    with pytest.raises(NotSealed):
        unseal(bytes(size), b"\2" * 32)


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_keys_of_small_order_are_not_sealed_to(key: bytes) -> None:
    assert not usable_key(key)
    with pytest.raises(NotSealed):
        seal(b"seed", key, b"\1" * 32)
    assert usable_key(ANNA.epk)


# ---- boxes


def test_a_box_is_96_bytes_and_gives_each_replica_the_slots_seed() -> None:
    seeds = world.seeds_of(ANNA, 3)
    for place, message in enumerate(boxes(UPLOAD)):
        assert len(message.box) == 96
        result = opened(message, place)
        assert result.seed == seeds[COMMITTEE.members[place].slot]
        assert result.verified == UPLOAD.verified


def test_an_opened_box_does_not_show_its_seed() -> None:
    box = opened(UPLOAD.box_for(0, 0))
    assert repr(box.seed) not in repr(box)
    assert "seed=" not in repr(box)


def test_a_prefix_is_of_one_context_client_and_slot() -> None:
    prefixes = {box_prefix(ctx, one, slot) for ctx in (b"a", b"b") for one in (b"1", b"2") for slot in (0, 1)}
    assert len(prefixes) == 8
    assert {len(prefix) for prefix in prefixes} == {16}


def resigned(upload: AnUpload, box: bytes, place: int = 0, **changed: object) -> BoxFor:
    """The upload's client signs a header that names this box."""
    member, header = COMMITTEE.members[place], upload.verified.header
    hashes = [list(slot) for slot in header.box_hashes]
    hashes[member.slot][member.replica] = plain_hash(box)
    header = replace(header, box_hashes=tuple(tuple(slot) for slot in hashes), **changed)  # type: ignore[arg-type]
    return BoxFor(upload.client.chain, sign(header, upload.client.key), box)


def test_a_box_copied_from_another_client_opens_nothing() -> None:
    """Mallory, as Bert, sends Anna's box as his own: the member would sum Anna's seed for him."""
    with pytest.raises(BadBox, match="for another client") as refused:
        opened(resigned(an_upload(TERMS, COMMITTEE, BERT), UPLOAD.sealed.boxes[0][0]))
    assert refused.value.client_id == BERT.id


def test_a_box_of_another_slot_or_round_opens_nothing() -> None:
    seed = world.seeds_of(ANNA, 3)[0]
    for ctx, slot in ((COMMITTEE.ctx, 1), (b"x" * 32, 0)):
        box = seal(box_prefix(ctx, ANNA.id, slot) + seed, MEMBERS[0].epk, b"\1" * 32)
        with pytest.raises(BadBox, match="another client, slot or round"):
            opened(resigned(UPLOAD, box))


def test_two_seeds_in_one_slots_boxes_are_noticed_by_the_replica_that_has_the_other() -> None:
    """Else two honest replicas would answer differently, and one of them be blamed."""
    other = b"o" * 32
    box = seal(box_prefix(COMMITTEE.ctx, ANNA.id, 0) + other, MEMBERS[1].epk, b"\1" * 32)
    message = resigned(UPLOAD, box, place=1)
    opened(replace(UPLOAD.box_for(0, 0), header=message.header), 0)
    with pytest.raises(BadBox, match="not the one that its header commits to"):
        opened(message, 1)
    commits = UPLOAD.verified.header.seed_commits
    moved = (seed_commitment(COMMITTEE.ctx, ANNA.id, 0, other), *commits[1:])
    message = resigned(UPLOAD, box, place=1, seed_commits=moved)
    opened(message, 1)
    with pytest.raises(BadBox, match="commits to"):
        opened(replace(UPLOAD.box_for(0, 0), header=message.header), 0)


def test_a_box_that_its_header_does_not_name_is_refused() -> None:
    with pytest.raises(BadBox, match="not the one that its header names"):
        opened(UPLOAD.box_for(1, 0), 0)


def test_a_box_that_does_not_open_is_refused_at_that_replica_only() -> None:
    message = resigned(UPLOAD, bytes(96), place=2)
    with pytest.raises(BadBox, match="does not open"):
        opened(message, 2)
    opened(replace(UPLOAD.box_for(0, 0), header=message.header), 0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_box_message_is_refused_by_name(data: st.DataObject) -> None:
    encoded = bytearray(UPLOAD.box_for(0, 0).encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PeerFault):
        opened(BoxFor.decode(bytes(encoded)))


# ---- headers


def check(signed: Signed, chain: world.Chain = ANNA.chain) -> None:
    check_header(signed, chain, COMMITTEE, N_WORDS, world.chains())


def test_a_header_that_a_combiner_forged_is_refused() -> None:
    header = UPLOAD.verified.header
    with pytest.raises(WrongSigner):
        check(sign(header, world.COMBINER))
    with pytest.raises(BadSignature):
        check(replace(sign(header, world.COMBINER), signer=bytes(ANNA.key.verify_key)))
    with pytest.raises(UnknownOperator):
        check(sign(header, ANNA.key), world.a_chain("anna", operator=world.COMBINER))


def test_a_client_speaks_for_nobody_else_and_in_no_other_round() -> None:
    for changed in ({"client_id": BERT.id}, {"ctx": b"x" * 32}):
        with pytest.raises(WrongContext):
            check(sign(replace(UPLOAD.verified.header, **changed), ANNA.key))


def test_a_header_of_another_shape_is_refused() -> None:
    header = UPLOAD.verified.header
    hashes = header.box_hashes
    changes: list[dict[str, object]] = [
        {"n_words": N_WORDS + 1},
        {"seed_commits": header.seed_commits[1:]},
        {"box_hashes": hashes[1:]},
        {"box_hashes": (hashes[0][:1], *hashes[1:])},
    ]
    for changed in changes:
        with pytest.raises(WrongShape):
            check(sign(replace(header, **changed), ANNA.key))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["upload_id", "vector_hash", "seed_commits", "box_hashes"])
def test_each_field_of_a_header_is_in_its_hash(field: str) -> None:
    header = UPLOAD.verified.header
    value = getattr(header, field)
    changed = value[::-1] if isinstance(value, tuple) else b"x" * len(value)
    assert header_hash(replace(header, **{field: changed}).encode()) != UPLOAD.verified.hash
    assert header_hash(header.encode()) == UPLOAD.verified.hash


def test_one_box_is_sealed_to_each_member_with_its_own_ephemeral_key() -> None:
    seeds = world.seeds_of(ANNA, 3)
    with pytest.raises(ValueError, match="zip"):
        seal_seeds(COMMITTEE, ANNA.id, seeds, [b"\1" * 32] * 5)
    sealed = seal_seeds(COMMITTEE, ANNA.id, seeds, [bytes([n + 1]) * 32 for n in range(6)])
    assert isinstance(sealed, SealedSeeds)
    assert tuple(len(slot) for slot in sealed.boxes) == COMMITTEE.replicas
    made = update_header(COMMITTEE, ANNA.id, sealed, upload_id=b"u" * 16, vector_hash=b"v" * 32, n_words=N_WORDS)
    assert UpdateHeader.decode(made.encode()) == made
    assert len(sign(made, ANNA.key).encode()) + 6 * 96 < 1_900
