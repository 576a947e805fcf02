from dataclasses import dataclass

from builders import ANNA, BERT

from fedn_py.identity import ClientId, CombinerName, InstanceId
from fedn_py.protocol.reducer import step
from fedn_py.protocol.reducer_work import ClientsChanged, CombinerJoined, CombinerLost, Event, Reducer
from fedn_py.reducer.absences import Absences, without_times

NORTH, NORTH_1 = CombinerName("north"), InstanceId("north-1")
NAMES = {ANNA: "anna", BERT: "bert"}


@dataclass
class Time:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def name_of(client: ClientId) -> str:
    return NAMES.get(client, client[:4])


def attached(*clients: ClientId) -> Event:
    return ClientsChanged(NORTH, NORTH_1, frozenset(clients))


def heard(absences: Absences, state: Reducer, *events: Event) -> Reducer:
    for event in events:
        state, _ = absences.watched(step)(state, event)
    return state


def test_who_detaches_is_missed_until_it_is_back() -> None:
    time = Time()
    absences = Absences({}, time)
    state = heard(absences, Reducer(), CombinerJoined(NORTH, NORTH_1), attached(ANNA, BERT))
    assert absences.in_words(name_of) == ""
    state = heard(absences, state, attached(ANNA))
    time.now += 240
    assert absences.in_words(name_of) == "bert was last seen 4 minutes ago"
    heard(absences, state, attached(ANNA, BERT))
    assert absences.in_words(name_of) == ""


def test_the_clients_of_a_lost_combiner_are_missed() -> None:
    time = Time()
    absences = Absences({}, time)
    heard(absences, Reducer(), CombinerJoined(NORTH, NORTH_1), attached(ANNA), CombinerLost(NORTH, NORTH_1))
    time.now += 2
    assert absences.in_words(name_of) == "anna was last seen 2 seconds ago"


def test_who_was_seen_last_is_named_first_and_who_has_been_away_for_long_not_at_all() -> None:
    time = Time()
    seen = {ClientId(f"{number:032d}"): time.now - 60.0 * number for number in range(1, 6)}
    absences = Absences({**seen, ANNA: time.now - 90_000.0, BERT: time.now - 30.0}, time)
    told = absences.in_words(name_of)
    assert told.startswith("bert was last seen 30 seconds ago, ")
    assert told.endswith("was last seen 2 minutes ago, 3 more are away")
    assert "anna" not in told


def test_without_times_it_says_who_is_away_and_the_same_however_long() -> None:
    time = Time()
    absences = Absences({ANNA: time.now - 5.0, BERT: time.now - 90.0}, time)
    said = f"have 1; {absences.in_words(name_of)}; 2 more sit out"
    time.now += 60.0
    later = f"have 1; {absences.in_words(name_of)}; 2 more sit out"
    assert said != later
    assert without_times(said) == without_times(later) == "have 1; anna, bert; 2 more sit out"
