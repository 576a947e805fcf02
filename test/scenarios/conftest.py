from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from simulator.chaos import Sizes, terms
from simulator.world import World


@pytest.fixture
def a_world() -> Callable[..., World]:
    """Builds a small network in which nothing goes wrong by itself: 2 combiners, 4 clients, 2 rounds unless said."""

    def build(*, training_s: tuple[float, ...] = (3.0, 3.0, 3.0, 3.0), combiners: int = 2, **session: Any) -> World:
        sizes = Sizes(terms(**session), combiners=combiners, clients=len(training_s), training_s=training_s)
        return World(sizes, Random(1))

    return build
