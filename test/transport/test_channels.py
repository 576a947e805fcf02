"""Who is trusted, and what is said when somebody is not."""

import asyncio
import datetime
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc._cython import cygrpc
from grpc_network import (
    ANNA,
    AUTHORITY,
    CERTIFICATE,
    Bearers,
    MemoryObjects,
    RecordingReducer,
    a_spool,
    connected,
    digest_of,
    reducer,
    serving,
)
from recording_proxy import recording_proxy

from fedn_py.identity import ClientName
from fedn_py.protocol.messages import AssignRequest
from fedn_py.transport.authentication import UnknownToken
from fedn_py.transport.certificates import CertificateProblem, issue_server_certificate, make_authority
from fedn_py.transport.channels import SHARED_OPTIONS, AddressInUse, is_loopback, secure_channel, serve
from fedn_py.transport.reducer_link import assign
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.status import PeerUnreachable, RemoteFault
from fedn_py.transport.transfer import download
from fedn_py.transport.transfer_server import TransferService

REQUEST = AssignRequest(ANNA, ClientName("anna"), "", "0.1.0")
DAY = datetime.timedelta(days=1)
APPLICATION_DATA = 23


async def fault_of(address: str, authority_pem: bytes = AUTHORITY.certificate_pem) -> PeerUnreachable:
    async with secure_channel(address, authority_pem, "client:anna") as channel:
        with pytest.raises(PeerUnreachable) as caught:
            await assign(channel, REQUEST)
    return caught.value


def test_a_server_of_another_authority_is_not_trusted() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address:
            fault = await fault_of(address, make_authority("somebody else").certificate_pem)
        assert "not signed by the authority that is trusted here" in fault.why
        assert "authority of the network" in fault.remedy

    asyncio.run(story())


def test_a_certificate_for_other_hosts_is_not_trusted() -> None:
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["reducer.example"])

    async def story() -> None:
        calls = ReducerService(RecordingReducer(), heartbeat_s=5.0)
        async with serving(calls, certificate=certificate) as address:
            fault = await fault_of(address)
        assert "other host names" in fault.why

    asyncio.run(story())


@pytest.mark.parametrize(("days", "why"), [(-400, "has expired"), (2, "is not yet valid")])
def test_a_wrong_date_is_called_clock_or_certificate(days: int, why: str) -> None:
    when = datetime.datetime.now(datetime.UTC) + days * DAY
    certificate = issue_server_certificate(AUTHORITY, "reducer", ["127.0.0.1"], now=when)

    async def story() -> None:
        calls = ReducerService(RecordingReducer(), heartbeat_s=5.0)
        async with serving(calls, certificate=certificate) as address:
            fault = await fault_of(address)
        assert why in fault.why
        assert "clocks" in fault.remedy
        assert "certificate" in fault.remedy

    asyncio.run(story())


def test_a_port_that_speaks_no_tls_is_unreachable() -> None:
    async def story() -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            fault = await fault_of(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert "speak TLS" in fault.why

    asyncio.run(story())


def test_the_token_is_not_shown_to_a_port_that_speaks_no_tls() -> None:
    heard = bytearray()

    async def story() -> None:
        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.extend(await reader.read(1 << 16))
            writer.close()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        async with server:
            await fault_of(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(story())
    assert heard
    assert b"client:anna" not in heard


def test_nobody_there_is_unreachable_with_the_address() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address:
            pass
        fault = await fault_of(address)
        assert fault.address == address
        assert address in fault.message
        assert "firewall" in fault.remedy

    asyncio.run(story())


def test_localhost_is_reached_by_its_name_too() -> None:
    async def story() -> None:
        calls = RecordingReducer()
        async with reducer(calls) as address, connected(f"localhost:{address.rpartition(':')[2]}") as channel:
            assert (await assign(channel, REQUEST)).combiner == "east"

    asyncio.run(story())


def test_a_wrong_token_is_refused_by_name() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address, connected(address, "nobody") as channel:
            with pytest.raises(RemoteFault) as caught:
                await assign(channel, REQUEST)
            assert caught.value.code == "NoToken"

    asyncio.run(story())


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "gr\u00fcn"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(UnknownToken):
        secure_channel("127.0.0.1:1", AUTHORITY.certificate_pem, token)


def test_an_authority_that_is_no_certificate_is_refused() -> None:
    with pytest.raises(CertificateProblem, match="the certificate authority is no certificate"):
        secure_channel("127.0.0.1:1", b"-----BEGIN NONSENSE", "token")


def test_an_address_in_use_is_named() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address:
            with pytest.raises(AddressInUse, match=address):
                await serve(address, [], CERTIFICATE, Bearers())

    asyncio.run(story())


CANNOT_LISTEN = """
import asyncio, gc, logging
from grpc_network import CERTIFICATE, Bearers, RecordingReducer, reducer
from fedn_py.transport.channels import serve
from fedn_py.transport.plaintext import plaintext_on_loopback

lines = []
kept = logging.Handler()
kept.emit = lines.append
logging.basicConfig(level=logging.DEBUG, handlers=[kept])

async def refused(address):
    try:
        await serve(address, [], CERTIFICATE, Bearers())
    except Exception as fault:
        return fault  # with all that its frames hold, to be let go of when the loop is over

async def story():
    async with reducer(RecordingReducer()) as address:
        with plaintext_on_loopback():
            return await refused(address), await refused("0.0.0.0:0")

for _ in range(5):
    print(*(type(fault).__name__ for fault in asyncio.run(story())))
    gc.collect()
lines.clear()
"""


def test_a_server_that_cannot_listen_leaves_nothing_that_crashes_whoever_keeps_its_log() -> None:
    path = os.pathsep.join(path for path in sys.path if path)
    told = subprocess.run(
        [sys.executable, "-c", CANNOT_LISTEN], check=True, capture_output=True, text=True, env={"PYTHONPATH": path}
    )
    assert told.stdout.split("\n", 1)[0] == "AddressInUse PlaintextBeyondLoopback"


def test_loopback_is_told_from_the_world() -> None:
    assert is_loopback("127.0.0.1:1")
    assert is_loopback("localhost:1")
    assert is_loopback("[::1]:1")
    assert not is_loopback("reducer.example:1")
    assert not is_loopback("10.0.0.1:1")


def test_the_committed_wire_files_are_what_the_proto_files_give() -> None:
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, str(root / "proto" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_a_connection_holds_is_bounded_and_every_option_is_one_that_grpc_knows() -> None:
    """An option that gRPC does not know is passed over without a word."""
    library = Path(cygrpc.__file__).read_bytes()
    assert [name for name, _ in SHARED_OPTIONS if name.encode() not in library] == []
    assert dict(SHARED_OPTIONS)["grpc.experimental.tcp_max_read_buffer_size"] == 12_000
    assert dict(SHARED_OPTIONS)["grpc.http2.bdp_probe"] == 0
    assert dict(SHARED_OPTIONS)["grpc.http2.lookahead_bytes"] == 4 * 1024 * 1024


def record_sizes(raw: bytes) -> Iterator[int]:
    """Give the sizes of the TLS records with data in them (RFC 8446, section 5.1: a type, a version, a length)."""
    at = 0
    while at + 5 <= len(raw):
        size = int.from_bytes(raw[at + 3 : at + 5], "big")
        if raw[at] == APPLICATION_DATA:
            yield size
        at += 5 + size


@pytest.mark.parametrize(("most_peers", "least", "most"), [(256, 12_000, 17_000), (257, 3_000, 4_096)])
def test_a_server_of_many_peers_sends_small_tls_records(tmp_path: Path, most_peers: int, least: int, most: int) -> None:
    data = os.urandom(1 << 20)

    async def story() -> None:
        spool = await a_spool(tmp_path / "spool")
        objects = TransferService(MemoryObjects(data), spool, sink=None, roles=frozenset({"client"}))
        async with (
            serving(objects, most_peers=most_peers) as address,
            recording_proxy(int(address.rpartition(":")[2])) as (port, recording),
        ):
            async with connected(f"127.0.0.1:{port}") as channel:
                await download(channel, digest_of(data), tmp_path / "model")
            (sent,) = recording.sent
        assert least <= max(record_sizes(bytes(sent))) <= most

    asyncio.run(story())
