"""Replicas that disagree: every version is tried, and the guards tell."""

import pytest

from fedn_py.masking.fixed_point import UnmaskCheckFailed
from fedn_py.protocol.masked.replicas import MOST_TRIALS, ReplicasDisagree, Verdict, judge, trials

A, B, C, D = b"anna", b"bert", b"carl", b"dora"


def test_replicas_that_agree_make_one_trial() -> None:
    digests = {0: {A: b"1", B: b"1"}, 1: {C: b"2", D: b"2"}}
    assert trials(digests) == ((b"1", b"2"),)
    assert judge(digests, {(b"1", b"2"): True}) == Verdict((b"1", b"2"), frozenset())


def test_a_replica_that_differs_makes_one_more_and_is_named() -> None:
    digests = {0: {A: b"1", B: b"x"}, 1: {C: b"2"}}
    assert set(trials(digests)) == {(b"1", b"2"), (b"x", b"2")}
    passed = {(b"1", b"2"): True, (b"x", b"2"): False}
    assert judge(digests, passed) == Verdict((b"1", b"2"), frozenset({B}))


def test_two_versions_that_both_look_true_are_neither_believed() -> None:
    digests = {0: {A: b"1", B: b"x"}, 1: {C: b"2", D: b"2"}}
    with pytest.raises(ReplicasDisagree) as refused:
        judge(digests, dict.fromkeys(trials(digests), True))
    assert refused.value.members == {A, B}


def test_where_no_version_opens_the_cell_is_garbage() -> None:
    digests = {0: {A: b"1"}, 1: {C: b"2"}}
    with pytest.raises(UnmaskCheckFailed):
        judge(digests, {(b"1", b"2"): False})


def test_liars_cannot_make_endless_work() -> None:
    digests = {slot: {bytes([slot, n]): bytes([n]) for n in range(4)} for slot in range(8)}
    assert len(trials(digests)) == MOST_TRIALS
