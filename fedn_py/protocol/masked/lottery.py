"""Who may serve in a committee, and the random bytes that it is drawn by.

A client may serve slot j when its lot is below a threshold that depends on the planned size of the cell alone: nobody
needs to know who is attached, and a combiner cannot draw by declaring the winners gone. Lots go by the operator's
random token id, not by a client's key or signature, of which the client could make as many as it takes to win.

    lot(slot, entry) = u64 of H("lot", beacon, u8 slot, token_id, u32 index)[0:8]
    threshold        = floor(8 * 2**64 / n_draw): 8 candidates a slot on average
    beacon_1         = H("beacon0", deployment, u32 session_number, epoch_seed)
    beacon_(t+1)     = H("beacon", beacon_t, u64 t, R),  R = H("reveals", nonces) or, unless all revealed, 32 zeros
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fedn_py.errors import PeerFault
from fedn_py.masking.hashing import tagged_hash, u8, u32, u64
from fedn_py.protocol.masked.registry import Registered

CANDIDATES = 8
MOST_SESSION_JUMP = 16
NOTHING_REVEALED = bytes(32)


class NotDrawn(PeerFault):
    """The lottery did not draw this client for this slot."""

    def __init__(self, slot: int) -> None:
        super().__init__(
            f"the lottery of this round did not draw this client for slot {slot}",
            remedy="Nothing is to be done; another round draws others.",
        )


class NoSumParticipant(PeerFault):
    """A slot of a committee has nobody; the cell cannot go on."""

    def __init__(self, slot: int) -> None:
        super().__init__(
            f"no client that may serve slot {slot} published a key in time",
            remedy="The round is tried again; if it lasts, attach more clients or clients of more sites.",
        )
        self.slot = slot


class SessionTooFar(PeerFault):
    """A session's number is further from the known ones than sessions are begun."""

    def __init__(self, number: int, highest: int) -> None:
        super().__init__(
            f"session number {number} is offered where {highest} is the highest known here",
            remedy="Each number draws other committees, so servers may not pick one. If this client was away for "
            "more sessions than that, have the operator begin a new epoch: in it the client takes a number anew.",
        )


def lot(beacon: bytes, slot: int, token_id: bytes, index: int) -> int:
    """Return a client's lot for a slot: below 2**64, the lower the better."""
    return int.from_bytes(tagged_hash("lot", beacon, u8(slot), token_id, u32(index))[:8], "little")


def may_serve(beacon: bytes, slot: int, client: Registered, n_draw: int) -> bool:
    """Say whether the lottery of this beacon draws the client for the slot."""
    return n_draw <= CANDIDATES or lot(beacon, slot, client.token_id, client.index) < _threshold(n_draw)


def _threshold(n_draw: int) -> int:
    return CANDIDATES * 2**64 // n_draw


def slots_drawn(beacon: bytes, k: int, client: Registered, n_draw: int) -> tuple[int, ...]:
    """Return the slots that a client may serve, its best lot first; it may offer itself for one of them."""
    drawn = [slot for slot in range(k) if may_serve(beacon, slot, client, n_draw)]
    return tuple(sorted(drawn, key=lambda slot: lot(beacon, slot, client.token_id, client.index)))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A client that can take a slot: it was drawn for it, or has published a key for it."""

    slot: int
    client: Registered


@dataclass(frozen=True, slots=True)
class Chosen:
    """A candidate's seat."""

    slot: int
    replica: int
    client: Registered


def choose(beacon: bytes, k: int, r: int, candidates: Iterable[Candidate]) -> tuple[Chosen, ...]:
    """Return the committee: slots in their order, in each the r lowest lots, ascending; no client and no site twice.

    Raises:
        NoSumParticipant: a slot has nobody, or only clients of sites that an earlier slot has taken.
    """
    waiting = sorted(
        candidates, key=lambda one: (lot(beacon, one.slot, one.client.token_id, one.client.index), one.client.client_id)
    )
    clients: set[bytes] = set()
    sites: set[str] = set()
    chosen: list[Chosen] = []
    for slot in range(k):
        replica = 0
        for one in waiting:
            client = one.client
            if one.slot == slot and replica < r and client.client_id not in clients and client.site not in sites:
                chosen.append(Chosen(slot, replica, client))
                clients.add(client.client_id)
                sites.add(client.site)
                replica += 1
        if not replica:
            raise NoSumParticipant(slot)
    return tuple(chosen)


def drawn_for(beacon: bytes, k: int, r: int, clients: Collection[Registered], *, usual: int, fewest: int) -> int:
    """Return for how many clients a cell's lottery draws: the usual number, or fewer where it drew no committee at all.

    Eight candidates a slot are an average. Now and then a slot has none, and would have none in each attempt at the
    round, whose lots are the same. Whoever orders the cell knows the lots beforehand, and where these clients could not
    fill its slots if all of them were there, draws for half as many, and again.

    Args:
        clients: all that a combiner ever had in the session: it must not make others winners by saying that some left.
        fewest: what the operator's policy and the cell's own terms let the lottery draw for at least.
    """
    lots = [
        (lot(beacon, slot, client.token_id, client.index), Candidate(slot, client))
        for client in clients
        for slot in range(k)
    ]

    def fills(n_draw: int) -> bool:
        limit = _threshold(n_draw)
        try:
            choose(beacon, k, r, [candidate for value, candidate in lots if value < limit])
        except NoSumParticipant:
            return False
        return True

    n_draw = usual
    while not fills(n_draw):
        if n_draw <= max(fewest, CANDIDATES):
            return usual  # it is not for the lots: of other clients, or of other sites, there are too few
        n_draw = max(fewest, n_draw // 2)
    return n_draw


def first_beacon(deployment: bytes, session_number: int, epoch_seed: bytes) -> bytes:
    """Return the beacon of a session's round 1."""
    return tagged_hash("beacon0", deployment, u32(session_number), epoch_seed)


def reveals_of(nonces: Sequence[bytes], members: int) -> bytes:
    """Return what a beacon cell's committee adds to the beacon.

    All or nothing: leaving one reveal out gives whoever relays them one alternative, not one for each subset.

    Args:
        nonces: in the order of slots and replicas.
        members: of the committee.
    """
    return tagged_hash("reveals", *nonces) if nonces and len(nonces) == members else NOTHING_REVEALED


def next_beacon(beacon: bytes, round_number: int, reveals: bytes) -> bytes:
    """Return the beacon of the round after ``round_number``, whose beacon is given."""
    return tagged_hash("beacon", beacon, u64(round_number), reveals)


def check_session_number(number: int, highest: int | None) -> None:
    """Raise SessionTooFar where a new session's number is not near the highest one known; any is near to none."""
    if highest is not None and abs(number - highest) > MOST_SESSION_JUMP:
        raise SessionTooFar(number, highest)
