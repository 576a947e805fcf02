"""What one masked attempt is: its plan, an order for each cell, and the attempt that the machine goes on with.

Everything is decided here from values, and held to the operator's policy before it is signed: no plan leaves that a
client would refuse. The key of the attempt and the model's size come in.
"""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Protocol, cast

from nacl.bindings import crypto_scalarmult_base

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import CombinerName, Digest, SessionId
from fedn_py.masking.hashing import tagged_hash
from fedn_py.model.layout import head_size, parse_layout
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import CellParameters, CellTooSmall, parameters_for, seats_needed
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms, commit_hash, plan_hash
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.floors import check_floors
from fedn_py.protocol.masked.lottery import NOTHING_REVEALED, drawn_for, first_beacon, next_beacon, reveals_of
from fedn_py.protocol.masked.opening import voids_of
from fedn_py.protocol.masked.opening_work import Attempt, Cell
from fedn_py.protocol.masked.options import ALWAYS_SUMMED, DEFAULT_N_MAX, GIVEN, MaskedOptions
from fedn_py.protocol.masked.registry import Registered, Trust
from fedn_py.protocol.masked.round_messages import BeaconLink, CellOrder, MetricBound, Plan
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked_rounds import SUM_S, answers_within_s
from fedn_py.protocol.masked_rounds_work import PlanMasked
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import Cell as OrderedCell
from fedn_py.store.ports import Objects

_LONGEST_MS = 2**32 - 1


class NotCertified(PeerFault):
    """A combiner shows no certificate of the operator, or one that another combiner shows too."""

    def __init__(self, combiner: CombinerName, why: str) -> None:
        super().__init__(
            f"combiner {combiner} {why}", remedy="Have the operator certify it: fedn-py operator certify combiner."
        )


class NoCellPlanned(PeerFault):
    """No cell of an attempt could be planned."""


class Speaker(Protocol):
    """Whoever signs for the reducer."""

    @property
    def trust(self) -> Trust:
        """Of the network."""

    @property
    def policy(self) -> Policy:
        """The newest one."""

    @property
    def policy_hash(self) -> bytes:
        """Of its bytes."""

    def sign(self, body: Body) -> Signed:
        """Say something as the reducer."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the round before leaves to the next one's plan.

    Attributes:
        beacon: that round's.
        commit: its signed RoundCommitted.
    """

    beacon: bytes
    link: BeaconLink
    commit: Signed


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """An attempt that is signed and not yet written down.

    Attributes:
        orders, terms: of the cells that are ordered.
        left_out: the others, and why.
    """

    plan: Signed
    orders: Mapping[CombinerName, Signed]
    terms: Mapping[CombinerName, CellTerms]
    attempt: Attempt
    left_out: Mapping[CombinerName, str]


def session_bytes(session: SessionId) -> bytes:
    """Return a session's id as it is signed."""
    return bytes.fromhex(session)


def params_hash(parameters: str) -> bytes:
    """Return the hash of task parameters, as they are sent."""
    return sha256(parameters.encode()).digest()


def cell_id(session: bytes, combiner_key: bytes) -> bytes:
    """Return the id of a combiner's cell in a session."""
    return tagged_hash("cell", session, combiner_key)[:16]


class TooFewToOpen(PeerFault):
    """A session chose a g_min that is too small for a cell of this size."""

    def __init__(self, g_min: int, least: int, clients: int) -> None:
        super().__init__(
            f"g_min {g_min} was chosen, and a cell of {clients} clients opens sums of {least} and more",
            remedy=f"Choose a g_min of at least {least}, or leave it to the size of the cells.",
        )


def parameters_of(clients: int, options: MaskedOptions, policy: Policy) -> CellParameters:
    """Return what a cell of so many clients is run with: as was chosen, within the policy, else by its size.

    Raises:
        CellTooSmall, CellTooLarge: no such cell is run.
        TooFewToOpen: the chosen g_min is below what a cell of that size may be opened with.
    """
    default = parameters_for(clients)
    if options.g_min and options.g_min < default.g_min_floor:
        raise TooFewToOpen(options.g_min, default.g_min_floor, clients)
    k = options.k or max(default.k, policy.k_min)
    r = options.r or max(default.r, policy.r_min)
    g_min = max(options.g_min or default.g_min, policy.g_min)
    needed = max(g_min, seats_needed(k, r))
    if needed > clients:
        raise CellTooSmall(clients, needed)
    return CellParameters(k, r, k - 1, default.g_min_floor, g_min)


def metric_bounds(options: MaskedOptions, policy: Policy) -> tuple[MetricBound, ...]:
    """Return the metrics that are summed under the masks: each with the one that counts who gave it."""
    if policy.metrics == "none":
        return ()
    chosen = [*((name, 1.0) for name in ALWAYS_SUMMED), *sorted(options.metrics.items())]
    return tuple(bound for name, most in chosen for bound in (MetricBound(name, most), MetricBound(GIVEN + name, 1.0)))


def reopen_of(options: MaskedOptions, policy: Policy, parameters: Mapping[CombinerName, CellParameters]) -> str:
    """Return who can release the clients of a set that was never opened."""
    if policy.reopen == "strict":
        return "strict"
    replicated = any(one.r > 1 for one in parameters.values())
    return options.reopen or ("strict" if replicated else "reducer")


def beacon_of(plan: RoundPlan, before: Before | None, speaker: Speaker) -> bytes:
    """Return the random bytes that a round's committees are drawn by."""
    if before is None:
        return first_beacon(speaker.trust.deployment, plan.session_number, speaker.policy.epoch_seed)
    nonces = before.link.nonces
    revealed = reveals_of(nonces, len(before.link.rows)) if nonces else NOTHING_REVEALED
    return next_beacon(before.beacon, plan.round_number - 1, revealed)


def plan_attempt(
    effect: PlanMasked,
    speaker: Speaker,
    combiner_keys: Mapping[CombinerName, bytes],
    *,
    n_parameters: int,
    before: Before | None,
    round_secret: bytes,
    ever_had: Mapping[CombinerName, Collection[Registered]],
) -> PlannedAttempt:
    """Return an attempt's signed plan and orders.

    Args:
        combiner_keys: of the combiners that the operator certified.
        ever_had: clients that each combiner has had in this session; of none that is not here the lots are looked at.
        n_parameters: floats of an update.
        before: of the round before; None in round 1.
        round_secret: 32 fresh random bytes, the attempt's X25519 secret key.

    Raises:
        NoCellPlanned: with the reason of the first cell.
        CannotHold: the sum could overflow; says the numbers.
    """
    options = effect.progress.terms.masked
    left_out: dict[CombinerName, str] = {}
    parameters: dict[CombinerName, CellParameters] = {}
    keys: dict[CombinerName, bytes] = {}
    for name, cell in sorted(effect.cells.items()):
        if cell.lost:
            left_out[name] = cell.lost
            continue
        try:
            parameters[name] = parameters_of(len(cell.clients), options, speaker.policy)
            keys[name] = _key_of(name, combiner_keys, keys)
        except PeerFault as fault:
            left_out[name] = _said(fault)
    ordered = {name: effect.cells[name] for name in keys}
    if not ordered:
        raise NoCellPlanned(f"no cell can be ordered: {next(iter(left_out.values()), 'there is none')}")
    body = _plan(
        effect,
        speaker,
        parameters=parameters,
        cells=ordered,
        n_parameters=n_parameters,
        before=before,
        round_secret=round_secret,
    )
    plan = speaker.sign(body)
    orders: dict[CombinerName, Signed] = {}
    terms: dict[CombinerName, CellTerms] = {}
    for name, cell in ordered.items():
        n_draw = _drawn_for(body.beacon, ever_had.get(name, ()), len(cell.clients), parameters[name], speaker.policy)
        order = speaker.sign(_order(plan, keys[name], cell, parameters[name], n_draw))
        made = cell_terms(speaker.trust.deployment, plan.body, order.body)
        try:
            check_floors(made, speaker.policy, speaker.policy_hash)
        except PeerFault as fault:
            left_out[name] = _said(fault)
        else:
            orders[name], terms[name] = order, made
    if not orders:
        raise NoCellPlanned(f"no cell can be ordered: {next(iter(left_out.values()))}")
    return PlannedAttempt(plan, orders, terms, _attempt(effect, terms), left_out)


def _key_of(name: CombinerName, known: Mapping[CombinerName, bytes], taken: Mapping[CombinerName, bytes]) -> bytes:
    if name not in known:
        raise NotCertified(name, "is not certified by the operator")
    if known[name] in taken.values():
        raise NotCertified(name, "shows the certificate of another combiner")
    return known[name]


def _said(fault: FednError) -> str:
    return f"{fault.code}: {fault.message}"


def _plan(
    effect: PlanMasked,
    speaker: Speaker,
    *,
    parameters: Mapping[CombinerName, CellParameters],
    cells: Mapping[CombinerName, OrderedCell],
    n_parameters: int,
    before: Before | None,
    round_secret: bytes,
) -> Plan:
    plan, terms = effect.plan, effect.progress.terms
    options, policy = terms.masked, speaker.policy
    largest = max(len(cell.clients) for cell in cells.values())
    body = Plan(
        policy_hash=speaker.policy_hash,
        session=session_bytes(plan.session),
        session_number=plan.session_number,
        round=plan.round_number,
        attempt=plan.attempt,
        base_sha256=bytes.fromhex(plan.base_model),
        parent_commit=bytes(32) if before is None else commit_hash(before.commit.body),
        package_sha256=bytes.fromhex(plan.package),
        params_sha256=params_hash(plan.parameters),
        mode=plan.masking,
        n_parameters=n_parameters,
        clip=options.clip,
        n_max=options.n_max or min(max(DEFAULT_N_MAX, largest), policy.n_max_max),
        weight_cap=options.weight_cap,
        weight_unit=options.weight_unit,
        metrics=metric_bounds(options, policy),
        metrics_release=policy.metrics,
        sum_ms=_ms(SUM_S),
        update_ms=_ms(plan.update_timeout_s),
        rpk=crypto_scalarmult_base(round_secret),
        reopen=reopen_of(options, policy, {name: parameters[name] for name in cells}),
        beacon=beacon_of(plan, before, speaker),
        beacon_proof=() if before is None else (before.link,),
        voids=tuple(speaker.sign(void) for attempt in effect.progress.history for void in voids_of(attempt)),
    )
    n_words = n_parameters + 1 + len(body.metrics) + 8
    return replace(body, sum2_ms=_ms(answers_within_s(largest, n_words)))


def _ms(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), _LONGEST_MS))


def _drawn_for(
    beacon: bytes, known: Collection[Registered], clients: int, parameters: CellParameters, policy: Policy
) -> int:
    usual = max(clients, policy.n_draw_min, 1)
    if len(known) < clients:
        return usual
    fewest = max(policy.n_draw_min, parameters.g_min)
    return drawn_for(beacon, parameters.k, parameters.r, known, usual=usual, fewest=fewest)


def _order(plan: Signed, combiner_key: bytes, cell: OrderedCell, parameters: CellParameters, n_draw: int) -> CellOrder:
    session = Plan.decode(plan.body).session
    return CellOrder(
        plan_hash=plan_hash(plan.body),
        cell=cell_id(session, combiner_key),
        generation=cell.generation % 2**32,
        combiner=combiner_key,
        k=parameters.k,
        r=parameters.r,
        echo_c=parameters.echo_c,
        g_min=parameters.g_min,
        n_draw=n_draw,
    )


def _attempt(effect: PlanMasked, terms: Mapping[CombinerName, CellTerms]) -> Attempt:
    first = next(iter(terms.values()))
    cells = tuple(
        Cell(
            cell=made.order.cell,
            generation=made.order.generation,
            ctx0=made.ctx0,
            combiner=made.order.combiner,
            k=made.order.k,
            g_min=made.order.g_min,
            assigned=frozenset(bytes.fromhex(client) for client in effect.cells[name].clients),
        )
        for name, made in terms.items()
    )
    plan = first.plan
    return Attempt(
        session=plan.session,
        round=plan.round,
        attempt=plan.attempt,
        work=first.work,
        reopen=cast("Any", plan.reopen),
        n_words=first.encoding.n_words,
        clients_required=effect.progress.terms.clients_required,
        cells=cells,
    )


async def n_parameters_of(objects: Objects, model: Digest) -> int:
    """Return how many floats an update of a stored model has, from the head of its file.

    Raises:
        StoreUnavailable, ObjectMissing: of the store.
        NotAModel, UnsupportedModel: it is none.
    """
    stat = await objects.stat(model)
    head = bytearray()
    async with aclosing(cast("AsyncGenerator[bytes, None]", objects.get(model))) as chunks:
        async for chunk in chunks:
            head += chunk
            if len(head) >= 8 and len(head) >= head_size(bytes(head[:8])):
                break
    return parse_layout(bytes(head), stat.size).n_parameters
