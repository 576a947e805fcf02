"""What combiners and clients say to the reducer, turned into events of its machine and entries of its roster."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine
from dataclasses import replace
from typing import Any

from fedn_py.errors import FednError
from fedn_py.identity import ClientId, CombinerName, InstanceId, TokenId
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    AttachedClients,
    CellFailed,
    CombinerHello,
    CombinerLeaving,
    CommitteeFormed,
    FromCombiner,
    HelloAccepted,
    MaskedPartial,
    PartialAggregate,
    RoundProgress,
    ToCombiner,
    ValidationReport,
    WordPassedOn,
)
from fedn_py.protocol.reducer_work import CellGaveUp, Effect, Event, PartialArrived, Reducer, ValidationArrived
from fedn_py.reducer.bell import Bell
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, NoRecord
from fedn_py.reducer.masked_documents import body_text
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.records import ClientRecord, CombinerRecord
from fedn_py.reducer.roster import Roster
from fedn_py.reducer.token_book import TokenBook
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.transport.authentication import Caller
from fedn_py.transport.streams import Outbox


class Calls:
    """Takes the calls that the gRPC server decoded.

    Args:
        progress: filled with what each combiner last told of its work.
        masked: takes what is said of masked rounds; None where there are none.
        bell: rung when a combiner has told of its work.
    """

    def __init__(
        self,
        ledger: Ledger,
        events: EventLog,
        tokens: TokenBook,
        roster: Roster,
        mailbox: Mailbox[Reducer, Event, Effect],
        *,
        progress: dict[CombinerName, RoundProgress],
        heartbeat_s: float,
        masked: MaskedRounds | None = None,
        bell: Bell | None = None,
    ) -> None:
        self._ledger = ledger
        self._events = events
        self._tokens = tokens
        self._roster = roster
        self._mailbox = mailbox
        self._progress = progress
        self._heartbeat_s = heartbeat_s
        self._masked = masked
        self._bell = bell or Bell()
        self._writing: set[asyncio.Task[None]] = set()

    async def combiner_joined(self, hello: CombinerHello, caller: Caller, outbox: Outbox[ToCombiner]) -> None:
        """Take a combiner in; raises NameTaken."""
        self._roster.join(hello, caller.token_id, outbox)
        outbox.send(HelloAccepted(self._heartbeat_s, self._ledger.fence))
        if self._masked is not None:
            self._masked.welcome(hello.name, hello.instance)
        record = CombinerRecord(hello.name, hello.address, hello.max_clients, hello.software, time.time())
        self._write_behind(self._ledger.put("combiners", hello.name, record, name=hello.name))

    async def combiner_said(self, name: CombinerName, instance: InstanceId, message: FromCombiner) -> None:
        """Hear a combiner."""
        match message:
            case AttachedClients():
                gone = self._roster.attached(name, instance, message)
                if gone:
                    self._write_behind(self._note_gone(gone))
            case PartialAggregate():
                self._mailbox.post(PartialArrived(name, instance, message))
            case CellFailed(generation, reason):
                self._mailbox.post(CellGaveUp(name, instance, generation, reason))
            case ValidationReport():
                self._mailbox.post(ValidationArrived(name, instance, message))
            case RoundProgress():
                self._progress[name] = message
                self._bell.ring()
            case CommitteeFormed() | MaskedPartial() | WordPassedOn():
                if self._masked is not None:
                    self._masked.heard(name, instance, message)
            case CombinerLeaving():
                self._roster.part(name, instance)
            case CombinerHello():
                pass  # the first word is taken by combiner_joined; a second one says nothing new

    async def combiner_left(self, name: CombinerName, instance: InstanceId) -> None:
        """Note that a combiner's stream has ended."""
        self._roster.leave(name, instance)
        self._write_behind(self._note_left(name))

    async def assign(self, request: AssignRequest, caller: Caller) -> Assignment:
        """Send a client to a combiner; raises what ``Roster.assign`` raises."""
        assignment = self._roster.assign(request, caller.token_id, await self._tokens.valid_s(caller.token_id))
        self._write_behind(self._remember(request, caller.token_id))
        return assignment

    async def close(self) -> None:
        """Wait for what is still being written."""
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _remember(self, request: AssignRequest, token: TokenId) -> None:
        now = time.time()
        before = await self._ledger.get("clients", request.client, ClientRecord)
        chain = body_text(request.chain) if request.chain is not None else ""
        fresh = ClientRecord(request.client, request.name, request.software, now, now, token, chain)
        record = replace(fresh, first_seen=before.first_seen) if before is not None else fresh
        await self._ledger.put("clients", request.client, record, name=request.name)

    async def _note_left(self, name: CombinerName) -> None:
        now = time.time()
        with contextlib.suppress(NoRecord):
            await self._ledger.change("combiners", name, CombinerRecord, lambda old: replace(old, last_seen=now))

    async def _note_gone(self, clients: Collection[ClientId]) -> None:
        now = time.time()
        for client in sorted(clients):
            with contextlib.suppress(NoRecord):
                await self._ledger.change("clients", client, ClientRecord, lambda old: replace(old, last_seen=now))

    def _write_behind(self, write: Coroutine[Any, Any, object]) -> None:
        """Write what nobody waits for: a store that is away must not keep combiners and clients out."""
        task = asyncio.ensure_future(self._tolerantly(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _tolerantly(self, write: Coroutine[Any, Any, object]) -> None:
        try:
            await write
        except FednError as fault:
            self._events.tell("store.not_noted", fault.message, "warning")
