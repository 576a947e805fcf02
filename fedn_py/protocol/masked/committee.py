"""A cell's committee: who is in it, and what everybody checks before anything is sealed to it."""

from collections import Counter
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.contexts import Seat, WrongContext, committee_hash, context
from fedn_py.protocol.masked.floors import echo_quorum
from fedn_py.protocol.masked.lottery import lot, may_serve
from fedn_py.protocol.masked.registry import KnownChains, Registered, check_standing, check_together
from fedn_py.protocol.masked.round_messages import CellOrder, CommitteeBody, CommitteeRow, KeyMessage
from fedn_py.protocol.masked.sealing import usable_key
from fedn_py.protocol.masked.signing import read_signed

FEWEST_IN_CELL = 3
LARGEST_CELL = 4_096


class BadCommittee(PeerFault):
    """A committee that nothing may be entrusted to.

    Attributes:
        member: who is at fault, for people; empty where it is the committee as a whole.
    """

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(
            f"the committee is refused: {f'{member} ' if member else ''}{reason}",
            remedy="The combiner or somebody on its way made this committee up; the round is tried again without it.",
        )
        self.member = member


class CellTooSmall(PeerFault):
    """A cell has too few clients to hide one among them."""

    def __init__(self, clients: int, needed: int = 3) -> None:
        super().__init__(
            f"a cell of {clients} clients hides nobody: {needed} are needed",
            remedy="Assign them to another combiner, attach more clients, or use masking none if the policy lets you.",
        )


class CellTooLarge(PeerFault):
    """A cell has more clients than a committee can serve."""

    def __init__(self, clients: int) -> None:
        super().__init__(
            f"a cell of {clients} clients is beyond {LARGEST_CELL}", remedy="Start another combiner beside this one."
        )


@dataclass(frozen=True, slots=True)
class CellParameters:
    """What a cell of some size is run with.

    Attributes:
        k: slots. r: replicas of each.
        echo_c: how many corrupt members the echo holds against.
        g_min_floor: the fewest clients that a plan may open a sum of.
        g_min: the default.
    """

    k: int
    r: int
    echo_c: int
    g_min_floor: int
    g_min: int


def parameters_for(clients: int) -> CellParameters:
    """Return the defaults for a cell of so many clients.

    Raises:
        CellTooSmall, CellTooLarge: no such cell is run.
    """
    if clients < FEWEST_IN_CELL:
        raise CellTooSmall(clients)
    if clients > LARGEST_CELL:
        raise CellTooLarge(clients)
    if clients < 12:
        return CellParameters(2, 1, 1, 3, 3)
    if clients < 32:
        return CellParameters(3, 2, 2, 8, 8)
    if clients < 256:
        return CellParameters(3, 2, 2, 16, min(32, max(16, clients // 2)))
    return CellParameters(5, 2, 4, 64, 64)


def seats_needed(k: int, r: int) -> int:
    """Return the fewest clients that fill k slots: one slot after the other takes r of them, while there are any."""
    return (k - 1) * r + 1


@dataclass(frozen=True, slots=True)
class Member:
    """One seat of a verified committee."""

    slot: int
    replica: int
    client: Registered
    epk: bytes
    nonce_commit: bytes

    @property
    def seat(self) -> Seat:
        """The member's row of the committee's hash."""
        return Seat(self.slot, self.replica, self.client.client_id, self.epk, self.nonce_commit)


@dataclass(frozen=True, slots=True)
class Committee:
    """A committee that was checked.

    Attributes:
        members: in the order of slots and replicas.
        ctx: the context that it gives its cell.
    """

    members: tuple[Member, ...]
    ctx: bytes

    @property
    def slots(self) -> int:
        """How many slots it has, k."""
        return self.members[-1].slot + 1

    @property
    def replicas(self) -> tuple[int, ...]:
        """How many members each slot has."""
        counts = Counter(member.slot for member in self.members)
        return tuple(counts[slot] for slot in range(self.slots))

    @property
    def needs_echo(self) -> bool:
        """Whether two members hold the same seeds: different sets could then be asked of them."""
        return max(self.replicas) > 1

    def quorum(self, echo_c: int) -> int:
        """Return how many members must have signed a set before an answer is released."""
        return echo_quorum(len(self.members), echo_c)

    def member(self, client_id: bytes) -> Member | None:
        """Return a client's seat, or None."""
        return next((member for member in self.members if member.client.client_id == client_id), None)

    def with_key(self, client_key: bytes) -> Member | None:
        """Return the seat of the client with this Ed25519 key, or None."""
        return next((member for member in self.members if member.client.client_key == client_key), None)


def check_committee(
    body: CommitteeBody,
    ctx0: bytes,
    order: CellOrder,
    beacon: bytes,
    chains: KnownChains,
    *,
    standing: tuple[Policy, int] | None,
) -> Committee:
    """Return a committee after all was checked that every client of the cell checks.

    Args:
        ctx0: of the cell.
        order: the cell's.
        beacon: of the round.
        standing: the policy and the time (seconds since 1970) that members must stand at; None for a committee of
            a past round, whose tokens may have ended since.

    Raises:
        BadCommittee: names the member that must not be trusted with a seed.
        WrongContext: it is another cell's committee.
    """
    if body.ctx0 != ctx0:
        raise WrongContext(CommitteeBody.kind)
    _check_seats(body, order)
    members = tuple(
        _member(row, ctx0=ctx0, order=order, beacon=beacon, chains=chains, standing=standing) for row in body.rows
    )
    _check_distinct(members)
    _check_lots_ascend(members, beacon)
    try:
        check_together(member.client for member in members)
    except PeerFault as error:
        raise BadCommittee("", error.message) from error
    return Committee(members, context(ctx0, committee_hash(member.seat for member in members)))


def _check_seats(body: CommitteeBody, order: CellOrder) -> None:
    counts = Counter(row.slot for row in body.rows)
    for slot in range(order.k):
        if not 1 <= counts[slot] <= order.r:
            raise BadCommittee("", f"has {counts[slot]} members in slot {slot}, must have 1 to {order.r}")
    expected = [(slot, replica) for slot in range(order.k) for replica in range(counts[slot])]
    if [(row.slot, row.replica) for row in body.rows] != expected:
        raise BadCommittee("", f"does not fill {order.k} slots in their order")


def _named(row: CommitteeRow | Member) -> str:
    return f"member {row.slot}.{row.replica}"


def _member(
    row: CommitteeRow,
    *,
    ctx0: bytes,
    order: CellOrder,
    beacon: bytes,
    chains: KnownChains,
    standing: tuple[Policy, int] | None,
) -> Member:
    try:
        client = chains.registered(row.chain)
        if standing is not None:
            check_standing(client, *standing)
        message = read_signed(row.key, KeyMessage, signer=client.client_key, known=chains.signatures)
    except PeerFault as error:
        raise BadCommittee(_named(row), f"has no valid key: {error.message}") from error
    if (message.ctx0, message.slot) != (ctx0, row.slot):
        raise BadCommittee(_named(row), "offered its key for another slot, cell or round")
    if not may_serve(beacon, row.slot, client, order.n_draw):
        raise BadCommittee(_named(row), "was not drawn by the lottery")
    if not usable_key(message.epk):
        raise BadCommittee(_named(row), "has a key that nothing can be sealed to")
    return Member(row.slot, row.replica, client, message.epk, message.nonce_commit)


def _check_distinct(members: tuple[Member, ...]) -> None:
    clients: set[bytes] = set()
    sites: set[str] = set()
    keys: set[bytes] = set()
    for member in members:
        if member.client.client_id in clients:
            raise BadCommittee(_named(member), "sits twice")
        if member.client.site in sites:
            raise BadCommittee(_named(member), f"is the second one of site {member.client.site!r}")
        if member.epk in keys:
            raise BadCommittee(_named(member), "has the key of another member")
        clients.add(member.client.client_id)
        sites.add(member.client.site)
        keys.add(member.epk)


def _check_lots_ascend(members: tuple[Member, ...], beacon: bytes) -> None:
    last: tuple[int, int] = (-1, -1)
    for member in members:
        value = lot(beacon, member.slot, member.client.token_id, member.client.index)
        if member.slot == last[0] and value < last[1]:
            raise BadCommittee(_named(member), "has a lower lot than the one before it")
        last = (member.slot, value)
