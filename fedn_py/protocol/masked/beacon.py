"""From the beacon of one round to the next: what everybody recomputes before a lottery is believed.

A link shows the commit of a round, the committee of its beacon cell (the lowest cell id in the commit) and what the
members revealed. It is checked like a committee of that round: a beacon cannot be made of keys that no lottery drew.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.committee import check_committee
from fedn_py.protocol.masked.contexts import commit_hash, context_before_committee, nonce_commitment, order_hash
from fedn_py.protocol.masked.floors import below_floors
from fedn_py.protocol.masked.lottery import NOTHING_REVEALED, first_beacon, next_beacon, reveals_of
from fedn_py.protocol.masked.registry import KnownChains
from fedn_py.protocol.masked.round_messages import (
    BeaconLink,
    CellOrder,
    CommittedCell,
    CommitteeBody,
    Plan,
    RoundCommitted,
)
from fedn_py.protocol.masked.signing import WrongSigner, read_signed


class WrongBeacon(PeerFault):
    """A plan's beacon is not what follows from the rounds before it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the beacon is refused: {reason}",
            remedy="Fetch the links of the rounds that this client missed; if they do not help, servers choose "
            "committees by their own liking.",
        )


@dataclass(frozen=True, slots=True)
class KnownBeacon:
    """The last beacon that a client is sure of, one for each session; kept on disk.

    Attributes:
        round: that it draws for.
        parent_commit: hash of the commit of the round before; zeros in round 1.
    """

    session: bytes
    session_number: int
    round: int
    beacon: bytes
    parent_commit: bytes


@dataclass(frozen=True, slots=True)
class BeaconTerms:
    """What links are checked with.

    Attributes:
        reducers: keys that the operator certified as a reducer's.
    """

    chains: KnownChains
    policy: Policy
    reducers: frozenset[bytes]


def session_start(deployment: bytes, session: bytes, session_number: int, epoch_seed: bytes) -> KnownBeacon:
    """Return what everybody knows of a new session."""
    beacon = first_beacon(deployment, session_number, epoch_seed)
    return KnownBeacon(session, session_number, 1, beacon, bytes(32))


def check_beacon(plan: Plan, known: KnownBeacon, links: Iterable[BeaconLink], terms: BeaconTerms) -> KnownBeacon:
    """Return what is known after a plan was believed; to be on disk before anybody is drawn by it.

    Args:
        known: of the plan's session.
        links: of rounds that were missed, in their order; the plan brings the last one itself. Rounds that are
            known already are passed over.

    Raises:
        WrongBeacon: the plan's beacon, session number or parent does not follow.
    """
    if (plan.session, plan.session_number) != (known.session, known.session_number):
        raise WrongBeacon("the session has another number than it had")
    for link in (*links, *plan.beacon_proof):
        if known.round <= link.round < plan.round:
            known = follow(known, link, terms)
    if known.round != plan.round:
        raise WrongBeacon(f"nothing leads from round {known.round} to round {plan.round}")
    if plan.parent_commit != known.parent_commit:
        raise WrongBeacon("the plan builds on another commit")
    if plan.beacon != known.beacon:
        raise WrongBeacon("the plan draws by other bytes than those that follow")
    return known


def follow(known: KnownBeacon, link: BeaconLink, terms: BeaconTerms) -> KnownBeacon:
    """Return what is known after one more round.

    Raises:
        WrongBeacon: the link is not of that round, or shows something that cannot be.
    """
    try:
        commit = read_signed(link.commit, RoundCommitted, known=terms.chains.signatures)
        if link.commit.signer not in terms.reducers:
            raise WrongSigner(RoundCommitted.kind, "not signed by a reducer of this network")
        _check_commit(known, link, commit)
        revealed = _revealed(known, link, commit, terms) if link.nonces else NOTHING_REVEALED
    except WrongBeacon:
        raise
    except PeerFault as error:
        raise WrongBeacon(f"round {link.round}: {error.message}") from error
    return KnownBeacon(
        known.session,
        known.session_number,
        known.round + 1,
        next_beacon(known.beacon, known.round, revealed),
        commit_hash(link.commit.body),
    )


def _check_commit(known: KnownBeacon, link: BeaconLink, commit: RoundCommitted) -> None:
    if (commit.session, commit.round, link.round) != (known.session, known.round, known.round):
        raise WrongBeacon(f"a link of round {commit.round} is offered for round {known.round}")
    if commit.previous != known.parent_commit:
        raise WrongBeacon(f"the commit of round {known.round} builds on another one")


def _revealed(known: KnownBeacon, link: BeaconLink, commit: RoundCommitted, terms: BeaconTerms) -> bytes:
    order = read_signed(link.order, CellOrder, known=terms.chains.signatures)
    if link.order.signer not in terms.reducers:
        raise WrongSigner(CellOrder.kind, "not signed by a reducer of this network")
    if below := below_floors(order, terms.policy):
        # A committee of fewer could be one that servers filled: its reveals would be theirs to choose.
        raise WrongBeacon(f"round {link.round} is below the operator's floors: {', '.join(below.values())}")
    beacon_cell = lowest_cell(commit)
    ctx0 = context_before_committee(
        deployment=terms.chains.trust.deployment,
        policy=link.policy_hash,
        session=known.session,
        round_number=known.round,
        attempt=commit.attempt,
        cell=order.cell,
        generation=order.generation,
        plan=order.plan_hash,
        order=order_hash(link.order.body),
    )
    body = CommitteeBody(ctx0, link.rows)
    committee = check_committee(body, ctx0, order, known.beacon, terms.chains, standing=None)
    if (order.cell, committee.ctx) != (beacon_cell.cell, beacon_cell.ctx):
        raise WrongBeacon(f"the committee shown is not that of the lowest cell of round {link.round}")
    if len(link.nonces) != len(committee.members):
        raise WrongBeacon(f"{len(link.nonces)} of {len(committee.members)} members of round {link.round} reveal")
    for nonce, member in zip(link.nonces, committee.members, strict=True):
        if nonce_commitment(ctx0, member.client.client_id, nonce) != member.nonce_commit:
            raise WrongBeacon(f"member {member.slot}.{member.replica} of round {link.round} committed to another nonce")
    return reveals_of(link.nonces, len(committee.members))


def lowest_cell(commit: RoundCommitted) -> CommittedCell:
    """Return the cell whose committee makes the next beacon."""
    return min(commit.cells, key=lambda cell: cell.cell)
