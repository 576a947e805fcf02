"""A whole reducer on its own stores, behind real TLS, through starts, faults, restarts and ends."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import masked_world as world
import pytest
import structlog
from artifacts import a_model, a_package, a_sum, chunked, names_in
from awaiting import until
from grpc_network import AUTHORITY, CERTIFICATE
from reducer_network import OperatorFiles

from fedn_py.identity import ClientId, ClientName, CombinerName, Digest, InstanceId, SessionId
from fedn_py.protocol.masked.certificates import ServerCredential
from fedn_py.protocol.messages import (
    AssignRequest,
    AttachedClients,
    CellOrder,
    CombinerHello,
    Contribution,
    ExpectClient,
    HelloAccepted,
    MetricsSummary,
    PartialAggregate,
    PolicyNews,
    RoundCommitted,
)
from fedn_py.reducer.assemble import NotStarted, Reducer, assemble
from fedn_py.reducer.control import Control
from fedn_py.reducer.masked_sessions import MaskingWasSetUp
from fedn_py.reducer.masking_credentials import CredentialRefused
from fedn_py.reducer.shown_sessions import SessionOptions, SessionView
from fedn_py.runtime.credential_files import write_server
from fedn_py.settings.roles import MaskingSettings, ReducerSettings
from fedn_py.store.opening import EmbeddedStores, open_objects
from fedn_py.store.ports import StoreInUse
from fedn_py.transport.certificates import write_pair
from fedn_py.transport.channels import AddressInUse, Channel, secure_channel
from fedn_py.transport.reducer_link import ReducerLink, assign
from fedn_py.transport.status import PeerUnreachable, RemoteFault

ANNA = ClientId("a" * 32)
NORTH = CombinerHello(CombinerName("north"), InstanceId("0123456789abcdef"), "127.0.0.1:12080", 10, "0.1.0")


@pytest.fixture
def settings(tmp_path: Path) -> ReducerSettings:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    write_pair(CERTIFICATE.certificate_pem, CERTIFICATE.key_pem, certificates / "r.pem", certificates / "r.key")
    (certificates / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    return ReducerSettings.model_validate(
        {
            "listen_grpc": "127.0.0.1:0",
            "listen_web": "127.0.0.1:0",
            "state_dir": tmp_path / "state",
            "certificate": {
                "certificate_file": certificates / "r.pem",
                "key_file": certificates / "r.key",
                "authority_file": certificates / "authority.pem",
            },
        }
    )


@asynccontextmanager
async def running(settings: ReducerSettings) -> AsyncIterator[Reducer]:
    reducer = assemble(settings)
    await reducer.start()
    try:
        yield reducer
    finally:
        await reducer.stop()


async def ended(control: Control, session: SessionId) -> SessionView:
    while True:
        view = await control.session(session)
        if view.status == "finished":
            return view
        await asyncio.sleep(0.01)


def text_of(file: Path) -> str:
    return file.read_text().strip()


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_it_serves_its_operator_and_starts_again_on_the_same_stores(settings: ReducerSettings) -> None:
    async def story() -> None:
        token_file = settings.state_dir / "admin.token"
        async with running(settings) as reducer:
            text = text_of(token_file)
            assert mode_of(token_file) == 0o600
            caller = await reducer.control.authenticate(text)
            assert caller.role == "admin"
            package = await reducer.control.upload_package(chunked(a_package()))
            status = await reducer.control.status()
            assert [(store.kind, store.healthy) for store in status.stores] == [("SQLite", True), ("folder", True)]
            last = (await reducer.control.events(limit=1)).items
        async with running(settings) as reducer:
            assert text_of(token_file) == text
            assert (await reducer.control.authenticate(text)).token == caller.token
            assert await reducer.control.package(package.digest) == package
            events = (await reducer.control.events(limit=100)).items
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert len(events) >= len(last)

    asyncio.run(story())


async def hear_refusal(channel: Channel) -> None:
    """Join until the words of the refusal come through: gRPC loses them where they meet the hello on its way."""
    while True:
        with suppress(PeerUnreachable):
            async with ReducerLink(channel, NORTH) as refused:
                await anext(refused.messages())


def test_a_combiner_and_a_client_come_in_through_its_door_and_a_round_is_made(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as reducer:
            control, address = reducer.control, f"127.0.0.1:{reducer.grpc_port}"
            combiner_token, _ = await control.create_token("combiner", "north", 600.0)
            client_token, _ = await control.create_token("client", "anna", 600.0)
            package = await control.upload_package(chunked(a_package()))
            model = await control.upload_model(chunked(a_model()))
            async with (
                secure_channel(address, AUTHORITY.certificate_pem, combiner_token) as channel,
                secure_channel(address, AUTHORITY.certificate_pem, client_token) as client_channel,
                ReducerLink(channel, NORTH) as link,
            ):
                heard = link.messages()
                assert isinstance(await anext(heard), HelloAccepted)
                request = AssignRequest(ANNA, ClientName("anna"), "", "0.1.0")
                assignment = await assign(client_channel, request)
                assert (assignment.combiner, assignment.authority_pem) == ("north", AUTHORITY.certificate_pem)
                expected = await anext(heard)
                assert isinstance(expected, ExpectClient)
                assert expected.client == ANNA
                link.send(AttachedClients((ANNA,)))
                session = await control.start_session(
                    SessionOptions(package=package.digest, seed_model=model.digest, rounds=1, validate=False)
                )
                order = await anext(heard)
                assert isinstance(order, CellOrder)
                objects = reducer.control._parts.objects  # type: ignore[attr-defined]
                total = await objects.put(chunked(a_sum([5.0, 5.0, 5.0])))
                contribution = Contribution(ANNA, 5, Digest("e" * 64))
                link.send(PartialAggregate(order.generation, total.digest, 5, (contribution,), (), MetricsSummary()))
                await anext(heard)
                assert (await ended(control, session.id)).rounds_done == 1
                with pytest.raises(RemoteFault, match="client"):  # a client's token is none of a combiner's
                    await hear_refusal(client_channel)
        # Started again, it tells a combiner that comes what was committed last: the order to commit may have been lost.
        async with (
            running(settings) as again,
            secure_channel(f"127.0.0.1:{again.grpc_port}", AUTHORITY.certificate_pem, combiner_token) as channel,
            ReducerLink(channel, NORTH) as link,
        ):
            heard = link.messages()
            assert isinstance(await anext(heard), HelloAccepted)
            told = await anext(heard)
            assert isinstance(told, RoundCommitted)
            assert (told.session, told.round_number) == (session.id, 1)
        assert names_in(settings.state_dir / "scratch") in ([], ["spool"])

    asyncio.run(story())


def test_a_second_reducer_on_the_same_folder_is_refused_and_leaves_the_firsts_files_alone(
    settings: ReducerSettings,
) -> None:
    async def story() -> None:
        async with running(settings) as first:
            in_use = settings.state_dir / "scratch" / "merge-at-hand"
            touch(in_use)
            with pytest.raises(StoreInUse):
                await assemble(settings).start()
            assert "merge-at-hand" in names_in(in_use.parent)
            assert (await first.control.status()).stores[0].healthy

    def touch(file: Path) -> None:
        file.write_text("bytes")

    asyncio.run(story())


def test_what_an_earlier_life_left_in_scratch_is_removed(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings):
            assert "merge-left" not in names_in(settings.state_dir / "scratch")

    (settings.state_dir / "scratch" / "merge-left").mkdir(parents=True)
    asyncio.run(story())


def test_a_start_that_fails_lets_go_of_the_stores(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as first:
            taken = settings.model_copy(
                update={
                    "listen_grpc": f"127.0.0.1:{first.grpc_port}",
                    "state_dir": settings.state_dir.parent / "other",
                }
            )
            with pytest.raises(AddressInUse):
                await assemble(taken).start()
            objects = await open_objects(EmbeddedStores(taken.state_dir))  # nobody holds them
            await objects.close()

    asyncio.run(story())


def test_a_fault_of_the_machine_ends_it(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as reducer:
            work = asyncio.create_task(reducer.run())

            async def breaks() -> None:
                raise ValueError("a bug")

            reducer.control._parts.mailbox.spawn(breaks())  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match="a bug"):
                await work

    asyncio.run(story())


def test_it_goes_on_until_it_is_cancelled(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as reducer:
            work = asyncio.create_task(reducer.run())
            await reducer.control.status()
            assert not work.done()
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    asyncio.run(story())


def test_before_its_start_it_has_nothing_to_ask(settings: ReducerSettings) -> None:
    with pytest.raises(NotStarted):
        _ = assemble(settings).control
    with pytest.raises(NotStarted):
        _ = assemble(settings).grpc_port


def test_events_that_wait_are_written_at_its_end(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as reducer:
            reducer.control._parts.events.tell("last.word", "the last word")  # type: ignore[attr-defined]
        async with running(settings) as reducer:
            found = await reducer.control.events(kind="last.word")
            assert [event.text for event in found.items] == ["the last word"]

    asyncio.run(story())


def test_no_token_reaches_the_log(settings: ReducerSettings) -> None:
    async def story() -> None:
        async with running(settings) as reducer:
            text, view = await reducer.control.create_token("client", "anna", 600.0)
            async with secure_channel(f"127.0.0.1:{reducer.grpc_port}", AUTHORITY.certificate_pem, text) as channel:
                with pytest.raises(RemoteFault):
                    await assign(channel, AssignRequest(ANNA, ClientName("anna"), "", "0.1.0"))
            await reducer.control.revoke_token(view.id)
            secrets.extend([text.rsplit(".", 1)[1], text_of(settings.state_dir / "admin.token").rsplit(".", 1)[1]])
            await until(lambda: lines)

    secrets: list[str] = []
    with structlog.testing.capture_logs() as lines:
        asyncio.run(story())
    for secret in secrets:
        assert secret not in str(lines)
        stored = b"".join(file.read_bytes() for file in (settings.state_dir / "documents").iterdir())
        assert secret.encode() not in stored


# ---- masked rounds


def with_masking(settings: ReducerSettings, files: OperatorFiles) -> ReducerSettings:
    masking = MaskingSettings(credential_file=files.credential_file, policy_file=files.policy_file)
    return settings.model_copy(update={"masking": masking})


def test_a_certified_reducer_keeps_its_state_key_and_knows_registered_clients(
    settings: ReducerSettings, tmp_path: Path
) -> None:
    async def story() -> None:
        certified = with_masking(settings, OperatorFiles(tmp_path / "operator"))
        client = world.CLIENTS[0]
        async with running(certified) as reducer:
            secret, _ = await reducer.control.create_token("combiner", "north", 600.0)
            channel = secure_channel(f"127.0.0.1:{reducer.grpc_port}", AUTHORITY.certificate_pem, secret)
            certificate = world.a_certificate(world.COMBINER, role="combiner")
            async with channel, ReducerLink(channel, replace(NORTH, certificate=certificate)) as link:
                heard = link.messages()
                assert isinstance(await anext(heard), HelloAccepted)
                news = await anext(heard)
                assert isinstance(news, PolicyNews)
                assert news.policy.body == world.POLICY.encode()
                token, _ = await reducer.control.create_token("client", "anna", 600.0)
                request = AssignRequest(ClientId(client.id.hex()), ClientName("anna"), "", "0.1.0", chain=client.chain)
                async with secure_channel(f"127.0.0.1:{reducer.grpc_port}", AUTHORITY.certificate_pem, token) as other:
                    await assign(other, request)
                    with pytest.raises(RemoteFault, match="chain of another client"):
                        await assign(other, replace(request, client=ANNA, name=ClientName("bert")))
        assert stat.S_IMODE((settings.state_dir / "state.key").stat().st_mode) == 0o600
        async with running(certified) as reducer:
            assert [one.name for one in (await reducer.control.clients()).items] == ["anna"]

    asyncio.run(story())


def test_a_reducer_with_another_network_s_credential_does_not_start(settings: ReducerSettings, tmp_path: Path) -> None:
    async def story() -> None:
        files = OperatorFiles(tmp_path / "operator")
        stranger = ServerCredential(
            bytes(world.REDUCER.verify_key), world.DEPLOYMENT, world.a_certificate(), bytes(world.REDUCER)
        )
        write_server(files.credential_file, stranger, replace=True)
        with pytest.raises(CredentialRefused, match="UnknownOperator"):
            await assemble(with_masking(settings, files)).start()

    asyncio.run(story())


def test_a_masked_session_is_not_forgotten_where_the_settings_lose_their_section(
    settings: ReducerSettings, tmp_path: Path
) -> None:
    async def story() -> None:
        certified = with_masking(settings, OperatorFiles(tmp_path / "operator"))
        async with running(certified) as reducer:
            package = await reducer.control.upload_package(chunked(a_package()))
            model = await reducer.control.upload_model(chunked(a_model()))
            options = SessionOptions(package=package.digest, seed_model=model.digest, rounds=1, masking="pet")
            session = await reducer.control.start_session(options)
            assert len(session.id) == 32
        with pytest.raises(MaskingWasSetUp):
            await assemble(settings).start()
        async with running(certified) as reducer:
            assert (await reducer.control.session(session.id)).status == "waiting"

    asyncio.run(story())
