"""What makes this client a registered one: its key, the network that it was told to belong to, and its chain there.

The first join credential decides which operator and which network are believed, for ever; no server is asked.
"""

from nacl.signing import SigningKey

from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.memory_rows import Pinned
from fedn_py.errors import OwnFault
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.certificates import Chain, JoinCredential
from fedn_py.protocol.masked.contexts import client_id_of
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.issuing import enter_client
from fedn_py.protocol.masked.registry import Registered, Trust, verify_chain
from fedn_py.protocol.masked.signing import Signed, sign

NOWHERE = bytes(16)
"""The deployment of a client that has no join credential."""

_INDEX = 0
"""A token makes one client unless its site counts them itself."""


class OtherOperator(OwnFault):
    """The join credential is of another operator or network than the one that this client belongs to."""

    def __init__(self) -> None:
        super().__init__(
            "the join credential in the token file is of another operator or network than this client's first one",
            remedy="Put a token file of this client's own network there; to join another network, give the client a "
            "new, empty state_dir.",
        )


class Registration:
    """Who this client is. Blocking where it says so.

    Attributes:
        key: its Ed25519 key.
        client: its id; another one once it has a join credential.
        trust: what it believes; None before the first join credential.
        registered: itself, as its chain shows it; None before the first join credential.
    """

    def __init__(self, key: SigningKey, memory: MaskedMemory) -> None:
        self.key = key
        self._memory = memory
        self.trust: Trust | None = None
        self.registered: Registered | None = None
        pinned = memory.pinned()
        if pinned is not None:
            self._take(pinned)

    @property
    def client(self) -> ClientId:
        """The id under which the network knows it."""
        deployment = NOWHERE if self.trust is None else self.trust.deployment
        return ClientId(client_id_of(deployment, bytes(self.key.verify_key)).hex())

    @property
    def chain(self) -> Chain | None:
        """What it shows to be believed."""
        return None if self.registered is None else self.registered.chain

    def signed(self, body: Body) -> Signed:
        """Sign something as this client."""
        return sign(body, self.key)

    def enter(self, join: JoinCredential | None) -> None:
        """Go by the join credential that the token file has now; without one, by the last. Blocking.

        Raises:
            OtherOperator: it is of another network than the first one was.
            PeerFault: it is damaged, or made wrongly.
        """
        if join is None:
            return
        if self.trust is not None and self.trust != Trust(join.operator_key, join.deployment):
            raise OtherOperator
        pinned = Pinned(join.operator_key, join.deployment, enter_client(join, self.key, _INDEX))
        if self.chain == pinned.chain:
            return
        verify_chain(pinned.chain, Trust(join.operator_key, join.deployment))
        self._memory.save_pinned(pinned)
        self._take(pinned)

    def _take(self, pinned: Pinned) -> None:
        trust = Trust(pinned.operator_key, pinned.deployment)
        self.registered, self.trust = verify_chain(pinned.chain, trust), trust
