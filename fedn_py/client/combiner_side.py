"""The client's connection to its network: assigned, attached, lost and attached again, for ever.

Downloads wait out lost connections; an upload belongs to the combiner that asked for it and ends with it.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

import fedn_py
from fedn_py.client.durable_files import StateDamaged
from fedn_py.client.masked_memory import MemoryUnwritable
from fedn_py.client.ports import Listener
from fedn_py.client.registration import Registration
from fedn_py.errors import FednError
from fedn_py.identity import ClientName, Digest
from fedn_py.protocol.backoff import delay_s
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    ClientHello,
    ClientWelcome,
    FromClient,
    GoElsewhere,
    UpdateHeader,
    UpdateReceipt,
)
from fedn_py.runtime.credential_files import read_token_file
from fedn_py.runtime.logging import logger
from fedn_py.settings.roles import ClientSettings
from fedn_py.transport.certificates import read_authority_certificate
from fedn_py.transport.channels import Channel, secure_channel
from fedn_py.transport.chunks import InChunks
from fedn_py.transport.combiner_link import CombinerLink
from fedn_py.transport.completion import in_thread
from fedn_py.transport.reducer_link import assign
from fedn_py.transport.status import PeerUnreachable, RemoteFault
from fedn_py.transport.transfer import download, upload_object, upload_update

_BASE_S = 0.5
_LONGEST_S = 30.0
_TRIES_AT_ONE_COMBINER = 3

Ending = Literal["refused", "unreachable", "sent away", "lost"]
Result = TypeVar("Result")

_log = logger("fedn_py.client")


class CombinerSide:
    """Keeps the client attached to some combiner; implements ``Combiner``."""

    def __init__(self, settings: ClientSettings, registration: Registration) -> None:
        self._settings, self._registration = settings, registration
        self._listener: Listener | None = None
        self._link: CombinerLink | None = None
        self._channel: Channel | None = None
        self._attached = asyncio.Event()
        self._transfers: set[asyncio.Task[Any]] = set()
        self._told: set[tuple[str, str]] = set()
        self._reducers = deque(settings.reducer)
        self._leaving = asyncio.Event()
        self._over = asyncio.Event()

    def attach(self, listener: Listener) -> None:
        """Tell somebody of what comes."""
        self._listener = listener

    # ---- what the work asks

    def send(self, message: FromClient) -> None:
        """Say something to the combiner if one is there; otherwise it asks again when it wants to know."""
        if self._link is not None:
            self._link.send(message)

    async def fetch(self, digest: Digest, into: Path) -> None:
        """Download an object from the combiner, whichever it is now; waits out lost connections."""
        while True:
            await self._attached.wait()
            channel = self._channel
            if channel is None:
                continue
            try:
                await self._apart(channel, download(channel, digest, into))
            except PeerUnreachable:
                if channel is self._channel and self._attached.is_set():
                    raise  # still attached: it is the transfer that fails, not the connection
            else:
                return

    async def upload(self, header: UpdateHeader, source: Path | InChunks) -> UpdateReceipt:
        """Upload an update to the combiner that asked for it."""
        if self._channel is None:
            raise PeerUnreachable("the combiner", "not attached")
        return await self._apart(self._channel, upload_update(self._channel, header, source))

    async def upload_object(self, upload_id: str, digest: Digest, path: Path) -> None:
        """Upload an object to the combiner that asked for it."""
        if self._channel is None:
            raise PeerUnreachable("the combiner", "not attached")
        await self._apart(self._channel, upload_object(self._channel, upload_id, digest, path))

    # ---- the connection

    async def run(self) -> None:
        """Stay attached until the client has left; raises StateDamaged or MemoryUnwritable of its own memory."""
        assignment: Assignment | None = None
        last: Assignment | None = None
        tries = failures = 0
        while not self._leaving.is_set():
            why: FednError | None = None
            try:
                if assignment is None:
                    assignment = last = await self._assigned(last)
                    tries = 0
                tries += 1
                ending = await self._one_stream(assignment)
            except (StateDamaged, MemoryUnwritable):
                raise  # no waiting helps
            except FednError as fault:
                why = fault
                ending = "refused" if isinstance(fault, RemoteFault) else "unreachable"
            if self._leaving.is_set():
                break
            failures += 1
            if ending == "lost":  # it was there: how often it was tried before says nothing any more
                failures = tries = 0
            # A combiner that was only lost, or cannot be reached for a moment, is tried again before the reducer is
            # asked for another: it may be the reducer that is away.
            if ending in {"refused", "sent away"} or tries > _TRIES_AT_ONE_COMBINER:
                assignment = None
            self._tell(why)
            await asyncio.sleep(delay_s(max(failures, 1), random.random(), _BASE_S, _LONGEST_S))
        self._over.set()

    async def leave(self, last: FromClient | None) -> None:
        """Take leave of the combiner with a last word, and wait a moment until it has heard."""
        self._leaving.set()
        words = () if last is None else (last,)
        if self._link is not None and not await self._link.take_leave(self._over, *words):
            _log.warning("the combiner did not hear that this client stops")

    async def _assigned(self, last: Assignment | None) -> Assignment:
        """Ask the reducer for a combiner; while it is away, the last one may be back before it is."""
        try:
            return await self._ask()
        except PeerUnreachable:
            if last is None:
                raise
            return last

    async def _ask(self) -> Assignment:
        settings = self._settings
        authority_pem = await asyncio.to_thread(read_authority_certificate, settings.authority_file)
        # Read anew each time: a token that has run out can be replaced without a restart.
        token = await asyncio.to_thread(read_token_file, settings.token_file)
        await in_thread(self._registration.enter, token.join)
        hello = self._hello()
        request = AssignRequest(
            hello.client, hello.name, settings.preferred_combiner or "", fedn_py.__version__, hello.chain
        )
        faults: list[FednError] = []
        for _ in range(len(self._reducers)):
            try:
                async with secure_channel(self._reducers[0], authority_pem, token.bearer) as channel:
                    return await assign(channel, request)
            except FednError as fault:
                faults.append(fault)
                self._reducers.rotate(-1)  # another one may be the active reducer
        # What a reducer says counts more than that another one, which stands by for it, says nothing.
        raise next((fault for fault in faults if isinstance(fault, RemoteFault)), faults[0])

    def _hello(self) -> ClientHello:
        """Return who this client is now: its first join credential gives it its id in the network."""
        registration = self._registration
        return ClientHello(
            registration.client, ClientName(self._settings.name), fedn_py.__version__, registration.chain
        )

    async def _one_stream(self, assignment: Assignment) -> Ending:
        """Attach to a combiner and listen to it until the stream ends; tell how it ended once it had begun."""
        channel = secure_channel(assignment.address, assignment.authority_pem, assignment.ticket)
        welcomed = False
        try:
            async with CombinerLink(channel, self._hello()) as link:
                async for message in link.messages():
                    if isinstance(message, ClientWelcome):
                        welcomed, self._link, self._channel = True, link, channel
                        self._told.clear()
                        self._attached.set()
                        if self._listener is not None:
                            self._listener.attached()
                        _log.info("attached", combiner=message.combiner, address=assignment.address)
                    elif isinstance(message, GoElsewhere):
                        _log.info("the combiner sends this client elsewhere", reason=message.reason)
                        return "sent away"
                    elif self._listener is not None:
                        self._listener.heard(message)
        except FednError as fault:
            if not welcomed:
                raise
            _log.warning("the combiner is gone; attaching again", reason=fault.message)
            return "sent away" if isinstance(fault, RemoteFault) else "lost"
        finally:
            self._attached.clear()
            self._link = self._channel = None
            if welcomed and self._listener is not None:
                self._listener.detached()
            # Before their channel: they would use it again, closed, after a wait.
            for transfer in self._transfers:
                transfer.cancel()
            await asyncio.gather(*self._transfers, return_exceptions=True)
            await channel.close()
        return "lost" if welcomed else "unreachable"

    def _tell(self, why: FednError | None) -> None:
        """Say why there is no combiner, once for each reason until there is one again."""
        # The words about an unreachable peer differ from attempt to attempt; what to do about it does not.
        if why is not None and (why.code, why.remedy) not in self._told:
            self._told.add((why.code, why.remedy))
            _log.error("not attached; trying again", fault=why.code, reason=why.message, what_to_do=why.remedy)

    async def _apart(self, channel: Channel, work: Coroutine[Any, Any, Result]) -> Result:
        """Do a transfer so that the end of its channel is a fault of the peer, not a cancellation of who waits."""
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
            raise PeerUnreachable(channel.address, "the connection was closed")
        return task.result()
