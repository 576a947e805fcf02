"""Keys that are offered to a cell: what is refused, and the committee that is made of the others."""

from dataclasses import replace
from typing import Any

import masked_world as world
import pytest
from masked_world import CLIENTS, REPLICATED, AClient, a_key_message, chains, the_terms

from fedn_py.protocol.masked.committee import check_committee
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext
from fedn_py.protocol.masked.lottery import NoSumParticipant, NotDrawn, slots_drawn
from fedn_py.protocol.masked.offers import DuplicateMember, Offer, UnusableKey, check_offer, form_committee
from fedn_py.protocol.masked.registry import UnknownOperator
from fedn_py.protocol.masked.signing import BadSignature, Signed, WrongSigner, sign
from fedn_py.protocol.masked.words import KeyOffer

TERMS = the_terms()
ANNA, BERT = CLIENTS[:2]


def a_key(client: AClient, slot: int = 0, terms: CellTerms = TERMS, **changed: Any) -> Signed:
    return sign(a_key_message(terms, client, slot, **changed), client.key)


def an_offer(client: AClient = ANNA, *keys: Signed, **changed: Any) -> KeyOffer:
    return replace(KeyOffer(TERMS.ctx0, client.chain, keys), **changed)


def offers_of(terms: CellTerms) -> list[Offer]:
    """Everybody's keys for all slots that it was drawn for."""
    offers = []
    for client in CLIENTS:
        slots = slots_drawn(terms.plan.beacon, terms.order.k, client.registered, terms.order.n_draw)
        keys = tuple(a_key(client, slot, terms) for slot in slots)
        offers.append(check_offer(KeyOffer(terms.ctx0, client.chain, keys), terms, chains()))
    return offers


def test_a_client_offers_a_key_for_each_slot_that_it_was_drawn_for_or_none() -> None:
    offer = check_offer(an_offer(ANNA, a_key(ANNA, 0), a_key(ANNA, 1)), TERMS, chains())
    assert (offer.client.client_id, [key.slot for key in offer.keys]) == (ANNA.id, [0, 1])
    assert check_offer(an_offer(ANNA), TERMS, chains()).keys == ()


@pytest.mark.parametrize(
    ("offer", "fault"),
    [
        (an_offer(ANNA, ctx0=b"x" * 32), WrongContext),
        (an_offer(ANNA, a_key(ANNA, ctx0=b"x" * 32)), WrongContext),
        (an_offer(ANNA, a_key(BERT)), WrongSigner),
        (an_offer(ANNA, replace(a_key(ANNA), signature=bytes(64))), BadSignature),
        (an_offer(ANNA, chain=world.a_chain("anna", operator=world.key_of("mallory"))), UnknownOperator),
        (an_offer(ANNA, a_key(ANNA), a_key(ANNA)), DuplicateMember),
        (an_offer(ANNA, a_key(ANNA, epk=bytes(32))), UnusableKey),
        (an_offer(ANNA, a_key(ANNA, 2)), NotDrawn),
    ],
)
def test_an_offer_that_would_spoil_the_committee_is_refused_by_name(offer: KeyOffer, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        check_offer(offer, TERMS, chains())


def test_a_key_for_a_slot_that_the_lottery_did_not_draw_is_refused() -> None:
    terms = the_terms(n_draw=4_000)
    drawn = {client.id: slots_drawn(terms.plan.beacon, 2, client.registered, 4_000) for client in CLIENTS}
    client = next(client for client in CLIENTS if 0 not in drawn[client.id])
    offer = KeyOffer(terms.ctx0, client.chain, (a_key(client, 0, terms),))
    with pytest.raises(NotDrawn):
        check_offer(offer, terms, chains())


@pytest.mark.parametrize("cell", [{}, REPLICATED])
def test_the_committee_that_is_formed_is_one_that_every_client_finds_right(cell: dict[str, int]) -> None:
    terms = the_terms(**cell)
    body, committee = form_committee(terms, offers_of(terms))
    found = check_committee(body, terms.ctx0, terms.order, terms.plan.beacon, chains(), standing=world.STANDING)
    assert found == committee


def test_a_slot_that_nobody_offers_a_key_for_is_named() -> None:
    offers = [check_offer(an_offer(client, a_key(client, 0)), TERMS, chains()) for client in CLIENTS]
    with pytest.raises(NoSumParticipant, match="slot 1"):
        form_committee(TERMS, offers)
