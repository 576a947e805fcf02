"""An update participant, rule by rule."""

from dataclasses import replace
from typing import Any

import masked_world as world
import pytest
from masked_world import CLIENTS, a_committee, a_plan, members_of, the_terms

from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext
from fedn_py.protocol.masked.differencing import BaseUsedUp, SentRecord
from fedn_py.protocol.masked.participant import MOST_UPLOADS, OldRound, step
from fedn_py.protocol.masked.participant_work import (
    AbortArrived,
    Checking,
    CommitteeChecked,
    DropUpdate,
    Effect,
    EraseSeeds,
    Event,
    NotOpenedArrived,
    PlanChecked,
    RoundEnded,
    SaveSeen,
    SaveSent,
    Sealing,
    SealUpdate,
    Seen,
    SendUpload,
    Sent,
    SitOut,
    SittingOut,
    StoredUpload,
    Train,
    Training,
    TrainingEnded,
    TrainingFailed,
    UpdateParticipant,
    UpdateSealed,
    UploadRefused,
    Waiting,
)
from fedn_py.protocol.masked.round_messages import Abort, NotOpened
from fedn_py.protocol.masked.signing import sign

FRESH = UpdateParticipant(rework_max=20)
UPLOAD, AGAIN = b"u" * 16, b"v" * 16


def planned(terms: CellTerms) -> PlanChecked:
    return PlanChecked(terms, terms.order.plan_hash)


def run(state: UpdateParticipant, *events: Event) -> tuple[UpdateParticipant, list[Effect]]:
    """The state after the events, and the effects of the last one."""
    effects: list[Effect] = []
    for event in events:
        state, effects = step(state, event)
    return state, effects


def attempt(number: int = 1, **changed: Any) -> CellTerms:
    return the_terms(a_plan(attempt=number, **changed))


FIRST, SECOND = attempt(1), attempt(2)
COMMITTEE, NEXT = a_committee(FIRST), a_committee(SECOND)
SENT, _ = run(
    FRESH,
    planned(FIRST),
    TrainingEnded(FIRST.work),
    CommitteeChecked(COMMITTEE, FIRST),
    UpdateSealed(COMMITTEE.ctx, UPLOAD),
)


def record_of(terms: CellTerms, committee: world.Committee) -> SentRecord:
    keys = tuple(member.client.client_key for member in committee.members)
    return SentRecord(terms.work, world.BASE, committee.ctx, terms.plan.reopen, keys)


def abort(client: world.AClient, ctx: bytes = COMMITTEE.ctx) -> AbortArrived:
    return AbortArrived(sign(Abort(ctx, "asked to"), client.key))


def void(ctx: bytes = COMMITTEE.ctx) -> NotOpenedArrived:
    return NotOpenedArrived(sign(NotOpened(ctx, "ended"), world.REDUCER), world.REDUCERS)


# ---- the way of an update


def test_a_plan_is_noted_on_disk_before_training_begins() -> None:
    state, effects = step(FRESH, planned(FIRST))
    assert state.phase == Training(FIRST)
    assert effects == [SaveSeen(world.SESSION, Seen(1, 1, FIRST.order.plan_hash)), Train(FIRST)]


def test_an_update_is_sealed_only_to_a_committee_that_was_checked() -> None:
    state, effects = run(FRESH, planned(FIRST), TrainingEnded(FIRST.work))
    assert (state.phase, effects) == (Checking(FIRST), [])
    state, effects = step(state, CommitteeChecked(COMMITTEE, FIRST))
    assert (state.phase, effects) == (Sealing(FIRST, COMMITTEE, 1), [SealUpdate(FIRST, COMMITTEE)])


def test_the_record_and_the_bytes_are_on_disk_and_the_seeds_erased_before_anything_is_sent() -> None:
    state, effects = run(
        FRESH,
        planned(FIRST),
        TrainingEnded(FIRST.work),
        CommitteeChecked(COMMITTEE, FIRST),
        UpdateSealed(COMMITTEE.ctx, UPLOAD),
    )
    record = record_of(FIRST, COMMITTEE)
    assert effects == [SaveSent(record, UPLOAD), EraseSeeds(), SendUpload(UPLOAD)]
    assert state.sent == (record,)
    assert state.phase == Sent(FIRST, COMMITTEE, 1, UPLOAD)


def test_a_plan_told_again_changes_nothing() -> None:
    for state in (step(FRESH, planned(FIRST))[0], SENT):
        assert step(state, planned(FIRST)) == (state, [])


def test_a_committee_of_another_cell_is_refused() -> None:
    state, _ = run(FRESH, planned(FIRST), TrainingEnded(FIRST.work))
    with pytest.raises(WrongContext):
        step(state, CommitteeChecked(NEXT, SECOND))


def test_a_training_that_fails_ends_the_clients_part() -> None:
    state, effects = run(FRESH, planned(FIRST), TrainingFailed(FIRST.work))
    assert (state.phase, effects) == (Waiting(), [])


def test_a_round_that_has_its_model_frees_the_update_and_keeps_the_record() -> None:
    state, effects = step(SENT, RoundEnded(world.SESSION, 1))
    assert effects == [DropUpdate()]
    assert (state.phase, state.trained, state.stored, state.sent) == (Waiting(), None, {}, SENT.sent)
    assert step(state, RoundEnded(world.SESSION, 1)) == (state, [])
    assert step(SENT, RoundEnded(world.SESSION, 0)) == (SENT, [])
    assert step(SENT, RoundEnded(b"T" * 16, 9)) == (SENT, [])


# ---- the order of plans


def test_older_attempts_and_second_plans_for_one_attempt_are_refused() -> None:
    state, _ = step(FRESH, planned(attempt(2, round=3)))
    for terms in (attempt(1, round=3), attempt(9, round=2), attempt(2, round=3, clip=0.5)):
        with pytest.raises(OldRound):
            step(state, planned(terms))
    for terms in (attempt(3, round=3), attempt(1, round=4), attempt(1, session=b"T" * 16)):
        step(state, planned(terms))


def test_what_is_on_disk_refuses_an_old_plan_after_a_restart_too() -> None:
    restarted = UpdateParticipant(20, seen={world.SESSION: Seen(3, 1, b"h" * 32)})
    with pytest.raises(OldRound):
        step(restarted, planned(attempt(9, round=2)))


def test_more_works_on_one_base_than_the_policy_allows_are_refused() -> None:
    records = tuple(SentRecord(bytes([n]) * 32, world.BASE, bytes([n]) * 32, "reducer", ()) for n in range(2))
    with pytest.raises(BaseUsedUp):
        step(UpdateParticipant(1, sent=records), planned(FIRST))
    step(UpdateParticipant(2, sent=records), planned(FIRST))


# ---- again


def test_an_attempt_that_failed_before_anything_was_sent_is_no_hindrance() -> None:
    state, _ = run(FRESH, planned(FIRST), TrainingEnded(FIRST.work), CommitteeChecked(COMMITTEE, FIRST))
    state, effects = step(state, planned(SECOND))
    assert state.phase == Checking(SECOND)  # the update is there already
    assert effects == [SaveSeen(world.SESSION, Seen(1, 2, SECOND.order.plan_hash))]


def test_a_client_whose_upload_may_be_opened_sits_out() -> None:
    state, effects = step(SENT, planned(SECOND))
    assert state.phase == SittingOut(SECOND, COMMITTEE.ctx)
    assert isinstance(effects[-1], SitOut)


def test_a_client_that_moves_to_another_cell_of_the_same_attempt_sits_out_without_aborts() -> None:
    moved = the_terms(cell=world.OTHER_CELL)
    state, _ = step(SENT, planned(moved))
    assert state.phase == SittingOut(moved, COMMITTEE.ctx)
    for client in members_of(COMMITTEE):
        state, effects = step(state, abort(client))
    assert (state.phase, effects) == (Checking(moved), [])


def test_every_members_abort_lets_it_go_on_and_one_less_does_not() -> None:
    state, _ = step(SENT, planned(SECOND))
    *first, last = members_of(COMMITTEE)
    for client in first:
        state, _ = step(state, abort(client))
        assert state.phase == SittingOut(SECOND, COMMITTEE.ctx)
    state, _ = step(state, abort(last))
    assert state.phase == Checking(SECOND)


def test_the_reducers_word_lets_it_go_on_unless_the_plan_was_strict() -> None:
    released, _ = run(SENT, planned(SECOND), void())
    assert released.phase == Checking(SECOND)
    strict = the_terms(a_plan(reopen="strict"))
    committee = a_committee(strict)
    state, _ = run(
        FRESH,
        planned(strict),
        TrainingEnded(strict.work),
        CommitteeChecked(committee, strict),
        UpdateSealed(committee.ctx, UPLOAD),
        planned(SECOND),  # asks for less than the first plan did
        void(committee.ctx),
    )
    assert state.phase == SittingOut(SECOND, committee.ctx)


def test_a_word_that_came_before_the_plan_counts() -> None:
    state, _ = run(SENT, void(), planned(SECOND))
    assert state.phase == Checking(SECOND)


def test_another_work_is_done_by_who_sat_out() -> None:
    state, _ = run(SENT, planned(SECOND))
    anew = attempt(3, params_sha256=b"x" * 32)
    state, effects = step(state, planned(anew))
    assert state.phase == Training(anew)
    assert effects[1:] == [DropUpdate(), Train(anew)]


def test_a_second_upload_has_new_seeds_under_its_own_committee() -> None:
    state, effects = run(SENT, void(), planned(SECOND), CommitteeChecked(NEXT, SECOND))
    assert effects == [SealUpdate(SECOND, NEXT)]
    state, effects = step(state, UpdateSealed(NEXT.ctx, AGAIN))
    assert effects == [SaveSent(record_of(SECOND, NEXT), AGAIN), EraseSeeds(), SendUpload(AGAIN)]
    assert len(state.sent) == 2


def test_two_committees_for_one_cell_get_one_upload() -> None:
    """A server shows a second committee after the first upload: k - 1 corrupt slots in each could cover all."""
    fewer = a_committee(FIRST, CLIENTS[1:])
    restarted = replace(SENT, phase=Waiting(), trained=None)
    state, _ = run(restarted, planned(FIRST), CommitteeChecked(fewer, FIRST))
    assert state.phase == SittingOut(FIRST, COMMITTEE.ctx)


# ---- restarts and refusals


def test_a_restarted_client_resumes_the_stored_bytes() -> None:
    restarted = UpdateParticipant(
        20, seen=SENT.seen, sent=SENT.sent, stored={FIRST.ctx0: StoredUpload(COMMITTEE.ctx, UPLOAD)}
    )
    state, effects = step(restarted, planned(FIRST))
    assert (state.phase, effects) == (Checking(FIRST), [])
    state, effects = step(state, CommitteeChecked(COMMITTEE, FIRST))
    assert (state.phase, effects) == (Sent(FIRST, COMMITTEE, 1, UPLOAD), [SendUpload(UPLOAD)])


def test_a_restarted_client_without_its_stored_upload_sits_out() -> None:
    restarted = UpdateParticipant(20, seen=SENT.seen, sent=SENT.sent)
    state, _ = step(restarted, planned(SECOND))
    assert isinstance(state.phase, SittingOut)


def test_a_refused_box_is_sealed_anew_a_few_times() -> None:
    state = SENT
    for tries in range(2, MOST_UPLOADS + 1):
        current = state.phase
        assert isinstance(current, Sent)
        state, effects = step(state, UploadRefused(current.upload_id, by_member=True))
        assert effects == [SealUpdate(FIRST, COMMITTEE)]
        state, _ = step(state, UpdateSealed(COMMITTEE.ctx, bytes([tries]) * 16))
    state, effects = step(state, UploadRefused(bytes([MOST_UPLOADS]) * 16, by_member=True))
    assert (state.phase, effects) == (Waiting(), [])
    assert len(state.sent) == 1  # all under one context


def test_a_late_upload_is_not_tried_again() -> None:
    state, effects = step(SENT, UploadRefused(UPLOAD, by_member=False))
    assert (state.phase, effects) == (Waiting(), [])
    assert isinstance(step(state, planned(SECOND))[0].phase, SittingOut)


def test_events_out_of_place_change_nothing() -> None:
    events: list[Event] = [
        TrainingEnded(FIRST.work),
        TrainingFailed(FIRST.work),
        CommitteeChecked(COMMITTEE, FIRST),
        UpdateSealed(COMMITTEE.ctx, UPLOAD),
        UploadRefused(UPLOAD, by_member=True),
    ]
    for event in events:
        with pytest.raises(UnexpectedEvent):
            step(FRESH, event)
    for stale in (UpdateSealed(b"x" * 32, UPLOAD), UploadRefused(AGAIN, by_member=True), TrainingEnded(b"x" * 32)):
        for state in (step(FRESH, planned(FIRST))[0], SENT):
            with pytest.raises(UnexpectedEvent):
                step(state, stale)
