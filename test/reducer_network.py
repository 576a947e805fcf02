"""A whole reducer in memory, without its doors, and combiners that are played by the test."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import masked_world as world
from artifacts import a_model, a_package, a_sum, chunked
from awaiting import until
from unruly_store import Trouble, UnrulyDocuments, UnrulyObjects

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, InstanceId, SessionId, TokenId
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.certificates import Chain, Policy, ServerCredential
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.messages import (
    AttachedClients,
    CellFailed,
    CellOrder,
    CombinerHello,
    Contribution,
    Exclusion,
    FromCombiner,
    MetricsSummary,
    PartialAggregate,
    RoundProgress,
    ToCombiner,
    ValidationOrder,
    ValidationReport,
)
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_work import Effect, Event, Idle, StopRequested
from fedn_py.protocol.reducer_work import Reducer as State
from fedn_py.reducer.absences import Absences
from fedn_py.reducer.calls import Calls
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import Holder, Lease
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import bytes_of
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.newest_attempt import FILE_NAME, NewestAttemptFile, hold_back_restored
from fedn_py.reducer.patience import Patience
from fedn_py.reducer.records import ClientRecord, EventRecord, RoundRecord
from fedn_py.reducer.registrations import Registrations
from fedn_py.reducer.roster import KnownClient, Roster, RosterLimits
from fedn_py.reducer.rounds import Rounds
from fedn_py.reducer.service import Parts, StoredControl
from fedn_py.reducer.sessions import Sessions
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.reducer.state_key import StateKey
from fedn_py.reducer.takeover import stamp_live
from fedn_py.reducer.token_book import TokenBook
from fedn_py.runtime.credential_files import write_policy, write_server
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.transport.authentication import Caller
from fedn_py.transport.streams import Outbox

ANNA, BERT = ClientId("a" * 32), ClientId("b" * 32)
NORTH, NORTH_1 = CombinerName("north"), InstanceId("north-1")
METRICS = MetricsSummary({"accuracy": 20.0}, {"accuracy": 40}, {ANNA: {"accuracy": 0.5}}, {"accuracy": 2})


@dataclass
class Stored:
    """What outlives the reducer."""

    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    objects: MemoryObjects = field(default_factory=MemoryObjects)

    async def rounds(self) -> list[RoundRecord]:
        return list(await Ledger(self.documents, 0).find("rounds", RoundRecord))

    async def events(self) -> list[EventRecord]:
        return list(await Ledger(self.documents, 0).find("events", EventRecord, order_by="seq"))


@dataclass
class OperatorFiles:
    """What the operator of masked rounds gave this reducer, in a folder that outlives it."""

    folder: Path
    policy: Policy = world.POLICY

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not self.credential_file.exists():
            credential = ServerCredential(
                world.TRUST.operator_key, world.DEPLOYMENT, world.a_certificate(), bytes(world.REDUCER)
            )
            write_server(self.credential_file, credential)
        self.publish(self.policy)

    @property
    def credential_file(self) -> Path:
        return self.folder / "reducer.credential"

    @property
    def policy_file(self) -> Path:
        return self.folder / "policy"

    def publish(self, policy: Policy) -> None:
        """Sign a policy and put it where the reducer looks."""
        before = self.policy_file.stat().st_mtime_ns if self.policy_file.exists() else 0
        write_policy(self.policy_file, sign(policy, world.OPERATOR), replace=True)
        os.utime(self.policy_file, ns=(before + 10**9, before + 10**9))

    async def opened(self, ledger: Ledger, events: EventLog) -> MaskingCredentials:
        return await MaskingCredentials.open(
            self.credential_file, self.policy_file, ledger, events, clock=lambda: world.NOW_S
        )


@dataclass
class PlayedCombiner:
    """A combiner whose clients always answer: each adds its samples to every parameter.

    Attributes:
        samples: of each client; one that is not here fails.
        silent: says nothing of orders, which wait in ``orders``.
    """

    network: "Network"
    name: CombinerName = NORTH
    instance: InstanceId = NORTH_1
    samples: dict[ClientId, int] = field(default_factory=lambda: {ANNA: 10, BERT: 30})
    silent: bool = False
    metrics: MetricsSummary = METRICS
    orders: list[CellOrder | ValidationOrder] = field(default_factory=list)
    heard: list[ToCombiner] = field(default_factory=list)

    async def join(self) -> None:
        self.outbox: Outbox[ToCombiner] = Outbox(self.name)
        hello = CombinerHello(self.name, self.instance, f"{self.name}:12080", 100, "0.1.0")
        await self.network.calls.combiner_joined(hello, Caller("combiner", self.name, TokenId("c0" * 8)), self.outbox)
        await self.attach(*self.samples)
        self._listening = asyncio.create_task(self._listen())
        self.network.tasks.append(self._listening)

    async def attach(self, *clients: ClientId) -> None:
        await self.say(AttachedClients(clients))

    async def say(self, message: FromCombiner) -> None:
        await self.network.calls.combiner_said(self.name, self.instance, message)

    async def leave(self) -> None:
        self._listening.cancel()
        await self.network.calls.combiner_left(self.name, self.instance)

    async def _listen(self) -> None:
        while (message := await self.outbox.next()) is not None:
            self.heard.append(message)
            if isinstance(message, CellOrder | ValidationOrder):
                self.orders.append(message)
                if not self.silent:
                    await self.answer(message)

    async def answer(self, order: CellOrder | ValidationOrder) -> None:
        if isinstance(order, ValidationOrder):
            validated = [client for client in order.clients if client in self.samples]
            samples = sum(self.samples[client] for client in validated)
            await self.say(ValidationReport(order.generation, len(validated), samples, self.metrics, ()))
        else:
            await self.say(await self.partial(order))

    async def partial(self, order: CellOrder, **changed: Any) -> PartialAggregate:
        here = [client for client in order.clients if client in self.samples]
        weight = sum(self.samples[client] for client in here)
        total = a_sum([float(sum(self.samples[client] ** 2 for client in here))] * 3)
        digest = (await self.network.stored.objects.put(chunked(total))).digest if here else None
        included = tuple(Contribution(client, self.samples[client], Digest("e" * 64)) for client in here)
        excluded = tuple(Exclusion(c, "Failed: no data", "its log") for c in order.clients if c not in here)
        return replace(
            PartialAggregate(order.generation, digest, weight, included, excluded, MetricsSummary()), **changed
        )

    async def give_up(self, order: CellOrder, reason: str) -> None:
        await self.say(CellFailed(order.generation, reason))

    async def tell_progress(self, order: CellOrder, phase: str, included: int, training: int, excluded: int) -> None:
        await self.say(RoundProgress(order.generation, phase, included, training, excluded))


class Network:
    """One life of a reducer on stores that outlive it."""

    def __init__(self, stored: Stored, scratch: Path, trouble: Trouble, operator: OperatorFiles | None = None) -> None:
        self.stored, self.scratch, self.trouble, self.operator = stored, scratch, trouble, operator
        self.documents = UnrulyDocuments(stored.documents, trouble)
        self.objects = UnrulyObjects(stored.objects, trouble)
        self.tasks: list[asyncio.Task[None]] = []
        self.progress: dict[CombinerName, RoundProgress] = {}

    async def start(self, *, combiner_grace_s: float = 1_000.0) -> None:
        trouble_after = self.trouble.away, self.trouble._at
        assert trouble_after == (None, 0), "the start itself is told of elsewhere"
        me = Holder("reducer", InstanceId(secrets.token_hex(16)), "reducer.example.org:8090")
        self.fence = await Lease(self.documents, me).take_at_once()
        self.ledger = Ledger(self.documents, self.fence)
        await stamp_live(self.ledger)
        self.events = await EventLog.open(Ledger(self.stored.documents, self.fence))
        self.tokens = TokenBook(self.ledger, self.events)
        self.catalogue = Catalogue(self.ledger, self.objects, self.events, self.scratch)
        self.credentials = await self.operator.opened(self.ledger, self.events) if self.operator else None
        self.sessions = Sessions(self.ledger, self.catalogue, self.events, speaker=self.credentials)
        self.shell = Rounds(self.ledger, self.objects, self.events, self.scratch)
        self.shell.patience = Patience(self.events, base_s=0.0)
        self.absences = Absences({})
        self.mailbox: Mailbox[State, Event, Effect] = Mailbox(
            "reducer",
            State(told=await self.sessions.last_commit()),
            self.absences.watched(self.shell.phases.timed(step)),
            self.shell.perform,
        )
        known = {ANNA: KnownClient(ClientName("anna"), TokenId("")), BERT: KnownClient(ClientName("bert"), TokenId(""))}
        registrations = None
        if self.credentials is not None:
            records = await self.ledger.find("clients", ClientRecord)
            known |= {record.client: KnownClient(record.name, record.token) for record in records}
            chains = {record.client: Chain.decode(bytes_of(record.chain)) for record in records if record.chain}
            registrations = Registrations(self.credentials, chains)
        self.roster = Roster(
            self.mailbox.post,
            self.events,
            b"PEM",
            known,
            RosterLimits(expected_grace_s=combiner_grace_s, combiner_grace_s=combiner_grace_s),
            registrations=registrations,
        )
        self.masked = self.masked_rounds() if self.credentials is not None else None
        self.shell.attach(self.roster, self.mailbox, self.masked)
        self.calls = Calls(
            self.ledger,
            self.events,
            self.tokens,
            self.roster,
            self.mailbox,
            progress=self.progress,
            heartbeat_s=10.0,
            masked=self.masked,
        )
        self.control = StoredControl(
            Parts(
                name="reducer",
                deployment="test",
                store_kinds=("memory", "memory"),
                documents=self.documents,
                objects=self.objects,
                ledger=self.ledger,
                events=self.events,
                tokens=self.tokens,
                catalogue=self.catalogue,
                sessions=self.sessions,
                roster=self.roster,
                mailbox=self.mailbox,
                patience=self.shell.patience,
                progress=self.progress,
                phases=self.shell.phases,
                absences=self.absences,
            )
        )
        self.running = asyncio.create_task(self.mailbox.run())
        if self.operator is not None:
            await hold_back_restored(self.ledger, self.newest_file, self.events)
        under_way = await self.sessions.under_way()
        if under_way is not None:
            if self.masked is not None:
                await self.masked.restore(under_way.progress.terms.session)
            self.mailbox.post(under_way)

    def masked_rounds(self) -> MaskedRounds:
        assert self.credentials is not None
        assert self.operator is not None
        return MaskedRounds(
            self.ledger,
            self.objects,
            self.events,
            self.scratch,
            credentials=self.credentials,
            state_key=StateKey.at(self.operator.folder / "state.key"),
            newest_file=self.newest_file,
            patience=self.shell.patience,
            roster=self.roster,
            mailbox=self.mailbox,
            phases=self.shell.phases,
        )

    @property
    def newest_file(self) -> NewestAttemptFile:
        assert self.operator is not None
        return NewestAttemptFile(self.operator.folder / FILE_NAME)

    async def end(self) -> None:
        self.mailbox.close()
        for task in (self.running, *self.tasks):
            task.cancel()
        await asyncio.gather(self.running, *self.tasks, return_exceptions=True)
        await self.calls.close()

    # ---- what tests do and look for

    async def options(self, **changed: Any) -> SessionOptions:
        package = await self.control.upload_package(chunked(a_package()))
        model = await self.control.upload_model(chunked(a_model()))
        plain: dict[str, Any] = {"rounds": 1, "retry_delay_s": 0.0, "gather_timeout_s": 0.0}
        return SessionOptions(**{"package": package.digest, "seed_model": model.digest, **plain, **changed})

    async def start_session(self, **changed: Any) -> SessionView:
        return await self.control.start_session(await self.options(**changed))

    async def combiner(self, **changed: Any) -> PlayedCombiner:
        combiner = PlayedCombiner(self, **changed)
        await combiner.join()
        return combiner

    async def at_rest(self) -> None:
        """Wait until no session is under way and all is written, or raise what ended the reducer."""
        await self.reaches(Idle)
        await self.settled()

    async def settled(self) -> None:
        """Wait until all that the machine asked for so far is done."""
        with contextlib.suppress(UnexpectedEvent):
            await self.mailbox.deliver(StopRequested(SessionId("nobody's")))

    async def reaches(self, *phases: type[Any]) -> None:
        await until(lambda: self.running.done() or isinstance(self.mailbox.state.work, phases))
        if self.running.done():
            self.running.result()

    async def told(self) -> list[EventRecord]:
        await self.events.flush()
        return await self.stored.events()

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.told()]


@contextlib.asynccontextmanager
async def a_network(
    scratch: Path,
    stored: Stored | None = None,
    trouble: Trouble | None = None,
    *,
    operator: OperatorFiles | None = None,
    **how: Any,
) -> AsyncIterator[Network]:
    """Run one life of a reducer; with ``operator`` one that can run masked rounds."""
    network = Network(stored or Stored(), scratch, trouble or Trouble(), operator)
    await network.start(**how)
    try:
        yield network
    finally:
        await network.end()


def models_of(rounds: Iterable[RoundRecord]) -> list[Digest]:
    """Return the models of the committed rounds, in order."""
    return [record.model for record in rounds if record.status == "committed" and record.model is not None]
