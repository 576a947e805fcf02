"""All that a client looks at before it does anything for a plan, in one place so that nothing is left out."""

from collections.abc import Iterable
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.beacon import BeaconTerms, KnownBeacon, check_beacon, session_start
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import CellTerms, cell_terms, plan_hash
from fedn_py.protocol.masked.floors import check_floors
from fedn_py.protocol.masked.lottery import check_session_number
from fedn_py.protocol.masked.registry import KnownChains, PolicyMark, verify_server
from fedn_py.protocol.masked.round_messages import BeaconLink, CellOrder, Plan
from fedn_py.protocol.masked.sealing import usable_key
from fedn_py.protocol.masked.signing import Signed, read_signed


class BadRoundKey(PeerFault):
    """The plan's key is none that an answer can be sealed to."""

    def __init__(self) -> None:
        super().__init__(
            "the plan's round key is not usable", remedy="The reducer's program is at fault, or it is not the reducer."
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """What a client goes by.

    Attributes:
        policy, mark: the newest policy known here.
        now_s: wall clock, seconds since 1970; for the ends of certificates alone.
    """

    chains: KnownChains
    policy: Policy
    mark: PolicyMark
    now_s: int


@dataclass(frozen=True, slots=True)
class BelievedPlan:
    """A plan that was checked.

    Attributes:
        plan_hash: of its bytes.
        reducer: the key that signed it.
        beacon: what is to be on disk before anybody is drawn by it.
    """

    terms: CellTerms
    plan_hash: bytes
    reducer: bytes
    beacon: KnownBeacon


def believe(
    plan: Signed,
    order: Signed,
    certificate: Signed,
    standing: Standing,
    *,
    known: KnownBeacon | None,
    highest_session: int | None,
    links: Iterable[BeaconLink] = (),
    reducers: frozenset[bytes] = frozenset(),
) -> BelievedPlan:
    """Return a plan and the order of one of its cells, after all was checked that does not depend on earlier uploads.

    Args:
        certificate: the reducer's, by the operator.
        known: the last beacon of the plan's session; None for a session that is new here.
        highest_session: the highest session number known here; None where there is none.
        links: of rounds that this client missed.
        reducers: keys of reducers that were certified before this one.

    Raises:
        UnknownOperator, Revoked, Expired, WrongSigner, BadSignature, MalformedMessage: it is not a reducer's word.
        WrongContext: the order is for another plan.
        WrongPolicy, PlanBelowFloor, QuorumBeyondCommittee, CannotHold: it promises too little.
        SessionTooFar, WrongBeacon: its lottery was tampered with.
        BadRoundKey: nothing can be sealed to its key.
    """
    trust, signatures = standing.chains.trust, standing.chains.signatures
    cert = verify_server(certificate, trust, "reducer", standing.policy, standing.now_s, known=signatures)
    read_signed(plan, Plan, signer=cert.server_key, known=signatures)
    read_signed(order, CellOrder, signer=cert.server_key, known=signatures)
    terms = cell_terms(trust.deployment, plan.body, order.body)
    check_floors(terms, standing.policy, standing.mark.hash)
    if not usable_key(terms.plan.rpk):
        raise BadRoundKey
    if known is None:
        check_session_number(terms.plan.session_number, highest_session)
        session, number = terms.plan.session, terms.plan.session_number
        known = session_start(trust.deployment, session, number, standing.policy.epoch_seed)
    beacon_terms = BeaconTerms(standing.chains, standing.policy, reducers | {cert.server_key})
    return BelievedPlan(
        terms, plan_hash(plan.body), cert.server_key, check_beacon(terms.plan, known, links, beacon_terms)
    )
