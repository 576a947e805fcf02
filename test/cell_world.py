"""Masked cells for tests of the combiner's machine: who is in them, and how far they are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import builders
import masked_world as world
from masked_world import AClient, bytes_of

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import AnswerUpload, Combiner, Effect, Event, Preparing, ReportProgress, UpdateAdded
from fedn_py.protocol.masked.cell_work import (
    BoxesAcknowledged,
    CollectingKeys,
    CollectingUpdates,
    CommitteeKept,
    KeysOffered,
    StoreSum,
    TermsChecked,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.lottery import slots_drawn
from fedn_py.protocol.masked.offers import Offer, check_offer
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow, Refused
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import KeyOffer, MaskedTerms
from fedn_py.protocol.messages import CellOrder

GENERATION = builders.GENERATION
GRACE_S, ACKS_S = 5.0, 2.0
ANNA, BERT, CARL, DORA, EMIL, FRED, GINA, HANS = world.CLIENTS
FIVE = (ANNA, BERT, CARL, DORA, EMIL)


def id_of(client: AClient) -> ClientId:
    return ClientId(client.id.hex())


def ids_of(*clients: AClient) -> frozenset[ClientId]:
    return frozenset(id_of(client) for client in clients)


def the_terms(**order: Any) -> CellTerms:
    return world.the_terms(**{"generation": GENERATION, **order})


def an_order(*clients: AClient, wanted: int | None = None, generation: int = GENERATION, **order: Any) -> CellOrder:
    plan = world.a_plan()
    signed = world.an_order(plan, **{"generation": generation, **order})
    masked = MaskedTerms(world.a_certificate(), sign(plan, world.REDUCER), sign(signed, world.REDUCER))
    asked = tuple(id_of(client) for client in clients)
    unsigned = builders.a_plan(masking="pet")
    return CellOrder(unsigned, Generation(generation), asked, len(asked) if wanted is None else wanted, masked)


def a_combiner(work: Any, *attached: AClient) -> Combiner:
    return Combiner(GRACE_S, ids_of(*attached), work, ACKS_S)


def an_offer(terms: CellTerms, client: AClient, **changed: Any) -> Offer:
    """What a client offers: a key for every slot that it was drawn for."""
    slots = slots_drawn(terms.plan.beacon, terms.order.k, client.registered, terms.order.n_draw)
    keys = tuple(sign(world.a_key_message(terms, client, slot, **changed), client.key) for slot in slots)
    return check_offer(KeyOffer(terms.ctx0, client.chain, keys), terms, world.chains())


def offered(terms: CellTerms, client: AClient, **changed: Any) -> KeysOffered:
    return KeysOffered(GENERATION, id_of(client), an_offer(terms, client, **changed))


def a_row(client: AClient, upload: int = 0) -> IncludedRow:
    return IncludedRow(client.id, bytes_of(f"header {client.name} {upload}"))


def begins(client: AClient, upload: int = 0) -> UploadOffered:
    return UploadOffered(GENERATION, id_of(client), client.registered, a_row(client, upload))


def arrival_of(client: AClient, upload: int = 0) -> str:
    return f"{client.name}/{upload}"


def arrives(client: AClient, upload: int = 0) -> VectorArrived:
    return VectorArrived(GENERATION, arrival_of(client, upload), id_of(client), a_row(client, upload))


def run(state: Combiner, *events: Event) -> tuple[Combiner, list[Effect]]:
    """Step through events; gives the effects of the last one, without what is for those who watch."""
    effects: list[Effect] = []
    for event in events:
        state, effects = step(state, event)
    return state, [effect for effect in effects if not isinstance(effect, ReportProgress)]


def collecting_keys(*clients: AClient, attached: Sequence[AClient] | None = None, **order: Any) -> Combiner:
    """A cell that has just begun, all of its clients there."""
    preparing = a_combiner(Preparing(an_order(*clients, **order)), *(clients if attached is None else attached))
    order.pop("wanted", None)
    return run(preparing, TermsChecked(GENERATION, the_terms(**order)))[0]


def keys_of(state: Combiner) -> CollectingKeys:
    assert isinstance(state.work, CollectingKeys)
    return state.work


def updates_of(state: Combiner) -> CollectingUpdates:
    assert isinstance(state.work, CollectingUpdates)
    return state.work


def collecting_updates(*clients: AClient, **options: Any) -> Combiner:
    """A cell whose clients have the committee."""
    return run(formed := with_committee(*clients, **options), kept(formed))[0]


def with_committee(*clients: AClient, **options: Any) -> Combiner:
    """A cell that has its committee, of which its clients do not know yet."""
    state = collecting_keys(*clients, **options)
    return run(state, *(offered(keys_of(state).terms, client) for client in clients))[0]


def kept(state: Combiner) -> CommitteeKept:
    """The reducer has stored a cell's committee."""
    return CommitteeKept(updates_of(state).acknowledged.committee.ctx)


def members_of(state: Combiner) -> tuple[AClient, ...]:
    return world.members_of(updates_of(state).acknowledged.committee)


def ack(
    state: Combiner, member: AClient, *accepted: IncludedRow, refused: Sequence[IncludedRow] = (), reason: str = "no"
) -> BoxesAcknowledged:
    return BoxesAcknowledged(GENERATION, an_ack(state, member, *accepted, refused=refused, reason=reason))


def an_ack(
    state: Combiner, member: AClient, *accepted: IncludedRow, refused: Sequence[IncludedRow] = (), reason: str = "no"
) -> Signed:
    ctx = updates_of(state).acknowledged.committee.ctx
    rejected = tuple(Refused(row.client_id, reason) for row in refused)
    return sign(BoxAck(ctx, accepted, rejected), member.key)


def acks(state: Combiner, *rows: IncludedRow, but: Sequence[AClient] = ()) -> list[BoxesAcknowledged]:
    """All members' acceptance of these uploads, but for some members."""
    return [ack(state, member, *rows) for member in members_of(state) if member not in but]


def with_work(state: Combiner, **changed: Any) -> Combiner:
    assert isinstance(state.work, CollectingUpdates)
    return replace(state, work=replace(state.work, **changed))


# ---- cells that tests begin with

CELL = collecting_updates(*FIVE)
FIRST, SECOND = members_of(CELL)
REPLICATED = collecting_updates(*world.CLIENTS, **world.REPLICATED)
MEMBERS = members_of(REPLICATED)
OUTSIDE = [client for client in world.CLIENTS if client not in MEMBERS]


def refusals(effects: list[Effect]) -> list[str]:
    """The names of the faults with which uploads were refused."""
    answers = [effect.receipt for effect in effects if isinstance(effect, AnswerUpload)]
    return [receipt.reason.split(":")[0] for receipt in answers if not receipt.accepted]


def with_in_sum(state: Combiner, *clients: AClient) -> Combiner:
    """Return the cell with these clients' uploads in its sum."""
    for client in clients:
        added = UpdateAdded(GENERATION, arrival_of(client))
        state, _ = run(state, begins(client), *acks(state, a_row(client)), arrives(client), added)
    return state


def listed_in(effects: list[Effect]) -> list[str]:
    """The clients of the set that a cell was closed with; a set that is too small says only how many."""
    return [row.client_id.hex() for effect in effects if isinstance(effect, StoreSum) for row in effect.rows]
