"""Mask seeds sealed to the committee: one for each slot, the same one for all replicas of it.

    box          = SealedBox(epk, H("box", ctx, client_id, u8 slot)[0:16] | seed)       96 bytes
    seed_commit  = H("seed", ctx, client_id, u8 slot, seed)

The prefix ties a box to its context, client and slot: a copied box opens nothing. The commitment is in the header that
every replica sees: two replicas of a slot cannot be given different seeds unnoticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import plain_hash, tagged_hash, u8
from fedn_py.masking.pet import seed_commitment
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.masked.committee import Committee, Member
from fedn_py.protocol.masked.contexts import WrongContext, header_hash
from fedn_py.protocol.masked.registry import KnownChains, Registered
from fedn_py.protocol.masked.round_messages import BoxFor, UpdateHeader
from fedn_py.protocol.masked.sealing import NotSealed, seal, unseal
from fedn_py.protocol.masked.signing import Signed, read_signed

PREFIX_BYTES = 16


class WrongShape(PeerFault):
    """An upload's header does not fit the plan or the committee."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"an update header does not fit: {reason}", remedy="The client's program is at fault.")


class BadBox(PeerFault):
    """A member refuses a client's box, and with it the client's upload.

    Attributes:
        client_id: whose box it is.
        reason: for the acknowledgement, in one line.
    """

    def __init__(self, client_id: bytes, reason: str) -> None:
        super().__init__(
            f"the box of client {client_id.hex()[:16]} is refused: {reason}",
            remedy="The client may send its update anew; nobody else is affected.",
        )
        self.client_id, self.reason = client_id, reason


def box_prefix(ctx: bytes, client_id: bytes, slot: int) -> bytes:
    """Return what a box says before the seed."""
    return tagged_hash("box", ctx, client_id, u8(slot))[:PREFIX_BYTES]


@dataclass(frozen=True, slots=True)
class SealedSeeds:
    """One update's seeds, sealed.

    Attributes:
        commits: one for each slot.
        boxes: one for each replica of each slot.
    """

    commits: tuple[bytes, ...]
    boxes: tuple[tuple[bytes, ...], ...]


def seal_seeds(
    committee: Committee, client_id: bytes, seeds: Sequence[bytes], ephemeral_secrets: Sequence[bytes]
) -> SealedSeeds:
    """Return the boxes that a client sends with one update.

    Args:
        seeds: 32 fresh random bytes for each slot.
        ephemeral_secrets: 32 fresh random bytes for each member.
    """
    boxes: list[list[bytes]] = [[] for _ in seeds]
    for member, secret in zip(committee.members, ephemeral_secrets, strict=True):
        prefix = box_prefix(committee.ctx, client_id, member.slot)
        boxes[member.slot].append(seal(prefix + seeds[member.slot], member.epk, secret))
    commits = (seed_commitment(committee.ctx, client_id, slot, seed) for slot, seed in enumerate(seeds))
    return SealedSeeds(tuple(commits), tuple(tuple(slot) for slot in boxes))


def update_header(
    committee: Committee, client_id: bytes, sealed: SealedSeeds, *, upload_id: bytes, vector_hash: bytes, n_words: int
) -> UpdateHeader:
    """Return the header of an upload, to be signed by the client.

    Args:
        upload_id: 16 fresh random bytes.
        vector_hash: sha256 of the masked words.
    """
    hashes = tuple(tuple(plain_hash(box) for box in slot) for slot in sealed.boxes)
    return UpdateHeader(committee.ctx, client_id, upload_id, vector_hash, n_words, sealed.commits, hashes)


@dataclass(frozen=True, slots=True)
class VerifiedHeader:
    """A header that a registered client signed for this committee.

    Attributes:
        hash: of its bytes.
    """

    client: Registered
    header: UpdateHeader
    hash: bytes


def check_header(
    signed: Signed, chain: Chain, committee: Committee, n_words: int, chains: KnownChains
) -> VerifiedHeader:
    """Return a header after all was checked that combiner and members can check of it.

    Raises:
        MalformedMessage, BadSignature, WrongSigner, UnknownOperator: it is not by a registered client.
        WrongContext: it is for another round, cell or committee, or speaks for another client.
        WrongShape: its lists or its length do not fit.
    """
    client = chains.registered(chain)
    header = read_signed(signed, UpdateHeader, signer=client.client_key)
    if header.ctx != committee.ctx or header.client_id != client.client_id:
        raise WrongContext(UpdateHeader.kind)
    if header.n_words != n_words:
        raise WrongShape(f"{header.n_words} words for a plan of {n_words}")
    if len(header.seed_commits) != committee.slots:
        raise WrongShape(f"{len(header.seed_commits)} seeds for {committee.slots} slots")
    if tuple(len(slot) for slot in header.box_hashes) != committee.replicas:
        raise WrongShape("its boxes are not one for each member")
    return VerifiedHeader(client, header, header_hash(signed.body))


@dataclass(frozen=True, slots=True)
class OpenedBox:
    """A client's seed for this member's slot, and where it comes from."""

    verified: VerifiedHeader
    seed: bytes = field(repr=False)


def open_box(
    message: BoxFor, member: Member, secret_key: bytes, *, committee: Committee, n_words: int, chains: KnownChains
) -> OpenedBox:
    """Return what a member gets from a client.

    Args:
        member: whose box it should be.
        secret_key: of the member's epk.

    Raises:
        BadBox: says which client's and why; nobody else's box is affected.
    """
    try:
        verified = check_header(message.header, message.chain, committee, n_words, chains)
    except PeerFault as error:
        raise BadBox(_claimed_client(message), f"{error.code}: {error.message}") from error
    client_id, header = verified.client.client_id, verified.header
    if plain_hash(message.box) != header.box_hashes[member.slot][member.replica]:
        raise BadBox(client_id, "the box is not the one that its header names")
    try:
        content = unseal(message.box, secret_key)
    except NotSealed as error:
        raise BadBox(client_id, "the box does not open") from error
    prefix, seed = content[:PREFIX_BYTES], content[PREFIX_BYTES:]
    if prefix != box_prefix(committee.ctx, client_id, member.slot):
        raise BadBox(client_id, "the box was sealed for another client, slot or round")
    if seed_commitment(committee.ctx, client_id, member.slot, seed) != header.seed_commits[member.slot]:
        raise BadBox(client_id, "the seed is not the one that its header commits to")
    return OpenedBox(verified, seed)


def _claimed_client(message: BoxFor) -> bytes:
    """Return whom a box claims to be from, for the refusal's sake."""
    try:
        return UpdateHeader.decode(message.header.body).client_id
    except PeerFault:
        return bytes(32)
