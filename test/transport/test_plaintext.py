"""Without TLS: on loopback alone, in a block that asks for it, and with tokens as ever."""

import asyncio

import pytest
from grpc_network import ANNA, AUTHORITY, CERTIFICATE, Bearers, RecordingReducer, connected, reducer

from fedn_py.identity import ClientName
from fedn_py.protocol.messages import AssignRequest
from fedn_py.transport.channels import secure_channel, serve
from fedn_py.transport.plaintext import PlaintextBeyondLoopback, plaintext_is_on, plaintext_on_loopback
from fedn_py.transport.reducer_link import assign
from fedn_py.transport.status import PeerUnreachable, RemoteFault

REQUEST = AssignRequest(ANNA, ClientName("anna"), "", "0.1.0")


def test_a_call_goes_through_with_its_token() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address, connected(address) as channel:
            assert (await assign(channel, REQUEST)).combiner == "east"

    with plaintext_on_loopback():
        asyncio.run(story())


def test_a_wrong_token_is_refused_as_ever() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address, connected(address, "nobody") as channel:
            with pytest.raises(RemoteFault) as caught:
                await assign(channel, REQUEST)
            assert caught.value.code == "NoToken"

    with plaintext_on_loopback():
        asyncio.run(story())


def test_a_peer_with_tls_and_one_without_do_not_understand_each_other() -> None:
    async def story() -> None:
        async with reducer(RecordingReducer()) as address:
            with plaintext_on_loopback():
                channel = secure_channel(address, AUTHORITY.certificate_pem, "client:anna")
            async with channel:
                with pytest.raises(PeerUnreachable):
                    await assign(channel, REQUEST)

    asyncio.run(story())


def test_nothing_leaves_this_host_without_tls() -> None:
    with plaintext_on_loopback(), pytest.raises(PlaintextBeyondLoopback, match="combiner"):
        secure_channel("combiner.example:12080", AUTHORITY.certificate_pem, "client:anna")


def test_no_server_listens_for_others_without_tls() -> None:
    async def story() -> None:
        with pytest.raises(PlaintextBeyondLoopback):
            await serve("0.0.0.0:0", [], CERTIFICATE, Bearers())

    with plaintext_on_loopback():
        asyncio.run(story())


def test_it_is_over_with_its_block() -> None:
    assert not plaintext_is_on()
    with plaintext_on_loopback():
        assert plaintext_is_on()
    assert not plaintext_is_on()
