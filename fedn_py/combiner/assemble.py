"""Puts the combiner together from its settings and keeps it joined to its reducer."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import fedn_py
from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.arrivals import Arrivals
from fedn_py.combiner.calls import Calls
from fedn_py.combiner.cells import Cells
from fedn_py.combiner.joining import Joining
from fedn_py.combiner.masked_cells import MaskedCells
from fedn_py.combiner.masking_trust import MaskingTrust
from fedn_py.combiner.metering import CombinerMetrics
from fedn_py.combiner.metrics_server import MetricsApplication
from fedn_py.combiner.patient_upstream import PatientUpstream
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.upstream import ReducerUpstream, StoreUpstream
from fedn_py.combiner.words import Words
from fedn_py.errors import OwnFault
from fedn_py.identity import CombinerName, InstanceId
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import Combiner
from fedn_py.protocol.messages import CombinerHello
from fedn_py.runtime.allocator import keep_little
from fedn_py.runtime.credential_files import read_server
from fedn_py.runtime.https_server import HttpsServer, serve_https
from fedn_py.runtime.lifetimes import work_until
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.metrics import StoreMetrics, measure_certificate, measure_disk
from fedn_py.runtime.scratch import empty_folder
from fedn_py.runtime.secret_files import bearer_of
from fedn_py.runtime.start_checks import exposed, little_room, raised_file_limit, tell
from fedn_py.settings.fields import split_address
from fedn_py.settings.roles import CombinerSettings
from fedn_py.store.measured import STORE_FAULTS, MeasuredObjects
from fedn_py.store.opening import MinIO, open_objects
from fedn_py.transport.certificates import (
    ServerCertificate,
    certificate_warnings,
    expires_at,
    read_authority_certificate,
    read_server_certificate,
)
from fedn_py.transport.channels import Server, Service, serve
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.reducer_channels import ReducerChannels
from fedn_py.transport.spool import Spool, open_spool
from fedn_py.transport.tickets import Tickets
from fedn_py.transport.transfer_server import TransferPlaces, TransferService
from fedn_py.transport.waiting_line import Reachable, WaitingLine


class MetricsTokenEmpty(OwnFault):
    """The metrics shall be guarded by a token, and the file that shall hold it is empty."""


_GRACE_S = 1.0
_IDLE_UPLOAD_S = 600.0
_MEMORY_WAIT_S = 3.0
_TICKET_WAIT_S = 2.0
_OTHER_FILES = 256


async def run_combiner(settings: CombinerSettings, stop: asyncio.Event) -> None:
    """Run a combiner until ``stop`` is set.

    Raises:
        CertificateProblem, AddressInUse: of its door.
        CredentialUnreadable: of its masking credential.
        StoreUnavailable, StoreMisconfigured: of the object store of its settings.
        CannotListen, MetricsTokenEmpty: of its metrics.
    """
    keep_little()
    async with contextlib.AsyncExitStack() as closing:
        certificate = read_server_certificate(settings.certificate.certificate_file, settings.certificate.key_file)
        metrics = CombinerMetrics()
        measure_certificate(metrics.registry, expires_at(certificate.certificate_pem))
        authority_pem = read_authority_certificate(settings.authority_file)
        trust = _read_trust(settings)
        token = bearer_of(settings.token_file.read_text(encoding="utf-8"))
        channels = ReducerChannels(settings.reducer, authority_pem, token)
        closing.push_async_callback(channels.close)
        upstream = PatientUpstream(await _open_upstream(settings, channels, metrics.stores, closing))
        measure_disk(metrics.registry, settings.state_dir)
        at_hand = empty_folder(settings.state_dir / "objects")
        tell(await asyncio.to_thread(lambda: tuple(_start_warnings(settings, certificate))))
        clock = asyncio.get_running_loop().time
        tickets, voice = Tickets(clock, wait_s=_TICKET_WAIT_S), ReducerVoice()
        reachable = Reachable()
        spool = await open_spool(
            settings.state_dir / "spool",
            memory_bytes=settings.spool.memory_bytes,
            disk_bytes=settings.spool.disk_bytes,
            alone_bytes=settings.spool.alone_bytes,
            memory_wait_s=_MEMORY_WAIT_S,
            most_receiving=settings.spool.receiving,
            most_uploads=settings.max_clients,
            idle_s=_IDLE_UPLOAD_S,
            clock=clock,
            line=WaitingLine(reachable.call),
        )
        closing.push_async_callback(spool.close)
        calls = Calls(
            CombinerName(settings.name),
            tickets,
            voice,
            spool,
            max_clients=settings.max_clients,
            heartbeat_s=settings.heartbeat_s,
            trust=trust,
        )
        shelf = Shelf(upstream, at_hand)
        arrivals, streams = Arrivals(), AnswerStreams(upstream)
        masked = MaskedCells(shelf, upstream, voice, calls.send, arrivals=arrivals, streams=streams, trust=trust)
        cells = Cells(shelf, upstream, voice, calls.send, arrivals=arrivals, masked=masked)
        mailbox = Mailbox("combiner", Combiner(settings.reconnect_grace_s), metrics.measured(step), cells.perform)
        cells.attach(mailbox)
        calls.attach(cells, masked, Words(voice, calls.send, streams, clock), mailbox)
        places = TransferPlaces()
        clients = CombinerService(
            calls,
            spool,
            heartbeat_s=settings.heartbeat_s,
            places=places,
            refused=metrics.refused,
            reachable=reachable,
        )
        objects = TransferService(
            shelf,
            spool,
            sink=None if trust is None else streams,
            roles=frozenset({"client"}),
            status=clients.held,
            places=places,
            admit=streams.admit,
            most_sending=settings.max_clients,
            pieces=shelf,
            line=WaitingLine(reachable.call),
        )
        metrics.transfer.read(received=lambda: spool.received_bytes, sent=lambda: objects.sent_bytes)
        services: list[Service] = [clients, objects]
        server = await serve(settings.listen, services, certificate, tickets, most_peers=settings.max_clients)
        closing.push_async_callback(server.stop, _GRACE_S)
        if settings.listen_metrics is not None:
            shown = await _serve_metrics(settings, settings.listen_metrics, metrics, spool, server)
            closing.push_async_callback(shown.stop)
        hello = CombinerHello(
            CombinerName(settings.name),
            InstanceId(secrets.token_hex(16)),
            settings.advertise,
            settings.max_clients,
            fedn_py.__version__,
            None if trust is None else trust.certificate,
        )
        joining = Joining(channels, hello, voice, calls, server)
        left = asyncio.Event()

        async def leave() -> None:
            await stop.wait()
            await joining.leave()
            left.set()

        await work_until(left, mailbox.run(), joining.run(), leave(), metrics.loop_lag.watch())


def _start_warnings(settings: CombinerSettings, certificate: ServerCertificate) -> Iterator[str]:
    """Look for what does not stop a combiner that starts, and will."""
    yield from raised_file_limit(settings.max_clients + 2 * settings.spool.receiving + _OTHER_FILES)
    yield from exposed(settings.token_file, settings.metrics_token_file)
    yield from certificate_warnings(certificate.certificate_pem, [split_address(settings.advertise)[0]])
    yield from little_room(settings.state_dir)


def _read_trust(settings: CombinerSettings) -> MaskingTrust | None:
    if settings.masking_credential_file is None:
        return None
    return MaskingTrust(read_server(settings.masking_credential_file), lambda: int(time.time()))


async def _open_upstream(
    settings: CombinerSettings, channels: ReducerChannels, metrics: StoreMetrics, closing: contextlib.AsyncExitStack
) -> StoreUpstream | ReducerUpstream:
    place = settings.minio
    if place is None:
        return ReducerUpstream(channels)
    secret = place.secret_key.get_secret_value()
    objects = await open_objects(MinIO(str(place.url), place.access_key, secret, place.bucket, place.ca_file))
    closing.push_async_callback(objects.close)
    return StoreUpstream(MeasuredObjects(objects, metrics.observer("objects", STORE_FAULTS)))


async def _serve_metrics(
    settings: CombinerSettings, listen: str, metrics: CombinerMetrics, spool: Spool, door: Server
) -> HttpsServer:
    """Show the metrics and probes; raises CannotListen, MetricsTokenEmpty."""
    application = MetricsApplication(
        metrics.registry,
        look=lambda: metrics.look_at(spool, settings.spool, joined=door.is_serving),
        not_ready=lambda: () if door.is_serving else ("the combiner is not joined to the reducer",),
        token=_read_metrics_token(settings.metrics_token_file),
    )
    host, port = split_address(listen)
    certificate = settings.certificate
    return await serve_https(
        application, host, port, certificate_file=certificate.certificate_file, key_file=certificate.key_file
    )


def _read_metrics_token(file: Path | None) -> str:
    if file is None:
        return ""
    token = bearer_of(file.read_text(encoding="utf-8"))
    if not token:
        raise MetricsTokenEmpty(f"{file} holds no token", remedy="Write one there: openssl rand -hex 32.")
    return token
