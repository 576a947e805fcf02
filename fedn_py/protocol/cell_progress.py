"""How far a cell is, as its combiner tells those who watch: counts, and of a cell that is not too large each client."""

from collections.abc import Collection

from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.messages import MOST_CLIENTS_TOLD, ClientProgress, ClientState, Exclusion, RoundProgress

AWAY = "it has been away for too long"


def progress_of(
    generation: Generation,
    phase: str,
    *,
    included: Collection[ClientId] = (),
    excluded: Collection[Exclusion] = (),
    gone: Collection[ClientId] = (),
    at_work: Collection[ClientId] = (),
    work: ClientState = "training",
    uploading: Collection[ClientId] = (),
    checking: Collection[ClientId] = (),
) -> RoundProgress:
    """Return what is told.

    Args:
        gone: clients that are out because they have been away for too long.
        at_work: clients that owe an answer, and ``work`` what they are at.
        uploading, checking: clients whose update is on its way, or is being added; the first may be ``at_work`` too.
    """
    states: dict[ClientId, ClientProgress] = {client: ClientProgress(client, work) for client in at_work}
    states |= {client: ClientProgress(client, "uploading") for client in uploading}
    states |= {client: ClientProgress(client, "checking") for client in checking}
    states |= {client: ClientProgress(client, "in") for client in included}
    states |= {client: ClientProgress(client, "out", AWAY) for client in gone}
    states |= {out.client: ClientProgress(out.client, "out", out.reason) for out in excluded}
    told = tuple(states[client] for client in sorted(states)) if len(states) <= MOST_CLIENTS_TOLD else ()
    return RoundProgress(generation, phase, len(included), len(at_work), len(excluded) + len(gone), told)
