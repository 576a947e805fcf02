"""The hashes that bind a message to its place: another round, attempt, cell, plan or committee gives another ctx.

plan_hash      = H("plan", Plan body)                         order_hash = H("order", CellOrder body)
ctx0           = H("ctx0", deployment, policy_hash, session, u64 round, u32 attempt, cell, u32 generation,
                   plan_hash, order_hash)
committee_hash = H("committee", concatenation of u8 slot | u8 replica | client_id | epk | nonce_commit)
ctx            = H("ctx", ctx0, committee_hash)
work           = H("work", base model sha256, package sha256, task parameters sha256)
header_hash    = H("header", UpdateHeader body)
included_hash  = H("included", ctx, u32 n, concatenation of client_id | header_hash, sorted by client_id)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fedn_py.errors import PeerFault
from fedn_py.masking.fixed_point import Encoding
from fedn_py.masking.hashing import tagged_hash, u8, u32, u64
from fedn_py.protocol.masked.round_messages import CellOrder, IncludedRow, Plan


class WrongContext(PeerFault):
    """A message is from another network, session, round, attempt, cell, plan or committee."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"a {kind} belongs to another round, attempt, cell or network",
            remedy="Late messages are refused like this now and then; if it lasts, somebody replays old ones.",
        )


class WrongSet(PeerFault):
    """Rows are not the set that was signed, or are no set."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the included clients are refused: {reason}", remedy="Somebody on the way altered the list; ask again."
        )


@dataclass(frozen=True, slots=True)
class Seat:
    """One member's place in a committee, as far as it is hashed."""

    slot: int
    replica: int
    client_id: bytes
    epk: bytes
    nonce_commit: bytes


def client_id_of(deployment: bytes, client_key: bytes) -> bytes:
    """Return the id of the client whose Ed25519 public key this is."""
    return tagged_hash("client", deployment, client_key)


def policy_hash(body: bytes) -> bytes:
    """Return the hash of a policy's bytes."""
    return tagged_hash("policy", body)


def plan_hash(body: bytes) -> bytes:
    """Return the hash of a plan's bytes."""
    return tagged_hash("plan", body)


def order_hash(body: bytes) -> bytes:
    """Return the hash of a cell order's bytes."""
    return tagged_hash("order", body)


def header_hash(body: bytes) -> bytes:
    """Return the hash of an update header's bytes."""
    return tagged_hash("header", body)


def commit_hash(body: bytes) -> bytes:
    """Return the hash of a round's commit's bytes."""
    return tagged_hash("commit", body)


def context_before_committee(
    *,
    deployment: bytes,
    policy: bytes,
    session: bytes,
    round_number: int,
    attempt: int,
    cell: bytes,
    generation: int,
    plan: bytes,
    order: bytes,
) -> bytes:
    """Return ctx0, from the hashes of policy, plan and order."""
    return tagged_hash(
        "ctx0", deployment, policy, session, u64(round_number), u32(attempt), cell, u32(generation), plan, order
    )


def committee_hash(seats: Iterable[Seat]) -> bytes:
    """Return the hash of a committee, from its seats in the order of slots and replicas."""
    rows = (u8(seat.slot) + u8(seat.replica) + seat.client_id + seat.epk + seat.nonce_commit for seat in seats)
    return tagged_hash("committee", b"".join(rows))


def context(ctx0: bytes, committee: bytes) -> bytes:
    """Return ctx, from ctx0 and the hash of the committee."""
    return tagged_hash("ctx", ctx0, committee)


def nonce_commitment(ctx0: bytes, client_id: bytes, nonce: bytes) -> bytes:
    """Return what a member publishes before it reveals its nonce."""
    return tagged_hash("nonce", ctx0, client_id, nonce)


def work_of(base_sha256: bytes, package_sha256: bytes, params_sha256: bytes) -> bytes:
    """Return what names a piece of work, in whatever session and round it is done."""
    return tagged_hash("work", base_sha256, package_sha256, params_sha256)


def check_rows(rows: Sequence[IncludedRow]) -> None:
    """Raise WrongSet unless the rows are sorted by client, each there once."""
    if any(one.client_id >= other.client_id for one, other in pairwise(rows)):
        raise WrongSet("they are not sorted, or one is there twice")


def included_hash(ctx: bytes, rows: Sequence[IncludedRow]) -> bytes:
    """Return H(U) of a set of clients; the order of the rows does not matter."""
    ordered = sorted(rows, key=lambda row: row.client_id)
    return tagged_hash("included", ctx, u32(len(rows)), b"".join(row.client_id + row.header_hash for row in ordered))


@dataclass(frozen=True, slots=True)
class CellTerms:
    """A plan and an order that belong to each other, with what follows from them.

    Attributes:
        deployment: of the network.
        plan, order: what their bytes say.
        ctx0: of the cell, before it has a committee.
        work: that is done.
    """

    deployment: bytes
    plan: Plan
    order: CellOrder
    ctx0: bytes
    work: bytes

    @property
    def encoding(self) -> Encoding:
        """How updates become words; raises CannotHold."""
        return encoding_of(self.plan)


def cell_terms(deployment: bytes, plan_body: bytes, order_body: bytes) -> CellTerms:
    """Return the terms that the bytes of a plan and an order, both verified, give a cell.

    Raises:
        WrongContext: the order is for another plan.
    """
    plan, order = Plan.decode(plan_body), CellOrder.decode(order_body)
    if order.plan_hash != plan_hash(plan_body):
        raise WrongContext("cell order")
    ctx0 = context_before_committee(
        deployment=deployment,
        policy=plan.policy_hash,
        session=plan.session,
        round_number=plan.round,
        attempt=plan.attempt,
        cell=order.cell,
        generation=order.generation,
        plan=order.plan_hash,
        order=order_hash(order_body),
    )
    return CellTerms(deployment, plan, order, ctx0, work_of(plan.base_sha256, plan.package_sha256, plan.params_sha256))


def encoding_of(plan: Plan) -> Encoding:
    """Return how a plan's updates become words.

    Raises:
        CannotHold: the sum could overflow; says the numbers.
    """
    bounds = tuple(metric.bound for metric in plan.metrics)
    return Encoding(plan.n_parameters, plan.clip, plan.n_max, plan.weight_cap, bounds, plan.weight_unit)
