"""A whole client on lines instead of connections: its machines and shells are real, only its learner is the test's."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
from fuzz.lines import ASSIGNING, FROM_CLIENT, TO_CLIENT, UPLOADING, LineCut, Lines, Queue, until_one_ends
from masked_world import AClient
from safetensors.numpy import load_file, save_file

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.hearing import Hearing
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory, create_memory
from fedn_py.client.masked_side import MaskedSide
from fedn_py.client.memory_rows import Pinned
from fedn_py.client.objects import ObjectFolder
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.client.state_folder import KEY_FILE, MEMORY_FILE, StateFolder
from fedn_py.client.updates import UpdateFolder
from fedn_py.client.work import ClientWork
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, ClientName, Digest, TokenId
from fedn_py.protocol.client import Client, Effect, Event, step
from fedn_py.protocol.messages import (
    AssignRequest,
    ClientHello,
    ClientWelcome,
    FromClient,
    GoElsewhere,
    Heartbeat,
    TaskFailed,
    ToClient,
    TurnCame,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import empty_folder
from fedn_py.runtime.secret_files import write_secret
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import InChunks, UploadStart
from fedn_py.transport.completion import in_thread
from fedn_py.transport.status import RemoteFault
from fedn_py.transport.streams import Outbox

SAMPLES = 50
_AGAIN_S = 0.01
_TOKEN = TokenId("c1" * 8)
DOWNLOAD, STREAM = "download", "stream of an answer"
_TRY_AGAIN = {"WrongOffset", "UploadIncomplete", "SpoolFull", "DiskFull", "LineCut"}


def id_of(client: AClient) -> ClientId:
    return ClientId(client.id.hex())


class SentAway(PeerFault):
    """The combiner sends this client to another one."""


class TheLearner:
    """Adds the same values to every model."""

    def __init__(self, client: AClient) -> None:
        self.client = client

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        model = load_file(base)
        model["w"] = model["w"] + world.the_values(self.client, len(model["w"]))
        save_file(model, out_model)
        return Learned(SAMPLES, {})

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        return Learned(SAMPLES, {"accuracy": 0.5})

    async def close(self) -> None:
        pass


def a_state_folder(path: Path, client: AClient) -> Path:
    """The folder of a client of the masked world that has joined; made where it is not there."""
    if path.exists():
        return path
    path.mkdir(parents=True, mode=0o700)
    public = bytes(client.key.verify_key)
    create_memory(path / MEMORY_FILE, public)
    write_secret(path / KEY_FILE, bytes(client.key).hex() + "\n")
    memory = MaskedMemory(path / MEMORY_FILE, public)
    memory.save_pinned(Pinned(world.TRUST.operator_key, world.DEPLOYMENT, client.chain))
    memory.close()
    return path


class WholeClient:
    """One client, from its lines to its memory.

    Args:
        network: what it joins; see ``whole_network.py``.
        told: learns of everything that is refused, with who refuses it.

    Attributes:
        failures: what it said that it does not do.
        receipts: what became of its uploads.
    """

    def __init__(self, client: AClient, folder: Path, network: Any, told: Callable[[str, str], None]) -> None:
        self.client, self.id, self.network, self._told = client, id_of(client), network, told
        self.folder = StateFolder(a_state_folder(folder, client))
        self.lines: Lines = network.lines
        updates = UpdateFolder(empty_folder(folder / "updates"), ClientName(client.name), None)
        models = ObjectFolder(folder / "models", ".safetensors", 2)
        self.work = ClientWork(
            TheLearner(client),
            self,  # type: ignore[arg-type]  # what it uses of a CombinerSide
            updates,
            models,
            release="client",
            release_logs=True,
        )
        self.mailbox: Mailbox[Client, Event, Effect] = Mailbox("client", Client(), step, self.work.perform)
        self.beliefs = Beliefs(self.folder.registration, self.folder.memory, now_s=lambda: world.NOW_S)
        self.side = MaskedSide(
            self.folder.registration,
            self.folder.memory,
            MaskedFiles(folder / "masked", self.folder.memory),
            self,
            release="client",
            beliefs=self.beliefs,
            post=self.mailbox.post,
        )
        self.hearing = Hearing(self.side, self.beliefs, self, self.mailbox.post)
        self.work.attach(self.mailbox, self.side)
        self.failures: list[TaskFailed] = []
        self.receipts: list[UpdateReceipt] = []
        self.attached = asyncio.Event()
        self.streams = 0
        self._out: Queue | None = None
        self._transfers: set[asyncio.Task[Any]] = set()
        self.stays_away = False
        self._dropped = asyncio.Event()

    async def run(self) -> None:
        """Run all of it; ends with what stops a client."""
        works = (self.mailbox.run(), self.side.run(), self.hearing.run(), self._stay_attached())
        tasks = [asyncio.ensure_future(one) for one in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.work.close()
            self.folder.__exit__(None, None, None)

    def drop(self) -> None:
        """Lose the connection."""
        self._dropped.set()

    # ---- what its work asks: implements ``Combiner`` of the client's ports

    def send(self, message: FromClient) -> None:
        if isinstance(message, TaskFailed):
            self.failures.append(message)
        if self._out is not None:
            self._out.send(message)

    async def fetch(self, digest: Digest, into: Path) -> None:
        while True:
            try:
                return await self.lines.over(DOWNLOAD, self._download(digest, into))
            except LineCut:
                await asyncio.sleep(_AGAIN_S)

    async def _download(self, digest: Digest, into: Path) -> None:
        shelf = self.network.combiner.shelf
        await shelf.stat(digest)
        content = b"".join([chunk async for chunk in shelf.get(digest)])
        await in_thread(into.write_bytes, content)

    async def upload(self, header: UpdateHeader, source: Path | InChunks) -> UpdateReceipt:
        return await self._apart(self._upload(header, source))

    async def upload_object(self, upload_id: str, digest: Digest, path: Path) -> None:
        await self._apart(self._upload_object(upload_id, digest, path))

    async def _upload(self, header: UpdateHeader, source: Path | InChunks) -> UpdateReceipt:
        receipt: list[UpdateReceipt] = []
        header, content = self.network.vector_changes(self.id, header, await in_thread(_content, source))

        async def door(wire: bytes) -> None:
            said = UPLOADING.value_of(wire)
            caller = Caller("client", self.id, _TOKEN)
            receipt[:] = [await self.network.combiner.take_update(said, caller, content)]

        for _ in range(3):
            try:
                await self.lines.carry(UPLOADING, self.id, header, door)
                break
            except FednError as fault:
                self._told("combiner", fault.code)
                if fault.code not in _TRY_AGAIN:
                    raise RemoteFault(fault.code, fault.message, remedy=fault.remedy) from fault
                content = await in_thread(_content, source)
        self.receipts += receipt
        if not receipt[0].accepted:
            self._told("combiner", receipt[0].reason.split(":")[0].split(" ")[0])
        return receipt[0]

    async def _upload_object(self, upload_id: str, digest: Digest, path: Path) -> None:
        content = await in_thread(path.read_bytes)
        start = UploadStart(upload_id, 0, len(content), digest)
        start, content = self.network.stream_changes(self.id, start, content)
        caller = Caller("client", self.id, _TOKEN)
        for _ in range(3):
            try:
                return await self.lines.over(STREAM, self.network.combiner.take_object(start, caller, content))
            except FednError as fault:
                self._told("combiner", fault.code)
                if fault.code not in _TRY_AGAIN:
                    raise RemoteFault(fault.code, fault.message, remedy=fault.remedy) from fault
        return None

    async def _apart(self, work: Any) -> Any:
        """As the real one does: a transfer ends with its connection, by a fault."""
        task = asyncio.ensure_future(work)
        self._transfers.add(task)
        task.add_done_callback(self._transfers.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        if task.cancelled():
            raise RemoteFault("PeerUnreachable", "the connection was closed")
        return task.result()

    # ---- its connection

    async def _stay_attached(self) -> None:
        while True:
            try:
                await self._assigned()
                async with self._attaching() as outbox:
                    self._dropped.clear()
                    await until_one_ends(self._down(outbox), self._up(), self._dropped.wait())
            except PeerFault as fault:
                self._told("the network", fault.code)
            await asyncio.sleep(_AGAIN_S)
            while self.stays_away:  # noqa: ASYNC110 - the test tells nobody
                await asyncio.sleep(_AGAIN_S)

    async def _assigned(self) -> None:
        async def door(wire: bytes) -> None:
            request = ASSIGNING.value_of(wire)
            await self.network.reducer.calls.assign(request, Caller("client", self.client.name, _TOKEN))

        chain = self.folder.registration.chain
        request = AssignRequest(self.id, ClientName(self.client.name), "", "0.1.0", chain)
        await self.lines.carry(ASSIGNING, self.id, request, door)

    @contextlib.asynccontextmanager
    async def _attaching(self) -> AsyncIterator[Outbox[ToClient]]:
        calls = self.network.combiner.calls
        outbox: Outbox[ToClient] = Outbox(self.client.name)
        hello = ClientHello(self.id, ClientName(self.client.name), "0.1.0", self.folder.registration.chain)

        async def door(wire: bytes) -> None:
            await calls.client_attached(FROM_CLIENT.value_of(wire), Caller("client", self.id, _TOKEN), outbox)

        await self.lines.carry(FROM_CLIENT, self.id, hello, door)
        self._out = Queue()
        self.streams += 1
        try:
            yield outbox
        finally:
            self._out = None
            if self.attached.is_set():
                self.attached.clear()
                self.hearing.detached()
            outbox.close()
            for transfer in self._transfers:
                transfer.cancel()
            await asyncio.gather(*self._transfers, return_exceptions=True)
            await calls.client_left(self.id)

    async def _down(self, outbox: Outbox[ToClient]) -> None:
        while (message := await outbox.next()) is not None:
            try:
                await self.lines.carry(TO_CLIENT, self.id, message, self.hears)
            except PeerFault as fault:
                self._told("client", fault.code)
                raise

    async def hears(self, wire: bytes) -> None:
        """Take in what came, as the client's end of its connection does."""
        message = TO_CLIENT.value_of(wire)
        if isinstance(message, ClientWelcome):
            self.attached.set()
            self.hearing.attached()
        elif isinstance(message, GoElsewhere):
            raise SentAway(message.reason)
        elif not isinstance(message, Heartbeat | TurnCame):
            self.hearing.heard(message)

    async def _up(self) -> None:
        out = self._out
        assert out is not None
        while True:
            message = await out.next()
            try:
                await self.lines.carry(FROM_CLIENT, self.id, message, self.says)
            except PeerFault as fault:
                self._told("combiner", fault.code)
                raise

    async def says(self, wire: bytes) -> None:
        """Have the combiner take in what this client says."""
        await self.network.combiner.calls.client_said(self.id, FROM_CLIENT.value_of(wire))

    # ---- what is looked at

    def kept(self) -> dict[str, Any]:
        """Everything that it remembers, and what its machines hold."""
        rows = self.folder.memory._db.execute("SELECT kind, key, value FROM records ORDER BY number").fetchall()
        seats = {ctx: member.state for ctx, member in self.side._seats._seated.items()}
        files = {file.name: hashlib.sha256(file.read_bytes()).digest() for file in self._files()}
        return {
            "memory": rows,
            "machine": self.mailbox.state,
            "update participant": self.side._participant.state,
            "sum participant": seats,
            "committees": {ctx0: cell.committee.done() for ctx0, cell in self.side._cells.items()},
            "files": files,
        }

    def _files(self) -> list[Path]:
        folder = self.folder.path / "masked"
        return sorted(folder.iterdir()) if folder.exists() else []

    @property
    def values(self) -> np.ndarray:
        return world.the_values(self.client, self.network.n_parameters)


def _content(source: Path | InChunks) -> bytes:
    return (
        source.read_bytes()
        if isinstance(source, Path)
        else b"".join(part for chunk in source.chunks(0) for part in chunk)
    )
