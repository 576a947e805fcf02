"""How far a cell is, as its combiner tells those who watch: counts, and of a cell that is not too large each client.

A cell moves with each of its clients, and is told of a few times a second: so a machine hands out what it has, as it
is, and only what is told is put into words.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.messages import (
    MOST_CLIENTS_TOLD,
    ClientProgress,
    ClientState,
    Contribution,
    Exclusion,
    RoundProgress,
)

AWAY = "it has been away for too long"


class BegunUpload(Protocol):
    """A masked update that is on its way, or whole."""

    @property
    def arrival(self) -> str:
        """What its whole bytes are called; empty before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgress:
    """What a cell has done and waits for; nothing is copied or counted before it is told.

    Attributes:
        included: clients in the sum, and ``contributions`` those of a sum in the clear.
        gone: clients that are out because they have been away for too long.
        at_work: clients that owe an answer, and ``work`` what they are at.
        uploads: of clients whose masked update is on its way, or being added; the first may be ``at_work`` too.
        adding: updates in the clear that are being added.
    """

    generation: Generation
    phase: str
    included: Collection[ClientId] = ()
    contributions: Sequence[Contribution] = ()
    excluded: Collection[Exclusion] = ()
    gone: Collection[ClientId] = ()
    at_work: Collection[ClientId] = ()
    work: ClientState = "training"
    uploads: Mapping[ClientId, BegunUpload] = field(default_factory=dict)
    adding: Sequence[tuple[str, Contribution]] = ()

    def told(self) -> RoundProgress:
        """Put it into words."""
        n_included = len(self.included) + len(self.contributions)
        n_out = len(self.excluded) + len(self.gone)
        n_at_work = len(self.at_work)
        # Of a cell that is too large not one is looked at: the telling would cost more than the cell's own work.
        clients = self._clients() if n_included + n_at_work + n_out <= MOST_CLIENTS_TOLD else ()
        return RoundProgress(self.generation, self.phase, n_included, n_at_work, n_out, clients)

    def _clients(self) -> tuple[ClientProgress, ...]:
        states: dict[ClientId, ClientProgress] = {client: ClientProgress(client, self.work) for client in self.at_work}
        for client, upload in self.uploads.items():
            states[client] = ClientProgress(client, "checking" if upload.arrival else "uploading")
        states |= {one.client: ClientProgress(one.client, "checking") for _, one in self.adding}
        states |= {client: ClientProgress(client, "in") for client in self.included}
        states |= {one.client: ClientProgress(one.client, "in") for one in self.contributions}
        states |= {client: ClientProgress(client, "out", AWAY) for client in self.gone}
        states |= {out.client: ClientProgress(out.client, "out", out.reason) for out in self.excluded}
        return tuple(states[client] for client in sorted(states)) if len(states) <= MOST_CLIENTS_TOLD else ()
