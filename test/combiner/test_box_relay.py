"""Boxes on their way to a committee's members."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import masked_world as world
from combiner_rig import until
from masked_world import CLIENTS, AnUpload

from fedn_py.combiner.box_relay import BoxRelay
from fedn_py.identity import ClientId
from fedn_py.protocol.masked.round_messages import BoxFor
from fedn_py.protocol.masked.words import MOST_BOXES, Boxes, MaskedUpload
from fedn_py.protocol.messages import SaidToClient, ToClient

TERMS = world.the_terms()
COMMITTEE = world.a_committee(TERMS)
UPLOADS = [world.an_upload(TERMS, COMMITTEE, client) for client in CLIENTS[:3]]
FIRST, SECOND = (ClientId(member.client.client_id.hex()) for member in COMMITTEE.members)


class Sent:
    """What was put into clients' outboxes."""

    def __init__(self) -> None:
        self.words: list[tuple[ClientId, Boxes]] = []

    def __call__(self, client: ClientId, message: ToClient) -> None:
        assert isinstance(message, SaidToClient)
        assert isinstance(message.word, Boxes)
        self.words.append((client, message.word))

    def boxes(self, client: ClientId) -> list[BoxFor]:
        return [box for who, word in self.words if who == client for box in word.boxes]


def play(told: Callable[[BoxRelay, Sent], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        sent = Sent()
        await told(BoxRelay(COMMITTEE, sent), sent)

    asyncio.run(main())


def keep(relay: BoxRelay, *uploads: AnUpload) -> None:
    for upload in uploads:
        relay.keep(upload.row, MaskedUpload(upload.client.chain, upload.header, upload.sealed.boxes))


def test_boxes_that_come_together_go_together_and_each_member_gets_its_own() -> None:
    async def told(relay: BoxRelay, sent: Sent) -> None:
        keep(relay, *UPLOADS)
        for upload in UPLOADS:
            relay.send(FIRST, [upload.row])
            relay.send(SECOND, [upload.row])
        relay.send(FIRST, [UPLOADS[0].row])  # asked for again before it has gone out
        await until(lambda: len(sent.words) == 2)
        assert {word.ctx for _, word in sent.words} == {COMMITTEE.ctx}
        assert sent.boxes(FIRST) == [upload.box_for(0, 0) for upload in UPLOADS]
        assert sent.boxes(SECOND) == [upload.box_for(1, 0) for upload in UPLOADS]
        relay.send(FIRST, [UPLOADS[0].row])
        await until(lambda: len(sent.words) == 3)

    play(told)


def test_a_dropped_upload_s_boxes_go_to_nobody() -> None:
    async def told(relay: BoxRelay, sent: Sent) -> None:
        keep(relay, *UPLOADS[:2])
        relay.send(FIRST, [upload.row for upload in UPLOADS[:2]])
        relay.drop(UPLOADS[0].row)
        await until(lambda: bool(sent.words))
        assert sent.boxes(FIRST) == [UPLOADS[1].box_for(0, 0)]

    play(told)


def test_many_boxes_go_in_several_words() -> None:
    async def told(relay: BoxRelay, sent: Sent) -> None:
        upload = UPLOADS[0]
        masked = MaskedUpload(upload.client.chain, upload.header, upload.sealed.boxes)
        rows = [world.IncludedRow(number.to_bytes(32, "big"), bytes(32)) for number in range(MOST_BOXES + 1)]
        for row in rows:
            relay.keep(row, masked)
        relay.send(FIRST, rows)
        await until(lambda: len(sent.words) == 2)
        assert [len(word.boxes) for _, word in sent.words] == [MOST_BOXES, 1]

    play(told)


def test_a_closed_relay_sends_nothing_more() -> None:
    async def told(relay: BoxRelay, sent: Sent) -> None:
        keep(relay, *UPLOADS)
        relay.send(FIRST, [UPLOADS[0].row])
        relay.close()
        other = BoxRelay(COMMITTEE, sent)
        keep(other, *UPLOADS)
        other.send(SECOND, [UPLOADS[0].row])
        await until(lambda: bool(sent.words))
        assert sent.boxes(FIRST) == []

    play(told)
