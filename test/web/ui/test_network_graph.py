"""The drawing of the network: who is where, and what the shapes say."""

import itertools

import pytest

from fedn_py.identity import ClientId, ClientName, CombinerName, SessionId
from fedn_py.reducer.shown_network import ClientView, CombinerView
from fedn_py.reducer.shown_rounds import AskedView, CombinerProgressView, RoundView
from fedn_py.web.ui.network_graph import MOST_CLIENTS, MOST_COMBINERS, WIDTH, Drawing, draw, states_of


def a_combiner(name: str, *, connected: bool = True) -> CombinerView:
    return CombinerView(CombinerName(name), f"{name}:12080", 2, 1_000, connected=connected, last_seen=1.0)


def a_client(name: str, combiner: str | None = "north", *, revoked: bool = False) -> ClientView:
    at = None if combiner is None else CombinerName(combiner)
    return ClientView(
        ClientId(name), ClientName(name), at, connected=at is not None, last_seen=1.0, since=1.0, revoked=revoked
    )


def a_round(states: dict[str, str], phase: str = "collecting") -> RoundView:
    asked = tuple(AskedView(ClientName(name), CombinerName("north"), state) for name, state in states.items())
    told = CombinerProgressView(CombinerName("north"), phase, 0, 0, 0)
    return RoundView(SessionId("ab"), 1, 1, "collecting", "running", 1.0, 1.0, progress=(told,), asked=asked)


def boxes(drawing: Drawing) -> list[tuple[int, int]]:
    return [(band.y, band.y + band.height) for band in drawing.bands]


@pytest.mark.parametrize("clients", [0, 1, 3, MOST_CLIENTS])
@pytest.mark.parametrize("combiners", [1, 2, 7, MOST_COMBINERS])
def test_nothing_lies_on_anything_else_and_all_is_inside(clients: int, combiners: int) -> None:
    names = [f"combiner-{number}" for number in range(combiners)]
    everybody = [a_client(f"client-{n}", None if n % 5 == 4 else names[n % combiners]) for n in range(clients)]
    drawing = draw([a_combiner(name) for name in names], everybody, None)

    bands = boxes(drawing)
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(bands))
    marks = [mark for band in drawing.bands for mark in band.marks] + list(drawing.away)
    assert sorted(mark.name for mark in marks) == sorted(client.name for client in everybody)
    assert len({(mark.x, mark.y) for mark in marks}) == len(marks)
    assert all(0 < mark.x < WIDTH - 100 and 0 < mark.y < drawing.height for mark in marks)
    assert all(band.y < mark.y < band.y + band.height for band in drawing.bands for mark in band.marks)
    assert all(mark.y > drawing.away_y > bands[-1][1] for mark in drawing.away)
    assert bands[-1][1] <= drawing.height
    assert 0 < drawing.middle < drawing.height


def test_too_many_clients_are_counted_and_too_many_combiners_left_to_the_table() -> None:
    crowd = [a_client(f"client-{number}") for number in range(MOST_CLIENTS + 1)]
    combiners = [a_combiner("north"), *(a_combiner(f"c-{number}") for number in range(MOST_COMBINERS + 2))]
    for clients in (crowd, None):
        drawing = draw(combiners, clients, None)
        assert drawing.counted
        assert not any(band.marks for band in drawing.bands)
        assert len(drawing.bands) == MOST_COMBINERS
        assert drawing.left_out == 3


def test_a_client_shows_what_it_does_in_the_round_and_whether_it_is_there_at_all() -> None:
    clients = [a_client(name) for name in ("anna", "bert", "carl", "dora", "emil")]
    clients += [a_client("fritz", None), a_client("greta", revoked=True)]
    at_hand = a_round({"anna": "training", "bert": "checking", "carl": "in", "dora": "out", "fritz": "training"})
    assert list(states_of(clients, at_hand).values()) == [
        "training", "uploading", "in", "out", "attached", "away", "revoked"
    ]  # fmt: skip
    assert set(states_of(clients[:5], None).values()) == {"attached"}


def test_a_link_is_lit_while_something_is_on_its_way() -> None:
    def the_band(at_hand: RoundView | None) -> tuple[bool, bool, str]:
        (band,) = draw([a_combiner("north")], [a_client("anna"), a_client("bert")], at_hand).bands
        return band.busy, band.reporting, band.phase

    assert the_band(None) == (False, False, "")
    assert the_band(a_round({"anna": "training", "bert": "in"})) == (True, False, "collecting")
    assert the_band(a_round({"anna": "in", "bert": "in"}, "reporting")) == (False, True, "reporting")


def test_nothing_is_on_its_way_to_a_combiner_that_is_gone() -> None:
    gone = a_combiner("north", connected=False)
    (band,) = draw([gone], [a_client("anna")], a_round({"anna": "training"}, "reporting")).bands
    assert (band.busy, band.reporting, band.phase) == (False, False, "")


def test_the_legend_names_only_what_is_drawn() -> None:
    drawing = draw([a_combiner("north")], [a_client("anna"), a_client("bert", None)], a_round({"anna": "in"}))
    assert drawing.states == ("away", "in")
