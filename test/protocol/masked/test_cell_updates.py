"""What becomes of uploads in a masked cell, rule by rule: added whole and accepted, once, or refused by name."""

from dataclasses import replace

import masked_world as world
import pytest
from builders import a_contribution
from cell_world import (
    ACKS_S,
    ANNA,
    BERT,
    CARL,
    DORA,
    EMIL,
    FIVE,
    GENERATION,
    GRACE_S,
    HANS,
    AClient,
    a_combiner,
    a_row,
    ack,
    acks,
    an_order,
    arrival_of,
    arrives,
    begins,
    collecting_updates,
    id_of,
    ids_of,
    members_of,
    run,
    updates_of,
)
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.identity import Generation
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    CancelTask,
    ClientAttached,
    ClientDetached,
    ClientStayedAway,
    Combiner,
    Effect,
    Event,
    Forget,
    NoWork,
    ReportFailure,
    ReportProgress,
    TaskNotDone,
    UpdateAdded,
    UpdateArrived,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.cell import UNMASKED
from fedn_py.protocol.masked.cell_closing import LATE, NOT_ACKNOWLEDGED
from fedn_py.protocol.masked.cell_updates import AlreadyIn, AlreadyRefused, Late, NotAssigned
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    AddVector,
    BoxesAcknowledged,
    ClientBarred,
    CollectingUpdates,
    DropBoxes,
    MemberStayedAway,
    ReportingSum,
    ReportUnclosed,
    SendBoxes,
    StoreSum,
    UpdatesOverdue,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.registry import EntryConflict
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign
from fedn_py.protocol.messages import CellFailed, Exclusion, RoundProgress, TaskCancelled, UpdateReceipt

OLDER = Generation(GENERATION - 1)
ACCEPTED = UpdateReceipt(accepted=True)
CELL = collecting_updates(*FIVE)
FIRST, SECOND = members_of(CELL)
REPLICATED = collecting_updates(*world.CLIENTS, **world.REPLICATED)
MEMBERS = members_of(REPLICATED)
OUTSIDE = [client for client in world.CLIENTS if client not in MEMBERS]


def refusals(effects: list[Effect]) -> list[str]:
    """The names of the faults with which uploads were refused."""
    answers = [effect.receipt for effect in effects if isinstance(effect, AnswerUpload)]
    return [receipt.reason.split(":")[0] for receipt in answers if not receipt.accepted]


def with_in_sum(state: Combiner, *clients: AClient) -> Combiner:
    """Return the cell with these clients' uploads in its sum."""
    for client in clients:
        added = UpdateAdded(GENERATION, arrival_of(client))
        state, _ = run(state, begins(client), *acks(state, a_row(client)), arrives(client), added)
    return state


# ---- an upload begins


def test_the_boxes_of_an_upload_are_relayed_at_once_to_every_member_that_is_there() -> None:
    state, _ = run(CELL, ClientDetached(id_of(SECOND)))
    state, effects = run(state, begins(CARL))
    rows = (a_row(CARL),)
    assert effects == [
        SendBoxes(GENERATION, id_of(FIRST), rows),
        StartTimer(ACKS_S, AcksOverdue(GENERATION, id_of(FIRST), 0, rows)),
    ]
    assert updates_of(state).training == ids_of(*FIVE)


def test_an_upload_that_goes_on_after_a_cut_changes_nothing() -> None:
    state, _ = run(CELL, begins(CARL))
    assert step(state, begins(CARL)) == (state, [])
    state = with_in_sum(CELL, CARL)
    assert step(state, begins(CARL)) == (state, [])


def test_an_upload_whose_bytes_were_lost_is_replaced_by_a_new_one() -> None:
    state, _ = run(CELL, begins(CARL))
    state, effects = run(state, begins(CARL, 1))
    assert effects[0] == DropBoxes(GENERATION, a_row(CARL))
    assert updates_of(state).uploads[id_of(CARL)].row == a_row(CARL, 1)
    _, effects = run(state, arrives(CARL))
    assert refusals(effects) == ["AlreadyIn"]


@pytest.mark.parametrize(
    ("state", "event", "fault"),
    [
        (CELL, replace(begins(ANNA), generation=OLDER), Late),
        (a_combiner(NoWork(last=GENERATION)), begins(ANNA), Late),
        (a_combiner(ReportingSum(an_order(*FIVE), frozenset())), begins(ANNA), Late),
        (
            run(
                with_in_sum(CELL, ANNA),
                begins(BERT),
                *acks(CELL, a_row(BERT)),
                arrives(BERT),
                UpdatesOverdue(GENERATION),
            )[0],
            begins(CARL),
            Late,
        ),
        (CELL, begins(HANS), NotAssigned),
        (with_in_sum(CELL, ANNA), begins(ANNA, 1), AlreadyIn),
        (run(CELL, begins(ANNA), arrives(ANNA))[0], begins(ANNA, 1), AlreadyIn),
        (run(CELL, TaskNotDone(GENERATION, id_of(ANNA), "no"))[0], begins(ANNA), AlreadyRefused),
        (run(CELL, *(begins(ANNA, upload) for upload in range(MOST_UPLOADS)))[0], begins(ANNA, 9), AlreadyRefused),
    ],
)
def test_an_upload_that_is_not_wanted_is_refused_by_name(
    state: Combiner, event: UploadOffered, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        step(state, event)


def test_two_clients_under_one_number_of_a_token_are_not_both_taken() -> None:
    twins = [world.a_client(name, site="twins") for name in ("ilse", "jack")]
    state = collecting_updates(*FIVE, *twins[:1])
    state, _ = run(state, begins(twins[0]))
    order = replace(updates_of(state).order, clients=(*updates_of(state).order.clients, id_of(twins[1])))
    training = updates_of(state).training | ids_of(twins[1])
    state = replace(state, work=replace(updates_of(state), order=order, training=training))
    with pytest.raises(EntryConflict):
        step(state, begins(twins[1]))


# ---- whole, and accepted


def test_a_vector_is_added_when_it_is_whole_and_every_member_has_accepted_its_box() -> None:
    first, second = acks(CELL, a_row(CARL))
    for order in ((first, second, arrives(CARL)), (first, arrives(CARL), second), (arrives(CARL), second, first)):
        state, effects = run(CELL, begins(CARL))
        for event in order:
            assert not [one for one in effects if isinstance(one, AddVector)]
            state, effects = run(state, event)
        assert effects == [AddVector(GENERATION, arrival_of(CARL), a_row(CARL))]
        state, effects = run(state, UpdateAdded(GENERATION, arrival_of(CARL)))
        assert effects == [AnswerUpload(arrival_of(CARL), ACCEPTED)]
        assert updates_of(state).included == {id_of(CARL): a_row(CARL)}


def test_an_acceptance_of_another_upload_of_the_client_does_not_count() -> None:
    state, _ = run(CELL, begins(CARL), arrives(CARL))
    _, effects = run(state, *acks(state, a_row(CARL, 1)))
    assert effects == []


def test_what_is_not_the_vector_of_its_header_excludes_its_client() -> None:
    state, _ = run(CELL, begins(CARL), *acks(CELL, a_row(CARL)), arrives(CARL))
    state, effects = run(state, UpdateNotAdded(GENERATION, arrival_of(CARL), "DigestMismatch: no"))
    refused = UpdateReceipt(accepted=False, reason="DigestMismatch: no")
    assert effects == [AnswerUpload(arrival_of(CARL), refused), DropBoxes(GENERATION, a_row(CARL))]
    assert updates_of(state).excluded == (Exclusion(id_of(CARL), "DigestMismatch: no"),)
    with pytest.raises(AlreadyRefused):
        step(state, begins(CARL, 1))


def test_the_same_vector_again_is_answered_as_in_and_is_in_once() -> None:
    state = with_in_sum(CELL, CARL)
    assert step(state, arrives(CARL)) == (state, [AnswerUpload(arrival_of(CARL), ACCEPTED)])
    reporting = a_combiner(ReportingSum(an_order(*FIVE), frozenset({a_row(CARL)})))
    assert step(reporting, arrives(CARL)) == (reporting, [AnswerUpload(arrival_of(CARL), ACCEPTED)])


@pytest.mark.parametrize(
    ("state", "event", "name"),
    [
        (CELL, arrives(CARL), "Late"),
        (a_combiner(NoWork(last=GENERATION)), arrives(CARL), "Late"),
        (a_combiner(ReportingSum(an_order(*FIVE), frozenset())), arrives(CARL), "Late"),
        (run(CELL, begins(CARL))[0], replace(arrives(CARL), generation=OLDER), "Late"),
        (run(CELL, begins(CARL))[0], arrives(HANS), "NotAssigned"),
        (run(CELL, begins(CARL), arrives(CARL))[0], replace(arrives(CARL), upload_id="carl/again"), "AlreadyIn"),
        (run(CELL, begins(CARL))[0], arrives(CARL, 1), "AlreadyIn"),
        (run(CELL, begins(CARL), TaskNotDone(GENERATION, id_of(CARL), "no"))[0], arrives(CARL), "AlreadyRefused"),
    ],
)
def test_a_vector_that_is_not_awaited_is_refused_by_name_and_changes_nothing(
    state: Combiner, event: Event, name: str
) -> None:
    after, effects = step(state, event)
    assert (after, refusals(effects)) == (state, [name])


def test_a_vector_that_is_whole_one_event_after_the_deadline_is_late() -> None:
    state = with_in_sum(CELL, ANNA, DORA)
    state, _ = run(state, begins(BERT), begins(CARL), *acks(state, a_row(BERT), a_row(CARL)), arrives(BERT))
    state, effects = run(state, UpdatesOverdue(GENERATION))
    assert effects == [DropBoxes(GENERATION, a_row(CARL))]
    state, effects = run(state, arrives(CARL))
    assert refusals(effects) == ["Late"]
    state, effects = run(state, UpdateAdded(GENERATION, arrival_of(BERT)))
    assert ids_of(ANNA, BERT, DORA) == set(listed_in(effects))


def listed_in(effects: list[Effect]) -> list[str]:
    """The clients of the set that a cell was closed with; a set that is too small says only how many."""
    return [row.client_id.hex() for effect in effects if isinstance(effect, StoreSum) for row in effect.rows]


def test_an_update_that_is_not_masked_is_refused() -> None:
    state = CELL
    plain = UpdateArrived(GENERATION, "plain", a_contribution(id_of(ANNA)))
    assert step(state, plain) == (state, [AnswerUpload("plain", UNMASKED)])


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
    state, effects = run(state, AcksOverdue(GENERATION, id_of(member), 0, (a_row(client, 1),)))
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


# ---- the cell closes


def test_the_cell_closes_when_the_updates_wanted_are_in_and_lists_them_in_order() -> None:
    state = with_in_sum(collecting_updates(*FIVE, wanted=3), ANNA, BERT)
    state, _ = run(state, begins(CARL), begins(DORA), *acks(state, a_row(CARL)), arrives(CARL), arrives(DORA))
    state, effects = run(state, UpdateAdded(GENERATION, arrival_of(CARL)))
    rows = tuple(sorted((a_row(client) for client in (ANNA, BERT, CARL)), key=lambda row: row.client_id))
    excluded = (Exclusion(id_of(DORA), NOT_ACKNOWLEDGED), Exclusion(id_of(EMIL), LATE))
    ctx = updates_of(CELL).acknowledged.committee.ctx
    assert effects == [
        AnswerUpload(arrival_of(CARL), ACCEPTED),
        DropBoxes(GENERATION, a_row(DORA)),
        AnswerUpload(arrival_of(DORA), UpdateReceipt(accepted=False, reason=NOT_ACKNOWLEDGED)),
        CancelTask(id_of(EMIL), TaskCancelled(GENERATION, "the round is closed")),
        StoreSum(GENERATION, ctx, rows, excluded),
    ]
    assert state.work == ReportingSum(
        updates_of(with_in_sum(collecting_updates(*FIVE, wanted=3))).order, frozenset(rows)
    )


def test_the_cell_closes_when_nobody_is_left_to_wait_for() -> None:
    state = with_in_sum(CELL, ANNA, BERT, CARL)
    state, _ = run(state, TaskNotDone(GENERATION, id_of(DORA), "no"))
    state, effects = run(state, TaskNotDone(GENERATION, id_of(EMIL), "no"))
    assert set(listed_in(effects)) == ids_of(ANNA, BERT, CARL)


def test_what_waits_for_members_is_waited_for_until_the_deadline() -> None:
    state = with_in_sum(CELL, ANNA, BERT, CARL)
    state, _ = run(state, TaskNotDone(GENERATION, id_of(DORA), "no"), begins(EMIL))
    state, effects = run(state, arrives(EMIL))
    assert (type(state.work), effects) == (CollectingUpdates, [])
    state, effects = run(state, UpdatesOverdue(GENERATION))
    assert set(listed_in(effects)) == ids_of(ANNA, BERT, CARL)
    assert refusals(effects) == ["Late"]


def test_with_fewer_than_g_min_nothing_is_signed_that_could_be_opened() -> None:
    state = with_in_sum(CELL, ANNA, BERT)
    state, effects = run(state, UpdatesOverdue(GENERATION))
    assert state.work == NoWork(last=GENERATION)
    excluded = tuple(Exclusion(client, LATE) for client in sorted(ids_of(CARL, DORA, EMIL)))
    assert effects[-2:] == [ReportUnclosed(GENERATION, 2, excluded), Forget(GENERATION)]
    assert not [one for one in effects if isinstance(one, StoreSum)]


def test_those_who_watch_are_told_how_far_a_masked_cell_is() -> None:
    _, effects = step(with_in_sum(CELL, ANNA), TaskNotDone(GENERATION, id_of(BERT), "no"))
    assert effects == [ReportProgress(RoundProgress(GENERATION, "collecting", 1, 3, 1))]


@pytest.mark.parametrize(
    "stale",
    [
        UpdateAdded(OLDER, arrival_of(CARL)),
        UpdateAdded(GENERATION, "unknown"),
        UpdateAdded(GENERATION, arrival_of(DORA)),
        UpdateNotAdded(GENERATION, "unknown", ""),
    ],
)
def test_the_outcome_of_an_addition_that_is_not_awaited_is_refused(stale: Event) -> None:
    state, _ = run(CELL, begins(CARL), *acks(CELL, a_row(CARL)), arrives(CARL), begins(DORA), arrives(DORA))
    with pytest.raises(UnexpectedEvent):
        step(state, stale)


# ---- everything at once

ADDED = [UpdateAdded(GENERATION, arrival_of(client, upload)) for client in FIVE for upload in range(2)]


def story_of(client: AClient) -> list[Event]:
    """What happens to a client's first upload when nothing goes wrong."""
    accepted = [ack(CELL, member, a_row(client)) for member in (FIRST, SECOND)]
    return [begins(client), *accepted, arrives(client), UpdateAdded(GENERATION, arrival_of(client))]


def disturbances() -> st.SearchStrategy[Event]:
    who, upload, member = st.sampled_from(FIVE), st.integers(0, 1), st.sampled_from([FIRST, SECOND])
    return st.one_of(
        st.builds(begins, who, upload),
        st.builds(arrives, who, upload),
        st.builds(lambda m, c, u: ack(CELL, m, a_row(c, u)), member, who, upload),
        st.builds(lambda m, c, u: ack(CELL, m, refused=[a_row(c, u)]), member, who, upload),
        st.sampled_from(ADDED),
        st.builds(lambda c, u: UpdateNotAdded(GENERATION, arrival_of(c, u), "no"), who, upload),
        st.builds(lambda c: TaskNotDone(GENERATION, id_of(c), "no"), who),
        st.builds(lambda c: ClientAttached(id_of(c)), who),
        st.builds(lambda c: ClientDetached(id_of(c)), who),
        st.builds(lambda c: ClientStayedAway(GENERATION, id_of(c)), who),
        st.builds(
            lambda c: ClientBarred(id_of(c), "no"), st.sampled_from([c for c in FIVE if c not in {FIRST, SECOND}])
        ),
        st.just(UpdatesOverdue(GENERATION)),
    )


@st.composite
def mixtures(draw: st.DrawFn) -> list[Event]:
    """Five uploads at once, in any order between them, with a few things that go wrong."""
    stories = [story_of(client) for client in FIVE]
    disturbed = draw(st.lists(disturbances(), max_size=6))
    stories += [[event] for event in disturbed]
    mixed: list[Event] = []
    while stories:
        at = draw(st.integers(0, len(stories) - 1))
        mixed.append(stories[at].pop(0))
        stories = [story for story in stories if story]
    return [*mixed, UpdatesOverdue(GENERATION), *ADDED]


def listed_arrivals(effect: StoreSum) -> set[str]:
    """What the rows of a set were called when they arrived."""
    names = {a_row(client, upload): arrival_of(client, upload) for client in FIVE for upload in range(2)}
    return {names[row] for row in effect.rows}


@given(mixtures())
def test_whatever_comes_the_list_is_what_was_added_and_what_was_added_was_accepted(events: list[Event]) -> None:
    state, asked, added, answered, arrived = CELL, set[str](), set[str](), set[str](), set[str]()
    for event in events:
        try:
            after, effects = step(state, event)
        except (UnexpectedEvent, Late, NotAssigned, AlreadyIn, AlreadyRefused):
            continue
        if isinstance(event, UpdateAdded):
            assert event.upload_id in asked
            added.add(event.upload_id)
        if isinstance(event, VectorArrived):
            arrived.add(event.upload_id)
        for effect in effects:
            match effect:
                case AddVector(upload_id=upload_id, row=row):
                    assert all(row in rows for rows in accepted_by_live_members(state, event))
                    asked.add(upload_id)
                case AnswerUpload(upload_id):
                    answered.add(upload_id)
                case StoreSum(rows=rows, excluded=excluded):
                    assert listed_arrivals(effect) == added
                    assert len(rows) == len({row.client_id for row in rows})
                    assert not {row.client_id.hex() for row in rows} & {one.client for one in excluded}
        state = after
    assert not isinstance(state.work, CollectingUpdates), "every phase ends"
    assert arrived <= answered, "nobody waits for ever"


def accepted_by_live_members(state: Combiner, event: Event) -> list[frozenset[IncludedRow]]:
    acknowledged = updates_of(state).acknowledged
    if isinstance(event, BoxesAcknowledged):
        acknowledged = acknowledged.heard(event.signed)
    members = [member.client.client_id for member in acknowledged.committee.members]
    return [acknowledged.accepted.get(one, frozenset()) for one in members if one not in acknowledged.silent]
