"""Whole masked rounds of real clients, with everything that leaves them taken through a combiner of the test's own."""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import masked_world as world
import numpy as np
import pytest
from masked_site import (
    N,
    Site,
    a_masked_plan,
    a_task,
    an_order,
    checked,
    committee_of,
    opened_mean,
    read_answer,
    running,
    terms_of,
)
from masked_world import CLIENTS, REPLICATED

from fedn_py.protocol.client import Tasked, UpdateAnswered
from fedn_py.protocol.masked.boxes import check_header
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import included_hash
from fedn_py.protocol.masked.round_messages import Answer, BoxAck, BoxFor, Echo, Included, IncludedRow
from fedn_py.protocol.masked.signing import read_signed
from fedn_py.protocol.masked.words import Boxes, StreamSent, StreamWanted
from fedn_py.protocol.messages import RoundCommitted, SessionId, TrainTask, UpdateHeader


class Round:
    """An honest combiner and reducer, as far as a test goes with them."""

    def __init__(self, task: TrainTask, sites: Sequence[Site]) -> None:
        self.task, self.sites, self.terms = task, list(sites), terms_of(task)
        self.committee: Committee | None = None
        self.rows: list[IncludedRow] = []

    async def form(self) -> Committee:
        offers = [await site.offered(self.task) for site in self.sites]
        body = committee_of(self.task, offers)
        for site in self.sites:
            site.hear_words(body)
        self.committee = checked(self.task, body)
        return self.committee

    def members(self) -> list[tuple[Any, Site]]:
        assert self.committee is not None
        named = {site.client.id: site for site in self.sites}
        return [(member, named[member.client.client_id]) for member in self.committee.members]

    async def upload(self, samples: int = 50, n: int = N) -> None:
        done = await asyncio.gather(*(site.send(self.task, site.plain_update(n, samples)) for site in self.sites))
        for events in done:
            assert [type(event) for event in events] == [UpdateAnswered]

    def check(self, header: UpdateHeader, content: bytes) -> IncludedRow:
        assert header.masked is not None
        assert self.committee is not None
        encoding = self.terms.encoding
        verified = check_header(
            header.masked.header, header.masked.chain, self.committee, encoding.n_words, world.chains()
        )
        assert verified.header.vector_hash == hashlib.sha256(content).digest()
        assert len(content) == 4 * encoding.n_words == header.size
        assert (header.samples, header.upload_id) == (0, verified.header.upload_id.hex())
        return IncludedRow(verified.client.client_id, verified.hash)

    async def relay(self) -> None:
        assert self.committee is not None
        uploads = [site.combiner.uploads[-1] for site in self.sites]
        self.rows = sorted((self.check(*one) for one in uploads), key=lambda row: row.client_id)
        for member, site in self.members():
            boxes = tuple(
                BoxFor(h.masked.chain, h.masked.header, h.masked.boxes[member.slot][member.replica])
                for h, _ in uploads
                if h.masked is not None
            )
            site.hear_words(Boxes(self.committee.ctx, boxes))
            await site.combiner.until(lambda site=site: bool(site.combiner.signed(BoxAck.kind)))
            (ack,) = site.combiner.signed(BoxAck.kind)
            assert sorted(read_signed(ack, BoxAck).accepted, key=lambda row: row.client_id) == self.rows

    def included(self) -> Included:
        assert self.committee is not None
        return Included(world.an_opening(self.committee.ctx, self.rows), tuple(self.rows))

    async def open(self) -> list[np.ndarray]:
        """Ask all members, relay their echoes, fetch one stream a slot, and return the slot sums."""
        assert self.committee is not None
        members = self.members()
        for _, site in members:
            site.hear_words(self.included())
        if self.committee.needs_echo:
            for _, site in members:
                await site.combiner.until(lambda site=site: bool(site.combiner.signed(Echo.kind)))
            for _, site in members:
                for _, other in members:
                    if other is not site:
                        other.hear_words(*site.combiner.signed(Echo.kind))
        sums: dict[int, np.ndarray] = {}
        for member, site in members:
            await site.combiner.until(lambda site=site: bool(site.combiner.signed(Answer.kind)))
            words = await self.stream(site)
            assert np.array_equal(sums.setdefault(member.slot, words), words)
        return [sums[slot] for slot in sorted(sums)]

    async def stream(self, site: Site) -> np.ndarray:
        assert self.committee is not None
        answer = read_signed(site.combiner.signed(Answer.kind)[0], Answer)
        assert answer.included_hash == included_hash(self.committee.ctx, self.rows)
        before = len(site.combiner.words(StreamSent))
        site.hear_words(StreamWanted(self.committee.ctx))
        await site.combiner.until(lambda: len(site.combiner.words(StreamSent)) > before)
        sent = site.combiner.words(StreamSent)[-1]
        stream = site.combiner.objects[sent.sha256.hex()]
        assert (hashlib.sha256(stream).digest(), len(stream)) == (answer.stream_hash, answer.stream_bytes)
        return read_answer(answer, site.client.id, stream, self.terms.encoding.n_words)

    def partial(self) -> np.ndarray:
        words = [np.frombuffer(site.combiner.uploads[-1][1], np.uint32) for site in self.sites]
        return np.sum(words, axis=0, dtype=np.uint32)


@contextlib.asynccontextmanager
async def crowd(folder: Path, count: int, **changed: Any) -> Any:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(folder / one.name, one, **changed)) for one in CLIENTS[:count]]


@pytest.mark.parametrize(("order", "clients", "n"), [({}, 5, N), (REPLICATED, 8, 40_000)], ids=["k2r1", "k3r2"])
def test_a_round_of_clients_gives_the_mean_of_their_updates(
    tmp_path: Path, order: dict[str, Any], clients: int, n: int
) -> None:
    async def main() -> None:
        plan = a_masked_plan(n_parameters=n)
        task = a_task(plan, an_order(plan, **order))
        async with crowd(tmp_path, clients) as sites:
            cell = Round(task, sites)
            await cell.form()
            for site in sites:
                assert Tasked(task) in site.events
            await cell.upload(n=n)
            await cell.relay()
            mean, weight = opened_mean(task, cell.partial(), await cell.open(), clients)
            assert weight == clients * 50
            clipped = [np.clip(world.the_values(site.client, n).astype(np.float64), -1, 1) for site in sites]
            assert np.abs(mean - np.mean(clipped, axis=0)).max() <= cell.terms.encoding.error_bound(clients, weight)
            for site in sites:
                site.hear(RoundCommitted(SessionId(plan.session.hex()), 1, cell.task.plan.base_model))
            for site in sites:
                await site.settled()
                assert list((site.files / "masked").iterdir()) == []
                assert (site.folder.memory.uploads(), site.folder.memory.answers()) == ((), ())
                assert len(site.folder.memory.sent()) == 1

    asyncio.run(main())
