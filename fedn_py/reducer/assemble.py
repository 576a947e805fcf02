"""Puts the reducer together from its settings: the one place that names its real adapters."""

import asyncio
import contextlib
from pathlib import Path

import fedn_py
from fedn_py.errors import FednError, OwnFault
from fedn_py.identity import ClientId, CombinerName
from fedn_py.protocol.masked.certificates import Chain
from fedn_py.protocol.messages import RoundProgress
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_work import Effect, Event, SessionStarted
from fedn_py.protocol.reducer_work import Reducer as State
from fedn_py.reducer.calls import Calls
from fedn_py.reducer.catalogue import Catalogue
from fedn_py.reducer.control import Control
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, take_fence, until_superseded
from fedn_py.reducer.masked_documents import bytes_of
from fedn_py.reducer.masked_rounds import MaskedRounds
from fedn_py.reducer.masked_sessions import MaskingWasSetUp
from fedn_py.reducer.masking_credentials import MaskingCredentials
from fedn_py.reducer.newest_attempt import FILE_NAME, NewestAttemptFile, hold_back_restored
from fedn_py.reducer.records import ClientRecord
from fedn_py.reducer.registrations import Registrations
from fedn_py.reducer.roster import KnownClient, Roster
from fedn_py.reducer.rounds import Rounds
from fedn_py.reducer.service import Parts, StoredControl
from fedn_py.reducer.sessions import Sessions
from fedn_py.reducer.state_key import StateKey
from fedn_py.reducer.token_book import TokenBook
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import empty_folder
from fedn_py.settings.roles import MinIOSettings, ReducerSettings
from fedn_py.store.opening import EmbeddedStores, MinIO, MongoDB, Stores, open_stores
from fedn_py.transport.certificates import ServerCertificate, read_authority_certificate, read_server_certificate
from fedn_py.transport.channels import Server, Service, serve
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.spool import open_spool
from fedn_py.transport.transfer_server import TransferService

_GRACE_S = 1.0
_WATCH_S = 5.0
_SPOOL_MEMORY_BYTES = 64 * 1024 * 1024
_SPOOL_DISK_BYTES = 2**44

_log = logger("fedn_py.reducer")


class NotStarted(OwnFault):
    """The reducer was asked before it had started."""


class Reducer:
    """A reducer process without its web server, which is put in front of ``control``."""

    def __init__(self, settings: ReducerSettings) -> None:
        self._settings = settings
        self._closing = contextlib.AsyncExitStack()
        self._mailbox: Mailbox[State, Event, Effect] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._control: Control | None = None
        self._server: Server | None = None

    @property
    def control(self) -> Control:
        """What people and programs can ask."""
        if self._control is None:
            raise NotStarted("the reducer has not started")
        return self._control

    @property
    def grpc_port(self) -> int:
        """The port that combiners and clients reach, which matters when the settings ask for port 0."""
        if self._server is None:
            raise NotStarted("the reducer has not started")
        return self._server.port

    async def start(self) -> None:
        """Open the stores, listen, and go on with the session that was under way.

        Raises:
            StoreUnavailable, StoreMisconfigured, StoreInUse: of the stores.
            CertificateProblem, AddressInUse: of its door.
        """
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    async def _start(self) -> None:
        settings = self._settings
        certificate = read_server_certificate(settings.certificate.certificate_file, settings.certificate.key_file)
        authority_pem = read_authority_certificate(settings.certificate.authority_file)
        stores = await open_stores(*places(settings))
        self._closing.push_async_callback(stores.close)
        # Only now: where another reducer has these stores open, its files are none of ours.
        scratch = empty_folder(settings.state_dir / "scratch")
        fence = await take_fence(stores.documents)
        ledger = Ledger(stores.documents, fence)
        events = await EventLog.open(ledger)
        self._closing.push_async_callback(_flushed, events)
        tokens = TokenBook(ledger, events)
        await tokens.write_admin(settings.state_dir / "admin.token")
        catalogue = Catalogue(ledger, stores.objects, events, scratch)
        credentials = await self._credentials(ledger, events)
        sessions = Sessions(ledger, catalogue, events, speaker=credentials)
        rounds = Rounds(ledger, stores.objects, events, scratch)
        mailbox = Mailbox("reducer", State(), step, rounds.perform)
        known, revoked = await _known_clients(ledger), await tokens.revoked()
        registrations = Registrations(credentials, await _known_chains(ledger)) if credentials is not None else None
        roster = Roster(mailbox.post, events, authority_pem, known, revoked=revoked, registrations=registrations)
        masked: MaskedRounds | None = None
        if credentials is not None:
            newest_file = NewestAttemptFile(settings.state_dir / FILE_NAME)
            await hold_back_restored(ledger, newest_file, events)
            masked = MaskedRounds(
                ledger,
                stores.objects,
                events,
                scratch,
                credentials=credentials,
                state_key=StateKey.at(settings.state_dir / "state.key"),
                newest_file=newest_file,
                patience=rounds.patience,
                roster=roster,
                mailbox=mailbox,
            )
        rounds.attach(roster, mailbox, masked)
        progress: dict[CombinerName, RoundProgress] = {}
        heartbeat_s = settings.heartbeat_s
        calls = Calls(
            ledger, events, tokens, roster, mailbox, progress=progress, heartbeat_s=heartbeat_s, masked=masked
        )
        self._closing.push_async_callback(calls.close)
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
                objects=stores.objects,
                ledger=ledger,
                events=events,
                tokens=tokens,
                catalogue=catalogue,
                sessions=sessions,
                roster=roster,
                mailbox=mailbox,
                patience=rounds.patience,
                progress=progress,
                masked=masked,
            )
        )
        watch = until_superseded(stores.documents, fence, every_s=_WATCH_S)
        self._tasks = [asyncio.create_task(work) for work in (mailbox.run(), events.run(), watch)]
        self._closing.push_async_callback(self._end_tasks)
        under_way = await sessions.under_way()
        if under_way is not None:
            await _take_up(under_way, masked)
            mailbox.post(under_way)
        self._server = await self._listen(stores, calls, tokens, certificate, scratch)
        self._closing.push_async_callback(self._server.stop, _GRACE_S)
        events.tell("reducer.started", f"reducer {settings.name} {fedn_py.__version__} started")

    async def run(self) -> None:
        """Work until cancelled; raises the fault that ends the reducer, if one does."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Stop in good order: no new calls, what waits is written, the stores are closed."""
        await self._closing.aclose()

    async def _credentials(self, ledger: Ledger, events: EventLog) -> MaskingCredentials | None:
        masking = self._settings.masking
        if masking is None:
            return None
        return await MaskingCredentials.open(masking.credential_file, masking.policy_file, ledger, events)

    async def _listen(
        self, stores: Stores, calls: Calls, tokens: TokenBook, certificate: ServerCertificate, scratch: Path
    ) -> Server:
        spool = await open_spool(
            scratch / "spool",
            memory_bytes=_SPOOL_MEMORY_BYTES,
            disk_bytes=_SPOOL_DISK_BYTES,
            most_uploads=1_000,
            idle_s=600.0,
            clock=asyncio.get_running_loop().time,
        )
        self._closing.push_async_callback(spool.close)
        # Combiners without an object store of their own get and put through here.
        transfer = TransferService(stores.objects, spool, sink=stores.objects, roles=frozenset({"combiner"}))
        services: list[Service] = [ReducerService(calls, heartbeat_s=self._settings.heartbeat_s), transfer]
        return await serve(self._settings.listen_grpc, services, certificate, tokens)

    async def _end_tasks(self) -> None:
        assert self._mailbox is not None
        self._mailbox.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


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


async def _known_clients(ledger: Ledger) -> dict[ClientId, KnownClient]:
    found = await ledger.find("clients", ClientRecord)
    return {record.client: KnownClient(record.name, record.token) for record in found}


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


async def _flushed(events: EventLog) -> None:
    with contextlib.suppress(FednError):
        await events.flush()
