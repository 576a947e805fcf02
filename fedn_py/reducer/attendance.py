"""Combiners and clients as people see them: all that were ever here, where they are, and how clients last fared."""

import time
from collections.abc import Sequence

from fedn_py.identity import ClientId
from fedn_py.reducer.control import Page
from fedn_py.reducer.control_faults import Conflict, UnknownClient
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.listing import Listing, Source
from fedn_py.reducer.records import ClientRecord, CombinerRecord, RoundRecord, SessionRecord
from fedn_py.reducer.roster import Roster
from fedn_py.reducer.shown_network import ClientResultView, ClientView, CombinerView
from fedn_py.reducer.token_book import TokenBook

_SESSIONS_LOOKED_AT = 2
_ROUNDS_FOR_A_LIST = 2
_ROUNDS_FOR_ONE = 20

Results = dict[ClientId, ClientResultView]


class TokenNotKnown(Conflict):
    """It is not known by which token a client came, so there is none to revoke."""

    def __init__(self, client: ClientRecord) -> None:
        super().__init__(
            f"it is not known by which token client {client.name} came",
            remedy="Find its token in fedn-py token list and revoke that: fedn-py token revoke ID.",
        )


class Attendance:
    """Says who is here and who was, and cuts off whom it is told to."""

    def __init__(self, ledger: Ledger, roster: Roster, tokens: TokenBook, events: EventLog) -> None:
        self._ledger = ledger
        self._roster = roster
        self._tokens = tokens
        self._events = events

    async def combiners(self) -> tuple[CombinerView, ...]:
        """Return all combiners that ever joined, by name."""
        known = await self._ledger.find("combiners", CombinerRecord)
        return tuple(sorted(map(self._combiner_view, known), key=lambda view: view.name))

    def _combiner_view(self, record: CombinerRecord) -> CombinerView:
        entry = self._roster.combiners().get(record.name)
        connected = entry is not None and entry.outbox is not None
        return CombinerView(
            record.name,
            record.address,
            len(entry.clients) if entry is not None else 0,
            record.max_clients,
            connected,
            time.time() if connected else record.last_seen,
            record.software,
        )

    async def clients(self, after: str, limit: int) -> Page[ClientView]:
        """Return all clients that ever joined, by name; with the results of the newest rounds."""
        found = await _CLIENTS.page(self._ledger, after, limit)
        results = await self._results(_ROUNDS_FOR_A_LIST)
        return Page(self._client_views(found.items, results), found.next)

    async def client(self, client: ClientId) -> ClientView:
        """Return one client, with its last result among rather more rounds; raises UnknownClient."""
        record = await self._record(client)
        return self._client_views([record], await self._results(_ROUNDS_FOR_ONE))[0]

    async def revoke(self, client: ClientId) -> ClientView:
        """Make the token worthless that a client came by, and cut off everybody who came by it.

        Raises:
            UnknownClient, TokenNotKnown: there is nothing to revoke.
        """
        record = await self._record(client)
        token = self._roster.token_of(client) or record.token
        if not token:
            raise TokenNotKnown(record)
        await self._tokens.revoke(token)
        self._roster.revoke(token)
        others = sorted(self._roster.name_of(one) for one in self._roster.holders(token) if one != client)
        too = f", and with it {', '.join(others)}, who came by the same token" if others else ""
        text = f"client {record.name} is cut off: its token {token} is revoked{too}"
        self._events.tell("client.revoked", text, "warning", client=record.name, token=token)
        return await self.client(client)

    async def _record(self, client: ClientId) -> ClientRecord:
        record = await self._ledger.get("clients", client, ClientRecord)
        if record is None:
            raise UnknownClient(client)
        return record

    def _client_views(self, records: Sequence[ClientRecord], results: Results) -> tuple[ClientView, ...]:
        where, now = self._roster.where(), time.time()
        return tuple(
            ClientView(
                id=record.client,
                name=record.name,
                combiner=where[record.client][1] if record.client in where else None,
                connected=record.client in where,
                last_seen=now if record.client in where else record.last_seen,
                since=record.first_seen,
                software=record.software,
                revoked=self._roster.is_revoked(record.client),
                last_result=results.get(record.client),
            )
            for record in records
        )

    async def _results(self, rounds: int) -> Results:
        """Return how clients fared last, as far as the newest rounds of the newest sessions tell."""
        results: Results = {}
        for session in await self._ledger.find(
            "sessions", SessionRecord, order_by="number", descending=True, limit=_SESSIONS_LOOKED_AT
        ):
            of_it = {"session": session.terms.session}
            for record in await self._ledger.find("rounds", RoundRecord, of_it, descending=True, limit=rounds):
                results = {**_results_of(record), **results}
        return results


def _results_of(record: RoundRecord) -> Results:
    where = record.plan.session, record.plan.round_number
    excluded = {one.client: ClientResultView(*where, "excluded", record.ended, one.reason) for one in record.excluded}
    return {**excluded, **{one.client: ClientResultView(*where, "included", record.ended) for one in record.included}}


_CLIENTS: Listing[ClientRecord] = Listing(
    [Source("clients", ClientRecord, lambda record: record)],
    "name",
    place=lambda record: str(record.name),
    key=lambda record: record.client,
    read_place=str,
)
