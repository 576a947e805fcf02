"""What a combiner says to its reducer over lost and new streams."""

import asyncio
from typing import Any

from builders import a_partial, a_report
from combiner_rig import ANNA, HeardByReducer

from fedn_py.combiner.reducer_stream import MOST_WORDS, PROGRESS_EVERY_S, ReducerVoice
from fedn_py.identity import ClientId, Generation
from fedn_py.protocol.cell_progress import CellProgress
from fedn_py.protocol.masked.round_messages import CommitteeBody
from fedn_py.protocol.masked.words import LinksWanted
from fedn_py.protocol.messages import (
    AttachedClients,
    CommitteeFormed,
    MaskedPartial,
    MetricsSummary,
    RoundProgress,
    WordPassedOn,
)
from fedn_py.transport.streams import OUTBOX_CAPACITY


def progress(included: int) -> CellProgress:
    clients = [ClientId(f"{number:064x}") for number in range(10)]
    return CellProgress(
        generation=Generation(1), phase="collecting", included=clients[:included], at_work=clients[included:]
    )


def joined(voice: ReducerVoice) -> HeardByReducer:
    reducer = HeardByReducer()
    stream: Any = reducer
    voice.connected(stream)
    return reducer


def test_a_new_stream_begins_with_who_is_attached_and_the_last_report_alone() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        first = joined(voice)
        voice.attached(AttachedClients((ANNA,)))
        voice.report(a_partial(generation=1))
        voice.report(a_report(2))
        assert first.messages == [
            AttachedClients(()),
            AttachedClients((ANNA,)),
            a_partial(generation=1),
            a_report(2),
        ]
        voice.disconnected()
        assert joined(voice).messages == [AttachedClients((ANNA,)), a_report(2)]

    asyncio.run(story())


def test_a_report_made_while_the_reducer_is_away_is_said_when_it_is_back() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        first = joined(voice)
        voice.disconnected()
        voice.report(a_report(2))
        voice.beat()
        assert first.messages == [AttachedClients(())]
        assert joined(voice).messages[-1] == a_report(2)

    asyncio.run(story())


def test_of_much_progress_the_newest_is_told_a_few_times_a_second() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        reducer = joined(voice)
        for included in range(10):
            voice.mention(progress(included))
        first = await reducer.next(RoundProgress)
        assert first == progress(9).told()
        voice.mention(progress(10))
        assert await reducer.next(RoundProgress, after=len(reducer.messages)) == progress(10).told()
        assert PROGRESS_EVERY_S > 0.1

    asyncio.run(story())


def test_progress_is_no_report_and_is_not_repeated() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        voice.mention(progress(1))
        await asyncio.sleep(PROGRESS_EVERY_S * 1.5)  # it is dropped then: there is no reducer
        assert joined(voice).messages == [AttachedClients(())]

    asyncio.run(story())


def a_committee(generation: int) -> CommitteeFormed:
    return CommitteeFormed(Generation(generation), CommitteeBody(bytes(32), ()))


def a_masked_partial(generation: int) -> MaskedPartial:
    return MaskedPartial(Generation(generation), None, 0, (), MetricsSummary())


def a_word(number: int) -> WordPassedOn:
    return WordPassedOn(ANNA, LinksWanted(bytes(16), number))


def test_the_newest_committee_is_said_again_before_the_answer_that_belongs_to_it() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        joined(voice)
        voice.tell_committee(a_committee(1))
        voice.disconnected()
        assert joined(voice).messages == [AttachedClients(()), a_committee(1)]
        voice.report(a_masked_partial(1))
        voice.disconnected()
        assert joined(voice).messages == [AttachedClients(()), a_committee(1), a_masked_partial(1)]
        voice.report(a_report(2))
        voice.disconnected()
        assert joined(voice).messages == [AttachedClients(()), a_report(2)]

    asyncio.run(story())


def test_what_clients_say_while_the_reducer_is_away_goes_out_once_in_its_order_when_it_is_back() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        joined(voice)
        voice.disconnected()
        voice.pass_on(a_word(1))
        voice.pass_on(a_word(2))
        reducer = joined(voice)
        voice.pass_on(a_word(3))
        assert reducer.messages == [AttachedClients(()), a_word(1), a_word(2), a_word(3)]
        voice.disconnected()
        assert joined(voice).messages == [AttachedClients(())]

    asyncio.run(story())


def test_a_number_of_words_wait_and_no_more_than_a_stream_takes_at_once() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        for number in range(MOST_WORDS + 3):
            voice.pass_on(a_word(number))
        words = joined(voice).messages[1:]
        assert words == [a_word(number) for number in range(3, MOST_WORDS + 3)]
        assert MOST_WORDS < OUTBOX_CAPACITY

    asyncio.run(story())
