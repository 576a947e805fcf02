"""The machine of a sum participant: one client's part in one committee.

KeySent -> Opening -> Echoed -> Answering -> Answered, or Aborted, or Silent.

Rules it keeps:

- It opens one set under a context, for ever: what it promised is on disk before it is said, and another set is refused
  after a restart too. A process without the keys in memory resends a stored answer or stays silent.
- It opens only sets that the reducer signed, of at least g_min registered clients, each with a header that it has
  verified and a box that it has accepted, and none that the differencing rule forbids.
- Where two members hold the same seeds it answers only when a quorum has echoed the same set.
- It aborts only while it holds the keys and has promised nothing, and erases them first.
"""

from dataclasses import replace
from typing import TypeAlias, assert_never

from fedn_py.errors import PeerFault
from fedn_py.protocol.machine import UnexpectedEvent
from fedn_py.protocol.masked.boxes import VerifiedHeader
from fedn_py.protocol.masked.committee import BadCommittee, Committee
from fedn_py.protocol.masked.contexts import WrongContext, WrongSet, check_rows, included_hash
from fedn_py.protocol.masked.differencing import PromiseRecord, check_may_promise
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
from fedn_py.protocol.masked.registry import check_together
from fedn_py.protocol.masked.round_messages import Abort, Answer, BoxAck, Echo, Included, IncludedRow, OpenSum2, Refused
from fedn_py.protocol.masked.signing import Signed, WrongSigner, read_signed


class AlreadyServing(PeerFault):
    """This client has already offered a key in this attempt, maybe before a restart; its keys are gone."""

    def __init__(self) -> None:
        super().__init__(
            "this client has already offered a key in this attempt",
            remedy="Keys live in one process for one attempt; the next attempt may draw it again.",
        )


class TooFewIncluded(PeerFault):
    """A sum over so few clients would show too much of each."""

    def __init__(self, included: int, required: int) -> None:
        super().__init__(
            f"a sum over {included} clients is asked for, the plan promised at least {required}",
            remedy="Bring more clients online, or plan smaller cells within the operator's policy.",
        )


class UnknownInU(PeerFault):
    """The set holds an upload whose header or box this member has not seen."""

    def __init__(self, client_id: bytes) -> None:
        super().__init__(
            f"this member has no box for that upload of client {client_id.hex()[:16]}",
            remedy="The combiner must relay header and box; without them this member stays silent.",
        )
        self.client_id = client_id


class BoxNotAccepted(PeerFault):
    """The set holds a client whose box this member has refused."""

    def __init__(self, client_id: bytes, reason: str) -> None:
        super().__init__(
            f"this member refused the box of client {client_id.hex()[:16]}: {reason}",
            remedy="The combiner must leave the client out; now this member stays silent.",
        )
        self.client_id = client_id


class AnsweredAlready(PeerFault):
    """Another set was promised under this context; a member opens one."""

    def __init__(self) -> None:
        super().__init__(
            "this member has promised to open another set of this cell",
            remedy="A cell is finished with exactly the set that was asked for first; no other will be answered.",
        )


class CannotAbort(PeerFault):
    """A member that has promised an answer, or has lost its keys, does not abort."""

    def __init__(self) -> None:
        super().__init__(
            "this member may have answered, and cannot take that back", remedy="The cell is finished with its set."
        )


class EchoedTwice(PeerFault):
    """A member of the committee has signed two different sets.

    Attributes:
        member: its client id.
    """

    def __init__(self, member: bytes) -> None:
        super().__init__(
            f"member {member.hex()[:16]} has signed two different sets of one cell",
            remedy="Both are evidence: the operator should revoke the client.",
        )
        self.member = member


Result: TypeAlias = tuple[State, list[Effect]]


def offer(duty: Duty, served: frozenset[tuple[bytes, int, int]]) -> Result:
    """Offer a key for a slot.

    Args:
        served: (session, round, attempt) of all offers on disk.

    Raises:
        AlreadyServing: one was made in this attempt; its keys are gone with the process that made it.
    """
    plan = duty.terms.plan
    if (plan.session, plan.round, plan.attempt) in served:
        raise AlreadyServing
    return KeySent(duty), [SaveMembership(plan.session, plan.round, plan.attempt), SendKeyMessage(duty)]


def restored(promise: PromiseRecord | None, answer: Signed | None) -> Result:
    """Return what a restarted process is for a cell: the keys are gone.

    Args:
        promise, answer: of the cell's context, as they are on disk.
    """
    if promise is not None and answer is not None:
        return Answered(promise.ctx, promise.included_hash, answer), [SendAnswer(answer)]
    # Saying again which set was promised harms nobody, and lets the others go on.
    said: list[Effect] = [] if promise is None else [SendEcho(Echo(promise.ctx, promise.included_hash))]
    return Silent("this process was restarted, and its keys with it"), said


def step(state: State, event: Event) -> Result:
    """Advance a sum participant by one event.

    Raises:
        UnexpectedEvent: it is not expected now; nothing has changed.
        PeerFault: it is refused by name; nothing has changed.
    """
    match event:
        case CommitteeFormed(committee):
            return _form(state, committee)
        case BoxAccepted(header):
            return _accept(state, header)
        case BoxRefused(client_id, reason):
            return _refuse(state, client_id, reason)
        case IncludedArrived():
            return _promise(state, event)
        case EchoArrived(echo):
            return _hear(state, echo)
        case AnswerSealed(answer):
            return _answer(state, event, answer)
        case AbortAsked(reason):
            return _abort(state, reason)
        case DeadlinePassed():
            return _give_up(state)
        case _:
            assert_never(event)


def _form(state: State, committee: Committee) -> Result:
    if not isinstance(state, KeySent):
        raise UnexpectedEvent(state, CommitteeFormed(committee))
    duty = state.duty
    seat = committee.member(duty.client_id)
    if seat is None:
        return Silent("other candidates had lower lots"), [EraseKeys()]
    if (seat.slot, seat.epk) != (duty.slot, duty.epk):
        raise BadCommittee(f"member {seat.slot}.{seat.replica}", "is this client with a key that it did not offer")
    return Opening(duty, committee), []


def _accept(state: State, header: VerifiedHeader) -> Result:
    if not isinstance(state, Opening):
        raise UnexpectedEvent(state, BoxAccepted(header))
    client_id = header.client.client_id
    accepted = {**state.accepted, client_id: header}
    rejected = {client: reason for client, reason in state.rejected.items() if client != client_id}
    ack = BoxAck(state.committee.ctx, (IncludedRow(client_id, header.hash),), ())
    return replace(state, accepted=accepted, rejected=rejected), [SendAck(ack)]


def _refuse(state: State, client_id: bytes, reason: str) -> Result:
    if not isinstance(state, Opening):
        raise UnexpectedEvent(state, BoxRefused(client_id, reason))
    ack = BoxAck(state.committee.ctx, (), (Refused(client_id, reason),))
    if client_id in state.accepted:
        return state, [SendAck(ack)]  # what was accepted stays so: anybody can send a broken box in another's name
    return replace(state, rejected={**state.rejected, client_id: reason}), [SendAck(ack)]


def _promise(state: State, event: IncludedArrived) -> Result:
    match state:
        case Echoed(included_hash=promised) | Answering(included_hash=promised) | Answered(included_hash=promised):
            return _asked_again(state, event.included, promised)
        case Opening():
            return _promise_first(state, event)
        case _:
            raise UnexpectedEvent(state, event)


def _asked_again(state: Echoed | Answering | Answered, included: Included, promised: bytes) -> Result:
    opening = OpenSum2.decode(included.opening.body)
    if opening.included_hash != promised:
        raise AnsweredAlready
    match state:
        case Answered(ctx=ctx, answer=answer):
            # Others may wait for its echo: what a reducer that was started again had heard is gone.
            return state, [SendEcho(Echo(ctx, promised)), SendAnswer(answer)]
        case Echoed(committee=committee) | Answering(committee=committee):
            return state, [SendEcho(Echo(committee.ctx, promised))]


def _promise_first(state: Opening, event: IncludedArrived) -> Result:
    duty, ctx = state.duty, state.committee.ctx
    rows, digest = _checked_set(state, event.included, state.duty.reducers | event.reducers)
    earlier = event.memory.promise(ctx)
    if earlier is not None and earlier.included_hash != digest:
        raise AnsweredAlready
    clients = tuple(row.client_id for row in rows)
    check_may_promise(duty.terms.work, ctx, clients, event.memory, event.proofs)
    record = PromiseRecord(duty.terms.work, ctx, digest, duty.terms.plan.reopen, clients)
    echoed = Echoed(duty, state.committee, digest, rows, {**state.heard, duty.client_key: digest})
    if not state.committee.needs_echo:
        return Answering(duty, state.committee, digest, rows), [SavePromise(record), SealAnswer(rows)]
    result, effects = _settle(echoed)
    return result, [SavePromise(record), SendEcho(Echo(ctx, digest)), *effects]


def _checked_set(
    state: Opening, included: Included, reducers: frozenset[bytes]
) -> tuple[tuple[IncludedRow, ...], bytes]:
    terms, rows = state.duty.terms, included.rows
    opening = read_signed(included.opening, OpenSum2)
    if included.opening.signer not in reducers:
        raise WrongSigner(OpenSum2.kind, "not signed by a reducer of this network")
    if opening.ctx != state.committee.ctx:
        raise WrongContext(OpenSum2.kind)
    check_rows(rows)
    digest = included_hash(opening.ctx, rows)
    if (opening.n, opening.included_hash) != (len(rows), digest):
        raise WrongSet("the reducer signed another one")
    if len(rows) < terms.order.g_min:
        raise TooFewIncluded(len(rows), terms.order.g_min)
    if len(rows) > terms.plan.n_max:
        raise WrongSet(f"{len(rows)} clients are more than the plan's {terms.plan.n_max}")
    for row in rows:
        header = state.accepted.get(row.client_id)
        if header is None and row.client_id in state.rejected:
            raise BoxNotAccepted(row.client_id, state.rejected[row.client_id])
        if header is None or header.hash != row.header_hash:
            raise UnknownInU(row.client_id)
    check_together(state.accepted[row.client_id].client for row in rows)
    return rows, digest


def _hear(state: State, signed: Signed) -> Result:
    match state:
        case Opening(committee=committee, heard=heard) | Echoed(committee=committee, heard=heard):
            echo = read_signed(signed, Echo)
            member = committee.with_key(signed.signer)
            if echo.ctx != committee.ctx:
                raise WrongContext(Echo.kind)
            if member is None:
                raise WrongSigner(Echo.kind, "not signed by a member of this committee")
            if heard.get(signed.signer, echo.included_hash) != echo.included_hash:
                raise EchoedTwice(member.client.client_id)
            state = replace(state, heard={**heard, signed.signer: echo.included_hash})
            return _settle(state) if isinstance(state, Echoed) else (state, [])
        case Answering() | Answered():
            return state, []
        case _:
            raise UnexpectedEvent(state, EchoArrived(signed))


def _settle(state: Echoed) -> Result:
    """Answer when enough members have promised the same set."""
    agreeing = sum(digest == state.included_hash for digest in state.heard.values())
    if agreeing < state.committee.quorum(state.duty.terms.order.echo_c):
        return state, []
    return Answering(state.duty, state.committee, state.included_hash, state.rows), [SealAnswer(state.rows)]


def _answer(state: State, event: AnswerSealed, signed: Signed) -> Result:
    if not isinstance(state, Answering):
        raise UnexpectedEvent(state, event)
    answer = Answer.decode(signed.body)
    if (answer.ctx, answer.included_hash) != (state.committee.ctx, state.included_hash):
        raise UnexpectedEvent(state, event)
    answered = Answered(state.committee.ctx, state.included_hash, signed)
    return answered, [SaveAnswer(signed), SendAnswer(signed), EraseKeys()]


def _abort(state: State, reason: str) -> Result:
    match state:
        case Opening(committee=committee):
            abort = Abort(committee.ctx, reason)
            return Aborted(committee.ctx), [EraseKeys(), SaveAbort(committee.ctx), SendAbort(abort)]
        case Aborted(ctx):
            return state, [SendAbort(Abort(ctx, reason))]
        case KeySent():
            raise UnexpectedEvent(state, AbortAsked(reason))
        case Echoed() | Answering() | Answered() | Silent():
            raise CannotAbort


def _give_up(state: State) -> Result:
    match state:
        case KeySent() | Opening():
            return Silent("the phase is over"), [EraseKeys()]
        case Echoed(committee=committee, heard=heard, included_hash=digest, duty=duty):
            agreeing = sum(said == digest for said in heard.values())
            quorum = committee.quorum(duty.terms.order.echo_c)
            return Silent(f"EchoQuorumMissing: {agreeing} of {quorum} members echoed the set"), [EraseKeys()]
        case Answering() | Answered() | Aborted() | Silent():
            return state, []
