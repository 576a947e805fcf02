"""A network with masked rounds, for tests: operator, clients, servers, plans and committees, the same every time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nacl.bindings import crypto_scalarmult_base
from nacl.signing import SigningKey

from fedn_py.masking.fixed_point import Encoder
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import Masker, MaskSum, mask_key
from fedn_py.protocol.masked.answers import AnswerPlace, AnswerSealer, sealed_bytes
from fedn_py.protocol.masked.boxes import SealedSeeds, VerifiedHeader, check_header, open_box, seal_seeds, update_header
from fedn_py.protocol.masked.certificates import POSSESSION, Chain, ClientEntry, Policy, ServerCert, TokenCert
from fedn_py.protocol.masked.committee import Committee, check_committee
from fedn_py.protocol.masked.contexts import (
    CellTerms,
    cell_terms,
    included_hash,
    nonce_commitment,
    plan_hash,
    policy_hash,
    work_of,
)
from fedn_py.protocol.masked.lottery import Candidate, Chosen, choose, first_beacon
from fedn_py.protocol.masked.registry import KnownChains, PolicyMark, Registered, Trust, verify_chain
from fedn_py.protocol.masked.round_messages import (
    Answer,
    BoxFor,
    CellOrder,
    CommitteeBody,
    CommitteeRow,
    Included,
    IncludedRow,
    KeyMessage,
    OpenSum2,
    Plan,
)
from fedn_py.protocol.masked.signing import Signed, sign, signature_over

NOW_S = 2_000_000_000
DAY_S = 86_400
DEPLOYMENT, SESSION, CELL, OTHER_CELL = b"D" * 16, b"S" * 16, b"C" * 16, b"E" * 16
BASE, PACKAGE, PARAMS, MODEL = b"b" * 32, b"p" * 32, b"t" * 32, b"m" * 32
EPOCH_SEED = b"\x55" * 32
WORK = work_of(BASE, PACKAGE, PARAMS)


def bytes_of(name: str, size: int = 32) -> bytes:
    """Return bytes that only this name gives."""
    return hashlib.shake_256(name.encode()).digest(size)


def key_of(name: str) -> SigningKey:
    return SigningKey(bytes_of(f"key {name}"))


OPERATOR, REDUCER, COMBINER, OTHER_COMBINER = (key_of(name) for name in ("operator", "reducer", "north", "south"))
REDUCERS = frozenset({bytes(REDUCER.verify_key)})
TRUST = Trust(bytes(OPERATOR.verify_key), DEPLOYMENT)
RSK = bytes_of("rsk")
RPK = crypto_scalarmult_base(RSK)


def chains() -> KnownChains:
    return KnownChains(TRUST)


# ---- certificates


def a_policy(**changed: Any) -> Policy:
    terms: dict[str, Any] = {
        "deployment": DEPLOYMENT,
        "version": 3,
        "not_after": NOW_S + 300 * DAY_S,
        "epoch_seed": EPOCH_SEED,
        "modes": ("pet",),
        "g_min": 3,
        "k_min": 2,
        "r_min": 1,
        "n_max_max": 1_000,
        "clip_min": 0.001,
        "clip_max": 10.0,
        "weight_cap_max": 1_000_000,
        "n_draw_min": 5,
        "reopen": "reducer",
        "rework_max": 20,
    }
    return Policy(**{**terms, **changed})


POLICY = a_policy()
POLICY_HASH = policy_hash(POLICY.encode())
MARK = PolicyMark(POLICY.version, POLICY_HASH)
STANDING = (POLICY, NOW_S)


def a_token(name: str, *, uses: int = 1, not_after: int = NOW_S + DAY_S, operator: SigningKey = OPERATOR) -> Signed:
    """A token's certificate; its key is ``key_of("token " + name)``."""
    public = bytes(key_of(f"token {name}").verify_key)
    return sign(TokenCert(DEPLOYMENT, bytes_of(name, 16), name, uses, not_after, public), operator)


def an_entry(token: str, client_key: bytes, *, index: int = 0) -> Signed:
    entry = ClientEntry(DEPLOYMENT, bytes_of(token, 16), index, client_key)
    return sign(entry, key_of(f"token {token}"))


def a_chain(name: str, *, site: str | None = None, uses: int = 1, index: int = 0, **token: Any) -> Chain:
    """The chain of a client; each has a token of its own unless a site is named."""
    site, key = site or f"site of {name}", key_of(name)
    entry = an_entry(site, bytes(key.verify_key), index=index)
    return Chain(a_token(site, uses=uses, **token), entry, signature_over(POSSESSION, entry.body, key))


@dataclass(frozen=True)
class AClient:
    """A registered client with its secrets."""

    name: str
    key: SigningKey
    chain: Chain
    registered: Registered

    @property
    def id(self) -> bytes:
        return self.registered.client_id

    @property
    def esk(self) -> bytes:
        return bytes_of(f"esk {self.name}")

    @property
    def epk(self) -> bytes:
        return crypto_scalarmult_base(self.esk)

    @property
    def nonce(self) -> bytes:
        return bytes_of(f"nonce {self.name}")


def a_client(name: str, **chain: Any) -> AClient:
    made = a_chain(name, **chain)
    return AClient(name, key_of(name), made, verify_chain(made, TRUST))


CLIENTS = tuple(a_client(name) for name in ("anna", "bert", "carl", "dora", "emil", "fred", "gina", "hans"))


def a_certificate(
    key: SigningKey = REDUCER, *, role: str = "reducer", operator: SigningKey = OPERATOR, not_after: int = NOW_S + DAY_S
) -> Signed:
    return sign(ServerCert(DEPLOYMENT, role, bytes(key.verify_key), "a server", not_after), operator)


# ---- plans and cells


def a_plan(**changed: Any) -> Plan:
    terms: dict[str, Any] = {
        "policy_hash": POLICY_HASH,
        "session": SESSION,
        "session_number": 1,
        "round": 1,
        "attempt": 1,
        "base_sha256": BASE,
        "parent_commit": bytes(32),
        "package_sha256": PACKAGE,
        "params_sha256": PARAMS,
        "mode": "pet",
        "n_parameters": 20,
        "clip": 1.0,
        "n_max": 100,
        "weight_cap": 1_000,
        "rpk": RPK,
        "reopen": "reducer",
        "beacon": first_beacon(DEPLOYMENT, 1, EPOCH_SEED),
    }
    return Plan(**{**terms, **changed})


def an_order(plan: Plan, **changed: Any) -> CellOrder:
    terms: dict[str, Any] = {
        "plan_hash": plan_hash(plan.encode()),
        "cell": CELL,
        "generation": 1,
        "combiner": bytes(COMBINER.verify_key),
        "k": 2,
        "r": 1,
        "echo_c": 1,
        "g_min": 3,
        "n_draw": 5,
    }
    return CellOrder(**{**terms, **changed})


REPLICATED = {"k": 3, "r": 2, "echo_c": 2}


def the_terms(plan: Plan | None = None, **order: Any) -> CellTerms:
    plan = plan or a_plan()
    return cell_terms(DEPLOYMENT, plan.encode(), an_order(plan, **order).encode())


def a_key_message(terms: CellTerms, client: AClient, slot: int, **changed: Any) -> KeyMessage:
    commit = nonce_commitment(terms.ctx0, client.id, client.nonce)
    return replace(KeyMessage(terms.ctx0, slot, client.epk, commit), **changed)


def a_row(terms: CellTerms, client: AClient, slot: int, replica: int, **changed: Any) -> CommitteeRow:
    return CommitteeRow(slot, replica, client.chain, sign(a_key_message(terms, client, slot, **changed), client.key))


def seats(terms: CellTerms, clients: Sequence[AClient] = CLIENTS) -> tuple[Chosen, ...]:
    """Who sits where: clients offer themselves for one slot after the other."""
    candidates = (Candidate(place % terms.order.k, one.registered) for place, one in enumerate(clients))
    return choose(terms.plan.beacon, terms.order.k, terms.order.r, candidates)


def the_rows(terms: CellTerms, clients: Sequence[AClient] = CLIENTS) -> tuple[CommitteeRow, ...]:
    named = {one.id: one for one in clients}
    return tuple(a_row(terms, named[seat.client.client_id], seat.slot, seat.replica) for seat in seats(terms, clients))


def a_committee(terms: CellTerms, clients: Sequence[AClient] = CLIENTS) -> Committee:
    body = CommitteeBody(terms.ctx0, the_rows(terms, clients))
    return check_committee(body, terms.ctx0, terms.order, terms.plan.beacon, chains(), standing=STANDING)


def members_of(committee: Committee, clients: Sequence[AClient] = CLIENTS) -> tuple[AClient, ...]:
    """The members as clients, in the order of slots and replicas."""
    named = {one.id: one for one in clients}
    return tuple(named[member.client.client_id] for member in committee.members)


# ---- uploads


def seeds_of(client: AClient, k: int, upload: int = 0) -> list[bytes]:
    return [bytes_of(f"seed {client.name} {slot} {upload}") for slot in range(k)]


def the_values(client: AClient, n: int) -> np.ndarray:
    return np.random.default_rng(list(client.name.encode())).normal(0, 0.3, n).astype(np.float32)


def masked_vector(terms: CellTerms, committee: Committee, client: AClient, upload: int = 0) -> np.ndarray:
    encoding = terms.encoding
    seeds = seeds_of(client, committee.slots, upload)
    keys = [mask_key(committee.ctx, client.id, slot, seed) for slot, seed in enumerate(seeds)]
    metrics = (0.0,) * len(encoding.metric_bounds)
    masker = Masker(Encoder(encoding, 50, metrics, bytes_of(f"rounding {client.name} {upload}")), keys)
    out, values = np.empty(encoding.n_words, np.uint32), the_values(client, encoding.n_parameters)
    start = 0
    for number, size in enumerate(chunk_sizes(len(out))):
        masker.chunk(number, values[start : start + size], out[start : start + size])
        start += size
    return out


@dataclass(frozen=True)
class AnUpload:
    """What a client sends."""

    client: AClient
    header: Signed
    sealed: SealedSeeds
    vector: np.ndarray
    verified: VerifiedHeader

    @property
    def row(self) -> IncludedRow:
        return IncludedRow(self.client.id, self.verified.hash)

    def box_for(self, slot: int, replica: int) -> BoxFor:
        return BoxFor(self.client.chain, self.header, self.sealed.boxes[slot][replica])


def an_upload(terms: CellTerms, committee: Committee, client: AClient, upload: int = 0) -> AnUpload:
    ephemeral = [bytes_of(f"ephemeral {client.name} {n} {upload}") for n in range(len(committee.members))]
    sealed = seal_seeds(committee, client.id, seeds_of(client, committee.slots, upload), ephemeral)
    vector = masked_vector(terms, committee, client, upload)
    header = update_header(
        committee,
        client.id,
        sealed,
        upload_id=bytes_of(f"upload {client.name} {upload}", 16),
        vector_hash=hashlib.sha256(vector.tobytes()).digest(),
        n_words=len(vector),
    )
    signed = sign(header, client.key)
    verified = check_header(signed, client.chain, committee, len(vector), chains())
    return AnUpload(client, signed, sealed, vector, verified)


def the_rows_of(uploads: Sequence[AnUpload]) -> tuple[IncludedRow, ...]:
    return tuple(sorted((upload.row for upload in uploads), key=lambda row: row.client_id))


def an_opening(ctx: bytes, rows: Sequence[IncludedRow], key: SigningKey = REDUCER) -> Signed:
    return sign(OpenSum2(ctx, included_hash(ctx, rows), len(rows)), key)


def included(committee: Committee, uploads: Sequence[AnUpload], key: SigningKey = REDUCER) -> Included:
    rows = the_rows_of(uploads)
    return Included(an_opening(committee.ctx, rows, key), rows)


# ---- answers


def slot_sum(terms: CellTerms, committee: Committee, member: AClient, uploads: Sequence[AnUpload]) -> np.ndarray:
    """The mask sum that a member computes from the boxes that it opens."""
    seat = committee.member(member.id)
    assert seat is not None
    keys = []
    for upload in uploads:
        opened = open_box(
            upload.box_for(seat.slot, seat.replica),
            seat,
            member.esk,
            committee=committee,
            n_words=terms.encoding.n_words,
            chains=chains(),
        )
        keys.append(mask_key(committee.ctx, upload.client.id, seat.slot, opened.seed))
    out = np.empty(terms.encoding.n_words, np.uint32)
    mask_sum, start = MaskSum(keys), 0
    for number, size in enumerate(chunk_sizes(len(out))):
        mask_sum.chunk(number, out[start : start + size])
        start += size
    return out


def an_answer(
    terms: CellTerms,
    committee: Committee,
    member: AClient,
    uploads: Sequence[AnUpload],
    *,
    words: np.ndarray | None = None,
    **changed: Any,
) -> tuple[Signed, bytes]:
    """A member's answer and its sealed stream."""
    seat = committee.member(member.id)
    assert seat is not None
    digest = included_hash(committee.ctx, the_rows_of(uploads))
    plain = (slot_sum(terms, committee, member, uploads) if words is None else words).tobytes()
    sealer = AnswerSealer(AnswerPlace(committee.ctx, digest, member.id, seat.slot), bytes_of(f"answer {member.name}"))
    stream = sealer.piece(plain, last=True)
    sealed_key, stream_hash = sealer.finish(terms.plan.rpk, bytes_of(f"answer ephemeral {member.name}"))
    answer = Answer(committee.ctx, digest, seat.slot, member.nonce, sealed_key, stream_hash, sealed_bytes(len(plain)))
    return sign(replace(answer, **changed), member.key), stream
