"""What trials ask of the round that they hurt, beyond what every trial asks."""

from collections.abc import Callable, Iterable, Iterator

from chaos.stage import Stage

from fedn_py.reducer.shown_rounds import RoundView

Condition = Callable[[Stage, RoundView], Iterable[str]]


def nothing(_: Stage, __: RoundView) -> Iterable[str]:
    """No more than what every trial asks."""
    return ()


def same_attempt(_: Stage, hurt: RoundView) -> Iterator[str]:
    """The round goes on in its first attempt."""
    if hurt.attempt != 1:
        yield f"round {hurt.number} was done in attempt {hurt.attempt}, and not in its first"


def everybody(stage: Stage, hurt: RoundView) -> Iterator[str]:
    """Every client is in the round's model."""
    missing = set(stage.network.clients) - {one.name for one in hurt.clients}
    if missing:
        yield f"round {hurt.number} is without {', '.join(sorted(missing))}"


def validated(_: Stage, hurt: RoundView) -> Iterator[str]:
    """The round's model has its metrics."""
    if not hurt.metrics:
        yield f"round {hurt.number} has no metrics of its validation"


def without(client: str) -> Condition:
    """One client is not in the round's model, and is named as left out."""

    def condition(_: Stage, hurt: RoundView) -> Iterator[str]:
        if client in {one.name for one in hurt.clients}:
            yield f"{client} is in round {hurt.number}"
        if client not in {one.name for one in hurt.excluded}:
            yield f"{client} is not named as left out of round {hurt.number}"

    return condition


def both(*conditions: Condition) -> Condition:
    """All of these."""
    return lambda stage, hurt: [fault for one in conditions for fault in one(stage, hurt)]
