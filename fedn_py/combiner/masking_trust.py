"""What a combiner of masked rounds believes: its operator's key, the newest policy, and what those vouch for."""

from collections.abc import Callable

from nacl.signing import SigningKey

from fedn_py.errors import OwnFault, PeerFault
from fedn_py.identity import ClientId
from fedn_py.masking.fixed_point import CannotHold
from fedn_py.protocol.masked.certificates import Chain, Policy, ServerCredential
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext, cell_terms
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.floors import check_floors
from fedn_py.protocol.masked.registry import (
    KnownChains,
    PolicyMark,
    Registered,
    Revoked,
    Trust,
    accept_policy,
    check_standing,
    verify_server,
)
from fedn_py.protocol.masked.round_messages import CellOrder as SignedOrder
from fedn_py.protocol.masked.round_messages import Plan
from fedn_py.protocol.masked.signing import Signed, read_signed, sign
from fedn_py.protocol.messages import CellOrder


class NoMaskingCredential(OwnFault):
    """A masked order for a combiner that nobody has certified."""

    def __init__(self) -> None:
        super().__init__(
            "this combiner has no masking credential; make one with fedn-py operator certify combiner "
            "and name its file as masking_credential_file in the combiner's settings"
        )


class NoPolicy(PeerFault):
    """A masked order came before any policy."""

    def __init__(self) -> None:
        super().__init__(
            "no policy of the operator has come yet", remedy="The reducer sends it first; check its masking settings."
        )


class NoTerms(PeerFault):
    """An order for a masked cell without what the reducer signs of it."""

    def __init__(self) -> None:
        super().__init__("a masked order comes without its signed terms", remedy="The reducer's program is at fault.")


class ChainOfAnother(PeerFault):
    """A client shows the chain of a client that it is not."""

    def __init__(self) -> None:
        super().__init__(
            "the chain that this client shows is another client's",
            remedy="Each client needs a state folder of its own.",
        )


class MaskingTrust:
    """Verifies certificates, chains and orders, and signs what this combiner says.

    Args:
        now_s: wall clock, seconds since 1970; for the ends of certificates alone.

    Attributes:
        chains: of clients, those that were verified once are known again.
    """

    def __init__(self, credential: ServerCredential, now_s: Callable[[], int]) -> None:
        self._key = SigningKey(credential.server_secret)
        self._now_s = now_s
        self._newest: tuple[Policy, PolicyMark] | None = None
        self.certificate = credential.certificate
        self.chains = KnownChains(Trust(credential.operator_key, credential.deployment))

    def sign(self, body: Body) -> Signed:
        """Return a body, signed by this combiner."""
        return sign(body, self._key)

    def take_policy(self, signed: Signed) -> None:
        """Go by a policy from now on, or raise why it is not believed."""
        mark = self._newest[1] if self._newest is not None else None
        self._newest = accept_policy(signed, self.chains.trust, mark, self._now_s())

    def registered(self, client: ClientId, chain: Chain) -> Registered:
        """Return a client that shows its chain, or raise why it is not let in."""
        registered = self.chains.registered(chain)
        if registered.client_id.hex() != client:
            raise ChainOfAnother
        self.check_standing(client, registered)
        return registered

    def check_standing(self, client: ClientId, registered: Registered | None) -> None:
        """Raise Revoked or Expired where the newest policy does not let a client take part.

        Args:
            registered: None for a client that has shown no chain; its id may be revoked all the same.
        """
        if self._newest is None:
            return
        policy, _ = self._newest
        if registered is not None:
            check_standing(registered, policy, self._now_s())
        elif client in {revoked.hex() for revoked in policy.revoked_clients}:
            raise Revoked("client", client)

    def check_order(self, order: CellOrder) -> CellTerms:
        """Return what the reducer signed of a masked order.

        Raises:
            NoTerms, NoPolicy: there is nothing to check, or to check it by.
            PeerFault: it is not a certified reducer's, not for this combiner, or promises too little.
        """
        if order.masked is None:
            raise NoTerms
        if self._newest is None:
            raise NoPolicy
        policy, mark = self._newest
        trust, masked = self.chains.trust, order.masked
        certificate = verify_server(masked.certificate, trust, "reducer", policy, self._now_s())
        read_signed(masked.plan, Plan, signer=certificate.server_key)
        read_signed(masked.order, SignedOrder, signer=certificate.server_key)
        terms = cell_terms(trust.deployment, masked.plan.body, masked.order.body)
        self._check_place(terms, order)
        check_floors(terms, policy, mark.hash)
        if len(order.clients) > terms.plan.n_max:
            raise CannotHold(
                f"a cell of {len(order.clients)} clients is beyond the plan's n_max of {terms.plan.n_max}",
                remedy="Plan a larger n_max, or use more combiners.",
            )
        return terms

    def _check_place(self, terms: CellTerms, order: CellOrder) -> None:
        plan, signed = terms.plan, terms.order
        if signed.combiner != bytes(self._key.verify_key) or signed.generation != order.generation % 2**32:
            raise WrongContext(SignedOrder.kind)
        said = (plan.base_sha256.hex(), plan.package_sha256.hex(), plan.session.hex(), plan.round, plan.attempt)
        unsigned = order.plan
        if said != (
            unsigned.base_model,
            unsigned.package,
            unsigned.session,
            unsigned.round_number,
            unsigned.attempt,
        ):
            raise WrongContext(Plan.kind)
