"""The members of a masked cell: those that refuse a box, and those that say nothing."""

from dataclasses import replace

import pytest
from cell_world import (
    CARL,
    CELL,
    DORA,
    FIRST,
    FIVE,
    GENERATION,
    GRACE_S,
    MEMBERS,
    OUTSIDE,
    REPLICATED,
    SECOND,
    a_row,
    ack,
    acks,
    arrival_of,
    arrives,
    begins,
    id_of,
    ids_of,
    refusals,
    run,
    updates_of,
)

from fedn_py.identity import Generation
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    ClientDetached,
    ClientStayedAway,
    Event,
    Forget,
    NoWork,
    ReportFailure,
    TaskNotDone,
    UpdateAdded,
)
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.cell_updates import AlreadyRefused
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    AddVector,
    BoxesAcknowledged,
    DropBoxes,
    MemberStayedAway,
    UpdatesOverdue,
)
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.round_messages import BoxAck
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign
from fedn_py.protocol.messages import CellFailed, Exclusion, UpdateReceipt

OLDER = Generation(GENERATION - 1)


# ---- members that refuse


def test_a_client_whose_box_a_member_refuses_is_told_and_may_seal_anew() -> None:
    state, _ = run(CELL, begins(CARL), arrives(CARL))
    state, effects = run(state, ack(state, FIRST, refused=[a_row(CARL)], reason="it does not open"))
    reason = "BadBox at member 0.0: it does not open"
    assert effects == [
        DropBoxes(GENERATION, a_row(CARL)),
        AnswerUpload(arrival_of(CARL), UpdateReceipt(accepted=False, reason=reason)),
    ]
    assert updates_of(state).training == ids_of(*FIVE)
    state, effects = run(state, begins(CARL, 1), arrives(CARL, 1))
    assert effects == []  # the refusal was of the upload before
    state, effects = run(state, *acks(state, a_row(CARL, 1)))
    assert effects == [AddVector(GENERATION, arrival_of(CARL, 1), a_row(CARL, 1))]


def test_a_refusal_that_comes_before_the_bytes_are_whole_is_told_when_they_are() -> None:
    state, effects = run(CELL, begins(CARL), ack(CELL, FIRST, refused=[a_row(CARL)]))
    assert effects == []
    _, effects = run(state, arrives(CARL))
    assert refusals(effects) == ["BadBox at member 0.0"]


def test_the_refused_upload_itself_is_not_taken_again() -> None:
    state, _ = run(CELL, begins(CARL), arrives(CARL), ack(CELL, FIRST, refused=[a_row(CARL)]))
    with pytest.raises(AlreadyRefused, match="BadBox"):
        step(state, begins(CARL))
    assert refusals(step(state, arrives(CARL))[1]) == ["AlreadyRefused"]


def test_a_client_that_is_refused_too_often_is_out_of_the_cell() -> None:
    state = CELL
    for upload in range(MOST_UPLOADS):
        assert id_of(CARL) in updates_of(state).training
        state, _ = run(state, begins(CARL, upload), arrives(CARL, upload))
        state, _ = run(state, ack(state, FIRST, refused=[a_row(CARL, upload)]))
    assert id_of(CARL) not in updates_of(state).training
    assert updates_of(state).excluded == (Exclusion(id_of(CARL), "BadBox at member 0.0: no"),)


def test_a_refused_client_that_is_away_is_waited_for_like_any_other() -> None:
    state, _ = run(CELL, begins(CARL), arrives(CARL), ClientDetached(id_of(CARL)))
    _, effects = run(state, ack(state, FIRST, refused=[a_row(CARL)]))
    assert effects[-1] == StartTimer(GRACE_S, ClientStayedAway(GENERATION, id_of(CARL)))


def test_a_member_that_refuses_many_is_not_believed_where_it_can_be_spared() -> None:
    rows = [a_row(client) for client in MEMBERS[:3]]
    state, _ = run(REPLICATED, *(begins(client) for client in MEMBERS[:3]))
    state, _ = run(state, *acks(state, *rows, but=[MEMBERS[5]]), *(arrives(client) for client in MEMBERS[:3]))
    state, effects = run(state, ack(state, MEMBERS[5], refused=rows[:2]))
    assert refusals(effects) == ["BadBox at member 2.1"] * 2

    state, _ = run(REPLICATED, *(begins(client) for client in MEMBERS[:3]))
    state, _ = run(state, *acks(state, *rows, but=[MEMBERS[5]]), *(arrives(client) for client in MEMBERS[:3]))
    state, effects = run(state, ack(state, MEMBERS[5], refused=rows))
    assert [one for one in effects if isinstance(one, AddVector)] == [
        AddVector(GENERATION, arrival_of(client), a_row(client)) for client in MEMBERS[:3]
    ]
    assert MEMBERS[5].id in updates_of(state).struck


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (BoxesAcknowledged(GENERATION, sign(BoxAck(b"x" * 32, (), ()), FIRST.key)), WrongContext),
        (ack(CELL, next(client for client in FIVE if client not in (FIRST, SECOND)), a_row(CARL)), WrongSigner),
        (
            BoxesAcknowledged(GENERATION, replace(ack(CELL, FIRST, a_row(CARL)).signed, signature=bytes(64))),
            BadSignature,
        ),
    ],
)
def test_an_acknowledgement_that_is_not_a_member_s_word_is_refused_by_name(
    forged: BoxesAcknowledged, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        step(CELL, forged)


# ---- members that say nothing


def test_a_silent_member_is_not_waited_for_where_its_slot_has_another() -> None:
    row, silent = a_row(OUTSIDE[0]), MEMBERS[0]
    state, _ = run(REPLICATED, begins(OUTSIDE[0]), *acks(REPLICATED, row, but=[silent]), arrives(OUTSIDE[0]))
    state, effects = run(state, AcksOverdue(GENERATION, id_of(silent), 0, (row,)))
    assert effects == [AddVector(GENERATION, arrival_of(OUTSIDE[0]), row)]


def test_a_member_that_has_said_something_of_a_box_is_not_silent() -> None:
    state, _ = run(CELL, begins(CARL), begins(DORA))
    state, _ = run(state, ack(state, FIRST, a_row(CARL), refused=[a_row(DORA)]))
    overdue = AcksOverdue(GENERATION, id_of(FIRST), 0, (a_row(CARL), a_row(DORA)))
    assert step(state, overdue) == (state, [])


def test_a_member_that_is_busy_with_other_boxes_has_its_time_anew_until_it_says_nothing() -> None:
    carl, dora = a_row(CARL), a_row(DORA)
    state, _ = run(CELL, begins(CARL), begins(DORA))
    state, _ = run(state, ack(state, FIRST, carl), ack(state, SECOND, carl), ack(state, SECOND, dora))
    first = AcksOverdue(GENERATION, id_of(FIRST), 0, (carl, dora), said=0)
    again = AcksOverdue(GENERATION, id_of(FIRST), 0, (dora,), said=1)
    assert step(state, first) == (state, [StartTimer(state.acks_s, again)])
    state, effects = run(state, again)
    assert ReportFailure(CellFailed(GENERATION, "NoSumParticipant: slot 0 lost its members")) in effects


def test_a_busy_member_is_not_waited_for_where_its_slot_has_another() -> None:
    row, busy = a_row(OUTSIDE[0]), MEMBERS[0]
    state, _ = run(REPLICATED, begins(OUTSIDE[1]), begins(OUTSIDE[0]), arrives(OUTSIDE[0]))
    state, _ = run(state, *acks(state, row, but=[busy]), ack(state, busy, a_row(OUTSIDE[1])))
    state, effects = run(state, AcksOverdue(GENERATION, id_of(busy), 0, (row,), said=0))
    assert effects == [AddVector(GENERATION, arrival_of(OUTSIDE[0]), row)]


def test_the_time_for_a_box_begins_with_what_its_member_has_said_by_then() -> None:
    state, _ = run(CELL, begins(CARL))
    state, _ = run(state, ack(state, FIRST, a_row(CARL)))
    state, effects = run(state, begins(DORA))
    timers = {effect.event.member: effect.event.said for effect in effects if isinstance(effect, StartTimer)}
    assert timers == {id_of(FIRST): 1, id_of(SECOND): 0}


def test_a_member_need_say_nothing_of_what_is_no_longer_there() -> None:
    state, _ = run(CELL, begins(CARL), begins(CARL, 1), TaskNotDone(GENERATION, id_of(CARL), "no"))
    for row in (a_row(CARL), a_row(CARL, 1)):
        assert step(state, AcksOverdue(GENERATION, id_of(FIRST), 0, (row,))) == (state, [])


def test_a_silent_member_without_a_replica_fails_the_cell_by_name() -> None:
    state, _ = run(CELL, begins(CARL), ack(CELL, FIRST, a_row(CARL)), arrives(CARL))
    state, effects = run(state, AcksOverdue(GENERATION, id_of(SECOND), 0, (a_row(CARL),)))
    assert state.work == NoWork(last=GENERATION)
    reason = "NoSumParticipant: slot 1 lost its members"
    assert effects[0] == ReportFailure(CellFailed(GENERATION, reason))
    assert effects[1] == AnswerUpload(arrival_of(CARL), UpdateReceipt(accepted=False, reason=f"Late: {reason}"))
    assert effects[-1] == Forget(GENERATION)


def test_a_member_that_stays_away_is_not_waited_for() -> None:
    away = MemberStayedAway(GENERATION, id_of(MEMBERS[0]))
    row = a_row(OUTSIDE[0])
    state, _ = run(REPLICATED, begins(OUTSIDE[0]), *acks(REPLICATED, row, but=MEMBERS[:1]), arrives(OUTSIDE[0]))
    assert step(state, away) == (state, [])  # it is there
    state, effects = run(state, ClientDetached(id_of(MEMBERS[0])), away)
    assert effects == [AddVector(GENERATION, arrival_of(OUTSIDE[0]), row)]
    state, effects = run(state, ClientDetached(id_of(MEMBERS[1])), MemberStayedAway(GENERATION, id_of(MEMBERS[1])))
    assert ReportFailure(CellFailed(GENERATION, "NoSumParticipant: slot 0 lost its members")) in effects


def test_a_silent_member_that_speaks_is_waited_for_again() -> None:
    state, _ = run(REPLICATED, begins(OUTSIDE[0]), AcksOverdue(GENERATION, id_of(MEMBERS[0]), 0, (a_row(OUTSIDE[0]),)))
    state, _ = run(state, ack(state, MEMBERS[0], a_row(OUTSIDE[0])), begins(OUTSIDE[1]))
    state, effects = run(state, *acks(state, a_row(OUTSIDE[1]), but=MEMBERS[:1]), arrives(OUTSIDE[1]))
    assert effects == []


def test_a_silent_member_that_speaks_has_its_time_anew_for_all_that_it_has_not_spoken_of() -> None:
    silent, first, second = MEMBERS[0], a_row(OUTSIDE[0]), a_row(OUTSIDE[1])
    state, _ = run(REPLICATED, begins(OUTSIDE[0]), begins(OUTSIDE[1]))
    state, _ = run(state, AcksOverdue(GENERATION, id_of(silent), 0, (first,)))
    _, effects = run(state, ack(state, silent, second))
    again = AcksOverdue(GENERATION, id_of(silent), 0, (first,), said=1)
    assert StartTimer(state.acks_s, again) in effects


def test_a_member_is_needed_where_nobody_else_of_its_slot_is_waited_for() -> None:
    acknowledged = updates_of(REPLICATED).acknowledged
    first, second = MEMBERS[:2]  # of one slot
    assert not acknowledged.needs(first.id, ())
    assert acknowledged.without(second.id).needs(first.id, ())
    assert not acknowledged.without(MEMBERS[2].id).needs(first.id, ())


def test_a_member_that_refuses_what_is_in_the_sum_is_left_out_for_good() -> None:
    row = a_row(OUTSIDE[0])
    state, _ = run(REPLICATED, begins(OUTSIDE[0]), *acks(REPLICATED, row, but=MEMBERS[:1]), arrives(OUTSIDE[0]))
    state, _ = run(state, AcksOverdue(GENERATION, id_of(MEMBERS[0]), 0, (row,)))
    state, _ = run(state, UpdateAdded(GENERATION, arrival_of(OUTSIDE[0])))
    state, _ = run(state, ack(state, MEMBERS[0], refused=[row]), begins(OUTSIDE[1]))
    state, effects = run(state, *acks(state, a_row(OUTSIDE[1]), but=MEMBERS[:1]), arrives(OUTSIDE[1]))
    assert effects == [AddVector(GENERATION, arrival_of(OUTSIDE[1]), a_row(OUTSIDE[1]))]
    state, effects = run(state, ClientDetached(id_of(MEMBERS[1])), MemberStayedAway(GENERATION, id_of(MEMBERS[1])))
    assert ReportFailure(CellFailed(GENERATION, "NoSumParticipant: slot 0 lost its members")) in effects


def test_a_member_that_refused_an_earlier_upload_is_not_at_odds_with_the_sum() -> None:
    client, member = OUTSIDE[0], MEMBERS[0]
    state, _ = run(REPLICATED, begins(client), arrives(client), ack(REPLICATED, member, refused=[a_row(client)]))
    state, _ = run(state, begins(client, 1), *acks(state, a_row(client, 1), but=[member]), arrives(client, 1))
    state, effects = run(state, AcksOverdue(GENERATION, id_of(member), 0, (a_row(client, 1),), said=1))
    assert effects == [AddVector(GENERATION, arrival_of(client, 1), a_row(client, 1))]
    assert updates_of(state).struck == frozenset()


def test_a_member_that_is_away_has_its_time_to_come_back_and_not_that_for_looking() -> None:
    state, _ = run(CELL, begins(CARL), ClientDetached(id_of(FIRST)))
    assert step(state, AcksOverdue(GENERATION, id_of(FIRST), 0, (a_row(CARL),))) == (state, [])


@pytest.mark.parametrize(
    "stale",
    [
        AcksOverdue(OLDER, id_of(FIRST), 0, (a_row(CARL),)),
        AcksOverdue(GENERATION, id_of(FIRST), 7, (a_row(CARL),)),
        MemberStayedAway(OLDER, id_of(FIRST)),
        UpdatesOverdue(OLDER),
    ],
)
def test_a_timer_of_another_order_or_visit_changes_nothing(stale: Event) -> None:
    state, _ = run(CELL, begins(CARL))
    assert step(state, stale) == (state, [])
