"""Which uploads a combiner adds, by what members say of their boxes."""

import pytest
from masked_world import CLIENTS, REPLICATED, AClient, a_committee, members_of, the_terms

from fedn_py.protocol.masked.acknowledgements import Acknowledgements
from fedn_py.protocol.masked.contexts import WrongContext
from fedn_py.protocol.masked.round_messages import BoxAck, IncludedRow, Refused
from fedn_py.protocol.masked.signing import BadSignature, Signed, WrongSigner, sign

TERMS = the_terms(**REPLICATED)
COMMITTEE = a_committee(TERMS)
MEMBERS = members_of(COMMITTEE)
ROWS = [IncludedRow(bytes([n]) * 32, b"h" * 32) for n in range(20)]
ALL = [row.client_id for row in ROWS]
NOTHING = Acknowledgements(COMMITTEE, 2)


def ack(member: AClient, *accepted: IncludedRow, refused: list[IncludedRow] | None = None) -> Signed:
    rejected = tuple(Refused(row.client_id, "it does not open") for row in refused or [])
    return sign(BoxAck(COMMITTEE.ctx, accepted, rejected), member.key)


def after(*acks: Signed, acknowledged: Acknowledgements = NOTHING) -> Acknowledgements:
    for one in acks:
        acknowledged = acknowledged.heard(one)
    return acknowledged


def test_an_upload_is_added_when_every_member_has_accepted_its_box() -> None:
    acknowledged = after(*(ack(member, ROWS[0]) for member in MEMBERS[:5]))
    assert acknowledged.verdict(ROWS[0], ALL) == ("wait", "1 of 6 members have not looked at its box")
    assert acknowledged.heard(ack(MEMBERS[5], ROWS[0])).verdict(ROWS[0], ALL) == ("add", "")


def test_nobody_waits_for_a_silent_member_until_it_speaks() -> None:
    acknowledged = after(*(ack(member, ROWS[0]) for member in MEMBERS[:5])).without(MEMBERS[5].id)
    assert acknowledged.verdict(ROWS[0], ALL)[0] == "add"
    again = acknowledged.heard(ack(MEMBERS[5], refused=[ROWS[0]]))
    assert again.verdict(ROWS[0], ALL)[0] == "refuse"


def test_one_members_refusal_keeps_an_upload_out_and_says_why() -> None:
    acknowledged = after(*(ack(member, ROWS[0]) for member in MEMBERS[1:]), ack(MEMBERS[0], refused=[ROWS[0]]))
    assert acknowledged.verdict(ROWS[0], ALL) == ("refuse", "BadBox at member 0.0: it does not open")


def test_a_better_upload_of_a_refused_client_is_added() -> None:
    again = IncludedRow(ROWS[0].client_id, b"g" * 32)
    acknowledged = after(*(ack(member, ROWS[0]) for member in MEMBERS[1:]), ack(MEMBERS[0], refused=[ROWS[0]]))
    acknowledged = after(*(ack(member, again) for member in MEMBERS), acknowledged=acknowledged)
    assert acknowledged.verdict(again, ALL)[0] == "add"
    assert acknowledged.verdict(ROWS[0], ALL)[0] == "wait"  # accepted by all but the one that refused it


def test_a_member_that_refuses_many_is_left_out_where_it_can_be_spared() -> None:
    acknowledged = after(*(ack(member, *ROWS) for member in MEMBERS[1:]), ack(MEMBERS[0], refused=ROWS[:3]))
    assert acknowledged.left_out(ALL) == {MEMBERS[0].id}
    assert acknowledged.verdict(ROWS[0], ALL)[0] == "add"
    fewer = after(*(ack(member, *ROWS) for member in MEMBERS[1:]), ack(MEMBERS[0], refused=ROWS[:2]))
    assert fewer.left_out(ALL) == frozenset()
    assert fewer.left_out(ALL[:3]) == frozenset()
    large = [bytes([n]) * 32 for n in range(30)]
    assert acknowledged.left_out(large) == frozenset()


def test_a_second_one_stays_because_the_echo_needs_five_of_six() -> None:
    acknowledged = after(ack(MEMBERS[0], refused=ROWS[:3]), ack(MEMBERS[2], refused=ROWS[:3]))
    assert len(acknowledged.left_out(ALL)) == 1
    assert after(ack(MEMBERS[0], refused=ROWS[:3])).without(MEMBERS[1].id).left_out(ALL) == frozenset()


def test_without_replicas_no_member_can_be_spared() -> None:
    pair = a_committee(the_terms())
    acknowledged = Acknowledgements(pair, 1)
    for member in members_of(pair):
        refusals = tuple(Refused(row.client_id, "no") for row in ROWS)
        acknowledged = acknowledged.heard(sign(BoxAck(pair.ctx, (), refusals), member.key))
    assert acknowledged.left_out(ALL) == frozenset()
    assert acknowledged.verdict(ROWS[0], ALL)[0] == "refuse"


def test_only_members_of_this_cell_are_heard() -> None:
    stranger = next(client for client in CLIENTS if client not in MEMBERS)
    with pytest.raises(WrongSigner):
        after(ack(stranger, ROWS[0]))
    with pytest.raises(WrongContext):
        after(sign(BoxAck(b"x" * 32, (), ()), MEMBERS[0].key))
    good = ack(MEMBERS[0], ROWS[0])
    with pytest.raises(BadSignature):
        after(Signed(good.said, ack(MEMBERS[0], ROWS[1]).body, good.signer, good.signature))
