"""How a masked cell closes, and that its list is what was added, whatever comes."""

import pytest
from builders import progress_told
from cell_world import (
    ANNA,
    BERT,
    CARL,
    CELL,
    DORA,
    EMIL,
    FIRST,
    FIVE,
    GENERATION,
    SECOND,
    AClient,
    a_row,
    ack,
    acks,
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
    Event,
    Forget,
    NoWork,
    TaskNotDone,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.cell_closing import LATE, NOT_ACKNOWLEDGED
from fedn_py.protocol.masked.cell_updates import AlreadyIn, AlreadyRefused, Late, NotAssigned
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    BoxesAcknowledged,
    ClientBarred,
    CollectingUpdates,
    DropBoxes,
    ReportingSum,
    ReportUnclosed,
    StoreSum,
    UpdatesOverdue,
    VectorArrived,
)
from fedn_py.protocol.masked.round_messages import IncludedRow
from fedn_py.protocol.messages import ClientProgress, Exclusion, RoundProgress, TaskCancelled, UpdateReceipt

OLDER = Generation(GENERATION - 1)
ACCEPTED = UpdateReceipt(accepted=True)


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
    at_work = [ClientProgress(client, "training") for client in ids_of(CARL, DORA, EMIL)]
    others = [ClientProgress(id_of(ANNA), "in"), ClientProgress(id_of(BERT), "out", "no")]
    told = tuple(sorted([*others, *at_work], key=lambda one: one.client))
    assert progress_told(effects) == [RoundProgress(GENERATION, "collecting", 1, 3, 1, told)]


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
