"""A masked cell at its combiner, rule by rule: how its committee comes about, and who comes and goes."""

from dataclasses import replace

import masked_world as world
import pytest
from builders import progress_told
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
    a_combiner,
    a_row,
    ack,
    acks,
    an_offer,
    an_order,
    arrival_of,
    arrives,
    begins,
    collecting_keys,
    collecting_updates,
    id_of,
    ids_of,
    kept,
    keys_of,
    members_of,
    offered,
    run,
    the_terms,
    updates_of,
    with_committee,
)

from fedn_py.identity import Generation
from fedn_py.protocol.combiner import step
from fedn_py.protocol.combiner_work import (
    AnswerUpload,
    CancelTask,
    ClientAttached,
    ClientDetached,
    ClientStayedAway,
    DeadlinePassed,
    Forget,
    NotReported,
    NoWork,
    ObjectsNotFetched,
    OrderCancelled,
    Ordered,
    Preparing,
    Reported,
    ReportFailure,
    SendTask,
    TaskNotDone,
    UpdateAdded,
)
from fedn_py.protocol.machine import StartTimer, UnexpectedEvent
from fedn_py.protocol.masked.cell_closing import LATE, LOST
from fedn_py.protocol.masked.cell_work import (
    AcksOverdue,
    CheckTerms,
    ClientBarred,
    CollectingKeys,
    CommitteeKept,
    KeysOverdue,
    MemberStayedAway,
    ReportingSum,
    SendBoxes,
    SendCommittee,
    TellCommittee,
    TermsChecked,
    UpdatesOverdue,
)
from fedn_py.protocol.masked.committee import check_committee
from fedn_py.protocol.masked.lottery import lot
from fedn_py.protocol.masked.offers import DuplicateMember
from fedn_py.protocol.masked.registry import EntryConflict
from fedn_py.protocol.messages import (
    CellCancelled,
    CellFailed,
    ClientProgress,
    Exclusion,
    RoundProgress,
    TaskCancelled,
    TrainTask,
    UpdateReceipt,
)

OLDER = Generation(GENERATION - 1)
BARRED = "Revoked: the operator has revoked client"


# ---- an order begins


def test_a_masked_order_has_its_terms_checked_before_anybody_hears_of_it() -> None:
    order = an_order(*FIVE)
    state, effects = run(a_combiner(NoWork(), *FIVE), Ordered(order))
    assert state.work == Preparing(order)
    assert effects == [StartTimer(order.plan.update_timeout_s, DeadlinePassed(GENERATION)), CheckTerms(order)]


def test_terms_that_are_not_right_fail_the_cell_by_name() -> None:
    _, effects = run(a_combiner(Preparing(an_order(*FIVE))), ObjectsNotFetched(GENERATION, "NoMaskingCredential"))
    assert effects == [ReportFailure(CellFailed(GENERATION, "NoMaskingCredential")), Forget(GENERATION)]


def test_the_masked_task_is_handed_out_with_what_the_reducer_signed_and_keys_are_waited_for() -> None:
    order, terms = an_order(ANNA, BERT, CARL), the_terms()
    state, effects = run(a_combiner(Preparing(order), ANNA, BERT), TermsChecked(GENERATION, terms))
    task = TrainTask(order.plan, GENERATION, order.masked)
    assert effects == [
        StartTimer(terms.plan.sum_ms / 1000, KeysOverdue(GENERATION)),
        SendTask(id_of(ANNA), task),
        SendTask(id_of(BERT), task),
        StartTimer(GRACE_S, ClientStayedAway(GENERATION, id_of(CARL))),
    ]
    assert len({id(effect.task) for effect in effects if isinstance(effect, SendTask)}) == 1
    clients = ids_of(ANNA, BERT, CARL)
    assert state.work == CollectingKeys(order, terms, training=clients, asked=clients)


# ---- keys


def test_the_committee_is_formed_when_everybody_has_said_what_it_offers() -> None:
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    state, effects = run(state, *(offered(terms, client) for client in FIVE[:4]))
    assert (type(state.work), effects) == (CollectingKeys, [])
    state, effects = run(state, offered(terms, EMIL))
    body = updates_of(state).body
    committee = check_committee(
        body, terms.ctx0, terms.order, terms.plan.beacon, world.chains(), standing=world.STANDING
    )
    assert updates_of(state).acknowledged.committee == committee
    assert isinstance(effects[1], TellCommittee)
    assert effects[1].formed.committee == body


def test_clients_hear_of_the_committee_once_the_reducer_has_stored_it() -> None:
    state = collecting_keys(*FIVE)
    state, effects = run(state, *(offered(keys_of(state).terms, client) for client in FIVE))
    assert not [one for one in effects if isinstance(one, SendCommittee)]
    state, effects = run(state, kept(state))
    assert effects == [SendCommittee(client, updates_of(state).body) for client in sorted(ids_of(*FIVE))]
    assert run(state, kept(state)) == (state, [])  # it is said again on every new stream


def test_a_committee_that_was_not_formed_here_is_handed_out_to_nobody() -> None:
    with pytest.raises(UnexpectedEvent):
        step(with_committee(*FIVE), CommitteeKept(b"another cell's".ljust(32)))


def test_a_client_that_comes_back_before_the_committee_is_stored_gets_it_then() -> None:
    state = with_committee(*FIVE)
    state, effects = run(state, ClientDetached(id_of(ANNA)), ClientAttached(id_of(ANNA)))
    assert not [one for one in effects if isinstance(one, SendCommittee)]
    state, effects = run(state, kept(state))
    assert SendCommittee(id_of(ANNA), updates_of(state).body) in effects


def test_a_cell_whose_committee_is_never_stored_ends_with_its_time() -> None:
    state, effects = run(with_committee(*FIVE), UpdatesOverdue(GENERATION))
    reason = "CommitteeNotStored: the reducer did not say in time that it has stored the committee"
    cancelled = [CancelTask(client, TaskCancelled(GENERATION, reason)) for client in sorted(ids_of(*FIVE))]
    assert state.work == NoWork(last=GENERATION)
    assert effects == [ReportFailure(CellFailed(GENERATION, reason)), *cancelled, Forget(GENERATION)]


def lot_of(beacon: bytes, slot: int, client: world.AClient) -> int:
    return lot(beacon, slot, client.registered.token_id, client.registered.index)


def test_the_lowest_lots_that_offered_a_key_are_seated() -> None:
    state = collecting_updates(*FIVE)
    terms = updates_of(state).terms
    lots = {client: [lot_of(terms.plan.beacon, slot, client) for slot in (0, 1)] for client in FIVE}
    first = min(FIVE, key=lambda client: lots[client][0])
    second = min((client for client in FIVE if client != first), key=lambda client: lots[client][1])
    assert members_of(state) == (first, second)


def test_a_client_that_fails_or_is_gone_is_not_waited_for() -> None:
    state = collecting_keys(*FIVE, attached=FIVE[:4])
    terms = keys_of(state).terms
    state, _ = run(state, *(offered(terms, client) for client in FIVE[:3]))
    state, effects = run(state, TaskNotDone(GENERATION, id_of(DORA), "BadPackage: no"))
    assert (type(state.work), effects) == (CollectingKeys, [])
    state, effects = run(state, ClientStayedAway(GENERATION, id_of(EMIL)))
    work = updates_of(state)
    assert work.excluded == (Exclusion(id_of(DORA), "BadPackage: no"),)
    assert (work.training, work.gone) == (ids_of(ANNA, BERT, CARL), ids_of(EMIL))
    assert not {id_of(DORA), id_of(EMIL)} & {one.client for one in effects if isinstance(one, SendCommittee)}


def test_the_key_of_a_client_that_is_gone_is_not_used() -> None:
    member = members_of(collecting_updates(*FIVE))[0]
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    gone = (ClientDetached(id_of(member)), ClientStayedAway(GENERATION, id_of(member)))
    state, _ = run(state, offered(terms, member), *gone, *(offered(terms, one) for one in FIVE if one != member))
    assert member not in members_of(state)


def test_the_end_of_the_phase_forms_the_committee_of_those_who_offered() -> None:
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    state, _ = run(state, *(offered(terms, client) for client in FIVE[:2]))
    state, _ = run(state, KeysOverdue(GENERATION))
    assert set(members_of(state)) == {ANNA, BERT}
    assert updates_of(state).training == ids_of(*FIVE)
    _, effects = run(state, kept(state))
    assert {one.client for one in effects if isinstance(one, SendCommittee)} == ids_of(*FIVE)


def test_a_cell_whose_clients_take_no_part_fails_with_the_reason_of_the_first() -> None:
    said = [TaskNotDone(GENERATION, id_of(client), f"BaseUsedUp: said {client.name}") for client in FIVE]
    _, effects = run(collecting_keys(*FIVE), *said)
    (failed,) = [one.failure for one in effects if isinstance(one, ReportFailure)]
    assert failed.reason.endswith(
        f"; 5 of 5 clients take no part, the first of them for BaseUsedUp: said {FIVE[0].name}"
    )


def test_a_slot_without_anybody_fails_the_cell_by_name_and_frees_its_clients() -> None:
    state = collecting_keys(*FIVE)
    state, effects = run(state, offered(keys_of(state).terms, ANNA), KeysOverdue(GENERATION))
    assert state.work == NoWork(last=GENERATION)
    reason = "NoSumParticipant: no client that may serve slot 1 published a key in time"
    assert effects == [
        ReportFailure(CellFailed(GENERATION, reason)),
        *(CancelTask(client, TaskCancelled(GENERATION, reason)) for client in sorted(ids_of(*FIVE))),
        Forget(GENERATION),
    ]


def test_the_end_of_another_phase_changes_nothing() -> None:
    keys, updates = collecting_keys(*FIVE), collecting_updates(*FIVE)
    for state, stale in (
        (keys, KeysOverdue(OLDER)),
        (updates, KeysOverdue(GENERATION)),
        (updates, UpdatesOverdue(OLDER)),
    ):
        assert step(state, stale) == (state, [])


def test_a_later_offer_takes_the_place_of_an_earlier_one() -> None:
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    nothing = replace(an_offer(terms, ANNA), keys=())
    again = replace(offered(terms, ANNA), offer=nothing)
    state, _ = run(state, offered(terms, ANNA), again, *(offered(terms, client) for client in FIVE[1:]))
    assert ANNA not in members_of(state)


def test_an_offer_after_the_committee_was_formed_changes_nothing() -> None:
    state = collecting_updates(*FIVE)
    for client in FIVE:
        assert step(state, offered(updates_of(state).terms, client)) == (state, [])


def test_a_member_that_has_lost_its_keys_is_not_waited_for() -> None:
    state = collecting_updates(*FIVE)
    member = members_of(state)[1]
    again = offered(updates_of(state).terms, member)
    without_keys = replace(again, offer=replace(again.offer, keys=()))
    _, effects = run(state, without_keys)
    assert ReportFailure(CellFailed(GENERATION, "NoSumParticipant: slot 1 lost its members")) in effects

    state = collecting_updates(*world.CLIENTS, **world.REPLICATED)
    member = members_of(state)[1]
    again = offered(updates_of(state).terms, member)
    state, _ = run(state, replace(again, offer=replace(again.offer, keys=())))
    assert updates_of(state).struck == {member.id}


def test_an_offer_of_another_client_s_key_is_refused() -> None:
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    state, _ = run(state, offered(terms, ANNA))
    with pytest.raises(DuplicateMember):
        step(state, offered(terms, BERT, epk=ANNA.epk))


def test_a_second_key_under_one_number_of_a_token_is_refused() -> None:
    twins = [world.a_client(name, site="twins", uses=1) for name in ("ilse", "jack")]
    state = collecting_keys(*FIVE, *twins)
    terms = keys_of(state).terms
    state, _ = run(state, offered(terms, twins[0]))
    with pytest.raises(EntryConflict):
        step(state, offered(terms, twins[1]))


@pytest.mark.parametrize("client", [HANS, EMIL])
def test_an_offer_of_a_client_that_is_not_in_the_cell_is_refused(client: world.AClient) -> None:
    state = collecting_keys(*FIVE)
    state, _ = run(state, TaskNotDone(GENERATION, id_of(EMIL), "no"))
    with pytest.raises(UnexpectedEvent):
        step(state, offered(keys_of(state).terms, client))


def test_a_member_whose_training_failed_serves_all_the_same() -> None:
    member = members_of(collecting_updates(*FIVE))[0]
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    state, _ = run(state, offered(terms, member), TaskNotDone(GENERATION, id_of(member), "no"))
    state, _ = run(state, *(offered(terms, client) for client in FIVE if client != member))
    state, effects = run(state, kept(state))
    assert members_of(state)[0] == member
    assert id_of(member) in {one.client for one in effects if isinstance(one, SendCommittee)}
    assert id_of(member) not in updates_of(state).training


def test_updates_have_their_time_from_the_committee_on() -> None:
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    objects_late = DeadlinePassed(GENERATION)
    assert step(state, objects_late) == (state, [])
    state, effects = run(state, *(offered(terms, client) for client in FIVE))
    assert effects[0] == StartTimer(terms.plan.update_ms / 1000, UpdatesOverdue(GENERATION))
    assert step(state, objects_late) == (state, [])
    state, _ = run(state, UpdatesOverdue(GENERATION))
    assert state.work == NoWork(last=GENERATION)


def test_those_who_watch_are_told_of_the_committee_s_phase() -> None:
    state = collecting_keys(*FIVE)
    _, effects = step(state, TaskNotDone(GENERATION, id_of(ANNA), "no"))
    training = [ClientProgress(client, "training") for client in ids_of(BERT, CARL, DORA, EMIL)]
    told = tuple(sorted([ClientProgress(id_of(ANNA), "out", "no"), *training], key=lambda one: one.client))
    assert progress_told(effects) == [RoundProgress(GENERATION, "committee", 0, 4, 1, told)]


# ---- who comes and goes


def test_a_client_that_comes_back_gets_its_task_and_then_the_committee_again() -> None:
    state = collecting_keys(*FIVE)
    order = keys_of(state).order
    task = SendTask(id_of(ANNA), TrainTask(order.plan, GENERATION, order.masked))
    state, effects = run(state, ClientDetached(id_of(ANNA)))
    assert effects == [StartTimer(GRACE_S, ClientStayedAway(GENERATION, id_of(ANNA)))]
    state, effects = run(state, ClientStayedAway(GENERATION, id_of(ANNA)), ClientAttached(id_of(ANNA)))
    assert effects == [task]
    assert keys_of(state).training == ids_of(*FIVE)

    state = collecting_updates(*FIVE)
    other = next(client for client in FIVE if client not in members_of(state))
    state, effects = run(state, ClientDetached(id_of(other)))
    assert effects == [StartTimer(GRACE_S, ClientStayedAway(GENERATION, id_of(other)))]
    task = SendTask(id_of(other), TrainTask(order.plan, GENERATION, order.masked))
    state, effects = run(state, ClientAttached(id_of(other)))
    assert effects == [task, SendCommittee(id_of(other), updates_of(state).body)]


def test_a_client_that_comes_back_to_a_closing_cell_gets_no_task() -> None:
    state = collecting_updates(*FIVE)
    late, other = [client for client in FIVE if client not in members_of(state)][:2]
    state, _ = run(state, begins(other), *acks(state, a_row(other)), arrives(other), UpdatesOverdue(GENERATION))
    _, effects = run(state, ClientDetached(id_of(late)), ClientAttached(id_of(late)))
    assert effects == []


def test_a_member_that_comes_back_gets_all_boxes_so_far_and_its_time_begins_anew() -> None:
    state = collecting_updates(*FIVE)
    member = members_of(state)[0]
    state, _ = run(state, begins(CARL), *acks(state, a_row(CARL)), arrives(CARL), UpdateAdded(GENERATION, "carl/0"))
    state, _ = run(state, begins(DORA))
    away = MemberStayedAway(GENERATION, id_of(member))
    state, effects = run(state, ClientDetached(id_of(member)))
    assert StartTimer(ACKS_S, away) in effects
    rows = (a_row(DORA), a_row(CARL))  # first that of which it has said nothing
    state, effects = run(state, ClientAttached(id_of(member)))
    assert effects[-3:] == [
        SendCommittee(id_of(member), updates_of(state).body),
        SendBoxes(GENERATION, id_of(member), rows),
        StartTimer(ACKS_S, AcksOverdue(GENERATION, id_of(member), 1, rows, said=1)),
    ]
    assert step(state, away) == (state, [])
    before = AcksOverdue(GENERATION, id_of(member), 0, (a_row(DORA),))
    assert step(state, before) == (state, [])


def test_a_member_is_not_waited_for_longer_than_a_client() -> None:
    state = replace(collecting_updates(*FIVE), reconnect_grace_s=1.0)
    member = members_of(state)[0]
    _, effects = run(state, ClientDetached(id_of(member)))
    assert StartTimer(1.0, MemberStayedAway(GENERATION, id_of(member))) in effects


def test_a_member_that_is_away_when_the_committee_is_formed_is_waited_for_no_longer() -> None:
    member = members_of(collecting_updates(*FIVE))[0]
    state = collecting_keys(*FIVE)
    terms = keys_of(state).terms
    state, _ = run(state, offered(terms, member), ClientDetached(id_of(member)))
    state, effects = run(state, *(offered(terms, client) for client in FIVE if client != member))
    assert StartTimer(ACKS_S, MemberStayedAway(GENERATION, id_of(member))) in effects
    assert id_of(member) not in {one.client for one in effects if isinstance(one, SendCommittee)}


def test_a_client_that_stays_away_is_gone_and_the_last_one_closes_the_cell() -> None:
    state = collecting_updates(*FIVE)
    last = next(client for client in FIVE if client not in members_of(state))
    state, _ = run(state, *(TaskNotDone(GENERATION, id_of(client), "no") for client in FIVE if client != last))
    state, effects = run(state, ClientDetached(id_of(last)), ClientStayedAway(GENERATION, id_of(last)))
    assert state.work == NoWork(last=GENERATION)
    (report,) = [one for one in effects if not isinstance(one, Forget | CancelTask)]
    assert Exclusion(id_of(last), LOST) in report.excluded  # type: ignore[union-attr]


def test_a_client_that_is_back_in_time_is_not_given_up() -> None:
    for state in (collecting_keys(*FIVE), collecting_updates(*FIVE)):
        for stale in (ClientStayedAway(GENERATION, id_of(ANNA)), ClientStayedAway(OLDER, id_of(HANS))):
            assert step(state, stale) == (state, [])


def test_an_order_taken_back_ends_a_masked_cell_without_an_answer() -> None:
    state = collecting_updates(*FIVE)
    state, _ = run(state, begins(CARL), arrives(CARL))
    state, effects = run(state, OrderCancelled(CellCancelled(GENERATION, "the session was stopped")))
    assert state.work == NoWork(last=GENERATION, taken_back="the session was stopped")
    training = sorted(ids_of(*FIVE) - ids_of(CARL))
    assert effects == [
        AnswerUpload(arrival_of(CARL), UpdateReceipt(accepted=False, reason="Late: the session was stopped")),
        *(CancelTask(client, TaskCancelled(GENERATION, "the session was stopped")) for client in training),
        Forget(GENERATION),
    ]
    state, effects = run(collecting_keys(ANNA, BERT, CARL), OrderCancelled(CellCancelled(GENERATION, "stopped")))
    assert (state.work, effects[-1]) == (NoWork(GENERATION, taken_back="stopped"), Forget(GENERATION))
    assert {one.client for one in effects if isinstance(one, CancelTask)} == ids_of(ANNA, BERT, CARL)


def test_a_reported_sum_ends_the_cell_and_one_that_cannot_be_stored_fails_it() -> None:
    reporting = a_combiner(ReportingSum(an_order(*FIVE), frozenset()))
    assert run(reporting, Reported(GENERATION)) == (a_combiner(NoWork(last=GENERATION)), [Forget(GENERATION)])
    _, effects = run(reporting, NotReported(GENERATION, "StoreFull: no"))
    assert effects == [ReportFailure(CellFailed(GENERATION, "StoreFull: no")), Forget(GENERATION)]


# ---- clients that the operator has revoked


def test_a_revoked_client_is_excluded_by_name_and_its_key_is_not_used() -> None:
    state = collecting_updates(ANNA, BERT, CARL, DORA)
    member = members_of(state)[0]
    state = collecting_keys(ANNA, BERT, CARL, DORA)
    terms = keys_of(state).terms
    state, _ = run(state, offered(terms, member), ClientBarred(id_of(member), BARRED))
    state, _ = run(state, *(offered(terms, client) for client in (ANNA, BERT, CARL, DORA) if client != member))
    assert member not in members_of(state)
    assert updates_of(state).excluded == (Exclusion(id_of(member), BARRED),)


def test_a_revoked_client_whose_training_failed_is_not_seated_either() -> None:
    state = collecting_updates(ANNA, BERT, CARL, DORA)
    member = members_of(state)[0]
    state = collecting_keys(ANNA, BERT, CARL, DORA)
    terms = keys_of(state).terms
    failed = TaskNotDone(GENERATION, id_of(member), "no")
    state, _ = run(state, offered(terms, member), failed, ClientBarred(id_of(member), BARRED))
    state, _ = run(state, *(offered(terms, client) for client in (ANNA, BERT, CARL, DORA) if client != member))
    assert member not in members_of(state)


def test_a_revoked_client_s_update_is_refused_while_it_is_not_in_the_sum() -> None:
    state = collecting_updates(*FIVE)
    client = next(one for one in FIVE if one not in members_of(state))
    waiting, _ = run(state, begins(client), arrives(client))
    after, effects = run(waiting, ClientBarred(id_of(client), BARRED))
    assert AnswerUpload(arrival_of(client), UpdateReceipt(accepted=False, reason=BARRED)) in effects
    assert updates_of(after).excluded == (Exclusion(id_of(client), BARRED),)
    assert run(after, arrives(client, 1))[1][0].receipt.reason.startswith("AlreadyRefused")  # type: ignore[union-attr]

    adding, _ = run(waiting, *acks(waiting, a_row(client)))
    assert step(adding, ClientBarred(id_of(client), BARRED)) == (adding, [])
    added, _ = run(adding, UpdateAdded(GENERATION, arrival_of(client)))
    assert step(added, ClientBarred(id_of(client), BARRED)) == (added, [])


def test_a_revoked_member_is_never_heard_again() -> None:
    state = collecting_updates(*world.CLIENTS, **world.REPLICATED)
    member = members_of(state)[0]
    state, _ = run(state, ClientBarred(id_of(member), BARRED))
    assert member.id in updates_of(state).acknowledged.silent
    client = next(one for one in world.CLIENTS if one not in members_of(state))
    state, _ = run(state, begins(client), ack(state, member, a_row(client)))
    assert member.id in updates_of(state).acknowledged.silent


def test_a_slot_that_loses_its_revoked_member_fails_the_cell() -> None:
    state = collecting_updates(*FIVE)
    member = members_of(state)[1]
    state, effects = run(state, ClientBarred(id_of(member), BARRED))
    assert state.work == NoWork(last=GENERATION)
    assert ReportFailure(CellFailed(GENERATION, "NoSumParticipant: slot 1 lost its members")) in effects


def test_a_client_that_is_late_is_excluded_by_name() -> None:
    state = collecting_updates(*FIVE)
    _, effects = run(state, UpdatesOverdue(GENERATION))
    reports = [one for one in effects if hasattr(one, "excluded")]
    assert reports[0].excluded == tuple(Exclusion(client, LATE) for client in sorted(ids_of(*FIVE)))
