"""Tokens, tickets, and the door that is shut unless a table opens it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_network import AUTHORITY, MemoryObjects, RecordingCombiner, RecordingReducer, a_spool, serving

from fedn_py.errors import PeerFault
from fedn_py.identity import ClientId, ClientName
from fedn_py.transport.authentication import (
    Authenticator,
    Caller,
    Role,
    TokenExpired,
    TokenRecord,
    TokenRevoked,
    UnknownToken,
    WrongRole,
    WrongTokenSecret,
    check,
    new_token,
    token_id_of,
)
from fedn_py.transport.channels import HEALTH_CHECK, Channel, Service, secure_channel
from fedn_py.transport.combiner_server import CombinerService
from fedn_py.transport.reducer_server import ReducerService
from fedn_py.transport.status import restored
from fedn_py.transport.tickets import Tickets, new_ticket
from fedn_py.transport.transfer_server import StoreSink, TransferService
from fedn_py.wire.v1 import network_pb2, transfer_pb2

NOW = 1_000_000.0
ROLES: tuple[Role, ...] = ("admin", "viewer", "combiner", "client")


def test_a_token_is_good_until_its_date() -> None:
    text, record = new_token("client", "hospital-a", 60.0, NOW)
    assert text.startswith(f"fedn1.{record.id}.")
    assert token_id_of(text) == record.id
    assert check(text, record, NOW + 60.0, {"client"}) is record
    with pytest.raises(TokenExpired, match="expired 1 s ago"):
        check(text, record, NOW + 61.0, {"client"})


def test_a_record_keeps_no_secret() -> None:
    text, record = new_token("client", "hospital-a", 60.0, NOW)
    secret = text.split(".")[2]
    assert len(secret) == 43
    assert secret not in repr(record)


def test_tokens_are_never_alike() -> None:
    assert len({new_token("client", "a", 1.0, NOW)[0] for _ in range(100)}) == 100


def test_each_refusal_has_its_name_and_shows_no_secret() -> None:
    text, record = new_token("client", "hospital-a", 60.0, NOW)
    secret = text.split(".")[2]
    wrong = text[:-43] + new_token("client", "b", 1.0, NOW)[0][-43:]
    cases: list[tuple[type[PeerFault], str, TokenRecord | None, set[Role]]] = [
        (UnknownToken, text, None, {"client"}),
        (UnknownToken, text, new_token("client", "b", 60.0, NOW)[1], {"client"}),
        (WrongTokenSecret, wrong, record, {"client"}),
        (TokenRevoked, text, replace(record, revoked=True), {"client"}),
        (WrongRole, text, record, {"admin", "viewer"}),
        (WrongRole, text, record, set()),
    ]
    for fault, shown, kept, roles in cases:
        with pytest.raises(fault) as caught:
            check(shown, kept, NOW, roles)
        assert secret not in caught.value.message + caught.value.remedy


@pytest.mark.parametrize("text", ["", "hello", "fedn1.00.x", "fedn2." + "0" * 16 + "." + "a" * 43, "a" * 100_000])
def test_what_is_no_token_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UnknownToken) as caught:
        check(text, None, NOW, {"client"})
    assert not text or text not in caught.value.message


def test_a_ticket_lets_its_client_in_for_its_time() -> None:
    anna, now = ClientId("a1" * 16), [100.0]
    tickets = Tickets(lambda: now[0])
    text, sha256 = new_ticket()
    tickets.expect(anna, ClientName("anna"), sha256, 60.0)
    caller = asyncio.run(tickets.authenticate(text, "/x/Y"))
    assert (caller.role, caller.name) == ("client", anna)
    assert tickets.name_of(anna) == "anna"
    with pytest.raises(UnknownToken):
        asyncio.run(tickets.authenticate(text + "x", "/x/Y"))
    now[0] = 161.0
    with pytest.raises(TokenExpired):
        asyncio.run(tickets.authenticate(text, "/x/Y"))


def test_a_dismissed_client_s_tickets_are_void_and_others_are_not() -> None:
    tickets = Tickets(lambda: 0.0)
    (anna, anna_sha), (bert, bert_sha) = new_ticket(), new_ticket()
    tickets.expect(ClientId("a1" * 16), ClientName("anna"), anna_sha, 60.0)
    tickets.expect(ClientId("be" * 16), ClientName("bert"), bert_sha, 60.0)
    tickets.dismiss(ClientId("a1" * 16))
    with pytest.raises(UnknownToken):
        asyncio.run(tickets.authenticate(anna, "/x/Y"))
    assert asyncio.run(tickets.authenticate(bert, "/x/Y")).name == "be" * 16


def test_a_client_s_newest_ticket_names_it_until_all_of_its_tickets_are_gone() -> None:
    now = [0.0]
    tickets, client = Tickets(lambda: now[0]), ClientId("a1" * 16)
    tickets.expect(client, ClientName("anna"), "1" * 64, 60.0)
    now[0] = 30.0
    tickets.expect(client, ClientName("anna-2"), "2" * 64, 60.0)
    assert tickets.name_of(client) == "anna-2"
    now[0] = 100.0
    tickets.expect(ClientId("be" * 16), ClientName("bert"), "3" * 64, 60.0)
    assert tickets.name_of(client) is None
    assert tickets.name_of(ClientId("be" * 16)) == "bert"


def test_tickets_are_bounded() -> None:
    tickets = Tickets(lambda: 0.0, most=3)
    texts = []
    for number in range(5):
        text, sha256 = new_ticket()
        texts.append(text)
        tickets.expect(ClientId(f"{number:08x}"), ClientName(f"c{number}"), sha256, 60.0)
    with pytest.raises(UnknownToken):
        asyncio.run(tickets.authenticate(texts[1], "/x/Y"))
    assert asyncio.run(tickets.authenticate(texts[2], "/x/Y")).name == "00000002"


# ---- every method of every server


class Kept(Authenticator):
    """Checks tokens against records, at a fixed hour; the interceptor alone decides on roles."""

    def __init__(self, *records: TokenRecord) -> None:
        self._records = {record.id: record for record in records}

    async def authenticate(self, bearer: str, method: str) -> Caller:
        record = check(bearer, self._records.get(token_id_of(bearer)), NOW, ROLES)
        return Caller(record.role, record.label, record.id)


def methods() -> Iterator[tuple[str, Any]]:
    """All methods of all services that the .proto files describe."""
    for module in (network_pb2, transfer_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


async def refusal_of(channel: Channel, path: str, method: Any, token: str | None = None) -> str:
    """Call any method with an empty message and return the name of the fault it ends with."""
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else None
    kind = ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
    stub = getattr(channel.grpc, kind)(path, request_serializer=None, response_deserializer=None)
    call = stub(metadata=metadata) if method.client_streaming else stub(b"", metadata=metadata)
    try:
        if method.server_streaming:
            await call.read()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return restored(error, channel.address).code
    return "served"


async def services(kind: str, folder: Path) -> list[Service]:
    spool, objects = await a_spool(folder), MemoryObjects()
    if kind == "reducer":
        transfer = TransferService(objects, spool, sink=StoreSink(objects), roles=frozenset({"combiner"}))
        return [ReducerService(RecordingReducer(), heartbeat_s=5.0), transfer]
    transfer = TransferService(objects, spool, sink=None, roles=frozenset({"client"}))
    return [CombinerService(RecordingCombiner(), spool, heartbeat_s=5.0), transfer]


def bare(address: str) -> Channel:
    """A channel that checks the server and shows nothing by itself."""
    credentials = grpc.ssl_channel_credentials(root_certificates=AUTHORITY.certificate_pem)
    return Channel(address, grpc.aio.secure_channel(address, credentials))


@pytest.mark.parametrize("kind", ["reducer", "combiner"])
def test_every_method_refuses_whoever_has_no_right_to_it(kind: str, tmp_path: Path) -> None:
    tokens = {role: new_token(role, f"a {role}", 60.0, NOW) for role in ROLES}
    expired = new_token("client", "late", 60.0, NOW - 100.0)
    revoked_text, revoked = new_token("client", "bad", 60.0, NOW)
    unknown = new_token("client", "never kept", 60.0, NOW)[0]
    forged = tokens["client"][0][:-43] + "A" * 43
    kept = Kept(*(record for _, record in tokens.values()), expired[1], replace(revoked, revoked=True))

    async def story() -> None:
        served = await services(kind, tmp_path)
        table = {path: roles for service in served for path, roles in service.roles.items()}
        async with serving(*served, authenticator=kept) as address, bare(address) as channel:
            for path, method in methods():
                if path not in table:
                    assert await refusal_of(channel, path, method, tokens["admin"][0]) == "MethodNotAllowed"
                    assert await refusal_of(channel, path, method) == "MethodNotAllowed"
                    continue
                assert await refusal_of(channel, path, method) == "NoToken"
                assert await refusal_of(channel, path, method, "hello") == "UnknownToken"
                assert await refusal_of(channel, path, method, unknown) == "UnknownToken"
                assert await refusal_of(channel, path, method, forged) == "WrongTokenSecret"
                assert await refusal_of(channel, path, method, expired[0]) == "TokenExpired"
                assert await refusal_of(channel, path, method, revoked_text) == "TokenRevoked"
                for role, (text, _) in tokens.items():
                    if role not in table[path]:
                        assert await refusal_of(channel, path, method, text) == "WrongRole", (path, role)

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["reducer", "combiner"])
def test_every_method_of_a_served_service_stands_in_its_table(kind: str, tmp_path: Path) -> None:
    async def story() -> None:
        served = await services(kind, tmp_path)
        table = {path for service in served for path in service.roles}
        names = {path.split("/")[1] for path in table}
        assert table == {path for path, _ in methods() if path.split("/")[1] in names}

    asyncio.run(story())


def test_a_method_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    text, record = new_token("admin", "root", 60.0, NOW)

    async def story() -> None:
        async with (
            serving(*await services("reducer", tmp_path), authenticator=Kept(record)) as address,
            secure_channel(address, AUTHORITY.certificate_pem, text) as channel,
        ):
            for path in ("/no.such.Service/Method", "/grpc.health.v1.Health/Watch"):
                call = channel.grpc.unary_unary(path, request_serializer=None, response_deserializer=None)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"")
                assert restored(caught.value, address).code == "MethodNotAllowed"

    asyncio.run(story())


def test_a_probe_needs_no_token(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            serving(*await services("reducer", tmp_path), authenticator=Kept()) as address,
            bare(address) as channel,
        ):
            call = channel.grpc.unary_unary(HEALTH_CHECK, request_serializer=None, response_deserializer=None)
            assert await call(b"") == bytes([0x08, 0x01])  # status: SERVING

    asyncio.run(story())
