"""What clients and members hold plans and orders to, so that no server negotiates protection down."""

from fedn_py.errors import PeerFault
from fedn_py.masking.schemes import SCHEMES
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import CellOrder

_RELEASES = ("none", "sum", "client")


class PlanBelowFloor(PeerFault):
    """A plan or order asks for less protection than the operator's policy does.

    Attributes:
        terms: the names of those that are below, or beyond.
    """

    def __init__(self, wrong: dict[str, str]) -> None:
        super().__init__(
            "the plan is below the operator's policy: " + "; ".join(wrong.values()),
            remedy="Plan within the policy, or have the operator sign another one.",
        )
        self.terms = tuple(wrong)


class WrongPolicy(PeerFault):
    """A plan is made under another policy than the newest known here."""

    def __init__(self) -> None:
        super().__init__(
            "the plan is made under another policy than the newest one known here",
            remedy="A policy that has just changed reaches everybody by the next attempt.",
        )


class QuorumBeyondCommittee(PeerFault):
    """More echoes are asked for than a committee can ever have."""

    def __init__(self, quorum: int, members: int, echo_c: int) -> None:
        super().__init__(
            f"an echo of {quorum} is asked of {members} members: echo_c {echo_c} is too large",
            remedy="Plan more replicas of each slot, or hold against fewer corrupt members.",
        )


def echo_quorum(members: int, echo_c: int) -> int:
    """Return how many of a committee's members must have signed the same set: two sets never both have that many.

    With up to ``echo_c`` members who sign twice, two sets have at most members + echo_c signatures together.
    """
    return (members + echo_c) // 2 + 1


def least_drawn(policy: Policy, order: CellOrder) -> int:
    """Return for how many clients a cell's lottery must draw at least."""
    return max(policy.n_draw_min, order.g_min)


def below_floors(order: CellOrder, policy: Policy) -> dict[str, str]:
    """Return each term of a cell's committee that is below its floor, with the numbers; empty where none is."""
    terms = {
        "g_min": (order.g_min, policy.g_min),
        "k": (order.k, policy.k_min),
        "r": (order.r, policy.r_min),
        # A cell is planned for as many clients as are opened at least; drawing for fewer would draw everybody.
        "n_draw": (order.n_draw, least_drawn(policy, order)),
    }
    return {name: f"{name} {value} < {floor}" for name, (value, floor) in terms.items() if value < floor}


def check_floors(terms: CellTerms, policy: Policy, current_policy_hash: bytes) -> None:
    """Hold a cell's plan and order to the operator's policy.

    Raises:
        WrongPolicy: the plan is made under another policy.
        PlanBelowFloor: names each term that is below its floor.
        QuorumBeyondCommittee: no answer could ever be released.
        CannotHold: the sum could overflow; says the numbers.
    """
    plan, order = terms.plan, terms.order
    if plan.policy_hash != current_policy_hash:
        raise WrongPolicy
    checks = {
        "mode": (plan.mode in SCHEMES and plan.mode in policy.modes, f"mode {plan.mode!r}"),
        # Fewer, and as many corrupt members as may be, one in each slot but one, open two sets at once.
        "echo_c": (order.r == 1 or order.echo_c >= order.k - 1, f"echo_c {order.echo_c} < {order.k - 1}"),
        "n_max": (plan.n_max <= policy.n_max_max, f"n_max {plan.n_max} > {policy.n_max_max}"),
        "clip": (
            policy.clip_min <= plan.clip <= policy.clip_max,
            f"clip {plan.clip} is not within {policy.clip_min} to {policy.clip_max}",
        ),
        "weight_cap": (
            plan.weight_cap <= policy.weight_cap_max,
            f"weight_cap {plan.weight_cap} > {policy.weight_cap_max}",
        ),
        "reopen": (plan.reopen == "strict" or policy.reopen == "reducer", f"reopen {plan.reopen!r}"),
        "metrics": (
            _RELEASES.index(plan.metrics_release) <= _RELEASES.index(policy.metrics),
            f"metrics {plan.metrics_release!r} > {policy.metrics!r}",
        ),
        "n_max of a cell": (order.g_min <= plan.n_max, f"g_min {order.g_min} > n_max {plan.n_max}"),
    }
    wrong = below_floors(order, policy) | {name: text for name, (holds, text) in checks.items() if not holds}
    if wrong:
        raise PlanBelowFloor(wrong)
    check_quorum(order.k, order.r, order.echo_c)
    _ = terms.encoding


def check_quorum(k: int, r: int, echo_c: int) -> None:
    """Raise QuorumBeyondCommittee unless a full committee can reach the echo's quorum."""
    quorum = echo_quorum(k * r, echo_c)
    if quorum > k * r:
        raise QuorumBeyondCommittee(quorum, k * r, echo_c)
