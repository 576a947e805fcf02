"""Whole masked rounds at the reducer, with real keys: opened once, released only when nothing can be opened."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
from masked_network import a_masked_combiner, expected_mean
from reducer_network import Network, OperatorFiles, a_network

from fedn_py.identity import Digest


def in_a_masked_network(scratch: Path, story: Callable[[Network], Awaitable[None]], **operator: object) -> None:
    async def told() -> None:
        files = OperatorFiles(scratch / "operator", **operator)  # type: ignore[arg-type]
        async with a_network(scratch, operator=files) as network:
            await story(network)

    asyncio.run(told())


def test_a_masked_session_makes_models_that_are_the_mean_of_its_clients(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        combiner = await a_masked_combiner(network)
        await network.start_session(masking="pet", rounds=2, clients_wanted=5)
        await network.at_rest()
        first, second = await network.stored.rounds()
        assert (first.status, second.status) == ("committed", "committed")
        model = safetensors.numpy.load(network.stored.objects.contents[first.model or Digest("")])["w"]
        mean = expected_mean(combiner.clients, 3)
        assert np.abs(model - (np.array([1.0, 2.0, 3.0]) + mean)).max() < 1e-5
        assert first.samples == 5 * 50

    in_a_masked_network(tmp_path, story)
