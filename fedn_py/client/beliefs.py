"""What this client believes of its network: the operator's policy, plans, beacons, committees, boxes.

Everything that comes from servers passes through here before anything is done for it; what follows from it is on the
disk before it is used.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.plain_work import WasMasked, check_plain_work, params_sha256, work_of_plan
from fedn_py.client.registration import Registration
from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.beacon import BeaconTerms, KnownBeacon, WrongBeacon, follow, session_start
from fedn_py.protocol.masked.boxes import BadBox, OpenedBox, open_box
from fedn_py.protocol.masked.certificates import Policy, ServerCert
from fedn_py.protocol.masked.committee import Committee, Member, check_committee
from fedn_py.protocol.masked.contexts import CellTerms, policy_hash
from fedn_py.protocol.masked.issuing import PLAIN
from fedn_py.protocol.masked.lottery import check_session_number, slots_drawn
from fedn_py.protocol.masked.plans import BelievedPlan, Standing, believe
from fedn_py.protocol.masked.registry import (
    GRACE_S,
    KnownChains,
    PolicyMark,
    Registered,
    accept_policy,
    check_policy_holds,
    check_standing,
    verify_server,
)
from fedn_py.protocol.masked.round_messages import BeaconLink, BoxFor, CommitteeBody, Plan
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked.words import MaskedTerms
from fedn_py.protocol.messages import TrainTask, ValidationOrder
from fedn_py.runtime.logging import logger
from fedn_py.transport.completion import in_thread

AskLinks = Callable[[bytes, int], Awaitable[Sequence[BeaconLink]]]
"""Gets links of a session from a round on; none where nobody had them in time."""

_LOOK_AGAIN_S = 60

_log = logger("fedn_py.client")


class NotRegistered(PeerFault):
    """A masked task came to a client without a join credential."""

    def __init__(self) -> None:
        super().__init__(
            "this client has no join credential, so it can take no part in masked rounds",
            remedy="Have the operator make a token with --operator-key, and put its file in the place of this one.",
        )


class PolicyUnknown(PeerFault):
    """A task came before the operator's policy did."""

    def __init__(self) -> None:
        super().__init__(
            "no policy of the operator has reached this client",
            remedy="Give the reducer the operator's policy file; it reaches clients through their combiner.",
        )


class PlainRefused(PeerFault):
    """A round without masks, where the operator's policy does not let it be."""

    def __init__(self) -> None:
        super().__init__(
            "the operator's policy does not let this client send updates without masks",
            remedy="Start the session with masking pet, or have the operator sign a policy that lists none too.",
        )


class ClearMetricsRefused(PeerFault):
    """A validation by client, where the operator's policy lets metrics out in sums alone."""

    def __init__(self, allowed: str) -> None:
        super().__init__(
            f"the operator's policy lets metrics go as far as {allowed!r}, and a validation task shows them by client",
            remedy="Name the metrics in the session's masking options: they are then summed with the updates. Or have "
            "the operator sign a policy with metrics client.",
        )


class PlanMismatch(PeerFault):
    """A task says something else than the plan that the reducer signed."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"the task differs from the plan that the reducer signed: {', '.join(fields)}",
            remedy="The combiner, or somebody on the way, altered the task.",
        )


@dataclass(frozen=True, slots=True)
class KnownPolicy:
    """The newest policy seen, with its signature."""

    signed: Signed
    policy: Policy
    mark: PolicyMark


@dataclass(frozen=True, slots=True)
class _Checked:
    """A task that was found to be signed, under which policy and when."""

    task: TrainTask | None = None
    mark: PolicyMark | None = None
    at_s: int = 0

    def covers(self, task: TrainTask, mark: PolicyMark, now_s: int) -> bool:
        """Say whether there is no need to look again: certificates end to the day, not to the minute."""
        return (self.task, self.mark) == (task, mark) and 0 <= now_s - self.at_s < _LOOK_AGAIN_S


class Beliefs:
    """What is believed; for one event loop. Cryptography is done in worker threads, one piece at a time.

    Args:
        now_s: wall clock, seconds since 1970.
    """

    def __init__(
        self, registration: Registration, memory: MaskedMemory, now_s: Callable[[], float] = time.time
    ) -> None:
        self._registration, self._memory, self._now_s = registration, memory, now_s
        self._chains: KnownChains | None = None
        # KnownChains is not for two threads at once.
        self._turn = asyncio.Lock()
        self._reducers = memory.reducers()
        self._checked = _Checked()
        signed = memory.policy()
        self._known = None if signed is None else _known(signed)

    @property
    def policy(self) -> Policy | None:
        """The newest policy seen; None before the first."""
        return None if self._known is None else self._known.policy

    @property
    def reducers(self) -> frozenset[bytes]:
        """Keys of all reducers that the operator certified to this client and that are still to be believed."""
        withdrawn = () if self._known is None else self._known.policy.revoked_servers
        now_s = int(self._now_s())
        return frozenset(key for key, end in self._reducers.items() if now_s <= end + GRACE_S).difference(withdrawn)

    @property
    def registered(self) -> Registered:
        """This client; raises NotRegistered."""
        if self._registration.registered is None:
            raise NotRegistered
        return self._registration.registered

    # ---- policy

    async def take_policy(self, signed: Signed) -> Policy | None:
        """Go by a policy from now on; return it where it is news.

        Raises:
            PeerFault: it is not the operator's, or goes back behind one that was seen.
        """
        if self._registration.trust is None or (self._known is not None and self._known.signed == signed):
            return None
        highest = None if self._known is None else self._known.mark
        policy, mark = accept_policy(signed, self._registration.trust, highest, int(self._now_s()))
        # A mark without its policy would refuse the policy's own return; they are one record.
        await in_thread(self._memory.save_policy, signed)
        self._known = KnownPolicy(signed, policy, mark)
        return policy

    async def believe_training(self, task: TrainTask) -> None:
        """Look whether a task to train without masks may be done; a client without a join credential does any.

        Raises:
            PlainRefused, PolicyUnknown: the operator's policy does not let it be.
            WasMasked: this work was to be masked.
            PeerFault: it is not what a reducer of this network signed.
        """
        if self._registration.registered is None:
            return
        known, now_s = self._policy(), int(self._now_s())
        if PLAIN not in known.policy.modes:
            raise PlainRefused
        # Asked before training and again before the upload, of the same words.
        if not self._checked.covers(task, known.mark, now_s):
            self._check_signed(task)
            self._checked = _Checked(task, known.mark, now_s)
        if self._memory.was_masked(work_of_plan(task.plan)):
            raise WasMasked

    def believe_validation(self, order: ValidationOrder) -> None:
        """Look whether a model may be validated under this client's name; one without a join credential does any.

        Raises:
            ClearMetricsRefused, PolicyUnknown: the operator's policy does not let it be.
            PeerFault: it is not what a reducer of this network signed.
        """
        if self._registration.registered is None:
            return
        if self._policy().policy.metrics != "client":
            raise ClearMetricsRefused(self._policy().policy.metrics)
        self._check_signed(order)

    def _check_signed(self, work: TrainTask | ValidationOrder) -> None:
        standing = self._standing()
        check_plain_work(work, standing.chains.trust, standing.policy, standing.now_s)

    @property
    def logs_may_go(self) -> bool:
        """Whether what a package printed or raised may leave this site: it may hold what metrics may not say."""
        if self._registration.registered is None:
            return True
        return self.policy is not None and self.policy.metrics == "client"

    def _policy(self) -> KnownPolicy:
        if self._known is None:
            raise PolicyUnknown
        return self._known

    def _standing(self) -> Standing:
        registered, trust, known = self.registered, self._registration.trust, self._policy()
        assert trust is not None
        now_s = int(self._now_s())
        check_policy_holds(known.policy, now_s)  # it may have ended since it came
        if check_standing(registered, known.policy, now_s):
            _log.warning("this client's token has ended; masked rounds take it for a day more", site=registered.site)
        if self._chains is None:
            self._chains = KnownChains(trust)
        return Standing(self._chains, known.policy, known.mark, now_s)

    # ---- plans

    async def believe(self, task: TrainTask, ask_links: AskLinks) -> BelievedPlan:
        """Return what a masked task asks for, after all was looked at that does not depend on earlier uploads.

        Raises:
            PeerFault: names what cannot be believed.
        """
        standing = self._standing()
        if task.masked is None:
            raise PlanMismatch(["masked"])
        terms = task.masked
        known = await self._caught_up(terms, standing, ask_links)

        def looked_at() -> BelievedPlan:
            highest = self._memory.highest_session()
            believed = believe(
                terms.plan,
                terms.order,
                terms.certificate,
                standing,
                known=known,
                highest_session=highest,
                reducers=self.reducers,
            )
            check_same(task, believed.terms)
            # Whatever becomes of it: from now on its work is not done in the clear.
            self._memory.save_beacon(believed.beacon, believed.terms.work)
            return believed

        async with self._turn:
            return await in_thread(looked_at)

    async def _caught_up(self, terms: MaskedTerms, standing: Standing, ask_links: AskLinks) -> KnownBeacon | None:
        """Return the last known beacon of the plan's session, led on by the links of the rounds that were missed."""
        trust, signatures = standing.chains.trust, standing.chains.signatures
        cert = verify_server(terms.certificate, trust, "reducer", standing.policy, standing.now_s, known=signatures)
        plan = read_signed(terms.plan, Plan, signer=cert.server_key, known=signatures)
        await self._remember(cert)
        known = self._memory.beacon(plan.session)
        reached = known.round if known is not None else 1
        if reached >= plan.round - len(plan.beacon_proof):
            return known
        if known is None:
            check_session_number(plan.session_number, self._memory.highest_session())
            known = session_start(trust.deployment, plan.session, plan.session_number, standing.policy.epoch_seed)
        beacon_terms = BeaconTerms(standing.chains, standing.policy, self.reducers)
        while known.round < plan.round - len(plan.beacon_proof):
            _log.info("asking for the rounds that this client missed", from_round=known.round, to_round=plan.round)
            links = await ask_links(plan.session, known.round)
            before = known.round
            async with self._turn:
                known = await in_thread(_followed, known, links, beacon_terms)
            if known.round == before:
                raise WrongBeacon(f"nobody has the links from round {before} to round {plan.round}")
            await in_thread(self._memory.save_beacon, known)
        return known

    async def _remember(self, cert: ServerCert) -> None:
        """Know a reducer by its key until the last of its certificates ends."""
        if self._reducers.get(cert.server_key, -1) < cert.not_after:
            await in_thread(self._memory.save_reducer, cert.server_key, cert.not_after)
            self._reducers = {**self._reducers, cert.server_key: cert.not_after}

    def drawn(self, believed: BelievedPlan) -> tuple[int, ...]:
        """Return the slots that this client may serve, its best lot first."""
        terms = believed.terms
        return slots_drawn(terms.plan.beacon, terms.order.k, self.registered, terms.order.n_draw)

    # ---- committees and boxes

    async def committee(self, body: CommitteeBody, terms: CellTerms) -> Committee:
        """Return a cell's committee after all was looked at that every client looks at; raises BadCommittee."""
        standing = self._standing()
        async with self._turn:
            return await in_thread(
                check_committee,
                body,
                terms.ctx0,
                terms.order,
                terms.plan.beacon,
                standing.chains,
                standing=(standing.policy, standing.now_s),
            )

    async def opened(
        self, boxes: Sequence[BoxFor], seat: Member, secret_key: bytearray, committee: Committee, n_words: int
    ) -> list[OpenedBox | BadBox]:
        """Return what a member gets of each box; nothing of a client that the operator has withdrawn."""
        standing = self._standing()
        chains = standing.chains

        def look() -> list[OpenedBox | BadBox]:
            found: list[OpenedBox | BadBox] = []
            for box in boxes:
                try:
                    key = bytes(secret_key)
                    opened = open_box(box, seat, key, committee=committee, n_words=n_words, chains=chains)
                    found.append(_of_standing(opened, standing))
                except BadBox as fault:
                    found.append(fault)
            return found

        async with self._turn:
            return await in_thread(look)

    def check_standing_of(self, clients: Iterable[Registered]) -> None:
        """Raise Revoked or Expired where one of the clients of a set does not count under the newest policy."""
        for client in clients:
            check_standing(client, self._policy().policy, int(self._now_s()))


def _of_standing(opened: OpenedBox, standing: Standing) -> OpenedBox:
    client = opened.verified.client
    try:
        check_standing(client, standing.policy, standing.now_s)
    except PeerFault as fault:
        raise BadBox(client.client_id, f"{fault.code}: {fault.message}") from fault
    return opened


def _known(signed: Signed) -> KnownPolicy:
    policy = Policy.decode(signed.body)
    return KnownPolicy(signed, policy, PolicyMark(policy.version, policy_hash(signed.body)))


def _followed(known: KnownBeacon, links: Sequence[BeaconLink], terms: BeaconTerms) -> KnownBeacon:
    for link in links:
        if link.round == known.round:
            known = follow(known, link, terms)
    return known


def check_same(task: TrainTask, terms: CellTerms) -> None:
    """Raise PlanMismatch unless a task says what the reducer signed."""
    told, plan, order = task.plan, terms.plan, terms.order
    pairs: dict[str, tuple[object, object]] = {
        "session": (told.session, plan.session.hex()),
        "session_number": (told.session_number, plan.session_number),
        "round": (told.round_number, plan.round),
        "attempt": (told.attempt, plan.attempt),
        "base model": (told.base_model, plan.base_sha256.hex()),
        "package": (told.package, plan.package_sha256.hex()),
        "parameters": (params_sha256(told.parameters), plan.params_sha256),
        "masking": (told.masking, plan.mode),
        "generation": (task.generation % 2**32, order.generation),
    }
    wrong = [name for name, (said, signed) in pairs.items() if said != signed]
    if wrong:
        raise PlanMismatch(wrong)
