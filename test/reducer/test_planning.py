"""What a masked attempt's plan says, and that none leaves which a client would refuse."""

import asyncio
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import masked_attempts as masked
import masked_world as world
import pytest
from artifacts import a_model, chunked
from builders import NORTH, NORTH_1, PACKAGE, SEED, SOUTH, SOUTH_1
from masked_world import COMBINER, OTHER_COMBINER
from nacl.bindings import crypto_scalarmult_base

from fedn_py.identity import ClientId, Generation, SessionId
from fedn_py.masking.fixed_point import CannotHold
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import CellTooSmall
from fedn_py.protocol.masked.contexts import commit_hash, order_hash, plan_hash, policy_hash
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.lottery import NOTHING_REVEALED, first_beacon, may_serve, next_beacon, reveals_of
from fedn_py.protocol.masked.opening import step
from fedn_py.protocol.masked.opening_work import GivenUp, KeyUnset
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked.registry import Registered, Trust
from fedn_py.protocol.masked.round_messages import BeaconLink, CommittedCell, NotOpened, Plan, RoundCommitted
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.masked_rounds_work import PlanMasked
from fedn_py.protocol.messages import RoundPlan
from fedn_py.protocol.reducer_terms import Cell, Progress
from fedn_py.reducer.planning import (
    Before,
    NoCellPlanned,
    PlannedAttempt,
    TooFewToOpen,
    cell_id,
    metric_bounds,
    n_parameters_of,
    parameters_of,
    plan_attempt,
)
from fedn_py.store.memory import MemoryObjects

SESSION = SessionId("5e" * 16)
SECRET = world.RSK
KEYS = {NORTH: bytes(COMBINER.verify_key), SOUTH: bytes(OTHER_COMBINER.verify_key)}


@dataclass
class Speaker:
    policy: Policy = world.POLICY
    trust: Trust = world.TRUST

    @property
    def policy_hash(self) -> bytes:
        return policy_hash(self.policy.encode())

    def sign(self, body: Body) -> Signed:
        return sign(body, world.REDUCER)


def clients(first: int, count: int) -> frozenset[ClientId]:
    return frozenset(ClientId(f"{number:064x}") for number in range(first, first + count))


def an_effect(north: int = 4, south: int = 4, *, history: Any = (), round_number: int = 1, **terms: Any) -> PlanMasked:
    made = replace(masked.terms(**terms), session=SESSION)
    cells = {
        NORTH: Cell(NORTH_1, Generation(2**32 + 8), clients(0, north)),
        SOUTH: Cell(SOUTH_1, Generation(2**32 + 9), clients(1_000, south)),
    }
    plan = RoundPlan(SESSION, 1, round_number, 1, SEED, PACKAGE, made.parameters, "pet", 60.0)
    return PlanMasked(plan, Progress(made, round_number - 1, SEED, 1, Generation(9), history=history), cells)


def a_registered(number: int) -> Registered:
    """Return a client as the operator vouches for it; only what the lottery looks at is its own."""
    someone, own = world.CLIENTS[0].registered, world.bytes_of(f"client {number}")
    return replace(someone, client_id=own, token_id=own[:16], site=f"site {number}")


def planned(effect: PlanMasked | None = None, policy: Policy = world.POLICY, **changed: Any) -> PlannedAttempt:
    how: dict[str, Any] = {"n_parameters": 20, "before": None, "round_secret": SECRET, "ever_had": {}}
    return plan_attempt(effect or an_effect(), Speaker(policy), changed.pop("keys", KEYS), **{**how, **changed})


def plan_of(made: PlannedAttempt) -> Plan:
    return read_signed(made.plan, Plan, signer=bytes(world.REDUCER.verify_key))


def test_a_plan_says_what_was_asked_for() -> None:
    plan = plan_of(planned())
    assert (plan.round, plan.attempt, plan.session_number, plan.session) == (1, 1, 1, bytes.fromhex(SESSION))
    assert plan.rpk == crypto_scalarmult_base(SECRET)
    assert (plan.update_ms, plan.sum_ms) == (60_000, 30_000)
    assert plan.sum2_ms >= 60_000
    assert (plan.reopen, plan.metrics_release, plan.parent_commit) == ("reducer", "sum", bytes(32))
    assert [one.name for one in plan.metrics] == [
        "clip_fraction",
        "has clip_fraction",
        "weight_capped",
        "has weight_capped",
    ]


def test_every_cell_has_an_order_of_its_own_and_a_place_in_the_attempt() -> None:
    made = planned()
    assert set(made.orders) == {NORTH, SOUTH}
    for name, terms in made.terms.items():
        order = terms.order
        assert order.cell == cell_id(bytes.fromhex(SESSION), KEYS[name])
        assert order.generation == {NORTH: 8, SOUTH: 9}[name]  # the low 32 bits
        assert order.plan_hash == plan_hash(made.plan.body)
        assert (order.k, order.r, order.echo_c, order.g_min, order.n_draw) == (2, 1, 1, 3, 5)
    assert {cell.ctx0 for cell in made.attempt.cells} == {terms.ctx0 for terms in made.terms.values()}
    assert made.attempt.n_words == 20 + 1 + 4 + 8
    assert order_hash(made.orders[NORTH].body) != order_hash(made.orders[SOUTH].body)


@pytest.mark.parametrize(
    ("clients_there", "parameters"),
    [(3, (2, 1, 3)), (11, (2, 1, 3)), (12, (3, 2, 8)), (40, (3, 2, 20)), (300, (5, 2, 64))],
)
def test_a_cell_s_terms_follow_from_its_size(clients_there: int, parameters: tuple[int, int, int]) -> None:
    found = parameters_of(clients_there, MaskedOptions(), world.POLICY)
    assert (found.k, found.r, found.g_min) == parameters
    assert found.echo_c == found.k - 1


def test_what_was_chosen_holds_within_the_policy() -> None:
    found = parameters_of(5, MaskedOptions(k=3, r=2, g_min=4), world.POLICY)
    assert (found.k, found.r, found.echo_c, found.g_min) == (3, 2, 2, 4)
    found = parameters_of(7, MaskedOptions(), world.a_policy(k_min=4, r_min=2, g_min=5))
    assert (found.k, found.r, found.g_min) == (4, 2, 5)
    with pytest.raises(CellTooSmall):
        parameters_of(5, MaskedOptions(), world.a_policy(g_min=6))
    with pytest.raises(CellTooSmall):
        parameters_of(2, MaskedOptions(), world.POLICY)
    with pytest.raises(CellTooSmall, match="5 are needed"):  # the third slot would be empty, whoever is drawn
        parameters_of(4, MaskedOptions(k=3, r=2), world.POLICY)


def test_a_large_cell_is_not_opened_for_a_few() -> None:
    with pytest.raises(TooFewToOpen, match="a cell of 300 clients opens sums of 64 and more"):
        parameters_of(300, MaskedOptions(g_min=63), world.POLICY)
    assert parameters_of(300, MaskedOptions(g_min=64), world.POLICY).g_min == 64


def test_the_lottery_draws_for_no_fewer_than_the_policy_says() -> None:
    made = planned(policy=world.a_policy(n_draw_min=50))
    assert made.terms[NORTH].order.n_draw == 50


def test_where_nobody_was_drawn_for_a_slot_a_cell_is_drawn_for_fewer_within_the_policy() -> None:
    """Every attempt at a round has the same lots: the slot would be empty in each."""
    beacon = first_beacon(world.DEPLOYMENT, 1, world.EPOCH_SEED)
    people = (a_registered(number) for number in range(1_000))
    unlucky = list(islice((one for one in people if not may_serve(beacon, 0, one, 100)), 100))
    lucky = [*unlucky[1:], next(one for one in people if may_serve(beacon, 0, one, 100))]

    def drawn(had: list[Registered], policy: Policy = world.POLICY) -> int:
        made = planned(an_effect(100, 4), policy=policy, ever_had={NORTH: had})
        assert made.terms[SOUTH].order.n_draw == max(5, policy.n_draw_min)
        return made.terms[NORTH].order.n_draw

    assert drawn(unlucky) in {50, 32}  # 32 is the fewest that a sum of this cell is opened of
    assert drawn(lucky) == 100
    assert drawn(unlucky, world.a_policy(n_draw_min=100)) == 100
    assert drawn(unlucky[:99]) == 100  # of one client nothing is known


@pytest.mark.parametrize(
    ("options", "policy", "reopen"),
    [
        (MaskedOptions(), world.POLICY, "reducer"),
        (MaskedOptions(r=2), world.POLICY, "strict"),
        (MaskedOptions(r=2, reopen="reducer"), world.POLICY, "reducer"),
        (MaskedOptions(reopen="strict"), world.POLICY, "strict"),
        (MaskedOptions(reopen="reducer"), world.a_policy(reopen="strict"), "strict"),
    ],
)
def test_who_can_release_clients(options: MaskedOptions, policy: Policy, reopen: str) -> None:
    made = planned(an_effect(masked=options), policy)
    assert plan_of(made).reopen == made.attempt.reopen == reopen


def test_metrics_are_summed_with_who_gave_them_unless_the_policy_forbids_all() -> None:
    options = MaskedOptions(metrics={"validate.accuracy": 1.0, "loss": 8.0})
    bounds = [(one.name, one.bound) for one in metric_bounds(options, world.POLICY)]
    assert bounds[4:] == [
        ("loss", 8.0),
        ("has loss", 1.0),
        ("validate.accuracy", 1.0),
        ("has validate.accuracy", 1.0),
    ]
    assert metric_bounds(options, world.a_policy(metrics="none")) == ()


def test_n_max_holds_the_largest_cell() -> None:
    assert plan_of(planned()).n_max == 64
    assert plan_of(planned(an_effect(north=200))).n_max == 200
    assert plan_of(planned(an_effect(masked=MaskedOptions(n_max=9)))).n_max == 9
    assert plan_of(planned(policy=world.a_policy(n_max_max=20))).n_max == 20


# ---- what is left out


def test_a_combiner_without_a_certificate_has_no_cell() -> None:
    made = planned(keys={NORTH: KEYS[NORTH]})
    assert set(made.orders) == {NORTH}
    assert made.left_out[SOUTH].startswith("NotCertified: combiner south is not certified")
    assert len(made.attempt.cells) == 1


def test_two_combiners_with_one_certificate_have_one_cell() -> None:
    made = planned(keys={NORTH: KEYS[NORTH], SOUTH: KEYS[NORTH]})
    assert set(made.orders) == {NORTH}
    assert "certificate of another combiner" in made.left_out[SOUTH]


def test_a_cell_that_the_machine_left_out_stays_out() -> None:
    effect = an_effect()
    cells = {**effect.cells, SOUTH: replace(effect.cells[SOUTH], lost="CellTooSmall: it is")}
    made = planned(replace(effect, cells=cells))
    assert (set(made.orders), made.left_out) == ({NORTH}, {SOUTH: "CellTooSmall: it is"})


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (world.a_policy(modes=("none",)), "PlanBelowFloor"),
        (world.a_policy(clip_max=0.5), "PlanBelowFloor"),
        (world.a_policy(weight_cap_max=10), "PlanBelowFloor"),
        (world.a_policy(g_min=5), "CellTooSmall"),
    ],
)
def test_no_plan_below_the_policy_is_made(policy: Policy, says: str) -> None:
    with pytest.raises(NoCellPlanned, match=says):
        planned(policy=policy)


def test_a_sum_that_could_overflow_is_not_planned() -> None:
    with pytest.raises((CannotHold, NoCellPlanned), match="weight_cap"):
        planned(an_effect(masked=MaskedOptions(weight_cap=2**30, n_max=64)))


# ---- what went before


def a_link(nonces: tuple[bytes, ...]) -> Before:
    terms, committee = masked.NORTHERN_TERMS, masked.NORTHERN
    rows = world.the_rows(terms, masked.IN_NORTH)
    commit = sign(
        world_commit(committee.ctx),
        world.REDUCER,
    )
    order = sign(terms.order, world.REDUCER)
    link = BeaconLink(
        round=1, attempt=1, policy_hash=world.POLICY_HASH, order=order, commit=commit, rows=rows, nonces=nonces
    )
    return Before(b"b" * 32, link, commit)


def world_commit(ctx: bytes) -> Any:
    cell = CommittedCell(world.CELL, ctx, b"h" * 32, 4)
    return RoundCommitted(bytes.fromhex(SESSION), 1, 1, b"m" * 32, (cell,), bytes(32))


def test_the_beacon_follows_from_the_round_before() -> None:
    nonces = (b"1" * 32, b"2" * 32)
    before = a_link(nonces)
    plan = plan_of(planned(an_effect(round_number=2), before=before))
    assert plan.beacon == next_beacon(b"b" * 32, 1, reveals_of(nonces, 2))
    assert plan.beacon_proof == (before.link,)
    assert plan.parent_commit == commit_hash(before.commit.body)
    silent = plan_of(planned(an_effect(round_number=2), before=a_link(())))
    assert silent.beacon == next_beacon(b"b" * 32, 1, NOTHING_REVEALED)


def test_a_plan_releases_what_was_never_opened_and_nothing_else() -> None:
    closed = masked.closed()
    ended = masked.work_of(masked.run(closed, GivenUp("stopped"))[0]).attempt
    gone = step(ended, KeyUnset())[0]
    voids = plan_of(planned(an_effect(history=(gone,)))).voids
    assert {read_signed(one, NotOpened).ctx for one in voids} == {masked.NORTHERN.ctx, masked.SOUTHERN.ctx}
    for other in (ended, replace(gone, reopen="strict"), replace(gone, opening=frozenset({masked.NORTHERN.ctx}))):
        voids = plan_of(planned(an_effect(history=(other,)))).voids
        assert masked.NORTHERN.ctx not in {read_signed(one, NotOpened).ctx for one in voids}


def test_the_size_of_an_update_is_read_from_the_head_of_the_model() -> None:
    async def told() -> None:
        objects = MemoryObjects()
        stat = await objects.put(chunked(a_model({"w": ("F32", [1.0] * 7), "n": ("I64", [1])})))
        assert await n_parameters_of(objects, stat.digest) == 7

    asyncio.run(told())


def test_clients_of_both_cells_are_assigned_by_their_ids() -> None:
    made = planned()
    assert {cell.assigned for cell in made.attempt.cells} == {
        frozenset(bytes.fromhex(client) for client in clients(0, 4)),
        frozenset(bytes.fromhex(client) for client in clients(1_000, 4)),
    }
