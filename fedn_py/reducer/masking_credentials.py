"""What the operator says to this reducer: its own certificate, and the policy, read anew when its file changes.

The highest policy that was seen is kept in the stores; an older one is refused, whoever offers it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from fedn_py.errors import FednError, OwnFault, PeerFault
from fedn_py.protocol.masked.certificates import Policy, ServerCredential
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.registry import KnownChains, PolicyMark, Trust, accept_policy, verify_server
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import PolicySeen
from fedn_py.runtime.credential_files import CredentialUnreadable, read_policy, read_server

POLICY_KEY = "policy"


class CredentialRefused(OwnFault):
    """This reducer's credential, or its policy, is not one that masked rounds can be run with."""

    def __init__(self, path: Path, fault: FednError) -> None:
        super().__init__(
            f"{path} cannot be used for masked rounds: {fault.code}: {fault.message}",
            remedy=fault.remedy or "Ask the network's operator for another one.",
        )


class WrongServerKey(PeerFault):
    """A credential's secret key is not the one that its certificate names."""

    def __init__(self) -> None:
        super().__init__(
            "its secret key is not the one that its certificate names",
            remedy="The file was put together by hand; have the operator make it again: fedn-py operator certify.",
        )


@dataclass(frozen=True, slots=True)
class UnderOnePolicy:
    """Whoever signs for the reducer, for as long as one piece of work takes; a ``planning.Speaker``."""

    trust: Trust
    policy: Policy
    policy_hash: bytes
    sign: Callable[[Body], Signed]


class MaskingCredentials:
    """Speaks for the reducer in masked rounds.

    Args:
        policy_file: looked at again at each attempt.
        clock: seconds since 1970; for the ends of certificates alone.
    """

    def __init__(
        self,
        credential: ServerCredential,
        policy_file: Path,
        ledger: Ledger,
        events: EventLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.trust = Trust(credential.operator_key, credential.deployment)
        self.certificate = credential.certificate
        self.chains = KnownChains(self.trust)
        self._key = SigningKey(credential.server_secret)
        self._policy_file = policy_file
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._read_at: float | None = None
        self._policy: Policy | None = None
        self._mark: PolicyMark | None = None
        self._signed_policy: Signed | None = None

    @classmethod
    async def open(
        cls,
        credential_file: Path,
        policy_file: Path,
        ledger: Ledger,
        events: EventLog,
        clock: Callable[[], float] = time.time,
    ) -> "MaskingCredentials":
        """Read both files and look whether they are this network's.

        Raises:
            CredentialUnreadable: a file is no credential.
            CredentialRefused: it is one, and not one that holds.
        """
        made = cls(read_server(credential_file), policy_file, ledger, events, clock)
        try:
            await made._accept(made._changed())
        except PeerFault as fault:
            raise CredentialRefused(policy_file, fault) from fault
        try:
            made._check_own()
        except PeerFault as fault:
            raise CredentialRefused(credential_file, fault) from fault
        return made

    @property
    def policy(self) -> Policy:
        """The newest policy."""
        assert self._policy is not None
        return self._policy

    @property
    def policy_hash(self) -> bytes:
        """The hash of the newest policy."""
        assert self._mark is not None
        return self._mark.hash

    @property
    def signed_policy(self) -> Signed:
        """The newest policy as the operator signed it."""
        assert self._signed_policy is not None
        return self._signed_policy

    @property
    def now_s(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    @property
    def public_key(self) -> bytes:
        """The key that the reducer signs with."""
        return bytes(self._key.verify_key)

    def sign(self, body: Body) -> Signed:
        """Say something as the reducer."""
        return sign(body, self._key)

    def under_one_policy(self) -> "UnderOnePolicy":
        """Return who speaks under the policy of now, for a worker thread: a newer one may come meanwhile."""
        return UnderOnePolicy(self.trust, self.policy, self.policy_hash, self.sign)

    def combiner_key(self, certificate: Signed) -> bytes:
        """Return the key of a combiner that the operator has certified; raises what ``verify_server`` raises."""
        return verify_server(certificate, self.trust, "combiner", self.policy, self.now_s).server_key

    async def refresh(self) -> bool:
        """Read the policy again if its file has changed; returns whether there is a newer one.

        A file that cannot be used is told of, and the policy at hand stays.
        """
        try:
            signed = self._changed()
            if signed is None or signed == self._signed_policy:
                return False
            await self._accept(signed)
        except (PeerFault, CredentialUnreadable) as fault:
            text = f"the policy in {self._policy_file} is refused: {fault.code}: {fault.message}"
            self._events.tell("policy.refused", text, "error")
            return False
        self._events.tell("policy.changed", f"the operator's policy version {self.policy.version} holds from now on")
        return True

    def _changed(self) -> Signed | None:
        """Return what the policy file holds, None where nobody has written it since it was read."""
        try:
            written_at = self._policy_file.stat().st_mtime
        except OSError:
            written_at = None
        if written_at is not None and written_at == self._read_at:
            return None
        signed = read_policy(self._policy_file)
        self._read_at = written_at
        return signed

    async def _accept(self, signed: Signed | None) -> None:
        assert signed is not None
        seen = await self._ledger.get("network", POLICY_KEY, PolicySeen)
        highest = None if seen is None else PolicyMark(seen.version, bytes.fromhex(seen.hash))
        policy, mark = accept_policy(signed, self.trust, highest, self.now_s)
        if mark != highest:
            await self._ledger.put("network", POLICY_KEY, PolicySeen(mark.version, mark.hash.hex()))
        self._policy, self._mark, self._signed_policy = policy, mark, signed

    def _check_own(self) -> None:
        certificate = verify_server(self.certificate, self.trust, "reducer", self.policy, self.now_s)
        if certificate.server_key != self.public_key:
            raise WrongServerKey
