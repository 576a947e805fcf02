"""What simulated networks are watched by: the names of the rules, and what was seen that no process can see."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import IncludedRow

if TYPE_CHECKING:
    from simulator.masked.store import MaskedRow
    from simulator.nodes import Node

P1 = "P1: a member signs one set under a context"
P2 = "P2: an opened set has at least g_min clients"
P3 = "P3: sets opened for one work are the same or disjoint"
P3_CLIENT = "P3: a client sends a work again only when its upload before can never be opened"
P3_MEMBER = "P3: a member promises sets of one work that are the same or disjoint"
P3_RETRY = "P3: a retry draws nobody whose upload may yet be opened"
HANDED_OUT = "P3: no client is told of a committee that is not in a document"
P4 = "P4: no server holds what is one client's alone"
P6 = "P6: policy, session and rounds never go back"
P7 = "P7: no seed, key or nonce is used twice"
ECHO = "an answer waits until a quorum has echoed its set"
SAVED = "saved before it is sent"
NOT_OPENED = "NotOpened is said only of what nothing can open"
FORK = "of two sets that a committee is shown all slots answer one"
ONE_SET = "the reducer asks for one set under a context"
ACKED = "an update is added when all live members have accepted its box"
EXACT = "an opened sum is that of its list"
MEAN = "a committed mean is that of the oracle"
ONCE = "no client twice in a round"
ENOUGH = "enough updates in each round"
DEADLINES = "every phase ends by its deadline"
ENDS = "the session ends"
SUCCEEDS = "without faults every attempt succeeds"


@dataclass(frozen=True)
class Promise:
    """A set that a member has signed."""

    work: bytes
    ctx: bytes
    clients: frozenset[bytes]
    reopen: str


@dataclass(frozen=True)
class SentUpload:
    """An upload that has left a client."""

    session: bytes
    work: bytes
    ctx: bytes


@dataclass(frozen=True)
class OpenedSet:
    """A set whose sum the reducer has opened, or tried to."""

    session: bytes
    round: int
    attempt: int
    work: bytes
    ctx: bytes
    clients: frozenset[bytes]


@dataclass
class Ghosts:
    """All that was seen in a run.

    Attributes:
        signed_sets: (member, ctx) to the one set that it signed. echoed: (ctx, set) to the members who echoed it.
        answered: (ctx, set) to the slots whose answer to it was signed.
        promised: member to the sets that it signed. used: all secrets that were drawn.
        sent: client to its uploads. forgotten: (client, ctx) of those that it has lost the memory of.
        void: ctx that NotOpened was said of. aborted: ctx to the members who signed an Abort.
        opened: by ctx. asked: ctx to the set that members are asked for. lies: other sets that they were shown.
        acks: what a life of a combiner heard of a committee, by member's key.
        floors: client to its policy, highest session, and last plan of each session.
        committed, planned_at: by session and round, and attempt.
    """

    signed_sets: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    echoed: dict[tuple[bytes, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    answered: dict[tuple[bytes, bytes], set[int]] = field(default_factory=lambda: defaultdict(set))
    promised: dict[bytes, list[Promise]] = field(default_factory=lambda: defaultdict(list))
    committees: dict[bytes, tuple[Committee, CellTerms]] = field(default_factory=dict)
    used: set[bytes] = field(default_factory=set)
    sent: dict[bytes, list[SentUpload]] = field(default_factory=lambda: defaultdict(list))
    forgotten: set[tuple[bytes, bytes]] = field(default_factory=set)
    void: set[bytes] = field(default_factory=set)
    aborted: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    opened: dict[bytes, OpenedSet] = field(default_factory=dict)
    asked: dict[bytes, bytes] = field(default_factory=dict)
    lies: set[tuple[bytes, bytes]] = field(default_factory=set)
    acks: dict[tuple["Node", int, bytes], dict[bytes, set[IncludedRow]]] = field(default_factory=dict)
    floors: dict[bytes, tuple[int, int, Mapping[bytes, tuple[int, int]]]] = field(default_factory=dict)
    committed: dict[tuple[int, int], "MaskedRow"] = field(default_factory=dict)
    planned_at: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def released(self, ctx: bytes) -> bool:
        """Say whether an upload can be in no sum any more, and whether its client can be shown that."""
        members = {member.client.client_id for member in self.committees[ctx][0].members}
        return ctx in self.void or members <= self.aborted[ctx]
