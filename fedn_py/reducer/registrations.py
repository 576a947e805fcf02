"""Who of the clients and combiners the operator vouches for: by the chains and certificates that they showed.

A chain that was verified once is remembered with its client; whether it still holds is asked of the policy each time.
"""

from collections.abc import Mapping
from typing import Protocol

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.certificates import Chain, Policy
from fedn_py.protocol.masked.registry import KnownChains, Registered, check_standing
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.messages import AssignRequest


class ChainOfAnother(PeerFault):
    """A client shows what makes another client."""

    def __init__(self, client: ClientId) -> None:
        super().__init__(
            f"client {client[:16]} shows the chain of another client",
            remedy="Was its state folder mixed up with another one's? Let the client make its identity anew.",
        )


class NetworkCredentials(Protocol):
    """What clients and combiners are held to."""

    @property
    def chains(self) -> KnownChains:
        """Verifies chains."""

    @property
    def policy(self) -> Policy:
        """The newest one."""

    @property
    def now_s(self) -> int:
        """Seconds since 1970."""

    def combiner_key(self, certificate: Signed) -> bytes:
        """Return the key of a certified combiner; raises PeerFault."""


class Registrations:
    """The registered clients.

    Args:
        known: chains that clients showed to reducers before this one.
    """

    def __init__(self, credentials: NetworkCredentials, known: Mapping[ClientId, Chain]) -> None:
        self._credentials = credentials
        self._registered: dict[ClientId, Registered] = {}
        for client, chain in known.items():
            try:
                self._note(client, chain)
            except PeerFault:
                continue  # of another operator, or entered wrongly: it shows its chain when it asks again

    def admit(self, request: AssignRequest) -> None:
        """Look at the chain of a client that asks where to attach; one without is let in, and is not registered.

        Raises:
            ChainOfAnother, UnknownOperator, MalformedMessage, BadSignature, WrongContext, TokenOverused: it is no
                chain of this client.
            Revoked, Expired: the operator does not vouch for it any more.
        """
        if request.chain is None:
            self._registered.pop(request.client, None)
            return
        check_standing(self._note(request.client, request.chain), self._credentials.policy, self._credentials.now_s)

    def _note(self, client: ClientId, chain: Chain) -> Registered:
        registered = self._credentials.chains.registered(chain)
        if registered.client_id.hex() != client:
            raise ChainOfAnother(client)
        self._registered[client] = registered
        return registered

    def holds(self, client: ClientId) -> bool:
        """Say whether the operator vouches for a client now."""
        return client in self._registered and not self.fault_of(client)

    def fault_of(self, client: ClientId) -> str:
        """Return why the operator does not vouch for a registered client any more, empty where it does."""
        registered = self._registered.get(client)
        if registered is None:
            return ""
        try:
            check_standing(registered, self._credentials.policy, self._credentials.now_s)
        except PeerFault as fault:
            return f"{fault.code}: {fault.message}"
        return ""

    def registered(self, client: ClientId) -> Registered | None:
        """Return what is known of a registered client."""
        return self._registered.get(client)

    def combiner_key(self, certificate: Signed) -> bytes:
        """Return the key of a certified combiner; raises PeerFault."""
        return self._credentials.combiner_key(certificate)
