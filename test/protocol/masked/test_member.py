"""A sum participant, rule by rule."""

from dataclasses import replace
from typing import Any

import masked_world as world
import pytest
from masked_world import CLIENTS, REDUCER, REPLICATED, AnUpload, a_committee, an_upload, included, members_of, the_terms

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.committee import BadCommittee, Committee
from fedn_py.protocol.masked.contexts import CellTerms, WrongContext, WrongSet, included_hash
from fedn_py.protocol.masked.differencing import DifferencingRefused, MemberMemory, PromiseRecord, Proofs
from fedn_py.protocol.masked.member import (
    AlreadyServing,
    AnsweredAlready,
    BoxNotAccepted,
    CannotAbort,
    EchoedTwice,
    TooFewIncluded,
    UnknownInU,
    offer,
    restored,
    step,
)
from fedn_py.protocol.masked.member_work import (
    AbortAsked,
    Aborted,
    Answered,
    Answering,
    AnswerSealed,
    BoxAccepted,
    BoxRefused,
    CommitteeFormed,
    DeadlinePassed,
    Duty,
    EchoArrived,
    Echoed,
    Effect,
    EraseKeys,
    Event,
    IncludedArrived,
    KeySent,
    Opening,
    SaveAbort,
    SaveAnswer,
    SaveMembership,
    SavePromise,
    SealAnswer,
    SendAbort,
    SendAck,
    SendAnswer,
    SendEcho,
    SendKeyMessage,
    Silent,
    State,
)
from fedn_py.protocol.masked.registry import TokenOverused
from fedn_py.protocol.masked.round_messages import Abort, BoxAck, Echo, IncludedRow, NotOpened, Refused
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign

TERMS = the_terms(**REPLICATED)
COMMITTEE = a_committee(TERMS)
MEMBERS = members_of(COMMITTEE)
UPLOADS = [an_upload(TERMS, COMMITTEE, client) for client in CLIENTS[:5]]
NOTHING, UNPROVEN = MemberMemory(), Proofs()


def duty(me: world.AClient, terms: CellTerms = TERMS, committee: Committee = COMMITTEE) -> Duty:
    seat = committee.member(me.id)
    assert seat is not None
    return Duty(terms, me.id, bytes(me.key.verify_key), seat.slot, me.epk, world.REDUCERS)


ME = MEMBERS[0]
KEY_SENT = KeySent(duty(ME))


def run(state: State, *events: Event) -> tuple[State, list[Effect]]:
    effects: list[Effect] = []
    for event in events:
        state, effects = step(state, event)
    return state, effects


def opening(uploads: list[AnUpload] = UPLOADS, state: State = KEY_SENT, committee: Committee = COMMITTEE) -> State:
    return run(state, CommitteeFormed(committee), *(BoxAccepted(upload.verified) for upload in uploads))[0]


def asked(
    uploads: list[AnUpload], memory: MemberMemory = NOTHING, proofs: Proofs = UNPROVEN, **changed: Any
) -> IncludedArrived:
    return IncludedArrived(included(COMMITTEE, uploads, **changed), memory, proofs)


def echo(member: world.AClient, uploads: list[AnUpload], ctx: bytes = COMMITTEE.ctx) -> EchoArrived:
    return EchoArrived(sign(Echo(ctx, included_hash(ctx, world.the_rows_of(uploads))), member.key))


DIGEST = included_hash(COMMITTEE.ctx, world.the_rows_of(UPLOADS))
RECORD = PromiseRecord(
    TERMS.work, COMMITTEE.ctx, DIGEST, "reducer", tuple(row.client_id for row in world.the_rows_of(UPLOADS))
)
ECHOED = run(opening(), asked(UPLOADS))[0]
ANSWERING = run(ECHOED, *(echo(member, UPLOADS) for member in MEMBERS[1:5]))[0]
ANSWER = world.an_answer(TERMS, COMMITTEE, ME, UPLOADS)[0]
ANSWERED = step(ANSWERING, AnswerSealed(ANSWER))[0]

SMALL = the_terms()
PAIR = a_committee(SMALL)
PAIR_UPLOADS = [an_upload(SMALL, PAIR, client) for client in CLIENTS[:4]]


# ---- the way of an answer


def test_an_offer_is_on_disk_before_it_is_made_and_made_once_in_an_attempt() -> None:
    state, effects = offer(duty(ME), frozenset())
    assert state == KEY_SENT
    assert effects == [SaveMembership(world.SESSION, 1, 1), SendKeyMessage(duty(ME))]
    offer(duty(ME), frozenset({(world.SESSION, 1, 2), (world.SESSION, 2, 1), (b"T" * 16, 1, 1)}))
    with pytest.raises(AlreadyServing):
        offer(duty(ME), frozenset({(world.SESSION, 1, 1)}))


def test_who_is_not_in_the_committee_erases_its_keys() -> None:
    without = a_committee(TERMS, [client for client in CLIENTS if client is not ME])
    state, effects = step(KEY_SENT, CommitteeFormed(without))
    assert isinstance(state, Silent)
    assert effects == [EraseKeys()]


def test_a_committee_with_a_key_that_this_client_did_not_offer_is_refused() -> None:
    with pytest.raises(BadCommittee, match="key that it did not offer"):
        step(KeySent(replace(duty(ME), epk=MEMBERS[1].epk)), CommitteeFormed(COMMITTEE))
    with pytest.raises(BadCommittee):
        step(KeySent(replace(duty(ME), slot=2)), CommitteeFormed(COMMITTEE))


def test_boxes_are_acknowledged_one_by_one() -> None:
    state, effects = step(opening([]), BoxAccepted(UPLOADS[0].verified))
    assert effects == [SendAck(BoxAck(COMMITTEE.ctx, (UPLOADS[0].row,), ()))]
    state, effects = step(state, BoxRefused(CLIENTS[1].id, "the box does not open"))
    assert effects == [SendAck(BoxAck(COMMITTEE.ctx, (), (Refused(CLIENTS[1].id, "the box does not open"),)))]
    assert isinstance(state, Opening)
    assert set(state.accepted) == {CLIENTS[0].id}
    assert set(state.rejected) == {CLIENTS[1].id}


def test_a_broken_box_in_anothers_name_does_not_undo_a_good_one() -> None:
    state = run(opening(), BoxRefused(CLIENTS[0].id, "the box does not open"))[0]
    assert isinstance(step(state, asked(UPLOADS))[0], Echoed)


def test_a_client_whose_box_was_refused_may_send_a_better_one() -> None:
    state = run(opening(UPLOADS[1:]), BoxRefused(CLIENTS[0].id, "no"), BoxAccepted(UPLOADS[0].verified))[0]
    assert isinstance(step(state, asked(UPLOADS))[0], Echoed)


def test_a_promise_is_on_disk_before_it_is_said() -> None:
    state, effects = step(opening(), asked(UPLOADS))
    assert isinstance(state, Echoed)
    assert effects == [SavePromise(RECORD), SendEcho(Echo(COMMITTEE.ctx, DIGEST))]


def test_an_answer_is_made_when_five_of_six_have_echoed_the_same_set() -> None:
    state = ECHOED
    for member in MEMBERS[1:4]:
        state, effects = step(state, echo(member, UPLOADS))
        assert isinstance(state, Echoed)  # 2, 3, 4 of 6 with its own
        assert effects == []
    state, effects = step(state, echo(MEMBERS[4], UPLOADS))
    assert isinstance(state, Answering)
    assert effects == [SealAnswer(world.the_rows_of(UPLOADS))]


def test_echoes_that_came_early_count() -> None:
    state = run(opening(), *(echo(member, UPLOADS) for member in MEMBERS[1:5]))[0]
    assert isinstance(state, Opening)
    state, effects = step(state, asked(UPLOADS))
    assert isinstance(state, Answering)
    assert effects[0] == SavePromise(RECORD)
    assert effects[-1] == SealAnswer(world.the_rows_of(UPLOADS))


def test_an_answer_is_on_disk_before_it_leaves_and_the_keys_go_after_it() -> None:
    state, effects = step(ANSWERING, AnswerSealed(ANSWER))
    assert state == Answered(COMMITTEE.ctx, DIGEST, ANSWER)
    assert effects == [SaveAnswer(ANSWER), SendAnswer(ANSWER), EraseKeys()]


def test_without_replicas_nobody_is_echoed_and_the_promise_is_kept_all_the_same() -> None:
    me = members_of(PAIR)[1]
    state = opening(PAIR_UPLOADS, KeySent(duty(me, SMALL, PAIR)), PAIR)
    state, effects = step(state, IncludedArrived(included(PAIR, PAIR_UPLOADS), NOTHING))
    assert isinstance(state, Answering)
    assert [type(effect) for effect in effects] == [SavePromise, SealAnswer]


# ---- which set


def test_a_set_that_the_reducer_did_not_sign_is_refused() -> None:
    with pytest.raises(WrongSigner):
        step(opening(), asked(UPLOADS, key=world.COMBINER))
    standby = replace(asked(UPLOADS, key=world.COMBINER), reducers=frozenset({bytes(world.COMBINER.verify_key)}))
    assert isinstance(step(opening(), standby)[0], Echoed)
    good = included(COMMITTEE, UPLOADS)
    forged = replace(good.opening, signature=bytes(64))
    with pytest.raises(BadSignature):
        step(opening(), IncludedArrived(replace(good, opening=forged), NOTHING))


def test_rows_that_are_not_the_signed_set_are_refused() -> None:
    good = included(COMMITTEE, UPLOADS)
    wrong = [
        good.rows[1:],
        good.rows[::-1],
        (*good.rows, good.rows[-1]),
        (replace(good.rows[0], header_hash=b"x" * 32), *good.rows[1:]),
    ]
    for rows in wrong:
        with pytest.raises(WrongSet):
            step(opening(), IncludedArrived(replace(good, rows=rows), NOTHING))


def test_a_set_of_another_cell_is_refused() -> None:
    rows = world.the_rows_of(UPLOADS)
    other = world.Included(world.an_opening(b"x" * 32, rows), rows)
    with pytest.raises(WrongContext):
        step(opening(), IncludedArrived(other, NOTHING))


def test_a_count_that_is_not_the_sets_is_refused() -> None:
    rows = world.the_rows_of(UPLOADS)
    lie = sign(world.OpenSum2(COMMITTEE.ctx, included_hash(COMMITTEE.ctx, rows), 9), REDUCER)
    with pytest.raises(WrongSet, match="signed another one"):
        step(opening(), IncludedArrived(world.Included(lie, rows), NOTHING))


def test_a_sum_over_fewer_clients_than_planned_is_never_opened() -> None:
    step(opening(), asked(UPLOADS[:3]))
    with pytest.raises(TooFewIncluded, match="over 2 clients is asked for, the plan promised at least 3"):
        step(opening(), asked(UPLOADS[:2]))


def test_a_sum_over_more_clients_than_the_words_hold_is_refused() -> None:
    terms = the_terms(world.a_plan(n_max=4))
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:5]]
    state = opening(uploads, KeySent(duty(members_of(committee)[0], terms, committee)), committee)
    with pytest.raises(WrongSet, match="more than the plan's 4"):
        step(state, IncludedArrived(included(committee, uploads), NOTHING))


def test_a_client_without_an_accepted_box_is_in_no_set_that_is_opened() -> None:
    """A combiner lists registered names with headers of its own making: members saw and verified none of them."""
    with pytest.raises(UnknownInU) as refused:
        step(opening(UPLOADS[1:]), asked(UPLOADS))
    assert refused.value.client_id == CLIENTS[0].id
    sham = IncludedRow(CLIENTS[6].id, b"f" * 32)
    rows = tuple(sorted((*world.the_rows_of(UPLOADS), sham), key=lambda row: row.client_id))
    with pytest.raises(UnknownInU):
        step(opening(), IncludedArrived(world.Included(world.an_opening(COMMITTEE.ctx, rows), rows), NOTHING))


def test_another_upload_of_an_accepted_client_is_unknown() -> None:
    again = an_upload(TERMS, COMMITTEE, CLIENTS[0], upload=1)
    with pytest.raises(UnknownInU):
        step(opening(), asked([again, *UPLOADS[1:]]))
    newer = run(opening(), BoxAccepted(again.verified))[0]
    assert isinstance(step(newer, asked([again, *UPLOADS[1:]]))[0], Echoed)


def test_a_client_whose_box_was_refused_is_in_no_set_that_is_opened() -> None:
    state = run(opening(UPLOADS[1:]), BoxRefused(CLIENTS[0].id, "the box does not open"))[0]
    with pytest.raises(BoxNotAccepted, match="the box does not open"):
        step(state, asked(UPLOADS))


def test_a_token_with_too_many_clients_makes_no_crowd() -> None:
    cut = replace(UPLOADS[0].verified, client=replace(UPLOADS[0].verified.client, token_id=b"t" * 16))
    also = replace(UPLOADS[1].verified, client=replace(UPLOADS[1].verified.client, token_id=b"t" * 16, index=1))
    state = run(opening(UPLOADS[2:]), BoxAccepted(cut), BoxAccepted(also))[0]
    with pytest.raises(TokenOverused):
        step(state, asked(UPLOADS))


def test_a_refused_set_changes_nothing_and_a_right_one_is_still_opened() -> None:
    state = opening()
    with pytest.raises(PeerFault):
        step(state, asked(UPLOADS[:2]))
    assert isinstance(step(state, asked(UPLOADS))[0], Echoed)


# ---- once


@pytest.mark.parametrize("state", [ECHOED, ANSWERING, ANSWERED], ids=["echoed", "answering", "answered"])
def test_another_set_of_one_cell_is_never_opened(state: State) -> None:
    with pytest.raises(AnsweredAlready):
        step(state, asked(UPLOADS[:4]))


def test_the_same_set_again_gets_the_same_words_again() -> None:
    echo = SendEcho(Echo(COMMITTEE.ctx, DIGEST))  # others may still wait for it
    assert step(ECHOED, asked(UPLOADS)) == (ECHOED, [echo])
    assert step(ANSWERING, asked(UPLOADS)) == (ANSWERING, [echo])
    assert step(ANSWERED, asked(UPLOADS)) == (ANSWERED, [echo, SendAnswer(ANSWER)])


def test_a_promise_on_disk_holds_even_where_the_machine_forgot() -> None:
    """A state folder that two processes share, or a machine built anew beside its keys."""
    memory = MemberMemory((replace(RECORD, included_hash=b"x" * 32),))
    with pytest.raises(AnsweredAlready):
        step(opening(), asked(UPLOADS, memory))
    assert isinstance(step(opening(), asked(UPLOADS, MemberMemory((RECORD,))))[0], Echoed)


def test_a_restarted_member_resends_its_answer_or_stays_silent() -> None:
    assert restored(RECORD, ANSWER) == (ANSWERED, [SendAnswer(ANSWER)])
    state, effects = restored(RECORD, None)
    assert isinstance(state, Silent)
    assert effects == [SendEcho(Echo(COMMITTEE.ctx, DIGEST))]
    state, effects = restored(None, None)
    assert isinstance(state, Silent)
    assert effects == []
    for event in (asked(UPLOADS), CommitteeFormed(COMMITTEE), BoxAccepted(UPLOADS[0].verified), echo(ME, UPLOADS)):
        with pytest.raises(UnexpectedEvent):
            step(state, event)
    with pytest.raises(CannotAbort):
        step(state, AbortAsked("please"))


# ---- differencing


def test_a_set_that_overlaps_an_earlier_one_of_the_same_work_is_refused() -> None:
    earlier = MemberMemory((replace(RECORD, ctx=b"e" * 32, clients=(CLIENTS[0].id,)),))
    with pytest.raises(DifferencingRefused):
        step(opening(), asked(UPLOADS, earlier))
    void = Proofs().with_void(sign(NotOpened(b"e" * 32, "ended"), REDUCER), world.REDUCERS)
    assert isinstance(step(opening(), asked(UPLOADS, earlier, void))[0], Echoed)
    strict = MemberMemory((replace(RECORD, ctx=b"e" * 32, clients=(CLIENTS[0].id,), reopen="strict"),))
    with pytest.raises(DifferencingRefused):
        step(opening(), asked(UPLOADS, strict, void))
    elsewhere = MemberMemory((replace(RECORD, ctx=b"e" * 32, work=b"x" * 32),))
    assert isinstance(step(opening(), asked(UPLOADS, elsewhere))[0], Echoed)


# ---- echoes


def test_echoes_of_strangers_of_other_cells_and_forged_ones_do_not_count() -> None:
    stranger = next(client for client in CLIENTS if client not in MEMBERS)
    with pytest.raises(WrongSigner):
        step(ECHOED, echo(stranger, UPLOADS))
    with pytest.raises(WrongContext):
        step(ECHOED, echo(MEMBERS[1], UPLOADS, ctx=b"x" * 32))
    good = echo(MEMBERS[1], UPLOADS).echo
    with pytest.raises(BadSignature):
        step(ECHOED, EchoArrived(replace(good, signer=bytes(MEMBERS[2].key.verify_key))))


def test_one_members_echo_counts_once_however_often_it_comes() -> None:
    state = run(ECHOED, *[echo(MEMBERS[1], UPLOADS)] * 9, echo(MEMBERS[2], UPLOADS), echo(MEMBERS[3], UPLOADS))[0]
    assert isinstance(state, Echoed)
    assert len(state.heard) == 4


def test_echoes_of_another_set_do_not_count_and_a_member_that_signs_both_is_named() -> None:
    state = run(ECHOED, *(echo(member, UPLOADS[:4]) for member in MEMBERS[1:]))[0]
    assert isinstance(state, Echoed)
    with pytest.raises(EchoedTwice) as named:
        step(state, echo(MEMBERS[1], UPLOADS))
    assert named.value.member == MEMBERS[1].id


def test_late_echoes_change_nothing() -> None:
    for state in (ANSWERING, ANSWERED):
        assert step(state, echo(MEMBERS[5], UPLOADS)) == (state, [])


# ---- giving up


def test_an_abort_erases_the_keys_first_and_is_repeated() -> None:
    state, effects = step(opening(), AbortAsked("the combiner is lost"))
    abort = Abort(COMMITTEE.ctx, "the combiner is lost")
    assert state == Aborted(COMMITTEE.ctx)
    assert effects == [EraseKeys(), SaveAbort(COMMITTEE.ctx), SendAbort(abort)]
    assert step(state, AbortAsked("the combiner is lost")) == (state, [SendAbort(abort)])
    with pytest.raises(UnexpectedEvent):
        step(state, asked(UPLOADS))


@pytest.mark.parametrize("state", [ECHOED, ANSWERING, ANSWERED], ids=["echoed", "answering", "answered"])
def test_who_has_promised_does_not_abort(state: State) -> None:
    with pytest.raises(CannotAbort):
        step(state, AbortAsked("please"))


def test_who_knows_no_committee_has_nothing_to_abort() -> None:
    with pytest.raises(UnexpectedEvent):
        step(KEY_SENT, AbortAsked("please"))


def test_a_deadline_ends_the_phases_that_wait_for_others() -> None:
    for state in (KEY_SENT, opening()):
        over, effects = step(state, DeadlinePassed())
        assert isinstance(over, Silent)
        assert effects == [EraseKeys()]
    over, effects = step(ECHOED, DeadlinePassed())
    assert over == Silent("EchoQuorumMissing: 1 of 5 members echoed the set")
    assert effects == [EraseKeys()]
    for state in (ANSWERING, ANSWERED, Aborted(COMMITTEE.ctx), Silent("")):
        assert step(state, DeadlinePassed()) == (state, [])


def test_an_answer_for_another_set_is_not_taken_for_this_one() -> None:
    other = world.an_answer(TERMS, COMMITTEE, ME, UPLOADS[:4])[0]
    with pytest.raises(UnexpectedEvent):
        step(ANSWERING, AnswerSealed(other))


STATES = [KEY_SENT, opening(), ECHOED, ANSWERING, ANSWERED, Aborted(COMMITTEE.ctx), Silent("")]
EVENTS: list[Event] = [
    CommitteeFormed(COMMITTEE),
    BoxAccepted(UPLOADS[0].verified),
    BoxRefused(CLIENTS[0].id, "no"),
    asked(UPLOADS),
    echo(MEMBERS[1], UPLOADS),
    AnswerSealed(ANSWER),
    AbortAsked("please"),
    DeadlinePassed(),
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_in_every_state_is_answered_or_refused_by_name(state: State, event: Event) -> None:
    try:
        _, effects = step(state, event)
    except PeerFault:
        return
    kinds = [type(effect) for effect in effects]
    # What binds is on disk before it is said; keys are gone before an abort is said.
    if SavePromise in kinds:
        assert kinds[0] is SavePromise
    if SendAnswer in kinds and not isinstance(state, Answered):
        assert kinds.index(SaveAnswer) < kinds.index(SendAnswer)
    if SendAbort in kinds and not isinstance(state, Aborted):
        assert kinds.index(EraseKeys) < kinds.index(SaveAbort) < kinds.index(SendAbort)
