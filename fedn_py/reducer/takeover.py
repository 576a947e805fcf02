"""The first thing that a new holder of the lease does: its fence goes on everything that is still at work.

An older reducer that was paused, or cut off, finds a higher fence in whatever it writes next and ends. What it may
still do is insert: a round after the newest one, or a session. Neither does harm, as it has to stamp the session, or
the lease, before anything follows from what it inserted, and finds the higher fence there.
"""

from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import UNDER_WAY, RoundRecord, SessionRecord, round_key


async def stamp_live(ledger: Ledger) -> None:
    """Stamp the sessions under way, then the newest round of each: in this order, so that no round slips through.

    Raises:
        Superseded: an even newer reducer has.
        StoreUnavailable: some may be stamped; do it again.
    """
    for status in UNDER_WAY:
        for session in await ledger.find("sessions", SessionRecord, {"status": status}):
            await ledger.stamp("sessions", session.terms.session)
            where = {"session": session.terms.session}
            for newest in await ledger.find("rounds", RoundRecord, where, descending=True, limit=1):
                await ledger.stamp("rounds", round_key(session.terms.session, newest.plan.round_number))
