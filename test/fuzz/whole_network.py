"""A reducer, a combiner and clients in one process: real machines, shells and cryptography on lines and virtual time.

A session of many rounds runs in it. Whatever is done to a message on its way, what must hold after each round is
looked at here: the model is the mean of exactly those who are in it, and nobody has promised or recorded anything
that an honest reducer did not sign.
"""

import asyncio
import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
from artifacts import a_model
from fuzz.lines import FROM_COMBINER, TO_CLIENT, TO_COMBINER, Lines, Queue, until_one_ends
from fuzz.quiet_loop import quiet
from fuzz.whole_client import SAMPLES, WholeClient
from masked_world import CLIENTS, AClient
from reducer_network import NORTH, Network, OperatorFiles, Stored
from safetensors.numpy import load
from unruly_store import Trouble, UnrulyObjects

from fedn_py.client.masked_memory import MemoryUnwritable
from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.arrivals import Arrivals
from fedn_py.combiner.calls import Calls
from fedn_py.combiner.cells import Cells
from fedn_py.combiner.masked_cells import MaskedCells
from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.combiner.patient_upstream import PatientUpstream
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.upstream import StoreUpstream
from fedn_py.combiner.words import Words
from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, Digest, InstanceId, SessionId, TokenId
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import Combiner
from fedn_py.protocol.masked.certificates import Policy, ServerCredential
from fedn_py.protocol.masked.options import MaskedOptions
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.messages import (
    CombinerHello,
    HelloAccepted,
    ToCombiner,
    UpdateHeader,
    UpdateReceipt,
    WordPassedOn,
)
from fedn_py.protocol.reducer_work import Paused
from fedn_py.reducer.control_faults import WrongSessionStatus
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import RoundRecord, round_key
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import UploadStart
from fedn_py.transport.judgements import Judgements
from fedn_py.transport.spool import SpooledUpload, open_spool
from fedn_py.transport.streams import Outbox
from fedn_py.transport.tickets import Tickets

N_PARAMETERS = 12
LIFE = InstanceId("0123456789abcdef")
_AGAIN_S = 0.01
_MOST_ROUNDS = 30
_CODE = re.compile(r"\b([A-Z][A-Za-z]+)\b")


VectorChanges = Callable[[ClientId, UpdateHeader, bytes], tuple[UpdateHeader, bytes]]
"""What becomes of an update's header and bytes on their way."""

StreamChanges = Callable[[ClientId, UploadStart, bytes], tuple[UploadStart, bytes]]
"""What becomes of an answer's stream on its way."""


async def _in_order(content: bytes) -> AsyncIterator[bytes]:
    yield content


class WholeCombiner:
    """A combiner's parts as ``combiner/assemble.py`` puts them together, on lines.

    Attributes:
        trouble: with its object store.
    """

    def __init__(self, folder: Path, network: "WholeNetwork") -> None:
        self._folder, self._network = folder, network
        self.certificate = world.a_certificate(world.COMBINER, role="combiner")
        self._dropped = asyncio.Event()
        self.trouble = Trouble()

    async def open(self) -> None:
        folder, clock = self._folder, asyncio.get_running_loop().time
        (folder / "objects").mkdir(parents=True)
        credential = ServerCredential(
            bytes(world.OPERATOR.verify_key), world.DEPLOYMENT, self.certificate, bytes(world.COMBINER)
        )
        trust = self.trust = MaskingTrust(credential, lambda: world.NOW_S)
        upstream = PatientUpstream(StoreUpstream(UnrulyObjects(self._network.reducer.stored.objects, self.trouble)))
        self.voice = ReducerVoice()
        self.spool = await open_spool(
            folder / "spool", memory_bytes=1 << 24, disk_bytes=1 << 26, most_uploads=100, idle_s=60.0, clock=clock
        )
        self.calls = Calls(NORTH, Tickets(clock), self.voice, self.spool, max_clients=100, heartbeat_s=5.0, trust=trust)
        self.shelf = Shelf(upstream, folder / "objects")
        arrivals, self.streams = Arrivals(), AnswerStreams(upstream)
        self.masked = MaskedCells(
            self.shelf,
            upstream,
            self.voice,
            self.calls.send,
            arrivals=arrivals,
            streams=self.streams,
            trust=trust,
        )
        cells = Cells(self.shelf, upstream, self.voice, self.calls.send, arrivals=arrivals, masked=self.masked)
        self.mailbox: Mailbox[Any, Any, Any] = Mailbox("combiner", Combiner(10.0), step, cells.perform)
        cells.attach(self.mailbox)
        self.calls.attach(cells, self.masked, Words(self.voice, self.calls.send, self.streams, clock), self.mailbox)
        self.judgements = Judgements()

    async def run(self) -> None:
        work = [asyncio.ensure_future(one) for one in (self.mailbox.run(), self._stay_joined())]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await self.spool.close()

    def drop(self) -> None:
        """Lose the connection to the reducer."""
        self._dropped.set()

    # ---- clients' transfers

    async def take_update(self, header: UpdateHeader, caller: Caller, content: bytes) -> UpdateReceipt:
        """Do what ``SendUpdate`` does."""
        owner = f"client {caller.name}"
        known = await self.judgements.known(owner, header)
        if known is not None:
            return known
        unwanted = await self.calls.update_offered(header, caller)
        if unwanted is not None:
            return unwanted
        start = UploadStart(header.upload_id, 0, header.size, header.sha256)
        update = await self._spooled(owner, start, content)
        return await self.judgements.judge(owner, header, lambda: self.calls.update_arrived(header, caller, update))

    async def take_object(self, start: UploadStart, caller: Caller, content: bytes) -> None:
        """Do what ``Transfer.Upload`` does."""
        self.streams.admit(caller, start)
        upload = await self._spooled(f"client {caller.name}", start, content)
        try:
            await self.streams.take(upload)
        finally:
            await upload.discard()

    async def _spooled(self, owner: str, start: UploadStart, content: bytes) -> SpooledUpload:
        await self.spool.discard(owner, start.upload_id)
        incoming = await self.spool.begin(owner, start)
        if content:
            await incoming.append(content)
        return await incoming.finish()

    # ---- the reducer

    async def _stay_joined(self) -> None:
        while True:
            outbox: Outbox[ToCombiner] = Outbox(NORTH)
            out = Queue()
            calls = self._network.reducer.calls
            hello = CombinerHello(NORTH, LIFE, "north:12080", 100, "0.1.0", self.certificate)

            async def join(wire: bytes, outbox: Outbox[ToCombiner] = outbox) -> None:
                caller = Caller("combiner", NORTH, TokenId("c0" * 8))
                await self._network.reducer.calls.combiner_joined(FROM_COMBINER.value_of(wire), caller, outbox)

            try:
                await self._network.lines.carry(FROM_COMBINER, None, hello, join)
                self._dropped.clear()
                await until_one_ends(self._down(outbox, out), self._up(out), self._dropped.wait())
            except PeerFault as fault:
                self._network.told("the network", fault.code)
            self.voice.disconnected()
            outbox.close()
            await calls.combiner_left(NORTH, LIFE)
            await asyncio.sleep(_AGAIN_S)

    async def _down(self, outbox: Outbox[ToCombiner], out: Queue) -> None:
        async def hears(wire: bytes) -> None:
            message = TO_COMBINER.value_of(wire)
            if isinstance(message, HelloAccepted):
                self.voice.connected(out)  # type: ignore[arg-type]  # the one method of a link that it uses
            else:
                self.calls.reducer_said(message)

        while (message := await outbox.next()) is not None:
            try:
                await self._network.lines.carry(TO_COMBINER, None, message, hears)
            except PeerFault as fault:
                self._network.told("combiner", fault.code)
                raise

    async def _up(self, out: Queue) -> None:
        async def says(wire: bytes) -> None:
            await self._network.reducer.calls.combiner_said(NORTH, LIFE, FROM_COMBINER.value_of(wire))

        while True:
            message = await out.next()
            client = message.client if isinstance(message, WordPassedOn) else None
            try:
                await self._network.lines.carry(FROM_COMBINER, client, message, says)
            except PeerFault as fault:
                self._network.told("reducer", fault.code)
                raise

    def kept(self) -> dict[str, Any]:
        """Everything that it holds."""
        held = {
            generation: (None if cell.total._words is None else cell.total._words.tobytes(), dict(cell.told))
            for generation, cell in self.masked._held.items()
        }
        relays = {generation: cell.relay and set(cell.relay._kept) for generation, cell in self.masked._held.items()}
        return {
            "machine": self.mailbox.state,
            "sums": held,
            "boxes": relays,
            "policy": (self.calls._policy, self.trust._newest),
            "streams": ({key: one.sha256 for key, one in self.streams._asked.items()}, dict(self.streams._announced)),
            "clients": (set(self.calls._outboxes), dict(self.calls._registered)),
        }


@dataclass
class Refusals:
    """Everything that was refused, by whom, as the code of its fault."""

    by: Counter[tuple[str, str]] = field(default_factory=Counter)

    def told(self, who: str, code: str) -> None:
        self.by[who, code] += 1

    @property
    def codes(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, code), times in self.by.items():
            found[code] += times
        return found


class WholeNetwork:
    """All of it. Use ``a_whole_network``."""

    def __init__(self, folder: Path, clients: Sequence[AClient], policy: Policy, log: list[Any]) -> None:
        self.folder, self.policy, self.log = folder, policy, log
        self.lines, self.n_parameters = Lines(), N_PARAMETERS
        self.refusals = Refusals()
        self.reducer = Network(Stored(), folder / "scratch", Trouble(), OperatorFiles(folder / "operator", policy))
        self.combiner = WholeCombiner(folder / "combiner", self)
        self.clients: dict[ClientId, WholeClient] = {}
        self._people = clients
        self._tasks: list[asyncio.Task[None]] = []
        self.vector_changes: VectorChanges = lambda _, header, content: (header, content)
        self.stream_changes: StreamChanges = lambda _, start, content: (start, content)
        self.on_new_client: Callable[[WholeClient], None] = lambda _: None
        self.committed = 0
        self.rests: list[str] = []
        self._looked_at = len(log)

    def told(self, who: str, code: str) -> None:
        self.refusals.told(who, code)

    async def open(self) -> None:
        (self.folder / "scratch").mkdir()
        await self.reducer.start()
        await self.combiner.open()
        self._tasks.append(asyncio.ensure_future(self.combiner.run()))
        for client in self._people:
            self._tasks.append(asyncio.ensure_future(self._run_client(self._new_client(client))))
        while not all(whole.attached.is_set() for whole in self.clients.values()):
            self.check_alive()
            await asyncio.sleep(0.01)
        self._tasks.append(asyncio.ensure_future(self._operate()))
        await quiet()

    def _new_client(self, client: AClient) -> WholeClient:
        whole = WholeClient(client, self.folder / client.name, self, self.told)
        self.clients[whole.id] = whole
        self.on_new_client(whole)
        return whole

    async def _run_client(self, whole: WholeClient) -> None:
        """Run a client, and start it again where its disk has ended it, as whoever keeps processes running does."""
        while True:
            try:
                return await whole.run()
            except MemoryUnwritable as fault:
                self.told("client", fault.code)
            await asyncio.sleep(_AGAIN_S)
            whole = self._new_client(whole.client)

    async def _operate(self) -> None:
        """Do what an operator does who finds the session at rest: let it go on with a new work."""
        mailbox = self.reducer.mailbox
        while True:
            await mailbox.until(lambda state: isinstance(state.work, Paused))
            await quiet()
            self.rests.append((await self.reducer.control.session(self.session)).reason)
            with contextlib.suppress(WrongSessionStatus):  # all members have given up in the meantime, and it goes on
                await self.reducer.control.resume_session(self.session, new_work=True)
            await mailbox.until(lambda state: not isinstance(state.work, Paused))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        judging = [one.task for one in self.combiner.judgements._judging.values()]
        for task in judging:
            task.cancel()
        await asyncio.gather(*judging, return_exceptions=True)
        await self.reducer.end()

    async def start_session(self, **changed: Any) -> None:
        """Start a session that goes on for as long as the test does."""
        seed = a_model({"w": ("F32", tuple(float(number) for number in range(self.n_parameters)))})
        model = await self.reducer.control.upload_model(_in_order(seed))
        is_masked = changed.get("masking", "pet") != "none"
        masked = MaskedOptions(**{"clip": 2.0, **changed.pop("masked", {})} if is_masked else {})
        plain = {"masking": "pet", "rounds": 1_000, "clients_wanted": len(self.clients), "clients_required": 3}
        options: dict[str, Any] = {
            **plain,
            "seed_model": model.digest,
            "masked": masked,
            "validate": False,
            "gather_timeout_s": 5.0,
            **changed,
        }
        view = await self.reducer.start_session(**options)
        self.session = SessionId(view.id)

    @property
    def somebody(self) -> WholeClient:
        """One of the clients, always the same."""
        return next(iter(self.clients.values()))

    @property
    def members(self) -> frozenset[ClientId]:
        """The sum participants of the newest committee."""
        body = next(
            one.message.word
            for one in reversed(self.lines.passed)
            if one.kind == CommitteeBody.kind and one.way is TO_CLIENT
        )
        chains = (world.verify_chain(row.chain, world.TRUST) for row in body.rows)
        return frozenset(ClientId(one.client_id.hex()) for one in chains)

    def publish(self, policy: Policy) -> None:
        """Have the operator sign a policy; the reducer looks for it before its next attempt."""
        assert self.reducer.operator is not None
        self.policy = policy
        self.reducer.operator.publish(policy)

    def check_alive(self) -> None:
        """Raise what ended any of the processes."""
        for task in (*self._tasks, self.reducer.running):
            if task.done():
                task.result()
                raise AssertionError("a process has ended")
        for entry in self.log[self._looked_at :]:
            assert not entry.get("exc_info"), entry
        self._looked_at = len(self.log)

    # ---- rounds

    async def next_message(self) -> None:
        """Wait until something is said."""
        self.lines.news.clear()
        await self.lines.news.wait()

    async def until(self, reached: Callable[[], object]) -> None:
        """Wait until messages have led to something, for so many rounds as it can take at most."""
        began = self.lines.committed
        while not reached():
            self.check_alive()
            assert self.lines.committed < began + _MOST_ROUNDS, "what was waited for was never said"
            await self.next_message()

    async def next_round(self) -> RoundRecord:
        """Wait for the next commit, look at everything that must hold, and return its record."""
        await self.until(lambda: self.lines.committed > self.committed)
        self.committed += 1
        record = await self._round(self.committed)
        self.check_model(record)
        self.check_promises()
        self.check_alive()
        return record

    async def newest_round(self) -> RoundRecord:
        """Wait for a commit that begins from now on."""
        while self.lines.committed > self.committed:
            await self.next_round()
        return await self.next_round()

    async def _round(self, number: int) -> RoundRecord:
        key = round_key(self.session, number)
        record = await Ledger(self.reducer.stored.documents, 0).get("rounds", key, RoundRecord)
        assert record is not None
        assert record.status == "committed"
        return record

    def check_model(self, record: RoundRecord) -> None:
        """Hold a round's model to the mean of those who are in it."""
        contents = self.reducer.stored.objects.contents
        base, model = (
            self._weights(contents[digest]) for digest in (record.plan.base_model, record.model or Digest(""))
        )
        there = [self.clients[ClientId(one.client)] for one in record.included]
        assert len({one.id for one in there}) == len(there) >= 3
        mean = np.mean([one.values.astype(np.float64) for one in there], axis=0)
        assert np.abs(model - (base + mean)).max() < 1e-4, "the model is not the mean of those who are in it"
        assert record.samples == SAMPLES * len(there)

    def check_promises(self) -> None:
        """Hold what members have promised to what the reducer has asked for."""
        for client in self.clients.values():
            promised = client.folder.memory.member().promised
            assert {(one.ctx, one.included_hash) for one in promised} <= self.lines.asked, (
                "a promise that nobody asked for"
            )

    def _weights(self, content: bytes) -> np.ndarray:
        return load(BytesIO(content).read())["w"].astype(np.float64)

    # ---- what is looked at

    def kept(self) -> dict[str, Any]:
        """Return everything that anybody holds; two of these are equal when nothing has changed."""
        documents = self.reducer.stored.documents._collections
        assert self.reducer.masked is not None
        attempts = [
            (at.attempt, dict(at.committees), dict(at.partials), dict(at.streams), set(at.asked))
            for at in self.reducer.masked._attempts.all()
        ]
        reducer = {
            "machine": self.reducer.mailbox.state,
            "documents": {
                (name, key): one.text
                for name, kept in documents.items()
                if name in {"rounds", "sessions"}
                for key, one in kept.items()
            },
            "attempts": attempts,
            "objects": set(self.reducer.stored.objects.contents),
        }
        clients = {one.client.name: one.kept() for one in self.clients.values()}
        return {"reducer": reducer, "combiner": self.combiner.kept(), **clients}

    def codes_since(self, position: int) -> Counter[str]:
        """Return the codes of peers' faults that were logged, events of the reducer among them."""
        found: Counter[str] = Counter()
        for entry in self.log[position:]:
            text = " ".join(str(value) for value in entry.values())
            found.update(code for code in _CODE.findall(text) if code in peer_faults())
            found["UnexpectedEvent"] += entry["event"] == "unexpected event"  # a mailbox says it like this
        return +found


@cache
def peer_faults() -> frozenset[str]:
    """Return the names of all faults of peers."""
    found, waiting = set(), [PeerFault]
    while waiting:
        one = waiting.pop()
        found.add(one.__name__)
        waiting += one.__subclasses__()
    return frozenset(found - {"PeerFault"})


@contextlib.asynccontextmanager
async def a_whole_network(
    log: list[Any], clients: Sequence[AClient] = CLIENTS[:5], policy: Policy = world.POLICY
) -> AsyncIterator[WholeNetwork]:
    """Run a network; its files are in memory where that can be, as nobody here asks what survives a power cut.

    Args:
        log: what ``structlog.testing.capture_logs`` writes into.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="fedn-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        network = WholeNetwork(Path(folder), clients, policy, log)
        await network.open()
        try:
            yield network
        finally:
            await network.close()
