"""Which combiner a client is sent to."""

from builders import NORTH, SOUTH
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.identity import CombinerName
from fedn_py.protocol.assignment import Room, choose_combiner

EAST = CombinerName("east")


def test_a_client_goes_to_the_least_loaded_combiner() -> None:
    assert choose_combiner({NORTH: Room(9, 100), SOUTH: Room(10, 100)}, "") == NORTH


def test_loads_are_compared_as_numbers_and_as_shares_of_the_places() -> None:
    assert choose_combiner({NORTH: Room(9, 10), SOUTH: Room(10, 1000)}, "") == SOUTH


def test_equal_loads_go_by_fewer_clients_and_then_by_name() -> None:
    assert choose_combiner({NORTH: Room(2, 20), SOUTH: Room(1, 10)}, "") == SOUTH
    assert choose_combiner({SOUTH: Room(0, 10), NORTH: Room(0, 20), EAST: Room(0, 5)}, "") == EAST


def test_a_preferred_combiner_is_taken_however_loaded_it_is() -> None:
    assert choose_combiner({NORTH: Room(9, 10), SOUTH: Room(0, 10)}, NORTH) == NORTH


def test_a_preferred_combiner_that_is_full_or_away_gives_way() -> None:
    assert choose_combiner({NORTH: Room(10, 10), SOUTH: Room(5, 10)}, NORTH) == SOUTH
    assert choose_combiner({SOUTH: Room(5, 10)}, NORTH) == SOUTH


def test_a_full_combiner_takes_nobody() -> None:
    assert choose_combiner({NORTH: Room(10, 10), SOUTH: Room(11, 10)}, "") is None
    assert choose_combiner({NORTH: Room(0, 0)}, NORTH) is None
    assert choose_combiner({}, "") is None


@given(st.dictionaries(st.text().map(CombinerName), st.builds(Room, st.integers(0, 9), st.integers(0, 9))), st.text())
def test_whoever_is_chosen_is_there_and_has_room(rooms: dict[CombinerName, Room], preferred: str) -> None:
    chosen = choose_combiner(rooms, preferred)
    if chosen is None:
        assert all(room.clients >= room.max_clients for room in rooms.values())
    else:
        assert rooms[chosen].clients < rooms[chosen].max_clients


def test_many_clients_are_spread_evenly() -> None:
    taken = {NORTH: 0, SOUTH: 0, EAST: 0}
    for _ in range(31):
        chosen = choose_combiner({name: Room(count, 100) for name, count in taken.items()}, "")
        assert chosen is not None
        taken[chosen] += 1
    assert sorted(taken.values()) == [10, 10, 11]
