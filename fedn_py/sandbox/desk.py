"""The sandbox's desk: a Unix socket at which the reducer's pages ask for what only people at the machines can do.

Rules: it is reached by this user alone; it touches only processes that this sandbox started; one request and one
answer a connection.
"""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedn_py.api.network import Network
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import Digest, parse_digest
from fedn_py.protocol.masked.issuing import token_of
from fedn_py.reducer.assemble import places
from fedn_py.runtime.credential_files import TokenFile, token_text
from fedn_py.runtime.desk import (
    MOST_BYTES,
    AddClient,
    Added,
    Answer,
    Done,
    Kill,
    Look,
    MadeSeed,
    MadeToken,
    MakeSeed,
    MakeToken,
    MaskedUpdateView,
    Processes,
    Request,
    ShowMasked,
    StartAgain,
    read_request,
    write_answer,
    write_fault,
)
from fedn_py.runtime.own_loop import OwnLoop
from fedn_py.sandbox.fleet import Fleet, environment
from fedn_py.sandbox.folder import SandboxFolder
from fedn_py.sandbox.masked_heads import MaskedHeads
from fedn_py.sandbox.opened_mean import opened_mean
from fedn_py.sandbox.processes import Children
from fedn_py.sandbox.seeding import make_seed
from fedn_py.settings import ReducerSettings, load_settings
from fedn_py.store.opening import open_reading

LOOK_EVERY_S = 0.05
_LONGEST_PATH = 100
"""Bytes of a Unix socket's path, for which systems leave some 104."""


class LabelRefused(PeerFault):
    """A join credential cannot have this label or this end."""


@contextmanager
def desk_place(folder: SandboxFolder) -> Iterator[Path]:
    """Give the path of the desk's socket: in the sandbox's folder, or elsewhere if that has too long a name."""
    own = folder.path / "desk" / "socket"
    if len(os.fsencode(own)) <= _LONGEST_PATH:
        own.parent.mkdir(exist_ok=True, mode=0o700)
        own.parent.chmod(0o700)
        yield own
    else:
        with tempfile.TemporaryDirectory(prefix="fedn-desk-") as short:
            yield Path(short) / "socket"


class Desk:
    """Serves the socket from a thread of its own until ``close``."""

    def __init__(self, place: Path, folder: SandboxFolder, children: Children, fleet: Fleet, network: Network) -> None:
        self._place, self._folder, self._children = place, folder, children
        self._fleet, self._network = fleet, network
        self._heads = MaskedHeads(folder)
        self._one_at_a_time = asyncio.Lock()
        # Processes end with the thread that started them: this one lives as long as the sandbox.
        self._loop = OwnLoop("desk")
        self._serving: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to serve."""
        asyncio.run(self._loop.do(self._open()))

    def close(self) -> None:
        """Serve no more."""
        asyncio.run(self._loop.close())
        self._place.unlink(missing_ok=True)

    async def _open(self) -> None:
        self._place.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(str(self._place))
        self._place.chmod(0o600)  # before it listens
        self._serving = await asyncio.start_unix_server(self._serve, sock=bound, limit=MOST_BYTES)
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            clients = [view.name for view in self._children.views() if view.role == "client"]
            await asyncio.to_thread(self._heads.look, clients)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await self._answered(await reader.readline()))
            await writer.drain()
        except (OSError, ValueError):  # the reducer went away, or sent no line
            pass
        finally:
            writer.close()

    async def _answered(self, line: bytes) -> bytes:
        try:
            return write_answer(await self._do(read_request(line)))
        except FednError as fault:
            return write_fault(fault)

    async def _do(self, request: Request) -> Answer:
        match request:
            case Look():
                return Processes(self._children.views())
            case Kill(name):
                self._fleet.kill(name)
                return Done()
            case StartAgain(name):
                self._fleet.start_again(name)
                return Done()
            case AddClient():
                return await self._add_client()
            case MakeToken(label, days):
                return await asyncio.to_thread(self._make_token, label, days)
            case MakeSeed(package):
                return await self._make_seed(parse_digest(package))
            case ShowMasked(client):
                return await asyncio.to_thread(self._show_masked, client)

    async def _add_client(self) -> Added:
        async with self._one_at_a_time:  # two would take the same number
            number, data = await asyncio.to_thread(self._fleet.one_more)
            return Added(self._fleet.start_client(number, data))

    def _make_token(self, label: str, days: float) -> MadeToken:
        try:
            join = self._folder.operator.new_join(label, days)
        except ValueError as fault:
            raise LabelRefused(str(fault), remedy="Choose a short name, and some days.") from fault
        bearer, _ = self._network.create_token("client", label, days * 86_400.0)
        return MadeToken(token_text(TokenFile(bearer, join)), token_of(join).token_id.hex())

    async def _make_seed(self, package: Digest) -> MadeSeed:
        with tempfile.TemporaryDirectory(dir=self._folder.path) as scratch:
            archive = Path(scratch) / "package.tar.gz"
            await self._fetch(package, archive)
            file = await make_seed(archive, Path(scratch))
            model = await asyncio.to_thread(self._network.upload_seed_model, file)
        return MadeSeed(model.digest, model.size)

    async def _fetch(self, package: Digest, into: Path) -> None:
        """Take a package out of the store, beside the reducer, which gives it to clients alone."""
        await asyncio.to_thread(self._network.package, package)
        settings = load_settings(ReducerSettings, self._folder.settings("reducer"), environment(stores=True))
        stores = await open_reading(*places(settings))
        try:
            with into.open("wb") as file:
                async for piece in stores.objects.get(package):
                    file.write(piece)
        finally:
            await stores.close()

    def _show_masked(self, client: str) -> MaskedUpdateView:
        head = self._heads.newest(client)
        opened = opened_mean(self._network, head.session, head.round, len(head.words))
        words = tuple(int(word) for word in head.words)
        return MaskedUpdateView(head.client, head.session, head.round, words, head.n_words, opened)
