"""What a combiner says to its reducer over lost and new streams."""

import asyncio
from typing import Any

from builders import a_partial, a_report
from combiner_rig import ANNA, HeardByReducer

from fedn_py.combiner.reducer_stream import PROGRESS_EVERY_S, ReducerVoice
from fedn_py.identity import Generation
from fedn_py.protocol.messages import AttachedClients, RoundProgress


def progress(included: int) -> RoundProgress:
    return RoundProgress(Generation(1), "collecting", included, 10 - included, 0)


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
        assert first == progress(9)
        voice.mention(progress(10))
        assert await reducer.next(RoundProgress, after=len(reducer.messages)) == progress(10)
        assert PROGRESS_EVERY_S > 0.1

    asyncio.run(story())


def test_progress_is_no_report_and_is_not_repeated() -> None:
    async def story() -> None:
        voice = ReducerVoice()
        voice.mention(progress(1))
        await asyncio.sleep(PROGRESS_EVERY_S * 1.5)  # it is dropped then: there is no reducer
        assert joined(voice).messages == [AttachedClients(())]

    asyncio.run(story())
