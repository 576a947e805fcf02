"""The differencing rule: for one piece of work, the sets of opened sums are identical or disjoint.

Two sums that differ in one client give that client's update; three that differ by many can be combined to the same
end. So a client uploads a work again only when its earlier upload can be in no sum any more, and a member promises
its slot's share of a client's mask once for each work. Both decide by what they have on disk, not by what servers say.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.certificates import Reopen
from fedn_py.protocol.masked.encoding import Body, Bytes32, Exactly, Many
from fedn_py.protocol.masked.round_messages import MOST_CLIENTS, MOST_MEMBERS, Abort, NotOpened
from fedn_py.protocol.masked.signing import Signed, WrongSigner, read_signed


class MayBeOpened(PeerFault):
    """An earlier upload of this client for the same work may yet be opened; it sits out until the work changes.

    Attributes:
        ctx: of the earlier upload.
        silent: keys of members that have not aborted it.
    """

    def __init__(self, ctx: bytes, silent: frozenset[bytes]) -> None:
        super().__init__(
            f"an earlier upload of this work may yet be opened: {len(silent)} members have not aborted it",
            remedy="This client sits out until the work changes: with the next global model, or new parameters.",
        )
        self.ctx, self.silent = ctx, silent


class BaseUsedUp(PeerFault):
    """As many different works were done on one base model as the operator's policy allows."""

    def __init__(self, works: int, rework_max: int) -> None:
        super().__init__(
            f"{works} works were done on this base model already, the policy allows {1 + rework_max}",
            remedy="Each further one could be compared with the others. Commit another global model first, "
            "or have the operator sign a policy with a larger rework_max.",
        )


class DifferencingRefused(PeerFault):
    """A set shares clients with one that this member has promised to open for the same work.

    Attributes:
        ctx: of the earlier set; None where only the work is remembered.
        shared: how many clients are in both.
    """

    def __init__(self, ctx: bytes | None, shared: int) -> None:
        super().__init__(
            f"{shared} clients of this set are in another one that this member may have opened for the same work",
            remedy="The difference of the two sums would show single updates. The clients of the earlier set sit out "
            "until the work changes, or the reducer shows that it never opened that set.",
        )
        self.ctx, self.shared = ctx, shared


@dataclass(frozen=True, slots=True)
class SentRecord(Body):
    """A client may have sent an update; on disk before its first chunk leaves, and for ever.

    Attributes:
        base_sha256: of the model that was trained from.
        reopen: what the plan said then; a later plan cannot weaken it.
        members: Ed25519 keys of the committee.
    """

    kind: ClassVar[str] = "record of an upload"
    work: Bytes32
    base_sha256: Bytes32
    ctx: Bytes32
    reopen: Reopen
    members: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_MEMBERS)]


@dataclass(frozen=True, slots=True)
class PromiseRecord(Body):
    """A member has said which set it will open; on disk before it is said.

    Attributes:
        reopen: what the plan said then; a later plan cannot weaken it.
        clients: ids of the set, sorted.
    """

    kind: ClassVar[str] = "record of a promise"
    work: Bytes32
    ctx: Bytes32
    included_hash: Bytes32
    reopen: Reopen
    clients: Annotated[tuple[bytes, ...], Many(Exactly(32), most=MOST_CLIENTS)]


@dataclass(frozen=True, slots=True)
class Proofs:
    """What shows that a set can never be opened, each signature verified.

    Attributes:
        aborts: (ctx, member's key).
        voids: ctx that a reducer says it has not opened and cannot.
    """

    aborts: frozenset[tuple[bytes, bytes]] = frozenset()
    voids: frozenset[bytes] = frozenset()

    def with_abort(self, signed: Signed) -> "Proofs":
        """Return these and a member's Abort; whether the signer is a member is looked at where it is used."""
        abort = read_signed(signed, Abort)
        return replace(self, aborts=self.aborts | {(abort.ctx, signed.signer)})

    def with_void(self, signed: Signed, reducers: frozenset[bytes]) -> "Proofs":
        """Return these and a reducer's NotOpened.

        Args:
            reducers: keys that the operator certified as a reducer's.

        Raises:
            WrongSigner: it is not a reducer's word.
        """
        void = read_signed(signed, NotOpened)
        if signed.signer not in reducers:
            raise WrongSigner(NotOpened.kind, "not signed by a reducer of this network")
        return replace(self, voids=self.voids | {void.ctx})

    def silent(self, record: SentRecord) -> frozenset[bytes]:
        """Return the members of an upload's committee that have not aborted it."""
        return frozenset(key for key in record.members if (record.ctx, key) not in self.aborts)

    def release(self, record: SentRecord) -> bool:
        """Say whether an upload can be in no sum any more."""
        void = record.reopen == "reducer" and record.ctx in self.voids
        return void or (bool(record.members) and not self.silent(record))


def check_may_send(work: bytes, ctx: bytes | None, sent: Iterable[SentRecord], proofs: Proofs) -> None:
    """Look whether a client may upload a work.

    Args:
        ctx: that it would upload under; None where there is no committee yet.
        sent: all that this client has on disk.

    Raises:
        MayBeOpened: an earlier upload of this work may yet be opened.
    """
    for record in sent:
        if record.work == work and record.ctx != ctx and not proofs.release(record):
            raise MayBeOpened(record.ctx, proofs.silent(record))


def check_base(work: bytes, base_sha256: bytes, sent: Iterable[SentRecord], rework_max: int) -> None:
    """Raise BaseUsedUp where a work would be one more on its base model than the policy allows."""
    works = {record.work for record in sent if record.base_sha256 == base_sha256}
    if work not in works and len(works) > rework_max:
        raise BaseUsedUp(len(works), rework_max)


@dataclass(frozen=True, slots=True)
class MemberMemory:
    """What a member has on disk of earlier sets.

    Attributes:
        promised: the last ones, by which it decides.
        forgotten: works of older ones, of which every set is refused.
    """

    promised: tuple[PromiseRecord, ...] = ()
    forgotten: frozenset[bytes] = field(default_factory=frozenset)

    def with_promise(self, record: PromiseRecord, most: int = 1_000) -> "MemberMemory":
        """Return this and one more promise; beyond ``most`` the oldest become forgotten works."""
        promised = (*(one for one in self.promised if one.ctx != record.ctx), record)
        old, kept = promised[:-most], promised[-most:]
        return MemberMemory(kept, self.forgotten | {one.work for one in old})

    def promise(self, ctx: bytes) -> PromiseRecord | None:
        """Return what was promised under a context, or None."""
        return next((record for record in self.promised if record.ctx == ctx), None)


def check_may_promise(work: bytes, ctx: bytes, clients: Iterable[bytes], memory: MemberMemory, proofs: Proofs) -> None:
    """Look whether a member may open a set.

    Args:
        clients: ids of the set.

    Raises:
        DifferencingRefused: it shares clients with an earlier set of the same work that may have been opened.
    """
    asked = frozenset(clients)
    if work in memory.forgotten:
        raise DifferencingRefused(None, len(asked))
    for record in memory.promised:
        shared = asked.intersection(record.clients)
        void = record.reopen == "reducer" and record.ctx in proofs.voids
        if record.work == work and record.ctx != ctx and shared and not void:
            raise DifferencingRefused(record.ctx, len(shared))
