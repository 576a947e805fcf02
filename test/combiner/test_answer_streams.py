"""Sealed streams of answers: who may upload which, and that they end in the store and nowhere else."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import masked_world as world
import pytest
from combiner_rig import QUICK, Rig, digest_of, until
from masked_rig import ANNA, BERT, CARL, MaskedRig, a_masked_cell, id_of

from fedn_py.combiner.answer_streams import AnswerStreams, StreamNotAsked, StreamTooLarge
from fedn_py.identity import ClientId, TokenId
from fedn_py.protocol.masked.answers import sealed_bytes
from fedn_py.protocol.masked.round_messages import Answer
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import StreamWanted
from fedn_py.protocol.messages import SaidByClient, SaidToClient, WordForClients, WordPassedOn
from fedn_py.transport.authentication import Caller
from fedn_py.transport.chunks import UploadStart
from fedn_py.transport.status import RemoteFault
from fedn_py.transport.transfer import upload_object

CTX, OTHER = b"x" * 32, b"y" * 32
WHO = ClientId("a1" * 32)


def caller(client: ClientId = WHO) -> Caller:
    return Caller("client", client, TokenId("00" * 8))


def a_start(size: int = 100, content: bytes = b"a") -> UploadStart:
    return UploadStart("ab" * 8, 0, size, digest_of(content))


def streams() -> AnswerStreams:
    upstream: Any = None  # none of these tests stores anything
    return AnswerStreams(upstream)


def test_a_stream_that_was_asked_for_and_announced_is_admitted_and_others_are_refused(tmp_path: Path) -> None:
    known = streams()
    with pytest.raises(StreamNotAsked):
        known.admit(caller(), a_start())
    known.announced(WHO, CTX, 100)
    with pytest.raises(StreamNotAsked):
        known.admit(caller(), a_start())
    known.asked(WHO, CTX)
    with pytest.raises(StreamTooLarge):
        known.admit(caller(), a_start(101))
    with pytest.raises(StreamNotAsked):
        known.admit(caller(ClientId("be" * 32)), a_start())
    known.admit(caller(), a_start(100))


def test_a_stream_that_another_member_was_asked_for_is_not_this_one_s_to_send(tmp_path: Path) -> None:
    known = streams()
    known.expected(CTX, 40)
    known.asked(WHO, CTX)
    with pytest.raises(StreamNotAsked):
        known.admit(caller(ClientId("be" * 32)), a_start(10))


def test_one_stream_is_taken_and_the_same_one_again_after_a_cut(tmp_path: Path) -> None:
    known = streams()
    known.announced(WHO, CTX, 100)
    known.asked(WHO, CTX)
    known.admit(caller(), a_start())
    known.admit(caller(), a_start())
    with pytest.raises(StreamNotAsked):
        known.admit(caller(), a_start(content=b"another"))
    known.asked(WHO, CTX)
    known.admit(caller(), a_start(content=b"another"))


def test_a_member_cannot_announce_more_than_an_answer_of_its_cell_has(tmp_path: Path) -> None:
    known = streams()
    known.expected(CTX, 40)
    known.announced(WHO, CTX, 10**12)
    known.asked(WHO, CTX)
    with pytest.raises(StreamTooLarge):
        known.admit(caller(), a_start(sealed_bytes(40) + 1))
    known.admit(caller(), a_start(sealed_bytes(40)))


def test_a_member_that_answered_through_another_combiner_is_held_to_the_size_of_the_cells_here(tmp_path: Path) -> None:
    known = streams()
    known.asked(WHO, CTX)
    with pytest.raises(StreamNotAsked):
        known.admit(caller(), a_start(1))  # no size is known at all
    known.expected(OTHER, 40)
    with pytest.raises(StreamTooLarge):
        known.admit(caller(), a_start(sealed_bytes(40) + 1))
    known.admit(caller(), a_start(sealed_bytes(40)))


# ---- over the network


def play(folder: Path, told: Callable[[MaskedRig], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        async with a_masked_cell(folder, ANNA, BERT, CARL, order=False, options=options) as cell:
            await told(cell)

    asyncio.run(main())


def an_answer(member: world.AClient, size: int, ctx: bytes = CTX) -> Any:
    answer = Answer(ctx, b"h" * 32, 0, member.nonce, bytes(112), b"s" * 32, size)
    return sign(answer, member.key)


async def ask(cell: MaskedRig, member: world.AClient, ctx: bytes = CTX) -> None:
    cell.rig.calls.reducer_said(WordForClients((id_of(member),), StreamWanted(ctx)))
    assert (await cell[member].attached.next(SaidToClient)).word == StreamWanted(ctx)


async def passed_on(rig: Rig, member: world.AClient) -> None:
    assert (await rig.reducer.next(WordPassedOn)).client == id_of(member)


@pytest.mark.parametrize("memory_bytes", [1 << 23, 0], ids=["from memory", "from disk"])
def test_a_stream_that_the_reducer_asked_for_is_stored_and_kept_nowhere_else(tmp_path: Path, memory_bytes: int) -> None:
    async def told(cell: MaskedRig) -> None:
        stream = os.urandom(3_000_000)
        cell[ANNA].attached.link.send(SaidByClient(an_answer(ANNA, len(stream))))
        await passed_on(cell.rig, ANNA)
        await ask(cell, ANNA)
        channel = cell[ANNA].attached.channel
        for _ in range(2):  # the receipt of the first one may have been lost
            await upload_object(channel, "ab" * 8, digest_of(stream), stream, patience=QUICK)
        assert cell.rig.store.contents == {digest_of(stream): stream}
        await until(lambda: cell.rig.spool.uploads == 0)
        assert not list((tmp_path / "spool").iterdir())

    play(tmp_path, told, memory_bytes=memory_bytes)


def test_an_upload_that_nobody_asked_for_or_that_is_too_large_is_refused_by_name(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        async def refusal(member: world.AClient, content: bytes) -> str:
            channel = cell[member].attached.channel
            with pytest.raises(RemoteFault) as refused:
                await upload_object(channel, "ab" * 8, digest_of(content), content, patience=QUICK)
            return refused.value.code

        assert await refusal(ANNA, b"a stream") == "StreamNotAsked"
        cell[ANNA].attached.link.send(SaidByClient(an_answer(ANNA, 8)))
        await passed_on(cell.rig, ANNA)
        await ask(cell, ANNA)
        assert await refusal(BERT, b"a stream") == "StreamNotAsked"
        assert await refusal(ANNA, b"a larger stream") == "StreamTooLarge"
        assert cell.rig.store.contents == {}
        assert cell.rig.spool.uploads == 0

    play(tmp_path, told)


def test_a_size_that_somebody_else_signed_is_not_believed(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        cell[ANNA].attached.link.send(SaidByClient(an_answer(BERT, 8)))
        await passed_on(cell.rig, ANNA)
        await ask(cell, ANNA)
        channel = cell[ANNA].attached.channel
        with pytest.raises(RemoteFault) as refused:
            await upload_object(channel, "ab" * 8, digest_of(b"a stream"), b"a stream", patience=QUICK)
        assert refused.value.code == "StreamNotAsked"

    play(tmp_path, told)
