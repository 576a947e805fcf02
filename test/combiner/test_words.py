"""Words that pass a combiner, both ways."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from combiner_rig import HeardByReducer, until
from masked_rig import ANNA, BERT, CARL, MaskedRig, a_masked_cell, id_of, masked_attached

from fedn_py.combiner.answer_streams import AnswerStreams
from fedn_py.combiner.reducer_stream import ReducerVoice
from fedn_py.combiner.words import AT_ONCE, EACH_S, Words
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.round_messages import Abort, Answer, Echo
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import LinksWanted, StreamSent, StreamWanted
from fedn_py.protocol.messages import SaidByClient, SaidToClient, WordForClients, WordPassedOn

CTX = b"x" * 32
LINKS = LinksWanted(b"S" * 16, 3)


def play(folder: Path, told: Callable[[MaskedRig], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with a_masked_cell(folder, ANNA, BERT, CARL, order=False) as cell:
            await told(cell)

    asyncio.run(main())


def test_what_clients_say_to_the_reducer_is_passed_on_as_it_is_and_in_order(tmp_path: Path) -> None:
    words = [sign(Echo(CTX, CTX), ANNA.key), sign(Abort(CTX, "no"), ANNA.key), StreamSent(CTX, CTX, 7), LINKS]

    async def told(cell: MaskedRig) -> None:
        for word in words:
            cell[ANNA].say(word)
        cell[BERT].say(LINKS)

        def passed(client: Any) -> list[Any]:
            heard = [one for one in cell.rig.reducer.messages if isinstance(one, WordPassedOn)]
            return [one.word for one in heard if one.client == id_of(client)]

        await until(lambda: len(passed(ANNA)) == len(words) and bool(passed(BERT)))
        assert (passed(ANNA), passed(BERT)) == (words, [LINKS])

    play(tmp_path, told)


def test_an_answer_of_who_has_shown_no_chain_is_passed_on_too(tmp_path: Path) -> None:
    answer = sign(Answer(CTX, CTX, 0, CTX, bytes(112), CTX, 7), ANNA.key)

    async def main() -> None:
        async with a_masked_cell(tmp_path, order=False) as cell, masked_attached(cell.rig, ANNA, chain=None) as anna:
            anna.link.send(SaidByClient(answer))
            assert (await cell.rig.reducer.next(WordPassedOn)).word == answer

    asyncio.run(main())


def test_what_the_reducer_says_goes_to_those_named_or_to_everybody(tmp_path: Path) -> None:
    async def told(cell: MaskedRig) -> None:
        first, second = sign(Echo(CTX, CTX), BERT.key), StreamWanted(CTX)
        away = ClientId("dd" * 32)
        cell.rig.calls.reducer_said(WordForClients((id_of(ANNA), away), first))
        cell.rig.calls.reducer_said(WordForClients((), second))
        assert (await cell[ANNA].attached.next(SaidToClient)).word == first
        for client in (ANNA, BERT, CARL):
            assert (await cell[client].attached.next(SaidToClient)).word == second

    play(tmp_path, told)


def test_a_client_that_says_much_is_listened_to_more_slowly_and_loses_nothing(tmp_path: Path) -> None:
    async def told() -> None:
        now, pauses = 0.0, list[float]()
        voice, reducer = ReducerVoice(), HeardByReducer()
        stream, upstream = cast("Any", reducer), cast("Any", None)  # neither is used for anything else here
        voice.connected(stream)

        async def pause(seconds: float) -> None:
            nonlocal now
            pauses.append(seconds)
            now += seconds

        words = Words(voice, lambda *_: None, AnswerStreams(upstream), lambda: now, pause)
        one, other = ClientId("a1" * 32), ClientId("be" * 32)
        for _ in range(AT_ONCE):
            await words.from_client(one, None, LINKS)
        await words.from_client(other, None, LINKS)
        assert pauses == []
        for _ in range(5):
            await words.from_client(one, None, LINKS)
        assert pauses == pytest.approx([EACH_S] * 5)
        now += 1_000
        await words.from_client(one, None, LINKS)
        assert len(pauses) == 5
        assert len([said for said in reducer.messages if isinstance(said, WordPassedOn)]) == AT_ONCE + 7

    asyncio.run(told())
