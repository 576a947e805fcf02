"""The differencing rule: who may send a work again, and which sets a member may open."""

import masked_world as world
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn_py.protocol.masked.differencing import (
    BaseUsedUp,
    DifferencingRefused,
    MayBeOpened,
    MemberMemory,
    PromiseRecord,
    Proofs,
    SentRecord,
    check_base,
    check_may_promise,
    check_may_send,
)
from fedn_py.protocol.masked.round_messages import Abort, NotOpened
from fedn_py.protocol.masked.signing import BadSignature, WrongSigner, sign

ANNA, BERT = world.CLIENTS[:2]
WORK, CTX, OTHER = b"w" * 32, b"c" * 32, b"d" * 32
MEMBERS = (bytes(ANNA.key.verify_key), bytes(BERT.key.verify_key))
NONE = Proofs()


def sent(reopen: str = "reducer", *, work: bytes = WORK, base: bytes = b"b" * 32) -> SentRecord:
    return SentRecord(work, base, CTX, reopen, MEMBERS)


def aborted(*clients: world.AClient, ctx: bytes = CTX) -> Proofs:
    proofs = Proofs()
    for client in clients:
        proofs = proofs.with_abort(sign(Abort(ctx, "asked to"), client.key))
    return proofs


def void(ctx: bytes = CTX) -> Proofs:
    return Proofs().with_void(sign(NotOpened(ctx, "ended"), world.REDUCER), world.REDUCERS)


# ---- clients


def test_a_work_that_was_never_sent_may_be_and_so_may_the_same_upload_again() -> None:
    check_may_send(WORK, OTHER, [], NONE)
    check_may_send(WORK, CTX, [sent()], NONE)
    check_may_send(b"x" * 32, OTHER, [sent()], NONE)


def test_an_upload_that_may_be_opened_keeps_the_client_out() -> None:
    for ctx in (OTHER, None):
        with pytest.raises(MayBeOpened) as refused:
            check_may_send(WORK, ctx, [sent()], NONE)
        assert refused.value.silent == frozenset(MEMBERS)


@pytest.mark.parametrize("reopen", ["strict", "reducer"])
def test_an_abort_of_every_member_releases_it(reopen: str) -> None:
    check_may_send(WORK, OTHER, [sent(reopen)], aborted(ANNA, BERT))
    with pytest.raises(MayBeOpened) as refused:
        check_may_send(WORK, OTHER, [sent(reopen)], aborted(ANNA))
    assert refused.value.silent == {MEMBERS[1]}


def test_aborts_of_strangers_and_of_other_cells_release_nobody() -> None:
    stranger = world.CLIENTS[4]
    for proofs in (aborted(ANNA, stranger), aborted(ANNA, BERT, ctx=OTHER)):
        with pytest.raises(MayBeOpened):
            check_may_send(WORK, OTHER, [sent()], proofs)
    forged = sign(Abort(CTX, "asked to"), world.COMBINER)
    with pytest.raises(BadSignature):
        Proofs().with_abort(type(forged)(forged.said, forged.body, MEMBERS[0], forged.signature))


def test_the_reducers_word_releases_where_the_plan_said_so_at_the_time() -> None:
    check_may_send(WORK, OTHER, [sent("reducer")], void())
    with pytest.raises(MayBeOpened):
        check_may_send(WORK, OTHER, [sent("strict")], void())
    with pytest.raises(MayBeOpened):
        check_may_send(WORK, OTHER, [sent("reducer")], void(OTHER))
    with pytest.raises(WrongSigner):
        Proofs().with_void(sign(NotOpened(CTX, "ended"), world.COMBINER), world.REDUCERS)


def test_every_earlier_upload_has_to_be_released() -> None:
    second = SentRecord(WORK, b"b" * 32, OTHER, "reducer", MEMBERS)
    with pytest.raises(MayBeOpened) as refused:
        check_may_send(WORK, b"e" * 32, [sent(), second], void())
    assert refused.value.ctx == OTHER


def test_a_base_is_used_for_so_many_works_across_sessions() -> None:
    records = [sent(work=bytes([n]) * 32) for n in range(3)]
    check_base(WORK, b"b" * 32, records, 3)
    with pytest.raises(BaseUsedUp, match="3 works were done on this base model already, the policy allows 3"):
        check_base(WORK, b"b" * 32, records, 2)
    check_base(records[0].work, b"b" * 32, records, 0)
    check_base(WORK, b"x" * 32, records, 0)
    with pytest.raises(BaseUsedUp):
        check_base(WORK, b"b" * 32, records[:1], 0)


# ---- members


def promise(
    clients: tuple[bytes, ...], *, ctx: bytes = CTX, work: bytes = WORK, reopen: str = "reducer"
) -> PromiseRecord:
    return PromiseRecord(work, ctx, b"h" * 32, reopen, clients)


A, B, C, D = (bytes([n]) * 32 for n in range(4))
MEMORY = MemberMemory((promise((A, B)),))


def test_disjoint_sets_other_works_and_the_same_cell_may_be_opened() -> None:
    check_may_promise(WORK, OTHER, (C, D), MEMORY, NONE)
    check_may_promise(b"x" * 32, OTHER, (A, B), MEMORY, NONE)
    check_may_promise(WORK, CTX, (A, B), MEMORY, NONE)


@pytest.mark.parametrize("clients", [(A, B, C), (A,), (B, C), (A, B)])
def test_a_set_that_shares_a_client_with_an_earlier_one_is_refused(clients: tuple[bytes, ...]) -> None:
    with pytest.raises(DifferencingRefused) as refused:
        check_may_promise(WORK, OTHER, clients, MEMORY, NONE)
    assert refused.value.ctx == CTX
    check_may_promise(WORK, OTHER, clients, MEMORY, void())
    with pytest.raises(DifferencingRefused):
        check_may_promise(WORK, OTHER, clients, MemberMemory((promise((A, B), reopen="strict"),)), void())


def test_older_promises_are_remembered_by_their_work_of_which_every_set_is_refused() -> None:
    memory = MemberMemory()
    for n in range(5):
        memory = memory.with_promise(promise((A,), ctx=bytes([n]) * 32, work=bytes([n]) * 32), most=3)
    assert len(memory.promised) == 3
    assert memory.forgotten == {bytes([0]) * 32, bytes([1]) * 32}
    with pytest.raises(DifferencingRefused) as refused:
        check_may_promise(bytes([1]) * 32, OTHER, (D,), memory, void())
    assert refused.value.ctx is None
    assert memory.promise(bytes([4]) * 32) is not None
    assert memory.promise(OTHER) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 7), min_size=1)), max_size=12))
def test_whatever_is_asked_the_sets_of_one_work_are_identical_or_disjoint(asked: list[tuple[int, set[int]]]) -> None:
    memory = MemberMemory()
    for number, (work, clients) in enumerate(asked):
        ids, ctx = tuple(bytes([one]) * 32 for one in sorted(clients)), bytes([number]) * 32
        try:
            check_may_promise(bytes([work]) * 32, ctx, ids, memory, NONE)
        except DifferencingRefused:
            continue
        memory = memory.with_promise(promise(ids, ctx=ctx, work=bytes([work]) * 32))
    for one in memory.promised:
        for other in memory.promised:
            if one.ctx != other.ctx and one.work == other.work:
                assert not set(one.clients) & set(other.clients)
