"""The reducer's decisions in one attempt, rule by rule."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import masked_world as world
import pytest
from masked_world import (
    CELL,
    CLIENTS,
    COMBINER,
    OTHER_CELL,
    OTHER_COMBINER,
    REPLICATED,
    AnUpload,
    a_committee,
    an_answer,
    an_upload,
    members_of,
    the_terms,
)

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.answers import BadAnswer
from fedn_py.protocol.masked.contexts import WrongContext, included_hash
from fedn_py.protocol.masked.opening import (
    ClosedOtherwise,
    FencedGeneration,
    NotVoid,
    WrongIncluded,
    not_opened,
    resume,
    step,
    voids_of,
)
from fedn_py.protocol.masked.opening_work import (
    AbortArrived,
    AnswerArrived,
    AskStream,
    Attempt,
    Cell,
    CellClosedArrived,
    CellLost,
    CellNotOpened,
    CellOpened,
    CommitMean,
    Committed,
    CommitteeFormed,
    ConfirmCommittee,
    Effect,
    Event,
    GivenUp,
    KeyUnset,
    OpenCells,
    ReportFailed,
    SaveDocument,
    SendOpenSum2,
    SignNotOpened,
    StreamFailed,
    StreamStored,
    Sum2Over,
    UnsetKey,
)
from fedn_py.protocol.masked.outlook import (
    MOST_ATTEMPTS,
    Failed,
    PrivacyHold,
    Retry,
    missing,
    outlook,
    stranded,
    ways_out,
)
from fedn_py.protocol.masked.round_messages import Abort, CellClosed, NotOpened, OpenSum2
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign

NORTH = the_terms(combiner=bytes(COMBINER.verify_key))
SOUTH = the_terms(cell=OTHER_CELL, combiner=bytes(OTHER_COMBINER.verify_key))
IN_NORTH, IN_SOUTH = CLIENTS[:4], CLIENTS[4:]
NORTHERN, SOUTHERN = a_committee(NORTH, IN_NORTH), a_committee(SOUTH, IN_SOUTH)
NORTH_UPLOADS = [an_upload(NORTH, NORTHERN, client) for client in IN_NORTH]
SOUTH_UPLOADS = [an_upload(SOUTH, SOUTHERN, client) for client in IN_SOUTH]


def a_cell(terms: world.CellTerms, clients: Sequence[world.AClient], **changed: Any) -> Cell:
    order = terms.order
    cell = Cell(
        order.cell,
        order.generation,
        terms.ctx0,
        order.combiner,
        order.k,
        order.g_min,
        frozenset(client.id for client in clients),
    )
    return replace(cell, **changed)


def an_attempt(**changed: Any) -> Attempt:
    attempt = Attempt(
        world.SESSION,
        1,
        1,
        world.WORK,
        "reducer",
        NORTH.encoding.n_words,
        6,
        (a_cell(NORTH, IN_NORTH), a_cell(SOUTH, IN_SOUTH)),
    )
    return replace(attempt, **changed)


def closed(
    ctx: bytes, uploads: Sequence[AnUpload], key: world.SigningKey = COMBINER, **changed: Any
) -> CellClosedArrived:
    body = replace(CellClosed(ctx, world.the_rows_of(uploads), b"w" * 32, ()), **changed)
    return CellClosedArrived(sign(body, key))


def answers(terms: world.CellTerms, committee: world.Committee, uploads: Sequence[AnUpload]) -> list[AnswerArrived]:
    return [AnswerArrived(an_answer(terms, committee, one, uploads)[0]) for one in members_of(committee)]


def run(attempt: Attempt, *events: Event) -> tuple[Attempt, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        attempt, effects = step(attempt, event)
    return attempt, effects


def cell_of(attempt: Attempt, cell: bytes = CELL) -> Cell:
    return next(one for one in attempt.cells if one.cell == cell)


FORMED = run(an_attempt(), CommitteeFormed(CELL, 1, NORTHERN), CommitteeFormed(OTHER_CELL, 1, SOUTHERN))[0]
CLOSE_NORTH = closed(NORTHERN.ctx, NORTH_UPLOADS)
CLOSE_SOUTH = closed(SOUTHERN.ctx, SOUTH_UPLOADS, OTHER_COMBINER)
CLOSED = run(FORMED, CLOSE_NORTH, CLOSE_SOUTH)[0]
NORTH_ANSWERS, SOUTH_ANSWERS = answers(NORTH, NORTHERN, NORTH_UPLOADS), answers(SOUTH, SOUTHERN, SOUTH_UPLOADS)
OPENING = run(CLOSED, *NORTH_ANSWERS, *SOUTH_ANSWERS)[0]
BOTH = tuple(sorted((NORTHERN.ctx, SOUTHERN.ctx)))
GIVEN_UP = run(CLOSED, GivenUp("stopped"), KeyUnset())[0]


# ---- the way of a round


def test_a_closed_cell_is_in_the_document_before_its_committee_is_asked() -> None:
    attempt, effects = step(FORMED, CLOSE_NORTH)
    digest = included_hash(NORTHERN.ctx, world.the_rows_of(NORTH_UPLOADS))
    assert cell_of(attempt).included_hash == digest
    assert cell_of(attempt).partial_sha256 == b"w" * 32
    assert effects == [SaveDocument(attempt), SendOpenSum2(OpenSum2(NORTHERN.ctx, digest, 4))]


def test_opening_begins_for_all_cells_together_and_is_stored_before_anything_is_decrypted() -> None:
    attempt, effects = run(CLOSED, *NORTH_ANSWERS, *SOUTH_ANSWERS[:-1])
    assert attempt.stage == "running"
    assert effects == [SaveDocument(attempt)]
    attempt, effects = step(attempt, SOUTH_ANSWERS[-1])
    assert (attempt.stage, attempt.opening) == ("opening", frozenset(BOTH))
    assert effects == [SaveDocument(attempt), OpenCells(BOTH)]


def test_a_round_is_committed_when_its_cells_opened_and_its_key_goes_after_that() -> None:
    attempt, effects = run(OPENING, CellOpened(NORTHERN.ctx), CellOpened(SOUTHERN.ctx))
    assert effects == [SaveDocument(attempt), CommitMean(BOTH)]
    attempt, effects = step(attempt, Committed())
    assert effects == [SaveDocument(attempt), UnsetKey()]
    attempt, effects = step(attempt, KeyUnset())
    assert effects == [SaveDocument(attempt)]  # both were opened: nobody can be told otherwise


def test_one_replica_of_each_slot_is_enough() -> None:
    terms = the_terms(**REPLICATED)
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS]
    attempt = an_attempt(cells=(a_cell(terms, CLIENTS),))
    attempt = run(attempt, CommitteeFormed(CELL, 1, committee), closed(committee.ctx, uploads))[0]
    all_answers = answers(terms, committee, uploads)
    attempt, effects = run(attempt, *all_answers[::2])
    assert effects[-1] == OpenCells((committee.ctx,))
    later, effects = step(attempt, all_answers[1])  # a replica that comes late is kept, for where it is needed
    assert effects == [SaveDocument(later)]


# ---- sets


def test_one_set_is_opened_under_a_context_for_ever() -> None:
    with pytest.raises(ClosedOtherwise):
        step(CLOSED, closed(NORTHERN.ctx, NORTH_UPLOADS[:3]))
    with pytest.raises(ClosedOtherwise):
        step(CLOSED, closed(NORTHERN.ctx, NORTH_UPLOADS, partial_sha256=b"x" * 32))
    for attempt in (CLOSED, OPENING, GIVEN_UP):
        with pytest.raises(ClosedOtherwise):
            step(attempt, closed(NORTHERN.ctx, NORTH_UPLOADS[1:]))


def test_a_cell_that_is_closed_again_the_same_way_is_asked_again_with_the_same_words() -> None:
    attempt, effects = step(CLOSED, CLOSE_NORTH)
    assert attempt == CLOSED
    assert effects == [step(FORMED, CLOSE_NORTH)[1][-1]]


def out_reason(attempt: Attempt, cell: bytes = CELL) -> str:
    return cell_of(attempt, cell).out


def test_a_client_in_two_cells_is_in_the_sum_of_none_but_the_first() -> None:
    """A client with tickets for both, or two combiners that share a client."""
    both = replace(a_cell(SOUTH, IN_SOUTH), assigned=frozenset(client.id for client in (*IN_SOUTH, CLIENTS[0])))
    attempt = an_attempt(cells=(a_cell(NORTH, IN_NORTH), both))
    twice = [*SOUTH_UPLOADS, an_upload(SOUTH, SOUTHERN, CLIENTS[0])]
    attempt, effects = run(
        attempt,
        CommitteeFormed(CELL, 1, NORTHERN),
        CommitteeFormed(OTHER_CELL, 1, SOUTHERN),
        CLOSE_NORTH,
        closed(SOUTHERN.ctx, twice, OTHER_COMBINER),
    )
    assert out_reason(attempt, OTHER_CELL).startswith("ClientInTwoCells")
    assert effects == [SaveDocument(attempt)]
    assert cell_of(attempt, OTHER_CELL).included_hash is None


def test_only_clients_that_were_assigned_are_summed() -> None:
    stranger = an_upload(NORTH, NORTHERN, CLIENTS[7])
    attempt, effects = step(FORMED, closed(NORTHERN.ctx, [*NORTH_UPLOADS, stranger]))
    assert out_reason(attempt).startswith("NotAssigned")
    assert effects == [SaveDocument(attempt)]


def test_a_cell_with_too_few_updates_is_left_out() -> None:
    attempt, effects = step(FORMED, closed(NORTHERN.ctx, NORTH_UPLOADS[:2]))
    assert out_reason(attempt).startswith("TooFewUpdates: 2 of at least 3")
    assert effects == [SaveDocument(attempt)]


def test_rows_that_are_no_set_are_refused() -> None:
    rows = world.the_rows_of(NORTH_UPLOADS)
    for wrong in (rows[::-1], (*rows, rows[-1])):
        attempt, _ = step(FORMED, closed(NORTHERN.ctx, NORTH_UPLOADS, rows=wrong))
        assert out_reason(attempt).startswith("WrongSet")


def test_a_cell_is_closed_by_the_combiner_that_was_ordered() -> None:
    with pytest.raises(WrongSigner):
        step(FORMED, closed(NORTHERN.ctx, NORTH_UPLOADS, OTHER_COMBINER))
    forged = replace(CLOSE_NORTH.closed, body=closed(NORTHERN.ctx, NORTH_UPLOADS[:3]).closed.body)
    with pytest.raises(BadSignature):
        step(FORMED, CellClosedArrived(forged))
    with pytest.raises(WrongContext):
        step(FORMED, closed(b"x" * 32, NORTH_UPLOADS))


def test_a_lost_generation_is_fenced_off() -> None:
    with pytest.raises(FencedGeneration):
        step(an_attempt(), CommitteeFormed(CELL, 2, NORTHERN))
    lost, _ = step(FORMED, CellLost(CELL, 1, "the combiner is gone"))
    assert out_reason(lost) == "the combiner is gone"
    with pytest.raises(FencedGeneration):
        step(lost, CLOSE_NORTH)


def test_a_committee_is_confirmed_when_it_is_stored_and_again_when_it_is_said_again() -> None:
    formed, effects = step(an_attempt(), CommitteeFormed(CELL, 1, NORTHERN))
    confirm = ConfirmCommittee(CELL, NORTHERN.ctx)
    assert effects == [SaveDocument(formed), confirm]
    assert step(formed, CommitteeFormed(CELL, 1, NORTHERN)) == (formed, [confirm])


def test_the_committee_of_a_lost_cell_is_handed_out_to_nobody() -> None:
    lost, _ = step(an_attempt(), CellLost(CELL, 1, "gone"))
    assert step(lost, CommitteeFormed(CELL, 1, NORTHERN)) == (lost, [])
    formed, _ = step(an_attempt(), CommitteeFormed(CELL, 1, NORTHERN))
    lost, _ = step(formed, CellLost(CELL, 1, "gone"))
    assert step(lost, CommitteeFormed(CELL, 1, NORTHERN)) == (lost, [])


def test_a_committee_that_comes_after_the_attempt_is_handed_out_to_nobody() -> None:
    over, _ = step(an_attempt(), GivenUp("the combiner was cut off"))
    with pytest.raises(UnexpectedEvent):
        step(over, CommitteeFormed(CELL, 1, NORTHERN))
    known, _ = step(FORMED, GivenUp("the combiner was cut off"))
    assert step(known, CommitteeFormed(CELL, 1, NORTHERN)) == (known, [])


def test_a_cell_has_one_committee() -> None:
    other = a_committee(NORTH, IN_NORTH[1:])
    with pytest.raises(WrongContext):
        step(FORMED, CommitteeFormed(CELL, 1, other))


def test_a_combiner_that_is_lost_after_closing_costs_nothing() -> None:
    assert step(CLOSED, CellLost(CELL, 1, "gone")) == (CLOSED, [])


# ---- answers


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"included_hash": b"x" * 32}, WrongIncluded),
        ({"slot": 1}, BadAnswer),
        ({"nonce": b"x" * 32}, BadAnswer),
        ({"stream_bytes": 5}, BadAnswer),
        ({"ctx": b"x" * 32}, WrongContext),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(changed: dict[str, Any], fault: type[PeerFault]) -> None:
    member = members_of(NORTHERN)[0]
    answer = an_answer(NORTH, NORTHERN, member, NORTH_UPLOADS, **changed)[0]
    with pytest.raises(fault):
        step(CLOSED, AnswerArrived(answer))


def test_an_answer_of_a_stranger_or_of_another_member_is_refused() -> None:
    member = members_of(NORTHERN)[0]
    answer, _ = an_answer(NORTH, NORTHERN, member, NORTH_UPLOADS)
    body = world.Answer.decode(answer.body)
    with pytest.raises(WrongSigner):
        step(CLOSED, AnswerArrived(sign(body, CLIENTS[7].key)))
    with pytest.raises(BadAnswer, match="another slot"):
        step(CLOSED, AnswerArrived(sign(body, members_of(NORTHERN)[1].key)))
    with pytest.raises(BadSignature):
        step(CLOSED, AnswerArrived(replace(answer, signature=bytes(64))))


def test_an_answer_before_the_cell_is_closed_is_for_no_set() -> None:
    with pytest.raises(WrongIncluded):
        step(FORMED, NORTH_ANSWERS[0])


def test_an_answer_counts_once_and_is_never_changed() -> None:
    attempt, _ = step(CLOSED, NORTH_ANSWERS[0])
    assert step(attempt, NORTH_ANSWERS[0]) == (attempt, [])
    other = an_answer(NORTH, NORTHERN, members_of(NORTHERN)[0], NORTH_UPLOADS, stream_hash=b"x" * 32)[0]
    with pytest.raises(BadAnswer, match="otherwise"):
        step(attempt, AnswerArrived(other))


def replicated() -> tuple[Attempt, list[AnswerArrived], list[world.AClient]]:
    terms = the_terms(**REPLICATED)
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS]
    attempt = an_attempt(cells=(a_cell(terms, CLIENTS),))
    attempt = run(attempt, CommitteeFormed(CELL, 1, committee), closed(committee.ctx, uploads))[0]
    arrived = [replace(answer, stored=False) for answer in answers(terms, committee, uploads)]
    return attempt, arrived, list(members_of(committee))


def test_one_replica_of_a_slot_is_asked_for_its_stream_and_the_next_only_if_that_fails() -> None:
    attempt, arrived, members = replicated()
    ctx = cell_of(attempt).ctx
    assert ctx is not None
    attempt, effects = step(attempt, arrived[1])
    assert effects == [SaveDocument(attempt), AskStream(ctx, members[1].id)]
    attempt, effects = step(attempt, arrived[0])
    assert effects == [SaveDocument(attempt)]
    assert resume(attempt)[1][1] == AskStream(ctx, members[1].id)
    attempt, effects = step(attempt, StreamFailed(ctx, members[1].id))
    assert effects == [SaveDocument(attempt), AskStream(ctx, members[0].id)]
    attempt, effects = step(attempt, StreamStored(ctx, members[0].id))
    assert effects == [SaveDocument(attempt)]
    assert not cell_of(attempt).answered
    attempt, _ = run(attempt, arrived[2], arrived[4], StreamStored(ctx, members[2].id))
    assert attempt.stage == "running"
    attempt, effects = step(attempt, StreamStored(ctx, members[4].id))
    assert effects == [SaveDocument(attempt), OpenCells((ctx,))]


def test_a_stream_that_does_not_open_after_all_has_another_replica_asked() -> None:
    attempt, arrived, members = replicated()
    ctx = cell_of(attempt).ctx
    assert ctx is not None
    attempt, _ = run(attempt, *arrived, *(StreamStored(ctx, members[place].id) for place in (0, 2, 4)))
    assert attempt.stage == "opening"
    attempt, effects = step(attempt, StreamFailed(ctx, members[2].id))
    assert effects == [SaveDocument(attempt), AskStream(ctx, members[3].id)]
    assert attempt.opening == {ctx}


def test_a_stream_without_an_answer_is_nobodys() -> None:
    with pytest.raises(WrongContext):
        step(CLOSED, StreamStored(NORTHERN.ctx, members_of(NORTHERN)[0].id))
    with pytest.raises(UnexpectedEvent):
        step(run(CLOSED, NORTH_ANSWERS[0], GivenUp("x"))[0], StreamFailed(NORTHERN.ctx, members_of(NORTHERN)[0].id))


# ---- who is opened


def test_a_round_with_too_few_answered_clients_opens_nothing() -> None:
    attempt, _ = run(CLOSED, *NORTH_ANSWERS)
    attempt, effects = step(attempt, Sum2Over())
    assert (attempt.stage, attempt.opening, attempt.key) == ("given up", frozenset(), "unsetting")
    assert [type(effect) for effect in effects] == [SaveDocument, UnsetKey, ReportFailed]


def test_a_cell_that_was_not_answered_is_left_out_where_the_others_are_enough() -> None:
    attempt, effects = run(replace(CLOSED, clients_required=4), *NORTH_ANSWERS, *SOUTH_ANSWERS[:1], Sum2Over())
    assert attempt.opening == {NORTHERN.ctx}
    assert out_reason(attempt, OTHER_CELL) == "1 members did not answer in time"
    assert effects == [SaveDocument(attempt), OpenCells((NORTHERN.ctx,))]
    assert cell_of(attempt, OTHER_CELL).ctx not in attempt.opening


def test_cells_that_are_all_out_end_the_attempt() -> None:
    attempt, effects = run(FORMED, CellLost(CELL, 1, "gone"), CellLost(OTHER_CELL, 1, "gone"))
    assert attempt.stage == "given up"
    assert effects[-2] == UnsetKey()


def test_a_garbage_sum_is_left_out_and_never_committed() -> None:
    enough = replace(OPENING, clients_required=4)
    attempt, effects = run(enough, CellNotOpened(NORTHERN.ctx, "UnmaskCheckFailed"), CellOpened(SOUTHERN.ctx))
    assert effects[-1] == CommitMean((SOUTHERN.ctx,))
    attempt, effects = run(OPENING, CellNotOpened(NORTHERN.ctx, "UnmaskCheckFailed"), CellOpened(SOUTHERN.ctx))
    assert (attempt.stage, attempt.key) == ("given up", "unsetting")
    assert [type(effect) for effect in effects] == [SaveDocument, SaveDocument, UnsetKey, ReportFailed]


# ---- the reducer's word


def test_nothing_is_said_to_be_unopened_before_the_key_is_gone() -> None:
    attempt, effects = step(CLOSED, GivenUp("stopped"))
    assert not any(isinstance(effect, SignNotOpened) for effect in effects)
    for state in (CLOSED, attempt):
        with pytest.raises(NotVoid, match="key"):
            not_opened(state, NORTHERN.ctx, "ended")
    attempt, effects = step(attempt, KeyUnset())
    said = {effect.void.ctx for effect in effects if isinstance(effect, SignNotOpened)}
    assert said == set(BOTH)
    assert isinstance(effects[0], SaveDocument)
    assert not_opened(attempt, NORTHERN.ctx, "ended") == NotOpened(NORTHERN.ctx, "ended")


def test_what_may_have_been_opened_is_never_said_to_be_unopened() -> None:
    attempt, effects = run(
        OPENING, CellNotOpened(NORTHERN.ctx, "garbage"), CellNotOpened(SOUTHERN.ctx, "garbage"), KeyUnset()
    )
    assert not any(isinstance(effect, SignNotOpened) for effect in effects)
    for ctx in BOTH:
        with pytest.raises(NotVoid, match="may have been opened"):
            not_opened(attempt, ctx, "ended")


def test_a_strict_plan_knows_no_word_of_the_reducer() -> None:
    attempt, effects = run(replace(CLOSED, reopen="strict"), GivenUp("stopped"), KeyUnset())
    assert effects == [SaveDocument(attempt)]
    with pytest.raises(NotVoid, match="members alone"):
        not_opened(attempt, NORTHERN.ctx, "ended")


def test_after_a_restore_nothing_is_said_of_rounds_that_may_have_gone_on() -> None:
    attempt = run(replace(CLOSED, before_restore=True), GivenUp("stopped"), KeyUnset())[0]
    assert voids_of(attempt) == ()
    with pytest.raises(NotVoid, match="restored"):
        not_opened(attempt, NORTHERN.ctx, "ended")


def test_a_cell_left_out_of_a_committed_round_is_released_when_the_key_is_gone() -> None:
    _attempt, effects = run(
        replace(CLOSED, clients_required=4),
        *NORTH_ANSWERS,
        Sum2Over(),
        CellOpened(NORTHERN.ctx),
        Committed(),
        KeyUnset(),
    )
    assert effects[1:] == [SignNotOpened(NotOpened(SOUTHERN.ctx, "the attempt has ended"))]


def test_once_opening_has_begun_nobody_gives_up() -> None:
    for event in (GivenUp("stopped"), Sum2Over(), CellLost(CELL, 1, "gone")):
        with pytest.raises(UnexpectedEvent):
            step(OPENING, event)


def test_nothing_is_closed_after_the_end() -> None:
    ended = run(FORMED, GivenUp("stopped"))[0]
    with pytest.raises(UnexpectedEvent):
        step(ended, CLOSE_NORTH)


def test_only_what_is_being_opened_is_judged_and_only_what_was_judged_is_committed() -> None:
    for event in (CellOpened(NORTHERN.ctx), CellNotOpened(NORTHERN.ctx, "x"), Committed(), KeyUnset()):
        with pytest.raises(UnexpectedEvent):
            step(CLOSED, event)
    one = run(replace(CLOSED, clients_required=4), *NORTH_ANSWERS, Sum2Over())[0]
    with pytest.raises(UnexpectedEvent):
        step(one, CellOpened(SOUTHERN.ctx))
    with pytest.raises(UnexpectedEvent):
        step(OPENING, KeyUnset())
    committed = run(OPENING, CellOpened(NORTHERN.ctx), CellOpened(SOUTHERN.ctx), Committed())[0]
    with pytest.raises(UnexpectedEvent):
        step(committed, CellNotOpened(NORTHERN.ctx, "x"))


def test_a_late_answer_after_the_attempt_changes_nothing() -> None:
    assert step(GIVEN_UP, NORTH_ANSWERS[0]) == (GIVEN_UP, [])


# ---- another reducer


def test_a_standby_goes_on_with_the_same_sets() -> None:
    assert resume(CLOSED)[1][:2] == [step(FORMED, CLOSE_NORTH)[1][-1], step(FORMED, CLOSE_SOUTH)[1][-1]]
    assert resume(OPENING) == (OPENING, [OpenCells(BOTH)])
    half = step(OPENING, CellOpened(NORTHERN.ctx))[0]
    assert resume(half)[1] == [OpenCells((SOUTHERN.ctx,))]
    judged = step(half, CellOpened(SOUTHERN.ctx))[0]
    assert resume(judged) == (judged, [CommitMean(BOTH)])
    committed = step(judged, Committed())[0]
    assert resume(committed) == (committed, [UnsetKey()])
    assert resume(step(CLOSED, GivenUp("stopped"))[0])[1] == [UnsetKey()]
    assert {effect.void.ctx for effect in resume(GIVEN_UP)[1] if isinstance(effect, SignNotOpened)} == set(BOTH)


def test_a_standby_that_finds_all_answers_begins_opening() -> None:
    """The document was stored with the last answer, and its writer died before the next word."""
    answered = replace(OPENING, stage="running", opening=frozenset())
    attempt, effects = resume(answered)
    assert attempt == OPENING
    assert effects[-1] == OpenCells(BOTH)


# ---- what can become of it


def test_clients_of_an_attempt_that_opened_nothing_go_on() -> None:
    everyone = frozenset(client.id for client in CLIENTS)
    assert stranded(GIVEN_UP) == frozenset()
    assert outlook([GIVEN_UP], everyone, clients_required=6, works_left=20) == Retry(everyone)


def test_clients_of_an_opened_cell_sit_out_and_the_others_go_on() -> None:
    attempt = run(OPENING, CellNotOpened(NORTHERN.ctx, "garbage"), CellOpened(SOUTHERN.ctx), KeyUnset())[0]
    everyone = frozenset(client.id for client in CLIENTS) | {b"n" * 32}
    assert stranded(attempt) == frozenset(client.id for client in CLIENTS)
    assert outlook([attempt], everyone, clients_required=1, works_left=1) == Retry(frozenset({b"n" * 32}))


def test_a_garbage_sum_in_the_only_cell_is_a_privacy_hold_with_its_ways_out() -> None:
    only = replace(CLOSED, cells=(cell_of(CLOSED),), clients_required=3)
    attempt = run(only, *NORTH_ANSWERS, CellNotOpened(NORTHERN.ctx, "UnmaskCheckFailed"), KeyUnset())[0]
    here = frozenset(client.id for client in IN_NORTH)
    hold = outlook([attempt], here, clients_required=3, works_left=2)
    assert isinstance(hold, PrivacyHold)
    assert hold.stranded == here
    assert "new work" in hold.ways_out[1]
    used_up = outlook([attempt], here, clients_required=3, works_left=0)
    assert isinstance(used_up, PrivacyHold)
    assert "BaseUsedUp" in used_up.ways_out[1]
    assert ways_out(0) == used_up.ways_out


def test_a_strict_cell_that_lost_a_member_is_a_privacy_hold_that_names_it() -> None:
    only = replace(CLOSED, cells=(cell_of(CLOSED),), clients_required=3, reopen="strict")
    attempt = run(only, NORTH_ANSWERS[0], Sum2Over(), KeyUnset())[0]
    lost = members_of(NORTHERN)[1]
    hold = outlook([attempt], frozenset(client.id for client in IN_NORTH), clients_required=3, works_left=2)
    assert isinstance(hold, PrivacyHold)
    assert hold.missing == (lost.id,)


def test_the_aborts_of_all_members_release_a_strict_cells_clients() -> None:
    only = replace(FORMED, cells=(cell_of(FORMED),), clients_required=3, reopen="strict")
    aborts = [AbortArrived(sign(Abort(NORTHERN.ctx, "asked to"), one.key)) for one in members_of(NORTHERN)]
    attempt = run(only, *aborts[:1], GivenUp("stopped"), KeyUnset())[0]
    assert stranded(attempt) == frozenset(client.id for client in IN_NORTH)
    attempt, effects = step(attempt, aborts[1])
    assert effects == [SaveDocument(attempt)]
    assert stranded(attempt) == frozenset()
    assert step(attempt, aborts[1]) == (attempt, [])
    with pytest.raises(WrongSigner):
        step(attempt, AbortArrived(sign(Abort(NORTHERN.ctx, "asked to"), CLIENTS[7].key)))


def test_a_round_is_given_up_after_three_attempts_with_those_who_would_be_needed() -> None:
    everyone = frozenset(client.id for client in CLIENTS)
    end = outlook([GIVEN_UP] * MOST_ATTEMPTS, everyone, clients_required=6, works_left=20)
    assert isinstance(end, Failed)
    assert set(end.missing) == {member.client.client_id for member in (*NORTHERN.members, *SOUTHERN.members)}
    assert missing([OPENING]) == ()


def test_a_network_with_nobody_there_is_no_privacy_hold() -> None:
    attempt = run(OPENING, CellNotOpened(NORTHERN.ctx, "x"), CellNotOpened(SOUTHERN.ctx, "x"), KeyUnset())[0]
    assert outlook([attempt], frozenset(), clients_required=3, works_left=2) == Retry(frozenset())


EVENTS: list[Event] = [
    CommitteeFormed(CELL, 1, NORTHERN),
    CLOSE_NORTH,
    CellLost(CELL, 1, "gone"),
    NORTH_ANSWERS[0],
    StreamStored(NORTHERN.ctx, members_of(NORTHERN)[0].id),
    StreamFailed(NORTHERN.ctx, members_of(NORTHERN)[0].id),
    AbortArrived(sign(Abort(NORTHERN.ctx, "asked to"), members_of(NORTHERN)[0].key)),
    Sum2Over(),
    CellOpened(NORTHERN.ctx),
    CellNotOpened(NORTHERN.ctx, "garbage"),
    Committed(),
    KeyUnset(),
    GivenUp("stopped"),
]
STATES = [
    an_attempt(),
    FORMED,
    CLOSED,
    OPENING,
    step(CLOSED, GivenUp("stopped"))[0],
    GIVEN_UP,
    run(OPENING, CellOpened(NORTHERN.ctx), CellOpened(SOUTHERN.ctx), Committed())[0],
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: f"{state.stage}-{state.key}")
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_in_every_state_is_answered_or_refused_by_name(state: Attempt, event: Event) -> None:
    try:
        after, effects = step(state, event)
    except PeerFault:
        return
    if after != state:
        assert isinstance(effects[0], SaveDocument)
    assert after.opening >= state.opening
    for before, now in zip(state.cells, after.cells, strict=True):
        assert before.included_hash in {None, now.included_hash}
