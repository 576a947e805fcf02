"""Whole rounds through the machines, and the attacks that they are there for."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import masked_world as world
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_world import (
    CELL,
    CLIENTS,
    COMBINER,
    REDUCER,
    REPLICATED,
    AClient,
    AnUpload,
    a_committee,
    a_plan,
    an_answer,
    an_upload,
    included,
    members_of,
    the_terms,
)

from fedn_py.errors import PeerFault
from fedn_py.masking.fixed_point import UnmaskCheckFailed, decoded_mean
from fedn_py.masking.keystream import chunk_sizes
from fedn_py.masking.pet import CellOpening
from fedn_py.protocol.masked.answers import AnswerPlace, BadAnswer, open_stream, unseal_key
from fedn_py.protocol.masked.boxes import BadBox, open_box, seal_seeds, update_header
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms, header_hash, included_hash
from fedn_py.protocol.masked.differencing import DifferencingRefused, MemberMemory, Proofs
from fedn_py.protocol.masked.floors import PlanBelowFloor, check_floors
from fedn_py.protocol.masked.member import UnknownInU, offer, restored
from fedn_py.protocol.masked.member import step as member_step
from fedn_py.protocol.masked.member_work import (
    Answering,
    BoxAccepted,
    CommitteeFormed,
    Duty,
    EchoArrived,
    Effect,
    IncludedArrived,
    KeySent,
    SavePromise,
    SendEcho,
    Silent,
    State,
)
from fedn_py.protocol.masked.opening import step as reducer_step
from fedn_py.protocol.masked.opening_work import (
    AnswerArrived,
    Attempt,
    Cell,
    CellClosedArrived,
    GivenUp,
    KeyUnset,
    OpenCells,
    SignNotOpened,
)
from fedn_py.protocol.masked.opening_work import CommitteeFormed as CellHasCommittee
from fedn_py.protocol.masked.participant import step as participant_step
from fedn_py.protocol.masked.participant_work import (
    Checking,
    CommitteeChecked,
    NotOpenedArrived,
    PlanChecked,
    Sent,
    SittingOut,
    TrainingEnded,
    UpdateParticipant,
    UpdateSealed,
)
from fedn_py.protocol.masked.round_messages import BoxFor, CellClosed, Echo, IncludedRow, NotOpened
from fedn_py.protocol.masked.signing import sign


@dataclass
class AMember:
    """A sum participant with its disk."""

    client: AClient
    terms: CellTerms
    committee: Committee
    state: State
    memory: MemberMemory = field(default_factory=MemberMemory)
    proofs: Proofs = field(default_factory=Proofs)

    @classmethod
    def of(cls, client: AClient, terms: CellTerms, committee: Committee, memory: MemberMemory) -> "AMember":
        seat = committee.member(client.id)
        assert seat is not None
        duty = Duty(terms, client.id, bytes(client.key.verify_key), seat.slot, client.epk, world.REDUCERS)
        state, _ = offer(duty, frozenset())
        assert isinstance(state, KeySent)
        state, _ = member_step(state, CommitteeFormed(committee))
        return cls(client, terms, committee, state, memory)

    def take(self, uploads: Sequence[AnUpload]) -> None:
        """Open the boxes, as a member does: those that are right are accepted."""
        seat = self.committee.member(self.client.id)
        assert seat is not None
        for upload in uploads:
            box, n_words = upload.box_for(seat.slot, seat.replica), self.terms.encoding.n_words
            opened = open_box(
                box, seat, self.client.esk, committee=self.committee, n_words=n_words, chains=world.chains()
            )
            self.do(BoxAccepted(opened.verified))

    def do(self, event: Any) -> list[Effect]:
        self.state, effects = member_step(self.state, event)
        for effect in effects:
            if isinstance(effect, SavePromise):
                self.memory = self.memory.with_promise(effect.record)
        return effects

    def ask(self, uploads: Sequence[AnUpload]) -> list[Effect]:
        return self.do(IncludedArrived(included(self.committee, uploads), self.memory, self.proofs))

    @property
    def answers(self) -> bool:
        return isinstance(self.state, Answering)


def the_members(terms: CellTerms, committee: Committee, uploads: Sequence[AnUpload]) -> list[AMember]:
    members = [AMember.of(client, terms, committee, MemberMemory()) for client in members_of(committee)]
    for member in members:
        member.take(uploads)
    return members


def relay(effects: dict[str, list[Effect]], members: Sequence[AMember]) -> None:
    """Bring every echo to every member."""
    for member in members:
        for effect in effects.get(member.client.name, []):
            if isinstance(effect, SendEcho):
                for other in members:
                    if other is not member:
                        other.do(EchoArrived(sign(effect.echo, member.client.key)))


def total_of(uploads: Sequence[AnUpload]) -> np.ndarray:
    return np.sum([upload.vector for upload in uploads], axis=0, dtype=np.uint32)


def open_sum(terms: CellTerms, total: np.ndarray, sums: Sequence[np.ndarray], clients: int) -> tuple[np.ndarray, int]:
    opening, parts, start = CellOpening(terms.encoding, clients), [], 0
    for number, size in enumerate(chunk_sizes(len(total))):
        part = slice(start, start + size)
        parts.append(opening.chunk(number, total[part], [words[part] for words in sums]).copy())
        start += size
    return np.concatenate(parts), opening.tail().weight


def read_answer(terms: CellTerms, member: AClient, answer: Any, stream: bytes, *, rsk: bytes) -> np.ndarray:
    body = world.Answer.decode(answer.body)
    place = AnswerPlace(body.ctx, body.included_hash, member.id, body.slot)
    key = unseal_key(place, body.sealed_key, rsk)
    size = 4 * terms.encoding.n_words
    return np.frombuffer(b"".join(open_stream(place, key, [stream], size)), np.uint32)


# ---- a round


@pytest.mark.parametrize("order", [{}, REPLICATED], ids=["k2r1", "k3r2"])
def test_a_round_gives_the_mean_of_its_clients_within_its_bound(order: dict[str, Any]) -> None:
    terms = the_terms(a_plan(n_parameters=40_000), **order)  # two chunks
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:6]]
    members = the_members(terms, committee, uploads)
    relay({member.client.name: member.ask(uploads) for member in members}, members)
    assert all(member.answers for member in members)
    sums = {}
    for member in members:
        answer, stream = an_answer(terms, committee, member.client, uploads)
        words = read_answer(terms, member.client, answer, stream, rsk=world.RSK)
        seat = committee.member(member.client.id)
        assert seat is not None
        assert np.array_equal(sums.setdefault(seat.slot, words), words)  # replicas agree
    values, weight = open_sum(terms, total_of(uploads), [sums[slot] for slot in sorted(sums)], 6)
    assert weight == 6 * 50
    mean = decoded_mean(terms.encoding, values, weight)
    exact = np.mean([world.the_values(one.client, 40_000).astype(np.float64) for one in uploads], axis=0)
    clipped = np.mean(
        [np.clip(world.the_values(one.client, 40_000), -1, 1).astype(np.float64) for one in uploads], axis=0
    )
    assert np.abs(mean - clipped).max() <= terms.encoding.error_bound(6, weight)
    assert np.abs(mean - exact).max() < 0.5


# ---- the lists


def test_a_combiner_that_lists_registered_names_with_boxes_of_its_own_learns_nothing() -> None:
    """It would know all of the sum but one client's part."""
    terms = the_terms()
    committee = a_committee(terms)
    victim = an_upload(terms, committee, CLIENTS[0])
    members = the_members(terms, committee, [victim])
    rows = [victim.row]
    for client in CLIENTS[1:4]:
        sealed = seal_seeds(committee, client.id, [b"s" * 32] * 2, [b"\1" * 32] * 2)
        header = update_header(
            committee, client.id, sealed, upload_id=b"u" * 16, vector_hash=b"v" * 32, n_words=terms.encoding.n_words
        )
        forged = sign(header, COMBINER)
        rows.append(IncludedRow(client.id, header_hash(forged.body)))
        for member in members:
            seat = committee.member(member.client.id)
            assert seat is not None
            message = BoxFor(client.chain, forged, sealed.boxes[seat.slot][seat.replica])
            with pytest.raises(BadBox, match="WrongSigner"):
                open_box(
                    message,
                    seat,
                    member.client.esk,
                    committee=committee,
                    n_words=terms.encoding.n_words,
                    chains=world.chains(),
                )
    ordered = tuple(sorted(rows, key=lambda row: row.client_id))
    asked = world.Included(world.an_opening(committee.ctx, ordered), ordered)
    for member in members:
        with pytest.raises(UnknownInU):
            member.do(IncludedArrived(asked, member.memory))


def split_echo(echo_c: int) -> tuple[list[AMember], list[AMember], CellTerms, Committee, list[AnUpload]]:
    """A server shows U to one replica of each slot and U minus one client to the other; members 0 and 2 are corrupt
    and sign both. Returns the honest members, grouped by what they were shown."""
    terms = the_terms(k=3, r=2, echo_c=echo_c)
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:6]]
    members = the_members(terms, committee, uploads)
    corrupt = [members[0], members[2]]
    less = uploads[1:]
    shown = {1: uploads, 3: less, 4: uploads, 5: less}
    said = {place: members[place].ask(which) for place, which in shown.items()}
    for place, which in shown.items():
        for other, theirs in shown.items():
            if other != place and theirs is which:
                for effect in said[place]:
                    if isinstance(effect, SendEcho):
                        members[other].do(EchoArrived(sign(effect.echo, members[place].client.key)))
        digest = included_hash(committee.ctx, world.the_rows_of(which))
        for liar in corrupt:  # signs whatever the other side is shown
            members[place].do(EchoArrived(sign(Echo(committee.ctx, digest), liar.client.key)))
    return [members[1], members[4]], [members[3], members[5]], terms, committee, uploads


def test_two_sets_shown_to_the_replicas_of_a_slot_open_nothing() -> None:
    some, others, *_ = split_echo(2)
    assert not any(member.answers for member in (*some, *others))


def test_an_echo_of_four_of_six_would_have_given_a_single_clients_mask_away() -> None:
    """Why the floor on echo_c is there: the attack works where it is taken out."""
    some, others, terms, committee, uploads = split_echo(1)
    assert all(member.answers for member in (*some, *others))
    honest_slot = committee.members[4].slot
    assert honest_slot == committee.members[5].slot
    whole = world.slot_sum(terms, committee, some[1].client, uploads)
    less = world.slot_sum(terms, committee, others[1].client, uploads[1:])
    known = [world.slot_sum(terms, committee, members_of(committee)[place], uploads[:1]) for place in (0, 2)]
    victim = uploads[0].vector - (whole - less) - known[0] - known[1]
    values, _ = open_sum(terms, victim, [np.zeros_like(victim)], 1)
    shown = decoded_mean(terms.encoding, values, 50)
    plain = np.clip(world.the_values(CLIENTS[0], 20), -1, 1)
    assert np.abs(shown - plain).max() < 1e-4
    with pytest.raises(PlanBelowFloor):
        check_floors(terms, world.POLICY, world.POLICY_HASH)


# ---- three sets, two attempts


def test_three_overlapping_sets_are_not_opened_though_any_two_differ_by_many() -> None:
    """S(ABCDEF) - S(ABC) - S(DEG) would give F - G: pairwise differences are large, combinations are not."""
    memory = MemberMemory()
    opened = []
    for attempt, who in enumerate((CLIENTS[:6], CLIENTS[:3], CLIENTS[3:7]), start=1):
        terms = the_terms(a_plan(attempt=attempt))
        committee = a_committee(terms)
        uploads = [an_upload(terms, committee, client) for client in who]
        member = AMember.of(members_of(committee)[0], terms, committee, memory)
        member.take(uploads)
        try:
            member.ask(uploads)
        except DifferencingRefused:
            continue
        memory = member.memory
        opened.append(attempt)
    assert opened == [1]


def reducer_of(terms: CellTerms) -> Attempt:
    cell = Cell(CELL, 1, terms.ctx0, terms.order.combiner, 2, 3, frozenset(client.id for client in CLIENTS))
    plan = terms.plan
    return Attempt(plan.session, plan.round, plan.attempt, terms.work, plan.reopen, terms.encoding.n_words, 3, (cell,))


@dataclass
class Story:
    """An attempt in which one of two members has answered and the other one is gone."""

    terms: CellTerms
    committee: Committee
    uploads: list[AnUpload]
    attempt: Attempt
    clients: list[UpdateParticipant]
    second: CellTerms


def a_failed_attempt(reopen: str) -> Story:
    terms = the_terms(a_plan(reopen=reopen))
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:4]]
    attempt = reducer_of(terms)
    closed = CellClosed(committee.ctx, world.the_rows_of(uploads), b"w" * 32, ())
    answer, _ = an_answer(terms, committee, members_of(committee)[0], uploads)
    for event in (
        CellHasCommittee(CELL, 1, committee),
        CellClosedArrived(sign(closed, COMBINER)),
        AnswerArrived(answer),
        GivenUp("a member is gone"),
    ):
        attempt, _ = reducer_step(attempt, event)
    client = UpdateParticipant(20)
    for step in (
        PlanChecked(terms, terms.order.plan_hash),
        TrainingEnded(terms.work),
        CommitteeChecked(committee, terms),
        UpdateSealed(committee.ctx, b"u" * 16),
    ):
        client, _ = participant_step(client, step)
    second = the_terms(a_plan(reopen=reopen, attempt=2, rpk=world.CLIENTS[0].epk))
    return Story(terms, committee, uploads, attempt, [client] * 4, second)


def test_a_retry_after_an_answer_left_lets_clients_go_on_when_the_reducer_has_erased_its_key() -> None:
    story = a_failed_attempt("reducer")
    client, _ = participant_step(story.clients[0], PlanChecked(story.second, story.second.order.plan_hash))
    assert isinstance(client.phase, SittingOut)
    attempt, effects = reducer_step(story.attempt, KeyUnset())
    voids = [effect.void for effect in effects if isinstance(effect, SignNotOpened)]
    assert voids == [NotOpened(story.committee.ctx, "the attempt has ended")]
    client, _ = participant_step(client, NotOpenedArrived(sign(voids[0], REDUCER), world.REDUCERS))
    assert isinstance(client.phase, Checking)
    assert attempt.opening == frozenset()


def test_a_retry_after_an_answer_left_makes_clients_of_a_strict_plan_sit_out() -> None:
    story = a_failed_attempt("strict")
    _, effects = reducer_step(story.attempt, KeyUnset())
    assert not any(isinstance(effect, SignNotOpened) for effect in effects)
    client, _ = participant_step(story.clients[0], PlanChecked(story.second, story.second.order.plan_hash))
    void = sign(NotOpened(story.committee.ctx, "believe me"), REDUCER)  # a reducer rewritten to lie
    client, _ = participant_step(client, NotOpenedArrived(void, world.REDUCERS))
    assert isinstance(client.phase, SittingOut)


def test_an_answer_that_comes_after_not_opened_can_be_read_by_nobody() -> None:
    story = a_failed_attempt("reducer")
    attempt, _ = reducer_step(story.attempt, KeyUnset())
    late = members_of(story.committee)[1]
    answer, stream = an_answer(story.terms, story.committee, late, story.uploads)
    assert reducer_step(attempt, AnswerArrived(answer)) == (attempt, [])
    # What the reducer still has are keys of other attempts.
    with pytest.raises(BadAnswer, match="does not open"):
        read_answer(story.terms, late, answer, stream, rsk=world.CLIENTS[0].esk)


def test_an_attempt_with_all_answers_is_opened_though_its_members_are_gone() -> None:
    story = a_failed_attempt("reducer")
    attempt = replace(story.attempt, stage="running", key="held")
    answer, _ = an_answer(story.terms, story.committee, members_of(story.committee)[1], story.uploads)
    attempt, effects = reducer_step(attempt, AnswerArrived(answer))
    assert effects[-1] == OpenCells((story.committee.ctx,))


def test_a_second_session_on_the_same_model_package_and_parameters_is_the_same_work() -> None:
    story = a_failed_attempt("reducer")
    again = the_terms(a_plan(session=b"T" * 16, session_number=2))
    client, _ = participant_step(story.clients[0], PlanChecked(again, again.order.plan_hash))
    assert isinstance(client.phase, SittingOut)
    other_seed = the_terms(a_plan(session=b"T" * 16, session_number=2, params_sha256=b"2" * 32))
    client, _ = participant_step(story.clients[0], PlanChecked(other_seed, other_seed.order.plan_hash))
    assert not isinstance(client.phase, SittingOut)


# ---- state folders that were set back


def test_a_member_whose_state_folder_was_set_back_before_its_answer_cannot_answer_again() -> None:
    terms = the_terms()
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:5]]
    member = the_members(terms, committee, uploads)[0]
    before = member.memory
    member.ask(uploads)
    assert member.answers
    member.state, effects = restored(before.promise(committee.ctx), None)  # a new process on the older folder
    assert isinstance(member.state, Silent)
    assert effects == []
    member.memory = before
    with pytest.raises(PeerFault):
        member.ask(uploads[:4])


def test_a_client_whose_record_was_set_back_is_held_by_the_members_second_line() -> None:
    first, second = the_terms(), the_terms(a_plan(attempt=2))
    committee, other = a_committee(first), a_committee(second)
    uploads = [an_upload(first, committee, client) for client in CLIENTS[:4]]
    member = the_members(first, committee, uploads)[0]
    member.ask(uploads)
    again = [an_upload(second, other, client) for client in CLIENTS[:5]]
    later = AMember.of(member.client, second, other, member.memory)
    later.take(again)
    with pytest.raises(DifferencingRefused):
        later.ask(again)


# ---- sums that a combiner made up


def test_a_combiner_that_doubles_drops_or_alters_a_vector_is_seen_at_the_guards() -> None:
    terms = the_terms()
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:4]]
    sums = [world.slot_sum(terms, committee, member, uploads) for member in members_of(committee)]
    good = total_of(uploads)
    open_sum(terms, good, sums, 4)
    body = np.random.default_rng(1).integers(0, 2**32, 20, dtype=np.uint32)
    altered = good.copy()
    altered[:20] += body  # a random body with a right tail
    for wrong in (good + uploads[0].vector, good - uploads[0].vector, altered):
        with pytest.raises(UnmaskCheckFailed):
            open_sum(terms, wrong, sums, 4)


# ---- any server, any order


CROWDS = [CLIENTS[:4], CLIENTS[4:], CLIENTS[2:6], CLIENTS[:3], CLIENTS[3:7], CLIENTS]


@pytest.mark.parametrize("records_kept", [True, False], ids=["clients-keep-records", "clients-lose-records"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_a_server_does_the_opened_sets_of_a_work_are_identical_or_disjoint(
    data: st.DataObject, records_kept: bool
) -> None:
    """Strict plans, honest members, and a server that drops, asks anybody for anything, and lies.

    A cell counts as opened when every slot has promised the same set: the server may read all answers. Where clients
    lose their records, members alone hold the rule, as far as the same ones serve again.
    """
    clients = {client.id: UpdateParticipant(20) for client in CLIENTS}
    memories = {client.id: MemberMemory() for client in CLIENTS}
    opened: list[frozenset[bytes]] = []
    for number in range(1, data.draw(st.integers(2, 5), label="attempts") + 1):
        terms = the_terms(a_plan(attempt=number, reopen="strict"))
        committee = a_committee(terms)
        uploads = {}
        for client in data.draw(st.sampled_from(CROWDS), label="crowd"):
            state = uploaded(clients[client.id], terms, committee, number)
            if isinstance(state.phase, Sent):
                uploads[client.id] = an_upload(terms, committee, client)
            clients[client.id] = state if records_kept else UpdateParticipant(20)
        void = sign(NotOpened(data.draw(st.sampled_from([committee.ctx, b"x" * 32])), "lie"), REDUCER)
        members = [AMember.of(client, terms, committee, memories[client.id]) for client in members_of(committee)]
        for member in members:
            member.proofs = member.proofs.with_void(void, world.REDUCERS)
            member.take(list(uploads.values()))
        for _ in range(data.draw(st.integers(1, 3), label="questions")):
            some = st.lists(st.sampled_from(sorted(uploads)), unique=True) if uploads else st.just([])
            which = data.draw(st.one_of(st.just(sorted(uploads)), some), label="set")
            for member in data.draw(st.sampled_from([members, members[:1], members[1:]]), label="asked"):
                with suppress(PeerFault):
                    member.ask([uploads[one] for one in which])
        opened += promised_by_all(members)
        for member in members:
            memories[member.client.id] = member.memory
        for client in CLIENTS:
            clients[client.id], _ = participant_step(clients[client.id], NotOpenedArrived(void, world.REDUCERS))
    assert all(len(one) >= 3 for one in opened)
    assert all(one == other or not one & other for one in opened for other in opened)


def uploaded(state: UpdateParticipant, terms: CellTerms, committee: Committee, number: int) -> UpdateParticipant:
    """A client that does all that it may for a plan."""
    for event in (
        PlanChecked(terms, terms.order.plan_hash),
        TrainingEnded(terms.work),
        CommitteeChecked(committee, terms),
        UpdateSealed(committee.ctx, bytes([number]) * 16),
    ):
        with suppress(PeerFault):
            state, _ = participant_step(state, event)
    return state


def promised_by_all(members: Sequence[AMember]) -> list[frozenset[bytes]]:
    records = [member.memory.promise(member.committee.ctx) for member in members]
    promises = [record for record in records if record is not None]
    if len(promises) < len(members) or len({record.included_hash for record in promises}) > 1:
        return []
    return [frozenset(promises[0].clients)]
