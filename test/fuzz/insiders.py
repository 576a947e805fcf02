"""What somebody who may speak could say wrongly: signed by the right key, and refused for what it says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import masked_world as world
from fuzz.damage import Damaged, resigned
from fuzz.places import Place
from masked_world import CLIENTS, COMBINER, OPERATOR, REDUCER, AClient

from fedn_py.protocol.masked.certificates import Policy, ServerCert
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.round_messages import (
    Abort,
    Answer,
    BoxAck,
    CellClosed,
    CellOrder,
    Echo,
    Included,
    IncludedRow,
    KeyMessage,
    NotOpened,
    OpenSum2,
    Plan,
    UpdateHeader,
)
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import Boxes, KeyOffer, MaskedTerms, MaskedUpload

ELSEWHERE, ANOTHER = world.bytes_of("another ctx"), world.bytes_of("another hash")
BY_KEY: Mapping[bytes, AClient] = {bytes(client.key.verify_key): client for client in CLIENTS}


def insiders(place: Place, body: Body) -> Iterator[Damaged]:
    """Yield what the true sender of a message could say wrongly in its place."""
    for how, wrong in WRONG.get(place.name, _nothing)(body):
        yield Damaged(f"by its sender: {how}", wrong.encode(), "insider")


def _nothing(body: Any) -> Iterator[tuple[str, Body]]:
    yield from ()


def spoiled(place: Place, body: Body) -> Iterator[Damaged]:
    """Yield what the true sender could say wrongly so that it costs the round what depends on it."""
    for how, wrong in SPOILED.get(place.name, _nothing)(body):
        yield Damaged(f"by its sender: {how}", wrong.encode(), how)


def _terms(terms: MaskedTerms) -> Iterator[tuple[str, Body]]:
    plans: dict[str, dict[str, Any]] = {
        "another policy": {"policy_hash": ANOTHER},
        "another session": {"session": b"T" * 16},
        "an older session number": {"session_number": 7},
        "another round": {"round": Plan.decode(terms.plan.body).round + 1},
        "another attempt": {"attempt": 9},
        "another base": {"base_sha256": ANOTHER},
        "another parent": {"parent_commit": ANOTHER},
        "another package": {"package_sha256": ANOTHER},
        "other parameters": {"params_sha256": ANOTHER},
        "another mode": {"mode": "none"},
        "a clip beyond the policy": {"clip": 1e6},
        "too many clients": {"n_max": 100_000},
        "a beacon that was chosen": {"beacon": ANOTHER},
    }
    for how, changed in plans.items():
        plan = resigned(terms.plan, Plan, REDUCER, **changed)
        order = resigned(terms.order, CellOrder, REDUCER, plan_hash=world.plan_hash(plan.body))
        yield f"a plan with {how}", replace(terms, plan=plan, order=order)
    orders: dict[str, dict[str, Any]] = {
        "of another plan": {"plan_hash": ANOTHER},
        "of another generation": {"generation": CellOrder.decode(terms.order.body).generation + 1},
        "with one slot": {"k": 1},
        "for two clients": {"g_min": 2},
        "that draws nobody": {"n_draw": 1},
    }
    for how, changed in orders.items():
        yield f"an order {how}", replace(terms, order=resigned(terms.order, CellOrder, REDUCER, **changed))


def _terms_for_combiner(terms: MaskedTerms) -> Iterator[tuple[str, Body]]:
    elsewhere = resigned(terms.order, CellOrder, REDUCER, combiner=bytes(world.OTHER_COMBINER.verify_key))
    yield "an order for another combiner", replace(terms, order=elsewhere)
    unseen = ("older session", "parent", "other parameters", "chosen")
    for how, wrong in _terms(terms):
        if not any(word in how for word in unseen):  # only clients can know these
            yield how, wrong


def _policy(signed: Signed) -> Iterator[tuple[str, Body]]:
    policy = Policy.decode(signed.body)
    yield "of another network", resigned(signed, Policy, OPERATOR, deployment=b"E" * 16)
    yield "of an older version", resigned(signed, Policy, OPERATOR, version=policy.version - 2)
    yield (
        "another one of the version that is gone by",
        resigned(signed, Policy, OPERATOR, version=policy.version - 1, rework_max=1),
    )
    yield "that has ended", resigned(signed, Policy, OPERATOR, not_after=world.NOW_S - 3 * world.DAY_S)


def _key_offer(offer: KeyOffer) -> Iterator[tuple[str, Body]]:
    if not offer.keys:
        return
    first, key = offer.keys[0], BY_KEY[offer.keys[0].signer].key

    def with_key(**changed: Any) -> KeyOffer:
        return replace(offer, keys=(resigned(first, KeyMessage, key, **changed), *offer.keys[1:]))

    yield "a key of another cell", with_key(ctx0=ELSEWHERE)
    yield "a key for no slot", with_key(slot=14)
    yield "a key of zeros", with_key(epk=bytes(32))
    yield "two keys for one slot", replace(offer, keys=(first, first))
    stranger = next(client for client in CLIENTS if client.key != key)
    yield "another client's chain", replace(offer, chain=stranger.chain)


def _upload(upload: MaskedUpload) -> Iterator[tuple[str, Body]]:
    key = BY_KEY[upload.header.signer].key
    header = UpdateHeader.decode(upload.header.body)
    wrong: dict[str, dict[str, Any]] = {
        "of another cell": {"ctx": ELSEWHERE},
        "of another client": {"client_id": CLIENTS[7].id},
        "of another length": {"n_words": header.n_words + 1},
        "without a seed": {"seed_commits": header.seed_commits[:-1]},
        "with other boxes": {"box_hashes": tuple((ANOTHER,) * len(slot) for slot in header.box_hashes)},
        "with too few boxes": {"box_hashes": header.box_hashes[:-1]},
    }
    for how, changed in wrong.items():
        yield f"a header {how}", replace(upload, header=resigned(upload.header, UpdateHeader, key, **changed))
    yield "another client's chain", replace(upload, chain=CLIENTS[7].chain)
    yield "its boxes turned round", replace(upload, boxes=tuple(reversed(upload.boxes)))


def _box_ack(signed: Signed) -> Iterator[tuple[str, Body]]:
    key = BY_KEY[signed.signer].key
    yield "of another cell", resigned(signed, BoxAck, key, ctx=ELSEWHERE)
    stranger = world.a_client("a client of no cell").key
    yield "by a registered client that is no member", sign(BoxAck.decode(signed.body), stranger)


def _boxes(boxes: Boxes) -> Iterator[tuple[str, Body]]:
    box = boxes.boxes[0]
    key = BY_KEY[box.header.signer].key
    for how, changed in {
        "of another cell": {"ctx": ELSEWHERE},
        "of another client": {"client_id": CLIENTS[7].id},
    }.items():
        other = replace(box, header=resigned(box.header, UpdateHeader, key, **changed))
        yield f"a header {how}", replace(boxes, boxes=(other, *boxes.boxes[1:]))


def _included(included: Included) -> Iterator[tuple[str, Body]]:
    ctx = OpenSum2.decode(included.opening.body).ctx
    for how, changed in {"another set": {"included_hash": ANOTHER}, "another number": {"n": 4}}.items():
        yield how, replace(included, opening=resigned(included.opening, OpenSum2, REDUCER, **changed))

    yield "asked for by a combiner", replace(included, opening=sign(OpenSum2.decode(included.opening.body), COMBINER))

    def of(rows: tuple[IncludedRow, ...]) -> Included:
        return Included(world.an_opening(ctx, rows), rows)

    rows = included.rows
    yield "a set of two", of(rows[:2])
    yield "a client twice", of((*rows, rows[-1]))
    yield "not in order", of(tuple(reversed(rows)))
    yield "another upload of a client", of((replace(rows[0], header_hash=ANOTHER), *rows[1:]))
    yield (
        "a client without a box",
        of(tuple(sorted((*rows, IncludedRow(CLIENTS[7].id, ANOTHER)), key=lambda row: row.client_id))),
    )


def _closed(signed: Signed) -> Iterator[tuple[str, Body]]:
    closed = CellClosed.decode(signed.body)
    yield "of another cell", resigned(signed, CellClosed, COMBINER, ctx=ELSEWHERE)
    yield "by another combiner", sign(closed, world.OTHER_COMBINER)


def _closed_spoiled(signed: Signed) -> Iterator[tuple[str, Body]]:
    rows = CellClosed.decode(signed.body).rows
    yield "a sum that is nowhere", resigned(signed, CellClosed, COMBINER, partial_sha256=ANOTHER)
    lists = {
        "two clients": rows[:2],
        "a client twice": (*rows, rows[-1]),
        "clients out of order": tuple(reversed(rows)),
        "a client of no ticket": tuple(
            sorted((*rows, IncludedRow(CLIENTS[7].id, ANOTHER)), key=lambda row: row.client_id)
        ),
    }
    for how, changed in lists.items():
        yield f"a sum of {how}", resigned(signed, CellClosed, COMBINER, rows=changed)


def _certificate(signed: Signed) -> Iterator[tuple[str, Body]]:
    wrong: dict[str, dict[str, Any]] = {
        "of another network": {"deployment": b"E" * 16},
        "of a reducer": {"role": "reducer"},
        "that has ended": {"not_after": world.NOW_S - 3 * world.DAY_S},
    }
    for how, changed in wrong.items():
        yield how, resigned(signed, ServerCert, OPERATOR, **changed)


def _echo(signed: Signed) -> Iterator[tuple[str, Body]]:
    key = BY_KEY[signed.signer].key
    yield "of another cell", resigned(signed, Echo, key, ctx=ELSEWHERE)
    yield "by no member", sign(Echo.decode(signed.body), world.a_client("a client of no cell").key)


def _answer(signed: Signed) -> Iterator[tuple[str, Body]]:
    key = BY_KEY[signed.signer].key
    answer = Answer.decode(signed.body)
    wrong: dict[str, dict[str, Any]] = {
        "of another cell": {"ctx": ELSEWHERE},
        "to another set": {"included_hash": ANOTHER},
        "for another slot": {"slot": 1 - answer.slot},
        "with another nonce": {"nonce": ANOTHER},
        "with a stream of another length": {"stream_bytes": answer.stream_bytes + 1},
    }
    for how, changed in wrong.items():
        yield how, resigned(signed, Answer, key, **changed)
    yield "by no member", sign(answer, world.a_client("a client of no cell").key)


def _answer_spoiled(signed: Signed) -> Iterator[tuple[str, Body]]:
    key, answer = BY_KEY[signed.signer].key, Answer.decode(signed.body)
    yield "a stream of another hash", resigned(signed, Answer, key, stream_hash=ANOTHER)
    yield "a key that opens nothing", resigned(signed, Answer, key, sealed_key=answer.sealed_key[::-1])


def _abort(signed: Signed) -> Iterator[tuple[str, Body]]:
    yield "of another cell", resigned(signed, Abort, BY_KEY[signed.signer].key, ctx=ELSEWHERE)
    yield "by no member", sign(Abort.decode(signed.body), world.a_client("a client of no cell").key)


def _not_opened(signed: Signed) -> Iterator[tuple[str, Body]]:
    yield "by a combiner", sign(NotOpened.decode(signed.body), COMBINER)


WRONG: Mapping[str, Callable[[Any], Iterator[tuple[str, Body]]]] = {
    "masked terms at the client": _terms,
    "masked terms at the combiner": _terms_for_combiner,
    "policy at the client": _policy,
    "policy at the combiner": _policy,
    "key offer at the combiner": _key_offer,
    "masked upload at the combiner": _upload,
    "box acknowledgement at the combiner": _box_ack,
    "boxes at the client": _boxes,
    "included at the client": _included,
    "closed cell at the reducer": _closed,
    "server certificate at the reducer": _certificate,
    "echo at the client": _echo,
    "echo at the reducer": _echo,
    "answer at the reducer": _answer,
    "abort at the reducer": _abort,
    "not opened at the client": _not_opened,
}

SPOILED: Mapping[str, Callable[[Any], Iterator[tuple[str, Body]]]] = {
    "closed cell at the reducer": _closed_spoiled,
    "answer at the reducer": _answer_spoiled,
}
"""What is taken for what it is, and found out later: it costs the cell, or the attempt, and is named."""
