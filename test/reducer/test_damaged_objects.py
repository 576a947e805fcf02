"""Objects that are gone or are other bytes than their names say: named, never in a model, mended by putting them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import masked_world as world
import numpy as np
import pytest
from artifacts import a_model, chunked
from awaiting import until
from masked_network import a_masked_combiner, expected_mean
from reducer_network import Network, OperatorFiles, PlayedCombiner, Stored, a_network
from safetensors.numpy import load

from fedn_py.identity import Digest
from fedn_py.protocol.messages import CellOrder, PartialAggregate
from fedn_py.protocol.reducer_work import Idle, Paused
from fedn_py.store.ports import ObjectCorrupt

Damage = Callable[[dict[Digest, bytes], Digest], None]

DAMAGES: dict[str, Damage] = {
    "gone": lambda contents, digest: contents.pop(digest, None) and None,
    "a bit turned over": lambda contents, digest: contents.update({digest: _turned(contents[digest])}),
    "other bytes": lambda contents, digest: contents.update({digest: b"other"}),
}


def _turned(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


async def at_the_commit(network: Network, what: str, combiner: PlayedCombiner) -> tuple[PartialAggregate, Digest]:
    """Have a round wait for its combiner; return its answer, and the object that is about to be damaged."""
    session = await network.start_session(max_attempts=1, validate=False)
    await until(lambda: combiner.orders)
    order = combiner.orders[-1]
    assert isinstance(order, CellOrder)
    partial = await combiner.partial(order)
    assert partial.sum_object is not None
    return partial, session.options.seed_model if what == "seed model" else partial.sum_object


@pytest.mark.parametrize("what", ["seed model", "partial aggregate"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_no_model_is_made_of_a_damaged_object_the_attempt_names_it_and_the_next_one_is_right(
    tmp_path: Path, damage: Damage, what: str
) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            combiner = await network.combiner(silent=True)
            partial, digest = await at_the_commit(network, what, combiner)
            damage(stored.objects.contents, digest)
            await combiner.say(partial)
            await network.reaches(Paused)
            await network.settled()
            (record,) = await stored.rounds()
            assert record.failures[0].reason.split(":")[0] in {"ObjectMissing", "ObjectCorrupt"}
            assert digest in record.failures[0].reason
            assert (await network.control.status()).phase == "paused"

            await stored.objects.put(chunked(a_model()))  # as whoever mends it does; a sum comes anew by itself
            combiner.silent = False
            await network.control.resume_session(record.plan.session)
            await network.reaches(Idle)
            (record,) = await stored.rounds()
            assert record.status == "committed"
            assert list(load(stored.objects.contents[record.model or Digest("")])["w"]) == [26.0, 27.0, 28.0]

    asyncio.run(story())


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_masked_sum_is_named_and_its_clients_are_held_back_until_there_is_a_new_work(
    tmp_path: Path, damage: Damage
) -> None:
    async def story() -> None:
        stored = Stored()
        async with a_network(tmp_path, stored, operator=OperatorFiles(tmp_path / "operator")) as network:
            combiner = await a_masked_combiner(network, closes=False)
            await network.start_session(masking="pet", clients_wanted=5)
            await until(lambda: combiner.cells)
            cell = next(iter(combiner.cells.values()))
            closed = await combiner.closed(cell)
            (digest,) = stored.objects.contents.keys() - {cell.order.plan.base_model, cell.order.plan.package}
            damage(stored.objects.contents, digest)
            combiner.closes = True
            await combiner.say(closed)
            await network.reaches(Paused)
            await network.settled()
            (record,) = await stored.rounds()
            assert record.model is None
            assert digest in " ".join(event.text for event in await network.told())
            assert "privacy hold" in (await network.control.session(record.plan.session)).reason

            await network.control.resume_session(record.plan.session, new_work=True)
            await network.reaches(Idle)
            (record,) = await stored.rounds()
            model = load(stored.objects.contents[record.model or Digest("")])["w"]
            assert np.abs(model - [1.0, 2.0, 3.0] - expected_mean(world.CLIENTS[:5], 3)).max() < 1e-4

    asyncio.run(story())


def test_a_model_that_is_damaged_is_served_to_nobody_and_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with a_network(tmp_path, stored := Stored()) as network:
            options = await network.options()
            DAMAGES["a bit turned over"](stored.objects.contents, options.seed_model)
            size, chunks = await network.control.open_model(options.seed_model)
            received = b""

            async def receive() -> None:
                nonlocal received
                async for chunk in chunks:
                    received += chunk

            with pytest.raises(ObjectCorrupt, match=options.seed_model):
                await receive()
            assert len(received) < size

    asyncio.run(story())
