"""What a simulated client believes of its network; follows fedn_py/client/beliefs.py."""

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.masked.certified import CHAINS, NOW_S, TRUST
from simulator.working import Signal, Work

from fedn_py.client.beliefs import PolicyUnknown, check_same
from fedn_py.protocol.masked.beacon import BeaconTerms, KnownBeacon, WrongBeacon, follow, session_start
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import policy_hash
from fedn_py.protocol.masked.lottery import check_session_number
from fedn_py.protocol.masked.plans import Standing, believe
from fedn_py.protocol.masked.registry import PolicyMark, check_standing, verify_server
from fedn_py.protocol.masked.round_messages import BeaconLink, Plan
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked.words import Links, LinksWanted
from fedn_py.protocol.messages import TrainTask

if TYPE_CHECKING:
    from simulator.masked.client_node import MaskedClientNode

LINKS_WITHIN_S = 10.0


class Beliefs:
    """Policy, plans and beacons."""

    def __init__(self, node: "MaskedClientNode") -> None:
        self._node = node
        self._links: deque[Links | None] = deque()
        self._links_came = Signal()

    @property
    def policy(self) -> Policy | None:
        """The newest policy seen."""
        return None if self._node.disk.policy is None else Policy.decode(self._node.disk.policy.body)

    @property
    def rework_max(self) -> int:
        """How many works the newest policy lets be done on one base model beside the first."""
        return 0 if self.policy is None else self.policy.rework_max

    # ---- policy

    def take_policy(self, signed: Signed) -> None:
        """Go by a policy from now on; raises PeerFault where it goes back."""
        if signed == self._node.disk.policy:
            return
        mark = None if self._node.disk.policy is None else _mark(self._node.disk.policy)
        self._node.world.machines.accept_policy(signed, TRUST, mark, NOW_S)
        self._node.save(replace(self._node.disk, policy=signed))
        self._node.sending.policy_changed(self.rework_max)

    def standing(self) -> Standing:
        """Return what this client goes by; raises PolicyUnknown, Revoked."""
        if self._node.disk.policy is None or self.policy is None:
            raise PolicyUnknown
        check_standing(self._node.who.registered, self.policy, NOW_S)
        return Standing(CHAINS, self.policy, _mark(self._node.disk.policy), NOW_S)

    # ---- plans

    def believe(self, task: TrainTask) -> Work:
        """Return what a masked task asks for; raises PeerFault where it cannot be believed."""
        standing, terms = self.standing(), task.masked
        assert terms is not None
        known = yield from self._caught_up(task, standing)
        yield self._node.world.chaos.uniform(0.001, 0.05)
        disk = self._node.disk
        believed = believe(
            terms.plan,
            terms.order,
            terms.certificate,
            standing,
            known=known,
            highest_session=disk.highest_session,
            reducers=disk.reducers,
        )
        check_same(task, believed.terms)
        self._node.save(
            replace(self._node.disk, beacons={**self._node.disk.beacons, believed.beacon.session: believed.beacon})
        )
        return believed

    def _caught_up(self, task: TrainTask, standing: Standing) -> Work:
        terms = task.masked
        assert terms is not None
        cert = verify_server(terms.certificate, TRUST, "reducer", standing.policy, NOW_S)
        plan = read_signed(terms.plan, Plan, signer=cert.server_key)
        if cert.server_key not in self._node.disk.reducers:
            self._node.save(replace(self._node.disk, reducers=self._node.disk.reducers | {cert.server_key}))
        known = self._node.disk.beacons.get(plan.session)
        reached = known.round if known is not None else 1
        if reached >= plan.round - len(plan.beacon_proof):
            return known
        if known is None:
            check_session_number(plan.session_number, self._node.disk.highest_session)
            known = session_start(TRUST.deployment, plan.session, plan.session_number, standing.policy.epoch_seed)
        beacon_terms = BeaconTerms(CHAINS, standing.policy, self._node.disk.reducers)
        while known.round < plan.round - len(plan.beacon_proof):
            self._node.world.chaos.noticed("links of missed rounds asked for")
            links = yield from self._more_links(plan.session, known.round)
            before = known.round
            known = _followed(known, links, beacon_terms)
            if known.round == before:
                raise WrongBeacon(f"nobody has the links from round {before} to round {plan.round}")
            self._node.save(replace(self._node.disk, beacons={**self._node.disk.beacons, known.session: known}))
        return known

    def _more_links(self, session: bytes, from_round: int) -> Work:
        self._links.clear()
        self._node.say(LinksWanted(session, from_round))
        self._node.later(LINKS_WITHIN_S, lambda: self.take_links(None))
        while True:
            while not self._links:
                yield self._links_came
            links = self._links.popleft()
            if links is None:
                return ()
            if links.session == session:
                return links.links

    def take_links(self, links: Links | None) -> None:
        """Take links at once; None ends the wait for them."""
        self._links.append(links)
        self._links_came.fire()


def _mark(signed: Signed) -> PolicyMark:
    policy = Policy.decode(signed.body)
    return PolicyMark(policy.version, policy_hash(signed.body))


def _followed(known: KnownBeacon, links: "tuple[BeaconLink, ...]", terms: BeaconTerms) -> KnownBeacon:
    for link in links:
        if link.round == known.round:
            known = follow(known, link, terms)
    return known
