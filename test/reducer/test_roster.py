"""Who is connected: names, places, tickets, graces, and who is sent away."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import masked_world as world
import pytest
from awaiting import until

from fedn_py.identity import ClientId, ClientName, CombinerName, InstanceId, TokenId
from fedn_py.protocol.masked.registry import UnknownOperator
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import StreamWanted
from fedn_py.protocol.messages import (
    Assignment,
    AssignRequest,
    AttachedClients,
    CombinerHello,
    DismissClient,
    ExpectClient,
    RoundCommitted,
    ToCombiner,
    WordForClients,
)
from fedn_py.protocol.reducer_work import ClientsChanged, CombinerJoined, CombinerLost, Event
from fedn_py.reducer import roster as roster_module
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.roster import KnownClient, NameTaken, NoCombiner, Roster, RosterLimits
from fedn_py.store.memory import MemoryDocuments
from fedn_py.transport import codec
from fedn_py.transport.authentication import secret_sha256
from fedn_py.transport.streams import Outbox

NORTH, SOUTH = CombinerName("north"), CombinerName("south")
ANNA, BERT, CARL = (ClientId(letter * 32) for letter in "abc")
TOKEN, OTHER_TOKEN = TokenId("70" * 8), TokenId("07" * 8)
COMMITTED = RoundCommitted("s", 1, "0" * 64)  # type: ignore[arg-type]


def life(combiner: str, number: int = 1) -> InstanceId:
    return InstanceId(f"{combiner}-{number}")


def sent(outbox: Outbox[ToCombiner]) -> list[ToCombiner]:
    """Take what waits to be sent."""
    waiting = list(outbox._waiting)
    outbox._waiting.clear()
    return waiting


@dataclass
class Door:
    """A roster and what it tells."""

    grace_s: float = 1_000.0
    expected_grace_s: float = 1_000.0
    known: dict[ClientId, KnownClient] = field(default_factory=dict)
    revoked: frozenset[TokenId] = frozenset()
    told: list[Event] = field(default_factory=list)

    def open(self) -> Roster:
        self.events = EventLog(Ledger(MemoryDocuments(), 1), 0)
        limits = RosterLimits(expected_grace_s=self.expected_grace_s, combiner_grace_s=self.grace_s)
        self.roster = Roster(self.told.append, self.events, b"PEM", self.known, limits, revoked=self.revoked)
        return self.roster

    def join(self, name: str, *, number: int = 1, places: int = 10, token: TokenId = TOKEN) -> Outbox[ToCombiner]:
        outbox: Outbox[ToCombiner] = Outbox(name)
        hello = CombinerHello(CombinerName(name), life(name, number), f"{name}:12080", places, "0.1.0")
        self.roster.join(hello, token, outbox)
        return outbox

    def attach(self, name: str, *clients: ClientId, number: int = 1) -> frozenset[ClientId]:
        return self.roster.attached(CombinerName(name), life(name, number), AttachedClients(clients))

    def assign(
        self,
        client: ClientId,
        name: str | None = None,
        *,
        preferred: str = "",
        token: TokenId = TOKEN,
        valid_s: float = 1e9,
    ) -> Assignment:
        request = AssignRequest(client, ClientName(name or f"client-{client[0]}"), preferred, "0.1.0")
        return self.roster.assign(request, token, valid_s)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events._waiting]


def at(door: Door, story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        door.open()
        await story()

    asyncio.run(told())


# ---- combiners


def test_a_combiner_joins_and_says_who_is_attached() -> None:
    async def story() -> None:
        door.join("north")
        assert door.attach("north", ANNA, BERT) == frozenset()
        assert door.attach("north", ANNA, BERT) == frozenset()
        assert door.attach("north", BERT) == {ANNA}
        assert door.told == [
            CombinerJoined(NORTH, life("north"), 10),
            ClientsChanged(NORTH, life("north"), frozenset({ANNA, BERT})),
            ClientsChanged(NORTH, life("north"), frozenset({BERT})),
        ]
        assert door.kinds() == ["combiner.joined", "client.attached", "client.attached", "client.detached"]
        assert door.roster.where() == {BERT: (BERT[:12], NORTH)}

    door = Door()
    at(door, story)


def test_another_life_of_a_combiner_that_is_connected_is_refused() -> None:
    async def story() -> None:
        first = door.join("north")
        with pytest.raises(NameTaken, match="'north' is connected"):
            door.join("north", number=2)
        door.roster.send(NORTH, life("north"), COMMITTED)
        assert sent(first) == [COMMITTED]

    door = Door()
    at(door, story)


def test_another_life_takes_over_once_the_first_ones_stream_has_ended() -> None:
    async def story() -> None:
        door.join("north")
        door.attach("north", ANNA)
        door.roster.leave(NORTH, life("north"))
        door.join("north", number=2)
        assert door.told[-1] == CombinerJoined(NORTH, life("north", 2), 10)
        assert door.roster.where() == {}  # its clients attach to it anew
        assert door.attach("north", ANNA, number=1) == frozenset()
        assert door.roster.where() == {}

    door = Door()
    at(door, story)


def test_the_same_life_that_comes_back_keeps_its_clients() -> None:
    async def story() -> None:
        door.join("north")
        door.attach("north", ANNA)
        door.roster.leave(NORTH, life("north"))
        assert door.roster.combiners()[NORTH].outbox is None
        door.join("north")
        assert door.roster.where() == {ANNA: (ANNA[:12], NORTH)}
        assert not any(isinstance(event, CombinerLost) for event in door.told)

    door = Door()
    at(door, story)


def test_a_combiner_that_does_not_come_back_in_time_is_lost() -> None:
    async def story() -> None:
        door.join("north")
        door.attach("north", ANNA)
        door.roster.leave(NORTH, life("north"))
        await until(lambda: CombinerLost(NORTH, life("north")) in door.told)
        assert door.roster.combiners() == {}
        assert door.roster.where() == {}
        assert door.kinds()[-2:] == ["combiner.away", "combiner.lost"]

    door = Door(grace_s=0.01)
    at(door, story)


def test_a_combiner_that_an_earlier_life_of_the_reducer_knew_has_its_own_time_to_come_here() -> None:
    async def story() -> None:
        door.roster.expect(NORTH, life("north"))
        door.roster.expect(SOUTH, life("south"))
        with pytest.raises(NoCombiner):
            door.assign(ANNA)  # nobody is sent to one that is not here yet
        door.join("south")
        await until(lambda: CombinerLost(NORTH, life("north")) in door.told)
        assert list(door.roster.combiners()) == [SOUTH]
        door.roster.expect(SOUTH, life("south"))  # it is here: it is not waited for again
        assert door.roster.combiners()[SOUTH].outbox is not None

    door = Door(expected_grace_s=0.01)
    at(door, story)


def test_a_combiner_that_says_goodbye_is_not_waited_for_and_its_clients_go_elsewhere_at_once() -> None:
    door = Door()

    async def story() -> None:
        door.join("north")
        door.join("south")
        door.attach("north", ANNA)
        door.roster.part(NORTH, life("north", 2))  # another life of it than the one that is here
        assert NORTH in door.roster.combiners()
        door.roster.part(NORTH, life("north"))
        assert CombinerLost(NORTH, life("north")) in door.told
        assert door.assign(ANNA, preferred="north").combiner == SOUTH
        door.roster.leave(NORTH, life("north"))  # its stream ends behind its goodbye
        assert door.kinds().count("combiner.left") == 1
        assert "combiner.away" not in door.kinds()

    at(door, story)


def test_one_that_came_back_is_not_lost_when_the_grace_of_its_absence_ends() -> None:
    async def story() -> None:
        door.join("north")
        door.roster.leave(NORTH, life("north"))
        timer = door.roster.combiners()[NORTH].lost_timer
        door.join("north")
        assert timer is not None
        assert timer.cancelled()
        door.roster._lose(NORTH, life("north"))  # as if it had rung before it was cancelled
        assert NORTH in door.roster.combiners()

    door = Door()
    at(door, story)


def test_the_end_of_an_older_lifes_stream_means_nothing() -> None:
    async def story() -> None:
        door.join("north")
        door.roster.leave(NORTH, life("north"))
        door.join("north", number=2)
        door.roster.leave(NORTH, life("north"))
        door.roster.leave(SOUTH, life("south"))
        assert door.roster.combiners()[NORTH].outbox is not None

    door = Door()
    at(door, story)


def test_messages_go_to_the_life_they_are_meant_for_and_are_dropped_while_it_is_away() -> None:
    async def story() -> None:
        north, south = door.join("north"), door.join("south")
        door.roster.send(NORTH, life("north", 2), COMMITTED)
        door.roster.send(CombinerName("nobody"), life("nobody"), COMMITTED)
        assert sent(north) == []
        door.roster.leave(SOUTH, life("south"))
        door.roster.send(SOUTH, life("south"), COMMITTED)
        door.roster.send_all(COMMITTED)
        assert (sent(north), sent(south)) == ([COMMITTED], [])

    door = Door()
    at(door, story)


# ---- where a client is sent


def test_a_client_gets_a_ticket_and_its_combiner_only_the_hash_of_it() -> None:
    async def story() -> None:
        north = door.join("north")
        assignment = door.assign(ANNA, "anna", valid_s=60.0)
        assert (assignment.combiner, assignment.address, assignment.authority_pem) == (NORTH, "north:12080", b"PEM")
        assert assignment.valid_s == 60.0
        assert sent(north) == [ExpectClient(ANNA, ClientName("anna"), secret_sha256(assignment.ticket), 60.0)]
        assert assignment.ticket not in str(door.events._waiting)
        assert assignment.ticket not in repr(door.roster.__dict__)

    door = Door()
    at(door, story)


def test_a_ticket_is_never_good_for_longer_than_a_day_or_than_the_token() -> None:
    async def story() -> None:
        door.join("north")
        assert door.assign(ANNA, valid_s=1e9).valid_s == 24 * 3600.0
        assert door.assign(ANNA, valid_s=5.0).valid_s == 5.0

    door = Door()
    at(door, story)


def test_a_token_that_runs_out_in_the_meantime_leaves_a_message_that_its_combiner_can_read() -> None:
    async def story() -> None:
        north = door.join("north")
        sent(north)
        door.assign(ANNA, valid_s=0.0)
        (expect,) = sent(north)
        assert codec.read_to_combiner(codec.write_to_combiner(expect)) == expect

    door = Door()
    at(door, story)


def test_the_preferred_combiner_is_taken_while_it_has_room() -> None:
    async def story() -> None:
        door.join("north")
        door.join("south", places=1)
        assert door.assign(ANNA, preferred="south").combiner == SOUTH
        assert door.assign(BERT, preferred="south").combiner == NORTH
        assert door.assign(CARL, preferred="nowhere").combiner == NORTH

    door = Door()
    at(door, story)


def test_the_least_loaded_by_share_of_its_places_is_taken_counting_those_on_their_way() -> None:
    async def story() -> None:
        door.join("north", places=4)
        door.join("south", places=8)
        clients = [ClientId(f"{number:032x}") for number in range(12)]
        went = [door.assign(client, f"c{number}").combiner for number, client in enumerate(clients)]
        assert (went.count(NORTH), went.count(SOUTH)) == (4, 8)
        with pytest.raises(NoCombiner, match="all 2 combiners are full"):
            door.assign(ANNA)

    door = Door()
    at(door, story)


def test_somebody_who_arrives_is_counted_once() -> None:
    async def story() -> None:
        door.join("north", places=2)
        door.assign(ANNA)
        door.attach("north", ANNA)
        door.assign(BERT)
        with pytest.raises(NoCombiner):
            door.assign(CARL)
        assert door.assign(ANNA).combiner == NORTH  # who is there does not stand in its own way
        door.attach("north", BERT)
        door.assign(CARL)

    door = Door()
    at(door, story)


def test_no_place_is_kept_for_long_for_one_who_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        door.join("north", places=1)
        door.assign(ANNA)
        with pytest.raises(NoCombiner):
            door.assign(BERT)
        monkeypatch.setattr(roster_module, "_ON_THEIR_WAY_S", 0.0)
        assert door.assign(BERT).combiner == NORTH

    door = Door()
    at(door, story)


def test_nobody_is_sent_to_a_combiner_that_is_away() -> None:
    async def story() -> None:
        with pytest.raises(NoCombiner, match="no combiner is connected"):
            door.assign(ANNA)
        door.join("north")
        door.roster.leave(NORTH, life("north"))
        with pytest.raises(NoCombiner, match="no combiner is connected"):
            door.assign(ANNA, preferred="north")

    door = Door()
    at(door, story)


# ---- names


def test_a_second_client_under_a_name_is_refused_and_told_of() -> None:
    async def story() -> None:
        door.join("north")
        door.assign(ANNA, "hospital-a")
        with pytest.raises(NameTaken, match="'hospital-a' is already connected"):
            door.assign(BERT, "hospital-a")
        door.attach("north", ANNA)
        with pytest.raises(NameTaken):
            door.assign(BERT, "hospital-a")
        assert door.kinds().count("client.refused") == 1  # it keeps asking; the event log holds it once a minute
        door.assign(ANNA, "hospital-a")

    door = Door()
    at(door, story)


def test_a_name_is_free_again_when_its_client_is_gone() -> None:
    async def story() -> None:
        door.join("north")
        door.assign(ANNA, "hospital-a")
        door.attach("north", ANNA)
        door.attach("north")
        door.assign(BERT, "hospital-a")

    door = Door()
    at(door, story)


def test_a_client_that_changed_its_name_does_not_hold_the_old_one() -> None:
    async def story() -> None:
        door.join("north")
        door.assign(ANNA, "hospital-a")
        door.assign(ANNA, "clinic-a")
        door.attach("north", ANNA)
        door.assign(BERT, "hospital-a")
        with pytest.raises(NameTaken):
            door.assign(CARL, "clinic-a")

    door = Door()
    at(door, story)


def test_a_name_is_held_by_whoever_is_here_of_all_that_ever_had_it() -> None:
    async def story() -> None:
        door.join("north")
        door.attach("north", ANNA)
        with pytest.raises(NameTaken):
            door.assign(CARL, "hospital-a")
        assert door.roster.name_of(ANNA) == "hospital-a"

    name = ClientName("hospital-a")
    door = Door(known={ANNA: KnownClient(name, TOKEN), BERT: KnownClient(name, TOKEN)})
    at(door, story)


# ---- who is sent away


def test_a_client_that_moves_is_dismissed_where_it_was() -> None:
    async def story() -> None:
        north, south = door.join("north"), door.join("south")
        door.assign(ANNA, preferred="north")
        door.attach("north", ANNA)
        sent(north)
        door.assign(ANNA, preferred="south")
        assert sent(north) == [DismissClient(ANNA, "it attaches elsewhere")]
        assert [type(message) for message in sent(south)] == [ExpectClient]

    door = Door()
    at(door, story)


def test_a_client_that_moved_while_its_combiner_was_away_is_dismissed_when_that_is_back() -> None:
    async def story() -> None:
        door.join("north")
        south = door.join("south")
        door.assign(ANNA, preferred="north")
        door.attach("north", ANNA)
        door.roster.leave(NORTH, life("north"))
        door.assign(ANNA)
        back = door.join("north")
        door.attach("north", ANNA)
        assert sent(back) == [DismissClient(ANNA, "it attaches elsewhere")]
        assert DismissClient(ANNA, "it attaches elsewhere") not in sent(south)

    door = Door()
    at(door, story)


def test_revoking_a_token_dismisses_who_came_by_it_and_nobody_else() -> None:
    async def story() -> None:
        north = door.join("north")
        door.assign(ANNA, token=TOKEN)
        door.assign(BERT, token=OTHER_TOKEN)
        door.attach("north", ANNA, BERT)
        sent(north)
        door.roster.revoke(TOKEN)
        assert sent(north) == [DismissClient(ANNA, "its token was revoked")]

    door = Door()
    at(door, story)


def test_one_on_its_way_is_dismissed_too() -> None:
    async def story() -> None:
        north = door.join("north")
        door.assign(ANNA)
        sent(north)
        door.roster.revoke(TOKEN)
        assert sent(north) == [DismissClient(ANNA, "its token was revoked")]

    door = Door()
    at(door, story)


def test_a_revoked_client_is_dismissed_when_its_combiner_is_back() -> None:
    async def story() -> None:
        door.join("north", token=OTHER_TOKEN)
        door.assign(ANNA)
        door.attach("north", ANNA)
        door.roster.leave(NORTH, life("north"))
        door.roster.revoke(TOKEN)
        back = door.join("north", token=OTHER_TOKEN)
        door.attach("north", ANNA)
        assert sent(back) == [DismissClient(ANNA, "its token was revoked")]

    door = Door()
    at(door, story)


def test_revoking_reaches_clients_that_came_before_this_process_began() -> None:
    async def story() -> None:
        north = door.join("north", token=OTHER_TOKEN)
        door.attach("north", ANNA, BERT)
        assert sent(north) == [DismissClient(BERT, "its token was revoked")]
        door.roster.revoke(TOKEN)
        assert sent(north) == [DismissClient(ANNA, "its token was revoked")]

    gone = TokenId("99" * 8)
    known = {ANNA: KnownClient(ClientName("a"), TOKEN), BERT: KnownClient(ClientName("b"), gone)}
    door = Door(known=known, revoked=frozenset({gone}))
    at(door, story)


def test_who_comes_again_by_a_good_token_is_welcome() -> None:
    async def story() -> None:
        north = door.join("north", token=OTHER_TOKEN)
        door.assign(ANNA, token=TOKEN)
        door.roster.revoke(TOKEN)
        door.assign(ANNA, token=OTHER_TOKEN)
        sent(north)
        door.attach("north", ANNA)
        assert sent(north) == []

    door = Door()
    at(door, story)


def test_a_combiner_whose_token_is_revoked_is_cut_off_and_told_why() -> None:
    async def story() -> None:
        north, south = door.join("north", token=TOKEN), door.join("south", token=OTHER_TOKEN)
        door.roster.revoke(TOKEN)
        assert north.closed
        assert north.fault is not None
        assert north.fault.message == "its token was revoked"
        assert not south.closed

    door = Door()
    at(door, story)


# ---- masked rounds


def test_a_client_that_was_moved_goes_where_it_was_sent_and_not_back() -> None:
    async def story() -> None:
        north, south = door.join("north"), door.join("south")
        door.join("west")
        door.attach("north", ANNA)
        door.roster.move(NORTH, {ANNA}, frozenset({CombinerName("south")}))
        assert [type(message) for message in sent(north)] == [DismissClient]
        assert door.assign(ANNA, preferred="north").combiner == "south"
        door.attach("north", ANNA)  # it clings to where it was
        assert DismissClient in {type(message) for message in sent(north)}
        assert sent(south)
        door.roster.end_moves()
        assert door.assign(ANNA, preferred="north").combiner == "north"

    door = Door()
    at(door, story)


def test_a_moved_client_goes_anywhere_else_where_its_target_is_gone_and_back_before_it_is_nowhere() -> None:
    async def story() -> None:
        door.join("north")
        door.join("west")
        door.attach("north", ANNA)
        door.roster.move(NORTH, {ANNA, BERT}, frozenset({CombinerName("south")}))
        assert door.assign(ANNA, preferred="north").combiner == "west"
        door.roster.leave(CombinerName("west"), life("west"))
        assert door.assign(BERT, preferred="north").combiner == "north"

    door = Door()
    at(door, story)


def test_a_word_goes_to_each_client_through_the_combiner_that_it_is_attached_to() -> None:
    async def story() -> None:
        north, south = door.join("north"), door.join("south")
        door.attach("north", ANNA)
        door.attach("south", BERT)
        word = StreamWanted(b"c" * 32)
        door.roster.say([ANNA, BERT, ClientId("f" * 32)], word)
        assert sent(north) == [WordForClients((ANNA,), word)]
        assert sent(south) == [WordForClients((BERT,), word)]

    door = Door()
    at(door, story)


def test_who_comes_anywhere_is_told_of() -> None:
    async def story() -> None:
        came: list[frozenset[ClientId]] = []
        door.roster.on_came = came.append
        door.join("north")
        door.attach("north", ANNA)
        door.attach("north", ANNA, BERT)
        door.attach("north", BERT)
        assert came == [frozenset({ANNA}), frozenset({BERT}), frozenset()]

    door = Door()
    at(door, story)


def test_a_moved_client_that_stays_is_sent_away_again() -> None:
    async def story() -> None:
        north = door.join("north")
        door.join("south")
        door.attach("north", ANNA)
        door.roster.move(NORTH, {ANNA}, frozenset({SOUTH}))
        sent(north)
        door.attach("north", ANNA)  # the next heartbeat still has it
        assert [type(message) for message in sent(north)] == [DismissClient]

    door = Door()
    at(door, story)


def test_clients_take_part_in_masked_rounds_at_certified_combiners_alone() -> None:
    class Everybody:
        def holds(self, client: ClientId) -> bool:
            return client != BERT

        def fault_of(self, client: ClientId) -> str:
            return ""

        def combiner_key(self, certificate: Signed) -> bytes:
            if certificate.signer != world.TRUST.operator_key:
                raise UnknownOperator("server certificate")
            return certificate.signer

    async def story() -> None:
        roster = door.roster
        roster._registrations = Everybody()  # type: ignore[assignment]
        certificates = {
            "north": world.a_certificate(world.COMBINER, role="combiner"),
            "south": None,
            "west": sign(world.a_plan(), world.REDUCER),
        }
        for name, certificate in certificates.items():
            hello = CombinerHello(CombinerName(name), life(name), f"{name}:12080", 9, "0.1.0", certificate)
            roster.join(hello, TOKEN, Outbox(name))
            door.attach(name, ANNA, BERT)
        told = {event.combiner: event.registered for event in door.told if isinstance(event, ClientsChanged)}
        assert told == {NORTH: {ANNA}, SOUTH: frozenset(), CombinerName("west"): frozenset()}
        assert "combiner.not_certified" in door.kinds()

    door = Door()
    at(door, story)
