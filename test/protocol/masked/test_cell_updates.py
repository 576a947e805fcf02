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
    CELL,
    DORA,
    FIRST,
    FIVE,
    GENERATION,
    HANS,
    SECOND,
    a_combiner,
    a_row,
    acks,
    an_order,
    arrival_of,
    arrives,
    begins,
    collecting_updates,
    id_of,
    ids_of,
    listed_in,
    refusals,
    run,
    updates_of,
    with_in_sum,
)

from fedn_py.identity import Generation
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    ClientDetached,
    Combiner,
    Event,
    NoWork,
    TaskNotDone,
    UpdateAdded,
    UpdateArrived,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import StartTimer
from fedn_py.protocol.masked.cell import UNMASKED
from fedn_py.protocol.masked.cell_updates import AlreadyIn, AlreadyRefused, Late, NotAssigned
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    AddVector,
    DropBoxes,
    ReportingSum,
    SendBoxes,
    UpdatesOverdue,
    UploadOffered,
)
from fedn_py.protocol.masked.participant import MOST_UPLOADS
from fedn_py.protocol.masked.registry import EntryConflict
from fedn_py.protocol.messages import Exclusion, UpdateReceipt

OLDER = Generation(GENERATION - 1)
ACCEPTED = UpdateReceipt(accepted=True)


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


def test_an_update_that_is_not_masked_is_refused() -> None:
    state = CELL
    plain = UpdateArrived(GENERATION, "plain", a_contribution(id_of(ANNA)))
    assert step(state, plain) == (state, [AnswerUpload("plain", UNMASKED)])
