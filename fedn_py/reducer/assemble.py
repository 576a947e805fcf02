"""Puts the reducer together from its settings: the one place that names its real adapters."""

import asyncio
import contextlib
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey
from prometheus_client import CollectorRegistry

import fedn_py
from fedn_py.errors import FednError, OwnFault
from fedn_py.identity import ClientId, CombinerName, InstanceId, TokenId
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.messages import RoundProgress
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_work import Effect, Event, SessionStarted
from fedn_py.protocol.reducer_work import Reducer as State
from fedn_py.reducer import trail_head
from fedn_py.reducer.absences import Absences
from fedn_py.reducer.bell import Bell
from fedn_py.reducer.calls import Calls
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.control import Control
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.lease import LOOK_EVERY_S, Holder, Lease
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import bytes_of
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.masked_sessions import MaskingWasSetUp
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.metering import ReducerMetrics
from fedn_py.reducer.newest_attempt import FILE_NAME, NewestAttemptFile, follow, hold_back_restored
from fedn_py.reducer.patience import WAITED_FOR
from fedn_py.reducer.records import ClientRecord
from fedn_py.reducer.registrations import Registrations
from fedn_py.reducer.restored import what_was_lost
from fedn_py.reducer.restoring import check_not_half_restored
from fedn_py.reducer.roster import KnownClient, Roster, RosterLimits
from fedn_py.reducer.rounds import Rounds
from fedn_py.reducer.service import Parts, StoredControl
from fedn_py.reducer.sessions import Sessions
from fedn_py.reducer.standby import Standby
from fedn_py.reducer.state_key import StateKey
from fedn_py.reducer.sweep import Sweep
from fedn_py.reducer.swept_objects import SweptObjects
from fedn_py.reducer.takeover import stamp_live
from fedn_py.reducer.token_book import TokenBook, good_token
from fedn_py.reducer.trail_head import HeadKept, TrailHeadFile, notice_restored
from fedn_py.runtime.allocator import keep_little
from fedn_py.runtime.credential_files import read_server
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox, MailboxClosed
from fedn_py.runtime.metrics import StoreMetrics, measure_certificate, measure_disk
from fedn_py.runtime.own_loop import OwnLoop
from fedn_py.runtime.scratch import empty_folder
from fedn_py.runtime.start_checks import exposed, little_room, raised_file_limit, skewed, tell
from fedn_py.settings.fields import split_address
from fedn_py.settings.roles import MinIOSettings, ReducerSettings
from fedn_py.store.disk import make_folder
from fedn_py.store.lock import FolderLock
from fedn_py.store.measured import STORE_FAULTS, MeasuredDocuments, MeasuredObjects
from fedn_py.store.opening import EmbeddedStores, MinIO, MongoDB, Stores, open_documents, open_stores
from fedn_py.store.ports import Documents, Objects
from fedn_py.transport.authentication import TokenRecord
from fedn_py.transport.certificates import (
    ServerCertificate,
    certificate_warnings,
    expires_at,
    read_authority_certificate,
    read_server_certificate,
)
from fedn_py.transport.channels import Server, Service, serve
from fedn_py.transport.reducer_link import found_within_s
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.spool import open_spool
from fedn_py.transport.transfer_server import StoreSink, TransferService

_log = logger("fedn_py.reducer")

_GRACE_S = 1.0
_END_WITHIN_S = 1.0
_FLUSH_WITHIN_S = 1.0
_RELEASE_WITHIN_S = 1.5
_ANY_HOST = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_FILES_WANTED = 4_096
_SPOOL_MEMORY_BYTES = 64 * 1024 * 1024
_SPOOL_DISK_BYTES = 2**44


class NotStarted(OwnFault):
    """The reducer was asked before it had started."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a reducer has before it is active.

    Attributes:
        state_key: None where it runs no masked rounds.
        heads: where it names the head of the trail.
    """

    certificate: ServerCertificate
    authority_pem: bytes
    stores: Stores
    scratch: Path
    state_key: StateKey | None
    heads: TrailHeadFile


class Reducer:
    """A reducer process without its web server, which is put in front of ``control``.

    It opens its stores, waits as a standby while another reducer is active on them, and then is the active one.
    """

    def __init__(self, settings: ReducerSettings) -> None:
        self._settings = settings
        self._closing = contextlib.AsyncExitStack()
        self._working = contextlib.AsyncExitStack()
        self._own_loop: OwnLoop | None = None
        self._lease: Lease | None = None
        self._is_held = False
        self._standby: Standby | None = None
        self._opened: Opened | None = None
        self._warnings: tuple[str, ...] = ()
        self._mailbox: Mailbox[State, Event, Effect] | None = None
        self._events: EventLog | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._control: Control | None = None
        self._new_admin: TokenId | None = None
        self._server: Server | None = None
        self._metrics = ReducerMetrics()

    @property
    def registry(self) -> CollectorRegistry:
        """What this process measures."""
        return self._metrics.registry

    @property
    def control(self) -> Control:
        """What people and programs can ask."""
        if self._control is None:
            raise NotStarted("the reducer has not started")
        return self._control

    @property
    def new_admin(self) -> TokenId | None:
        """The operator's token, where this start has made it."""
        return self._new_admin

    @property
    def grpc_port(self) -> int:
        """The port that combiners and clients reach, which matters when the settings ask for port 0."""
        if self._server is None:
            raise NotStarted("the reducer has not started")
        return self._server.port

    @property
    def waits_for(self) -> str:
        """Why it is not active yet, for people; to be asked from any thread."""
        return "the reducer is starting" if self._standby is None else self._standby.reason

    async def start(self) -> None:
        """Open the stores, and be the active reducer once no other one is."""
        await self.open()
        await self.become_active()

    async def open(self) -> None:
        """Open the stores and read what this reducer was given; it does nothing yet.

        Raises:
            StoreUnavailable, StoreMisconfigured, StoreInUse: of the stores and of its own folder.
            CertificateProblem, CredentialUnreadable, StateKeyUnreadable, TrailHeadUnreadable: of its files.
        """
        keep_little()
        async with self._closed_on_fault():
            await self._open()

    async def become_active(self) -> None:
        """Wait for the lease, put this reducer's fence on all that is under way, and go on with it.

        Raises:
            OtherStateKey, OtherCredential, MaskingMissing, ObjectsNotShared: it could not take over.
            RestoreUnfinished: the stores are half restored from a backup.
            StoreUnavailable, StoreFull, StoreMisconfigured, DiskFull, NoFilesLeft: the embedded stores, or the disk
                that they are on, cannot be read or written; with others these are waited for.
            AddressInUse: of its door.
        """
        async with self._closed_on_fault():
            assert self._opened is not None
            while True:
                try:
                    await self._begin(self._opened, await self._held(self._opened))
                except WAITED_FOR as fault:
                    if self._standby is None:
                        raise
                    await self._stand_back(self._standby, fault)
                else:
                    return

    async def _stand_back(self, standby: Standby, fault: FednError) -> None:
        """Undo what was begun of a takeover that lost its stores or its disk, so that it can be begun anew."""
        standby.say(f"standby: {fault.message}")
        await self.hand_over()
        await self._working.aclose()
        await asyncio.sleep(LOOK_EVERY_S)

    @contextlib.asynccontextmanager
    async def _closed_on_fault(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            await self.stop()
            raise

    async def _open(self) -> None:
        settings = self._settings
        certificate = read_server_certificate(settings.certificate.certificate_file, settings.certificate.key_file)
        authority_pem = read_authority_certificate(settings.certificate.authority_file)
        make_folder(settings.state_dir)
        lock = FolderLock(settings.state_dir)
        self._closing.callback(lock.release)
        documents_at, objects_at = places(settings)
        stores = _measured(await open_stores(documents_at, objects_at), self._metrics.stores)
        self._closing.push_async_callback(stores.close)
        measure_certificate(self.registry, expires_at(certificate.certificate_pem))
        measure_disk(self.registry, settings.state_dir)
        # Only now: where another reducer has these stores open, its files are none of ours.
        scratch = empty_folder(settings.state_dir / "scratch")
        self._warnings = tell(await _start_warnings(settings, stores, certificate))
        state_key, credential = None, ""
        if settings.masking is not None:
            state_key = StateKey.at(settings.masking.state_key_file or settings.state_dir / "state.key")
            server = read_server(settings.masking.credential_file)
            credential = bytes(SigningKey(server.server_secret).verify_key).hex()
        me = Holder(
            settings.name,
            InstanceId(secrets.token_hex(16)),
            _for_people(settings.listen_web),
            "" if state_key is None else state_key.fingerprint,
            credential,
        )
        heads = TrailHeadFile(settings.state_dir / trail_head.FILE_NAME)
        seen = heads.read()
        above = 0 if seen is None else seen.fence
        self._opened = Opened(certificate, authority_pem, stores, scratch, state_key, heads)
        if isinstance(documents_at, EmbeddedStores):
            # The folder's lock has shown that nobody else is alive.
            self._lease = Lease(stores.documents, me, above=above)
            return
        self._own_loop = OwnLoop("lease")
        self._closing.push_async_callback(self._own_loop.close)
        observe = self._metrics.stores.observer("lease", STORE_FAULTS)
        documents = MeasuredDocuments(await self._own_loop.do(open_documents(documents_at)), observe)
        self._closing.push_async_callback(_closed_there, self._own_loop, documents)
        self._lease = Lease(documents, me, above=above)
        watching = Ledger(stores.documents, 0)
        newest_file = NewestAttemptFile(settings.state_dir / FILE_NAME)

        async def keep_up(fence: int) -> None:
            await trail_head.follow(watching, heads, fence)
            if state_key is not None:
                await follow(watching, newest_file)

        shares_objects = not isinstance(objects_at, EmbeddedStores)
        self._standby = Standby(self._lease, self._own_loop, me, keep_up, shares_objects=shares_objects)

    async def _held(self, opened: Opened) -> Ledger:
        """Take the lease, and stamp what is under way before anything else is done."""
        assert self._lease is not None
        await check_not_half_restored(opened.stores.documents)
        if self._standby is None or self._own_loop is None:
            fence = await self._lease.take_at_once()
        else:
            fence = await self._standby.until_held()
            self._tasks.append(asyncio.create_task(self._own_loop.do(self._lease.hold())))
        self._is_held = True
        await check_not_half_restored(opened.stores.documents)  # it may have begun just before the lease was taken
        ledger = Ledger(opened.stores.documents, fence)
        await stamp_live(ledger)
        return ledger

    async def _begin(self, opened: Opened, ledger: Ledger) -> None:
        settings, stores, scratch = self._settings, opened.stores, opened.scratch
        bell = Bell()
        events = await EventLog.open(ledger, bell=bell)
        self._events = events
        self._working.push_async_callback(_flushed, events)
        tokens = TokenBook(ledger, events)
        self._new_admin = await tokens.write_admin(settings.state_dir / "admin.token")
        every_s, grace_s = settings.sweep.every_s, settings.sweep.grace_s
        objects = SweptObjects(stores.objects, grace_s, asyncio.get_running_loop().time)
        catalogue = Catalogue(ledger, objects, events, scratch)
        credentials = await self._credentials(ledger, events)
        sessions = Sessions(ledger, catalogue, events, speaker=credentials)
        rounds = Rounds(ledger, objects, events, scratch)
        await notice_restored(ledger, opened.heads, events)
        kept = HeadKept(rounds.perform, opened.heads, ledger, rounds.patience)
        measured = self._metrics.rounds.measured(step)
        absences = Absences(await _last_seen(ledger))
        looked_at = absences.watched(rounds.phases.timed(measured))
        mailbox = Mailbox("reducer", State(told=await sessions.last_commit()), looked_at, kept.perform)
        known, revoked = await _known_clients(ledger), await tokens.revoked()
        registrations = Registrations(credentials, await _known_chains(ledger)) if credentials is not None else None
        heartbeat_s = settings.heartbeat_s
        limits = RosterLimits(expected_grace_s=found_within_s(heartbeat_s))
        roster = Roster(
            mailbox.post, events, opened.authority_pem, known, limits, revoked=revoked, registrations=registrations
        )
        masked: MaskedRounds | None = None
        if credentials is not None:
            assert opened.state_key is not None
            newest_file = NewestAttemptFile(settings.state_dir / FILE_NAME)
            await hold_back_restored(ledger, newest_file, events)
            masked = MaskedRounds(
                ledger,
                objects,
                events,
                scratch,
                credentials=credentials,
                state_key=opened.state_key,
                newest_file=newest_file,
                patience=rounds.patience,
                roster=roster,
                mailbox=mailbox,
                phases=rounds.phases,
            )
        rounds.attach(roster, mailbox, masked)
        sweep = Sweep(
            stores.documents,
            objects,
            events,
            fence=ledger.fence,
            every_s=every_s,
            in_use=rounds.in_use,
            on_end=self._metrics.sweep.ended,
        )
        progress: dict[CombinerName, RoundProgress] = {}
        calls = Calls(
            ledger,
            events,
            tokens,
            roster,
            mailbox,
            progress=progress,
            heartbeat_s=heartbeat_s,
            masked=masked,
            bell=bell,
        )
        self._working.push_async_callback(calls.close)
        self._mailbox = mailbox
        self._control = StoredControl(
            Parts(
                name=settings.name,
                deployment=settings.deployment,
                store_kinds=(
                    "MongoDB" if settings.mongodb is not None else "SQLite",
                    "MinIO" if settings.minio is not None else "folder",
                ),
                documents=stores.documents,
                objects=objects,
                ledger=ledger,
                events=events,
                tokens=tokens,
                catalogue=catalogue,
                sessions=sessions,
                roster=roster,
                mailbox=mailbox,
                patience=rounds.patience,
                progress=progress,
                phases=rounds.phases,
                absences=absences,
                masked=masked,
                bell=bell,
                lost=await what_was_lost(ledger),
            )
        )
        self._tasks += [
            asyncio.create_task(work)
            for work in (
                mailbox.run(),
                events.run(),
                sweep.run(),
                _ring(bell, mailbox),
                self._metrics.loop_lag.watch(),
            )
        ]
        under_way = await sessions.under_way()
        if under_way is not None:
            await _take_up(under_way, masked)
            mailbox.post(under_way)
        self._server = await self._listen(opened, objects, calls, tokens)
        self._working.push_async_callback(self._server.stop, _GRACE_S)
        if self._standby is not None and self._standby.waited_for is not None:
            text = f"reducer {settings.name} has taken over from {self._standby.waited_for}"
            events.tell("reducer.took_over", text, "warning")
        self._metrics.now_active()
        for warning in self._warnings:
            events.tell("start.warning", warning, "warning")
        events.tell("reducer.started", f"reducer {settings.name} {fedn_py.__version__} is active, fence {ledger.fence}")

    async def known(self, bearer: str) -> TokenRecord:
        """Return whose token this is, whether this reducer is active or not; raises the refusal of any other."""
        if self._opened is None:
            raise NotStarted("the reducer has not started")
        return await good_token(Ledger(self._opened.stores.documents, 0), bearer, time.time())

    async def run(self) -> None:
        """Work until cancelled; raises the fault that ends the reducer, if one does."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            fault = task.exception()
            if isinstance(fault, FednError):
                _log.error("the reducer ends", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)
            task.result()

    async def hand_over(self) -> None:
        """End the work in good order and give the lease back: a standby may take over from here on."""
        tasks, self._tasks = self._tasks, []
        self._metrics.no_longer_active()
        if self._mailbox is not None:
            self._mailbox.close()
        await _ended(tasks)
        if self._events is not None:
            await _flushed(self._events)
        if self._lease is None or not self._is_held:
            return
        self._is_held = False
        release = self._lease.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RELEASE_WITHIN_S):
                await (release if self._own_loop is None else self._own_loop.do(release))

    async def stop(self) -> None:
        """Stop in good order: the lease is given back, no new calls, what waits is written, the stores are closed."""
        await self.hand_over()
        await self._working.aclose()
        await self._closing.aclose()

    async def _credentials(self, ledger: Ledger, events: EventLog) -> MaskingCredentials | None:
        masking = self._settings.masking
        if masking is None:
            return None
        return await MaskingCredentials.open(masking.credential_file, masking.policy_file, ledger, events)

    async def _listen(self, opened: Opened, objects: Objects, calls: Calls, tokens: TokenBook) -> Server:
        spool = await open_spool(
            opened.scratch / "spool",
            memory_bytes=_SPOOL_MEMORY_BYTES,
            disk_bytes=_SPOOL_DISK_BYTES,
            most_uploads=1_000,
            idle_s=600.0,
            clock=asyncio.get_running_loop().time,
        )
        self._working.push_async_callback(spool.close)
        # Combiners without an object store of their own get and put through here.
        transfer = TransferService(objects, spool, sink=StoreSink(objects), roles=frozenset({"combiner"}))
        self._metrics.transfer.read(received=lambda: spool.received_bytes, sent=lambda: transfer.sent_bytes)
        services: list[Service] = [ReducerService(calls, heartbeat_s=self._settings.heartbeat_s), transfer]
        return await serve(self._settings.listen_grpc, services, opened.certificate, tokens)


def assemble(settings: ReducerSettings) -> Reducer:
    """Return a reducer that is ready to start."""
    return Reducer(settings)


def places(settings: ReducerSettings) -> tuple[EmbeddedStores | MongoDB, EmbeddedStores | MinIO]:
    """Return where documents and objects are kept."""
    embedded = EmbeddedStores(settings.state_dir)
    documents, objects = settings.mongodb, settings.minio
    return (
        MongoDB(documents.uri.get_secret_value(), documents.database) if documents is not None else embedded,
        minio_place(objects) if objects is not None else embedded,
    )


def minio_place(settings: MinIOSettings) -> MinIO:
    """Return where the settings' objects are."""
    secret = settings.secret_key.get_secret_value()
    return MinIO(str(settings.url), settings.access_key, secret, settings.bucket, settings.ca_file)


def _measured(stores: Stores, metrics: StoreMetrics) -> Stores:
    """Return the same stores, whose operations are measured."""
    return Stores(
        MeasuredDocuments(stores.documents, metrics.observer("documents", STORE_FAULTS)),
        MeasuredObjects(stores.objects, metrics.observer("objects", STORE_FAULTS)),
    )


async def _start_warnings(settings: ReducerSettings, stores: Stores, certificate: ServerCertificate) -> tuple[str, ...]:
    """Look for what does not stop a reducer that starts, and will."""
    state_key_file = settings.masking.state_key_file if settings.masking is not None else None
    folders = [settings.state_dir, *([Path(tempfile.gettempdir())] if settings.minio is not None else [])]
    return (
        *raised_file_limit(_FILES_WANTED),
        *exposed(state_key_file or settings.state_dir / "state.key", settings.state_dir / "admin.token"),
        *certificate_warnings(certificate.certificate_pem),
        *await asyncio.to_thread(lambda: tuple(little_room(*folders))),
        *skewed("MongoDB", await stores.documents.now()),
        *skewed("MinIO", await stores.objects.now()),
    )


async def _ring(bell: Bell, mailbox: Mailbox[State, Event, Effect]) -> None:
    """Ring for every change of what the reducer does, until it stops."""
    with contextlib.suppress(MailboxClosed):
        while True:
            await mailbox.changed()
            bell.ring()


async def _known_clients(ledger: Ledger) -> dict[ClientId, KnownClient]:
    found = await ledger.find("clients", ClientRecord)
    return {record.client: KnownClient(record.name, record.token) for record in found}


async def _last_seen(ledger: Ledger) -> dict[ClientId, float]:
    return {record.client: record.last_seen for record in await ledger.find("clients", ClientRecord)}


async def _known_chains(ledger: Ledger) -> dict[ClientId, Chain]:
    found = await ledger.find("clients", ClientRecord)
    return {record.client: Chain.decode(bytes_of(record.chain)) for record in found if record.chain}


async def _take_up(under_way: SessionStarted, masked: MaskedRounds | None) -> None:
    """Have the attempts of a masked session at hand; raises MaskingWasSetUp."""
    terms = under_way.progress.terms
    if terms.masking == "none":
        return
    if masked is None:
        raise MaskingWasSetUp
    await masked.restore(terms.session)


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel tasks and wait a moment for their end; one that waits for a store's thread does nothing else any more."""
    for task in tasks:
        task.cancel()
    if tasks:
        done, _ = await asyncio.wait(tasks, timeout=_END_WITHIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # seen: ``run`` has raised it, or nobody asks any more


async def _flushed(events: EventLog) -> None:
    with contextlib.suppress(FednError, TimeoutError):
        async with asyncio.timeout(_FLUSH_WITHIN_S):
            await events.flush()


async def _closed_there(own_loop: OwnLoop, documents: Documents) -> None:
    await own_loop.do(documents.close())


def _for_people(listen_web: str) -> str:
    """Return where people find this process, whatever address it listens at."""
    host, port = split_address(listen_web)
    return f"{socket.gethostname() if host in _ANY_HOST else host}:{port}"
