"""Keys that clients offer to a cell, and the committee that a combiner makes of them.

A client offers a key for every slot that the lottery drew it for, and sits in one of them at most. What is checked
here is what every client of the cell checks again: an offer that would spoil the committee is refused before.
"""

from collections.abc import Collection
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.committee import Committee, Member
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext, committee_hash, context
from fedn_py.protocol.masked.lottery import Candidate, NotDrawn, choose, may_serve
from fedn_py.protocol.masked.registry import KnownChains, Registered
from fedn_py.protocol.masked.round_messages import CommitteeBody, CommitteeRow, KeyMessage
from fedn_py.protocol.masked.sealing import usable_key
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked.words import KeyOffer


class DuplicateMember(PeerFault):
    """A client offers two keys for one slot, or a key that another client has offered."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a key offer is refused: {reason}", remedy="The client's program is at fault.")


class UnusableKey(PeerFault):
    """A client offers a key that nothing can be sealed to."""

    def __init__(self, slot: int) -> None:
        super().__init__(
            f"the key offered for slot {slot} is one that nothing can be sealed to",
            remedy="The client's program is at fault.",
        )


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """One key that a client offers, and the bytes that it signed of it."""

    slot: int
    epk: bytes
    nonce_commit: bytes
    signed: Signed


@dataclass(frozen=True, slots=True)
class Offer:
    """What a registered client offers to a cell; no key where it was not drawn.

    Attributes:
        keys: each for another slot.
    """

    client: Registered
    keys: tuple[OfferedKey, ...]


def check_offer(offer: KeyOffer, terms: CellTerms, chains: KnownChains) -> Offer:
    """Return a client's offer after all was checked that the cell's clients will check of its keys.

    Raises:
        MalformedMessage, BadSignature, WrongSigner, UnknownOperator, TokenOverused: it is not by a registered client.
        WrongContext: it is for another cell or round.
        NotDrawn: a key is for a slot that the lottery did not draw the client for.
        DuplicateMember, UnusableKey: a key cannot be used.
    """
    client = chains.registered(offer.chain)
    if offer.ctx0 != terms.ctx0:
        raise WrongContext(KeyOffer.kind)
    keys = tuple(_key(signed, client, terms) for signed in offer.keys)
    if len({key.slot for key in keys}) < len(keys):
        raise DuplicateMember("two keys are for one slot")
    return Offer(client, keys)


def _key(signed: Signed, client: Registered, terms: CellTerms) -> OfferedKey:
    message = read_signed(signed, KeyMessage, signer=client.client_key)
    if message.ctx0 != terms.ctx0:
        raise WrongContext(KeyMessage.kind)
    if message.slot >= terms.order.k or not may_serve(terms.plan.beacon, message.slot, client, terms.order.n_draw):
        raise NotDrawn(message.slot)
    if not usable_key(message.epk):
        raise UnusableKey(message.slot)
    return OfferedKey(message.slot, message.epk, message.nonce_commit, signed)


def form_committee(terms: CellTerms, offers: Collection[Offer]) -> tuple[CommitteeBody, Committee]:
    """Return the committee of these offers: the lowest lots of each slot.

    Raises:
        NoSumParticipant: a slot has nobody.
    """
    keys = {(offer.client.client_id, key.slot): key for offer in offers for key in offer.keys}
    candidates = (Candidate(key.slot, offer.client) for offer in offers for key in offer.keys)
    rows: list[CommitteeRow] = []
    members: list[Member] = []
    for seat in choose(terms.plan.beacon, terms.order.k, terms.order.r, candidates):
        key = keys[seat.client.client_id, seat.slot]
        rows.append(CommitteeRow(seat.slot, seat.replica, seat.client.chain, key.signed))
        members.append(Member(seat.slot, seat.replica, seat.client, key.epk, key.nonce_commit))
    ctx = context(terms.ctx0, committee_hash(member.seat for member in members))
    return CommitteeBody(terms.ctx0, tuple(rows)), Committee(tuple(members), ctx)
