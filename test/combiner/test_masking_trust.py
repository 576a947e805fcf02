"""Whom a combiner with a masking credential lets in, and how it goes by the operator's newest policy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
from combiner_rig import ANNA as UNREGISTERED
from combiner_rig import Rig, a_combiner, until
from masked_rig import ANNA, BERT, CARL, DORA, EMIL, MaskedRig, a_masked_cell, a_trust, id_of, masked_attached

from fedn_py.identity import ClientId
from fedn_py.protocol.masked.certificates import Policy
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.messages import AttachedClients, GoElsewhere, PolicyNews
from fedn_py.transport.status import RemoteFault


def news(*, signer: Any = world.OPERATOR, **changed: Any) -> PolicyNews:
    return PolicyNews(sign(world.a_policy(**changed), signer))


def play(folder: Path, told: Callable[[Rig], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        given = {"trust": a_trust(), **options}
        async with asyncio.timeout(60), a_combiner(folder, **given) as rig:
            await told(rig)

    asyncio.run(main())


async def refusal(rig: Rig, client: world.AClient = ANNA, **hello: Any) -> str:
    with pytest.raises(RemoteFault) as refused:
        async with masked_attached(rig, client, policy=False, **hello):
            pass
    return refused.value.code


def test_a_client_that_is_not_what_its_chain_says_is_refused_by_name(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        rig.calls.reducer_said(news(revoked_clients=(DORA.id,), revoked_tokens=(world.bytes_of("site of emil", 16),)))
        assert await refusal(rig, chain=BERT.chain) == "ChainOfAnother"
        assert await refusal(rig, chain=world.a_chain("anna", operator=world.key_of("mallory"))) == "UnknownOperator"
        ended = world.a_client("anna", not_after=world.NOW_S - 2 * world.DAY_S)
        assert await refusal(rig, chain=ended.chain) == "Expired"
        assert await refusal(rig, DORA) == "Revoked"
        assert await refusal(rig, DORA, chain=None) == "Revoked"
        assert await refusal(rig, EMIL) == "Revoked"
        assert not [one for one in rig.reducer.messages if isinstance(one, AttachedClients) and one.clients]

    play(tmp_path, told)


def test_a_registered_client_and_one_without_a_chain_are_let_in_and_hear_the_policy_first(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        rig.calls.reducer_said(news())
        async with masked_attached(rig, ANNA), masked_attached(rig, BERT, chain=None):
            await until(lambda: len(rig.reducer.messages[-1].clients) == 2)  # type: ignore[union-attr]

    play(tmp_path, told)


def test_a_combiner_without_a_credential_passes_policies_on_as_they_are(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        sent = news(signer=world.key_of("another operator"))
        async with masked_attached(rig, ANNA, policy=False) as anna:
            rig.calls.reducer_said(sent)
            assert await anna.next(PolicyNews) == sent

    play(tmp_path, told, trust=None)


def test_a_new_policy_goes_to_everybody_and_an_old_or_forged_one_to_nobody(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        rig.calls.reducer_said(news(version=5))
        async with masked_attached(rig, ANNA) as anna:
            rig.calls.reducer_said(news(version=4))
            rig.calls.reducer_said(news(version=9, signer=world.key_of("mallory")))
            rig.calls.reducer_said(news(version=5))  # the same one again, after the reducer has come back
            rig.calls.reducer_said(news(version=6))
            heard = await anna.next(PolicyNews)
            assert Policy.decode(heard.policy.body).version == 6

    play(tmp_path, told)


def test_a_client_that_a_new_policy_revokes_is_dismissed(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        rig.calls.reducer_said(news())
        async with masked_attached(rig, ANNA) as anna, masked_attached(rig, BERT, chain=None) as bert:
            rig.calls.reducer_said(news(version=9, revoked_clients=(ANNA.id, BERT.id)))
            for client in (anna, bert):
                assert (await client.next(GoElsewhere)).reason.startswith("Revoked: ")
            await until(lambda: rig.reducer.messages[-1] == AttachedClients(()))
        assert await refusal(rig) == "Revoked"

    play(tmp_path, told)


@contextlib.asynccontextmanager
async def a_cell(folder: Path) -> AsyncIterator[MaskedRig]:
    async with a_masked_cell(folder, ANNA, BERT, CARL, DORA, EMIL) as cell:
        yield cell


def test_a_client_that_is_revoked_in_mid_round_is_refused_and_excluded_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_cell(tmp_path) as cell:
            committee = await cell.form()
            cell.look()
            revoked = next(one for one in cell.clients.values() if committee.member(one.client.id) is None)
            upload = revoked.upload()
            cell.rig.calls.reducer_said(news(version=9, revoked_clients=(revoked.client.id,)))
            with pytest.raises(RemoteFault) as refused:
                await revoked.sends(upload)
            assert refused.value.code in {"Revoked", "UnknownToken"}
            others = [one for one in cell.clients.values() if one is not revoked]
            receipts = await asyncio.gather(*(one.sends(one.upload()) for one in others))
            assert all(receipt.accepted for receipt in receipts)
            partial = await cell.partial()
            (excluded,) = partial.excluded
            assert excluded.client == ClientId(revoked.client.id.hex()) == id_of(revoked.client)
            assert excluded.reason.startswith("Revoked: ")

    asyncio.run(main())


def test_a_revoked_client_whose_stream_is_broken_is_excluded_while_its_upload_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_cell(tmp_path) as cell:
            committee = await cell.form()
            revoked = next(one for one in cell.clients.values() if committee.member(one.client.id) is None)
            sending = asyncio.create_task(revoked.sends(revoked.upload()))
            await cell.rig.mailbox.until(lambda state: any(one.arrival for one in state.work.uploads.values()))
            await cell.rig.calls.client_left(id_of(revoked.client))
            token = revoked.client.registered.token_id
            cell.rig.calls.reducer_said(news(version=9, revoked_tokens=(token,)))
            receipt = await sending
            assert not receipt.accepted
            assert receipt.reason.startswith("Revoked: ")

    asyncio.run(main())


def test_a_client_of_a_plain_network_is_let_in_as_ever(tmp_path: Path) -> None:
    async def told(rig: Rig) -> None:
        async with rig.attached(UNREGISTERED):
            assert rig.reducer.messages[-1] == AttachedClients((UNREGISTERED,))

    play(tmp_path, told)
