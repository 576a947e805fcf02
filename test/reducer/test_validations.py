"""What is shown of the metrics of a round, and what is not."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from builders import MODEL_1, SESSION, a_plan
from reducer_network import Network, a_network
from store_reads import counted_reads

from fedn_py.identity import ClientId, ClientName, CombinerName, Generation, SessionId
from fedn_py.reducer import views
from fedn_py.reducer.control_faults import UnknownSession
from fedn_py.reducer.records import (
    IncludedClient,
    MadeModel,
    MaskedRoundRecord,
    Measured,
    RoundRecord,
    from_document,
    to_document,
)
from fedn_py.reducer.shown_measurements import MetricView
from fedn_py.reducer.validations import means, validation_view

G_MIN = 3
PLAIN = RoundRecord(
    a_plan(), "committed", Generation(1), (), started=1.0, attempt_started=1.0, ended=3.0, seconds=2.0, model=MODEL_1
)
MASKED = replace(PLAIN, masked=MaskedRoundRecord("pet", 2, 1, G_MIN, "reducer"))


def measured(clients: int | None, *values: float) -> Measured:
    """Return accuracy of this mean and number of clients, of whom the first release these values."""
    by_client = {ClientName(f"site-{place}"): {"accuracy": value} for place, value in enumerate(values)}
    counts = {} if clients is None else {"accuracy": clients}
    return Measured(clients or 0, 40, {"accuracy": 0.5}, by_client, counts=counts)


def accuracy(record: RoundRecord, found: Measured) -> MetricView:
    (metric,) = validation_view(replace(record, validation=found)).metrics
    return metric


@pytest.mark.parametrize("clients", [None, 1, 2, 5])
def test_a_round_that_is_not_masked_shows_every_mean(clients: int | None) -> None:
    metric = accuracy(PLAIN, measured(clients))
    assert (metric.mean, metric.clients, metric.hidden) == (0.5, clients, "")


@pytest.mark.parametrize(
    ("clients", "released", "shown"),
    [
        (None, 0, False),  # nobody knows how few they are
        (1, 0, False),
        (2, 0, False),
        (3, 0, True),
        (3, 3, True),  # all of them released theirs anyway
        (2, 2, False),
        (5, 2, True),  # of the other three the mean tells no more than a mean
        (5, 3, False),  # with three values known, it tells of two
        (5, 4, False),
        (5, 5, True),
    ],
)
def test_a_masked_round_shows_a_mean_only_where_it_tells_of_g_min_clients_or_of_none(
    clients: int | None, released: int, shown: bool
) -> None:
    found = measured(clients, *[0.25] * released)
    metric = accuracy(MASKED, found)
    assert metric.mean == (0.5 if shown else None)
    assert bool(metric.hidden) is not shown
    assert len(metric.by_client) == released
    round_view = views.round_view(replace(MASKED, validation=found), views.Idle(), {}, now=9.0)
    assert round_view.metrics == ({"accuracy": 0.5} if shown else {})
    assert round_view.metrics_hidden == ({} if shown else {"accuracy": metric.hidden})
    assert views.model_view(replace(MASKED, validation=found)).metrics == round_view.metrics


def test_what_was_measured_in_training_is_held_to_the_same() -> None:
    few, many = replace(MASKED, training=measured(2)), replace(MASKED, training=measured(3))
    assert (means(validation_view(few).training), means(validation_view(many).training)) == ({}, {"accuracy": 0.5})
    assert views.round_view(few, views.Idle(), {}, now=9.0).training_metrics == {}


@pytest.mark.parametrize(
    ("values", "quartiles"),
    [
        ([], (None,) * 5),
        ([0.5], (0.5,) * 5),
        ([3.0, 1.0], (1.0, 1.5, 2.0, 2.5, 3.0)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (1.0, 2.0, 3.0, 4.0, 5.0)),
    ],
)
def test_values_released_one_by_one_are_shown_with_their_quartiles(
    values: list[float], quartiles: tuple[float | None, ...]
) -> None:
    metric = accuracy(PLAIN, measured(9, *values))
    shown = (metric.minimum, metric.lower_quartile, metric.median, metric.upper_quartile, metric.maximum)
    assert shown == quartiles
    assert metric.by_client == {f"site-{place}": value for place, value in enumerate(values)}


def test_values_without_a_mean_are_shown_alone() -> None:
    found = Measured(1, 10, {}, {ClientName("anna"): {"loss": 2.0}})
    (metric,) = validation_view(replace(MASKED, validation=found)).metrics
    assert (metric.name, metric.mean, metric.hidden, metric.by_client) == ("loss", None, "", {"anna": 2.0})


def test_a_round_says_how_many_measured_and_over_how_much_but_not_of_a_few_behind_masks() -> None:
    view = validation_view(replace(PLAIN, validation=measured(2)))
    assert (view.session, view.number, view.model, view.seconds) == (SESSION, 1, MODEL_1, 2.0)
    assert (view.validated, view.clients, view.samples) == (True, 2, 40)
    assert validation_view(replace(MASKED, validation=measured(2))).samples is None
    assert validation_view(replace(MASKED, validation=measured(3))).samples == 40
    assert not validation_view(PLAIN).validated


def test_what_lists_read_of_a_rounds_document_shows_the_same_as_the_whole_record() -> None:
    found = measured(5, 0.25, 0.75)
    client = IncludedClient(ClientId("aa"), ClientName("anna"), CombinerName("north"), 40, MODEL_1)
    for record in (PLAIN, MASKED, replace(PLAIN, validation=found, training=found, included=(client,), samples=40)):
        read = from_document(MadeModel, "rounds", "1", to_document(record))
        assert validation_view(read) == validation_view(record)
        assert views.model_view(read) == views.model_view(record)


def test_a_sessions_validations_come_in_pages_of_bounded_reading(tmp_path: Path) -> None:
    async def story(network: Network) -> None:
        await network.combiner()
        session = await network.start_session(rounds=5)
        await network.at_rest()
        seen, after = [], ""
        for most in (2, 2, 1):
            with counted_reads(network.documents) as reads:
                page = await network.control.validations(session.id, after=after, limit=2)
            assert (reads.queries, reads.documents) == (2, 1 + min(3, 5 - len(seen)))
            assert len(page.items) == most
            seen += page.items
            after = page.next or ""
        assert after == ""
        assert [view.number for view in seen] == [1, 2, 3, 4, 5]
        (metric,) = seen[0].metrics
        assert (metric.name, metric.mean, metric.clients, metric.by_client) == ("accuracy", 0.5, 2, {"anna": 0.5})
        with pytest.raises(UnknownSession):
            await network.control.validations(SessionId("00"))

    async def told() -> None:
        async with a_network(tmp_path) as network:
            await story(network)

    asyncio.run(told())
