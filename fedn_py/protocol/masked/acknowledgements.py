"""What a combiner makes of its members' acknowledgements: which uploads may be added, and which members are left out.

A vector is added when every live member has accepted its box, so that nothing ever needs to be taken out again. A
member that refuses many clients is at fault itself, and left out where the committee can do without it; where it
cannot, its word stands and it is named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow
from fedn_py.protocol.masked.signing import Signed, WrongSigner, read_signed

FEWEST_REFUSED = 3
SHARE_REFUSED = 0.1


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """What a cell's members have said of its clients' boxes.

    Attributes:
        accepted: member to the uploads whose box it accepted.
        refused: member to the clients whose box it refused, and why.
        silent: members that have said nothing for so long that nobody waits for them.
        retried: (member, client) where what the member refused was an earlier upload of the client.
    """

    committee: Committee
    echo_c: int
    accepted: Mapping[bytes, frozenset[IncludedRow]] = field(default_factory=dict)
    refused: Mapping[bytes, Mapping[bytes, str]] = field(default_factory=dict)
    silent: frozenset[bytes] = frozenset()
    retried: frozenset[tuple[bytes, bytes]] = frozenset()

    def anew(self, client: bytes) -> "Acknowledgements":
        """Return this with a further upload of a client: members that refused an earlier one look at this one."""
        past = {(who, client) for who, refused in self.refused.items() if client in refused}
        return replace(self, retried=self.retried | past) if past else self

    def heard(self, signed: Signed) -> "Acknowledgements":
        """Return this with a member's acknowledgement; who was silent is heard again.

        Raises:
            WrongSigner: it is not a member's. WrongContext: it is another cell's.
            MalformedMessage, BadSignature: it says nothing.
        """
        ack = read_signed(signed, BoxAck)
        member = self.committee.with_key(signed.signer)
        if member is None:
            raise WrongSigner(BoxAck.kind, "not signed by a member of this committee")
        if ack.ctx != self.committee.ctx:
            raise WrongContext(BoxAck.kind)
        who = member.client.client_id
        better = {row.client_id for row in ack.accepted}
        refused = {client: why for client, why in self.refused.get(who, {}).items() if client not in better}
        refused |= {refusal.client_id: refusal.reason for refusal in ack.rejected}
        return replace(
            self,
            accepted={**self.accepted, who: self.accepted.get(who, frozenset()) | frozenset(ack.accepted)},
            refused={**self.refused, who: refused},
            silent=self.silent - {who},
            retried=self.retried - {(who, refusal.client_id) for refusal in ack.rejected},
        )

    def without(self, member: bytes) -> "Acknowledgements":
        """Return this with a member that is silent or gone."""
        return replace(self, silent=self.silent | {member})

    def left_out(self, clients: Iterable[bytes]) -> frozenset[bytes]:
        """Return the members whose refusals are not believed.

        Args:
            clients: all whose boxes were relayed.
        """
        out: frozenset[bytes] = frozenset()
        if not any(self.refused.values()):
            return out
        total = len(set(clients))
        for who, refused in sorted(self.refused.items()):
            many = len(refused) >= FEWEST_REFUSED and len(refused) > SHARE_REFUSED * total
            if many and self._enough_without(out | {who} | self.silent):
                out |= {who}
        return out

    def spoke_of(self, member: bytes, row: IncludedRow) -> bool:
        """Say whether a member has said anything of an upload."""
        client = row.client_id
        refused = client in self.refused.get(member, {}) and (member, client) not in self.retried
        return refused or row in self.accepted.get(member, frozenset())

    def said_by(self, member: bytes) -> int:
        """Return of how many uploads a member has said something."""
        return len(self.accepted.get(member, ())) + len(self.refused.get(member, ()))

    def needs(self, member: bytes, clients: Iterable[bytes]) -> bool:
        """Say whether nobody else of a member's slot is waited for and believed.

        Args:
            clients: all whose boxes were relayed.
        """
        gone = self.silent | self.left_out(clients) | {member}
        slots = {one.slot for one in self.committee.members if one.client.client_id not in gone}
        return any(one.slot not in slots for one in self.committee.members if one.client.client_id == member)

    def _enough_without(self, gone: frozenset[bytes]) -> bool:
        """Say whether every slot, and the echo's quorum, remain."""
        left = [member for member in self.committee.members if member.client.client_id not in gone]
        slots = {member.slot for member in left}
        quorum = self.committee.quorum(self.echo_c) if self.committee.needs_echo else 0
        return len(slots) == self.committee.slots and len(left) >= quorum

    def verdict(self, row: IncludedRow, clients: Iterable[bytes]) -> tuple[Literal["add", "wait", "refuse"], str]:
        """Return whether an upload may be added, and why not.

        Args:
            clients: all whose boxes were relayed.
        """
        gone = self.left_out(clients) | self.silent
        members = [member for member in self.committee.members if member.client.client_id not in gone]
        waiting = 0
        for member in members:
            who = member.client.client_id
            if row in self.accepted.get(who, frozenset()):
                continue
            if row.client_id in self.refused.get(who, {}) and (who, row.client_id) not in self.retried:
                return "refuse", f"BadBox at member {member.slot}.{member.replica}: {self.refused[who][row.client_id]}"
            waiting += 1
        if waiting:
            return "wait", f"{waiting} of {len(members)} members have not looked at its box"
        return "add", ""
