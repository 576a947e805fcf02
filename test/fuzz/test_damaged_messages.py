"""Every kind of masked message, cut off, with bits turned over, other fields, signers and rounds: refused by name."""

import random
from collections.abc import Iterator

import pytest
from fuzz.anywhere import anywhere
from fuzz.insiders import SPOILED
from fuzz.instead import Readable, Whose, a_member, instead, no_member, one_round
from fuzz.kept_networks import KeptNetworks
from fuzz.places import IN_THE_CLEAR, INSIDE, NEVER_SAID, PLACES, Place
from fuzz.storm import Report, storm
from fuzz.whole_network import WholeNetwork

from fedn_py.protocol.masked import words
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.signing import Signed

SEED = 20_260_726


@pytest.fixture(scope="module")
def networks() -> Iterator[KeptNetworks]:
    with KeptNetworks() as kept:
        yield kept


def named(how: str) -> list[object]:
    return [pytest.param(place, id=place.name) for place in PLACES if place.how == how]


@pytest.mark.parametrize("place", named("before"))
def test_what_is_damaged_is_refused_by_name_and_changes_nothing(networks: KeptNetworks, place: Place) -> None:
    async def story(network: WholeNetwork) -> Report:
        report = await storm(network, place, random.Random(SEED), 6)
        record = await network.next_round()
        assert len(record.included) == len(network.clients)
        return report

    report = networks.play(story, replicated=place.story == "echoes")
    assert report.escapes == []
    assert report.cases >= 8


@pytest.mark.parametrize("place", named("instead"))
def test_what_takes_the_place_of_the_true_one_is_refused_by_name_and_the_round_goes_on(
    networks: KeptNetworks, place: Place
) -> None:
    async def story(network: WholeNetwork) -> Report:
        rounds = {"missed rounds": 2}.get(place.story, 14 if place.kind == "masked terms" else 5)
        return await instead(network, place, random.Random(SEED), rounds=rounds, count=2)

    report = networks.play(story)
    assert report.escapes == []


@pytest.mark.parametrize("place", [pytest.param(one, id=one.name) for one in PLACES if one.name in SPOILED])
def test_what_its_own_sender_spoils_is_named_and_the_round_is_committed(networks: KeptNetworks, place: Place) -> None:
    async def story(network: WholeNetwork) -> Report:
        return await instead(network, place, random.Random(SEED), rounds=5, count=0, spoils=True)

    report = networks.play(story)
    assert report.escapes == []


# ---- who can be done without, and who cannot


def role(name: str, whose: Whose, end: str, *, replicated: bool = False) -> object:
    (place,) = [one for one in PLACES if one.name == name]
    slots = "of 2 in its slot" if replicated else "alone in its slot"
    who = "a client that is no member" if whose is no_member else f"a member {slots}"
    return pytest.param(place, whose, end, replicated, id=f"{name}, of {who}")


WITHOUT_IT, WITH_ALL, LATER = "without its client", "with everybody", "with everybody in a later attempt"


@pytest.mark.parametrize(
    ("place", "whose", "end", "replicated"),
    [
        role("masked upload at the combiner", no_member, WITHOUT_IT),
        role("masked upload at the combiner", a_member, WITHOUT_IT),
        role("box acknowledgement at the combiner", a_member, LATER),
        role("included at the client", a_member, LATER),
        role("answer at the reducer", a_member, LATER),
        role("wanted stream at the client", a_member, LATER),
        role("sent stream at the reducer", a_member, LATER),
        role("boxes at the client", a_member, WITHOUT_IT, replicated=True),
        role("box acknowledgement at the combiner", a_member, WITH_ALL, replicated=True),
        role("included at the client", a_member, WITH_ALL, replicated=True),
        role("echo at the client", a_member, WITH_ALL, replicated=True),
        role("echo at the reducer", a_member, WITH_ALL, replicated=True),
        role("answer at the reducer", a_member, WITH_ALL, replicated=True),
        role("sent stream at the reducer", a_member, WITH_ALL, replicated=True),
    ],
)
def test_a_round_goes_on_without_whom_it_can_do_without_and_else_in_its_next_attempt(
    networks: KeptNetworks, place: Place, whose: Whose, end: str, replicated: bool
) -> None:
    async def story(network: WholeNetwork) -> Report:
        report = Report(place.name)
        one = Readable(network, place, 0.5, random.Random(SEED), 0, whose)
        await one_round(network, one, report)
        return report

    report = networks.play(story, replicated=replicated)
    assert report.escapes == []
    assert dict(report.ends) == {end: 1}


@pytest.mark.parametrize("replicated", [False, True], ids=["one member a slot", "two members a slot"])
def test_whatever_a_damaged_message_says_the_processes_live_and_rounds_go_on(
    networks: KeptNetworks, replicated: bool
) -> None:
    report = networks.play(lambda network: anywhere(network, random.Random(SEED), 8), replicated=replicated)
    assert report.cases == 8


# ---- the table is whole


def every_body(of: type[Body] = Body) -> Iterator[type[Body]]:
    for body in of.__subclasses__():
        yield body
        yield from every_body(body)


def test_every_word_is_in_the_table_where_it_is_received() -> None:
    at_client = {place.kind for place in PLACES if place.way.to == "client"}
    at_servers = {place.kind for place in PLACES if place.way.to != "client"}
    assert words._TO_CLIENT.keys() - {Signed.kind} <= at_client
    assert words._FROM_CLIENT.keys() - {Signed.kind} <= at_servers


def test_every_body_is_in_the_table_or_said_inside_of_one_that_is() -> None:
    bodies = {body.kind for body in every_body() if body.__module__.startswith("fedn_py.protocol.")}
    in_table = {place.kind for place in PLACES}
    assert bodies == in_table | INSIDE.keys() | IN_THE_CLEAR.keys() | NEVER_SAID.keys()
    assert not in_table & NEVER_SAID.keys()
