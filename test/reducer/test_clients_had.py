"""Whose lots are looked at: those of a combiner's clients of earlier rounds, whatever it says of them now."""

from dataclasses import replace

from builders import NORTH, SOUTH, a_plan

from fedn_py.identity import ClientId, SessionId
from fedn_py.reducer.clients_had import ClientsHad

ANNA, BEN, CARL = (ClientId(name * 64) for name in "abc")


def test_who_has_left_since_still_counts() -> None:
    had = ClientsHad()
    assert had.note(a_plan(round_number=1), {NORTH: {ANNA, BEN}}) == {}
    assert had.note(a_plan(round_number=2), {NORTH: {BEN}}) == {NORTH: {ANNA, BEN}}
    assert had.note(a_plan(round_number=3), {NORTH: {CARL}}) == {NORTH: {ANNA, BEN, CARL}}


def test_nothing_is_known_of_a_combiner_that_is_new_in_a_round_not_even_in_its_next_attempt() -> None:
    had = ClientsHad()
    had.note(a_plan(round_number=1), {NORTH: {ANNA}})
    assert had.note(a_plan(round_number=2), {NORTH: {ANNA}, SOUTH: {BEN, CARL}}) == {NORTH: {ANNA}}
    assert had.note(a_plan(round_number=2, attempt=2), {NORTH: {ANNA}, SOUTH: {BEN}}) == {NORTH: {ANNA}}
    assert had.note(a_plan(round_number=3), {SOUTH: {BEN}}) == {SOUTH: {BEN, CARL}}


def test_another_session_begins_with_nothing() -> None:
    had = ClientsHad()
    had.note(a_plan(round_number=1), {NORTH: {ANNA}})
    assert had.note(replace(a_plan(round_number=2), session=SessionId("77" * 16)), {NORTH: {ANNA}}) == {}
