"""A client's process in a masked network; follows fedn_py/client/hearing.py, masked_side.py and beliefs.py."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from masked_world import AClient
from simulator.client_node import ClientNode
from simulator.masked.beliefs import Beliefs
from simulator.masked.certified import CHAINS, NOW_S
from simulator.masked.disk import Disk
from simulator.masked.seats import Offered, Seats
from simulator.masked.sending import Sending
from simulator.network import Call, Stream
from simulator.working import Signal, Work, WorkingNode

from fedn_py.client.beliefs import ClearMetricsRefused, PolicyUnknown
from fedn_py.client.participant_work import NoLongerWanted
from fedn_py.errors import PeerFault
from fedn_py.identity import Generation
from fedn_py.protocol.client import (
    Attached,
    Cancelled,
    Client,
    Committed,
    Detached,
    Piece,
    Tasked,
    Training,
    UpdateKept,
    UpdateReady,
    Upload,
    WorkFailed,
)
from fedn_py.protocol.masked.committee import Committee, check_committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.encoding import Body
from fedn_py.protocol.masked.lottery import slots_drawn
from fedn_py.protocol.masked.participant_work import AbortArrived, NotOpenedArrived, RoundEnded
from fedn_py.protocol.masked.plans import BelievedPlan
from fedn_py.protocol.masked.round_messages import Abort, CommitteeBody, Echo, Included, NotOpened
from fedn_py.protocol.masked.signing import Signed, sign
from fedn_py.protocol.masked.words import AbortWanted, Boxes, Links, StreamWanted, WordFromClient
from fedn_py.protocol.messages import (
    ClientHello,
    ClientWelcome,
    PolicyNews,
    RoundCommitted,
    SaidByClient,
    SaidToClient,
    TaskCancelled,
    TaskFailed,
    TrainTask,
    ValidateTask,
)

if TYPE_CHECKING:
    from simulator.masked.combiner_node import MaskedCombinerNode
    from simulator.masked.world import MaskedWorld

MOST_CELLS = 8


@dataclass
class Cell:
    """A cell that a client is in; ``committee`` comes, or is refused by name."""

    task: TrainTask
    terms: CellTerms
    offered: Offered
    committee: Committee | PeerFault | None = None
    formed: Signal = field(default_factory=Signal)

    def settle(self, committee: Committee | PeerFault) -> None:
        """Take the committee, or why there is none."""
        self.committee = committee
        self.formed.fire()

    def close(self) -> None:
        """Let go of the cell."""
        if self.committee is None:
            self.settle(NoLongerWanted())
        self.offered.close()


class MaskedClientNode(WorkingNode, ClientNode):
    """One of the clients.

    Attributes:
        disk: what outlives it.
        job: the upload at hand, by identity.
    """

    def __init__(self, world: "MaskedWorld", who: AClient, step: Any) -> None:
        super().__init__(world, who.id.hex(), step)
        self.who, self.disk = who, Disk()
        self.deaf_until = 0.0

    def __repr__(self) -> str:
        return self.who.name

    def begin(self) -> None:
        """Start with what is on disk, and look for a combiner."""
        self.disk = self.world.machines.remember(self.disk)
        self.state = Client()
        self.stream: Stream | None = None
        self.kept = None
        self.running = {}
        self.uploading = {}
        self.uploads_of, self.first_asked = {}, {}
        self.sought = 0
        self.job: Any = None
        self.inbox: deque[Any] = deque()
        self.hears = False
        self.deaf_until = 0.0
        self.transfers: list[tuple[Call, Signal]] = []
        self.cells: dict[bytes, Cell] = {}
        self.beliefs = Beliefs(self)
        self.sending, self.seats = Sending(self), Seats(self)
        self.seats.restore_all()
        self._seek()

    # ---- what its disk and its key are for

    def save(self, disk: Disk) -> None:
        """Have something on disk, synced."""
        self.disk = disk
        self.world.invariants.clients.saved(self)

    def random_bytes(self, size: int = 32) -> bytes:
        """Draw random bytes."""
        return self.world.rng.randbytes(size)

    def signed(self, body: Body) -> Signed:
        """Sign something."""
        signed = sign(body, self.who.key)
        self.world.invariants.clients.signed_by_client(self, body)
        return signed

    def say_signed(self, body: Body) -> Signed:
        """Sign and say something."""
        signed = self.signed(body)
        self.say(signed)
        return signed

    def say(self, word: WordFromClient) -> None:
        """Say a word to the combiner, if one is there."""
        self.world.invariants.clients.said_by_client(self, word)
        self._say(SaidByClient(word))

    def asked_of_combiner(self, ask: "Callable[[MaskedCombinerNode, Callable[[Any], None]], None]") -> Work:
        """Call the combiner that this client is attached to; returns None where no answer came."""
        if self.stream is None:
            return None
        combiner: Any = self.stream.listener
        answered, got = Signal(), []

        def keep(answer: Any) -> None:
            got.append(answer)
            answered.fire()

        call = Call(
            self.world, self, combiner, ask=lambda reply: ask(combiner, reply), answered=keep, broken=answered.fire
        )
        transfer = (call, answered)
        self.transfers.append(transfer)
        yield answered
        if transfer in self.transfers:
            self.transfers.remove(transfer)
        return got[0] if got else None

    # ---- connections

    def _attach(self, combiner: Any) -> None:
        node = self.world.combiners.get(combiner) if combiner is not None else None
        if node is None or not node.up:
            self.later(self.world.chaos.backoff_s(), self._seek)
            return
        self.stream = self.world.open_stream(self, node)
        self.stream.send(self, ClientHello(self.id, self.who.name, "", self.who.chain))  # type: ignore[arg-type]

    def stream_ended(self, stream: Stream) -> None:
        """Notice that the combiner has gone, and look for one."""
        if stream is not self.stream:
            return
        self.stream = None
        if isinstance(self.state.work, Training):
            self.world.chaos.noticed("client cut off while it trained")
        transfers, self.transfers = self.transfers, []
        for call, answered in transfers:
            call.forget()
            answered.fire()
        self.beliefs.take_links(None)
        self._hear(Detached())
        self.later(self.world.chaos.backoff_s(), self._seek)

    # ---- hearing

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from the combiner, behind those before it."""
        if stream is not self.stream:
            return
        self.world.heard_word(self, message)
        match message:
            case ClientWelcome():
                self._hear(Attached())
                return
            case SaidToClient(Links() as links):
                self.beliefs.take_links(links)
                return
            case TrainTask() | ValidateTask() | TaskCancelled():
                self.beliefs.take_links(None)
        self._hear(message)

    def _hear(self, came: Any) -> None:
        self.inbox.append(came)
        if not self.hears:
            self.hears = True
            self.spawn(self._hearing())

    def _hearing(self) -> Work:
        while self.inbox:
            while self.deaf_until > self.world.clock.now:
                yield self.deaf_until - self.world.clock.now
            came = self.inbox.popleft()
            try:
                yield from self._take_in(came)
            except PeerFault as fault:
                self.world.refused(self, came, fault)
        self.hears = False

    def _take_in(self, came: Any) -> Work:
        match came:
            case Attached():
                self.take(came)
                self._say_again()
            case Detached():
                if self.state.attached:
                    self.take(came)
            case TrainTask():
                wanted = yield from self._take_task(came)
                if wanted:
                    self.take(Tasked(came))
            case ValidateTask(order):
                if self.beliefs.policy is not None and self.beliefs.policy.metrics == "client":
                    self.take(Tasked(came))
                else:
                    fault = (
                        PolicyUnknown()
                        if self.beliefs.policy is None
                        else ClearMetricsRefused(self.beliefs.policy.metrics)
                    )
                    self._refuse(order.generation, fault)
            case TaskCancelled():
                self.take(Cancelled(came))
            case RoundCommitted():
                self.take(Committed(came))
                self._round_committed(came)
            case PolicyNews(policy):
                self.beliefs.take_policy(policy)
            case SaidToClient(word):
                self._take_word(word)

    # ---- plans

    def _take_task(self, task: TrainTask) -> Work:
        try:
            believed: BelievedPlan = yield from self.beliefs.believe(task)
            for void in believed.terms.plan.voids:
                self.sending.part.offer(NotOpenedArrived(void, self.disk.reducers))
            self.sending.plan_checked(believed.terms, believed.plan_hash)
            self.seats.let_go_of(self.sending.proofs.voids)
            cell = self._cell(task, believed)
        except PeerFault as fault:
            self._refuse(task.generation, fault)
            return False
        self.say(cell.offered.word)
        if cell.terms.ctx0 in self.sending.state.stored:
            self.world.chaos.noticed("a masked upload is kept for its cell")
            self.take(UpdateKept(Piece.of(task.plan)))
        return True

    def _refuse(self, generation: Generation, fault: PeerFault) -> None:
        self.world.chaos.noticed(f"task refused: {fault.code}")
        self._say(TaskFailed(generation, f"{fault.code}: {fault.message}"))

    # ---- cells

    def _cell(self, task: TrainTask, believed: BelievedPlan) -> Cell:
        terms = believed.terms
        cell = self.cells.get(terms.ctx0)
        if cell is None:
            for ctx0 in [ctx0 for ctx0, old in self.cells.items() if old.offered.over][:-MOST_CELLS]:
                self._leave(ctx0)
            drawn = slots_drawn(terms.plan.beacon, terms.order.k, self.who.registered, terms.order.n_draw)
            cell = self.cells[terms.ctx0] = Cell(task, terms, self.seats.offer(terms, drawn))
        cell.task = task
        return cell

    def _cell_of(self, task: TrainTask) -> Cell | None:
        return next((cell for cell in self.cells.values() if cell.task.generation == task.generation), None)

    def _leave(self, ctx0: bytes) -> None:
        cell = self.cells.pop(ctx0)
        if isinstance(cell.committee, Committee):
            self.seats.leave(cell.committee.ctx)
        cell.close()

    def _say_again(self) -> None:
        for cell in self.cells.values():
            if cell.offered.open and cell.committee is None:
                self.say(cell.offered.word)
        self.seats.say_again()

    def _round_committed(self, committed: RoundCommitted) -> None:
        session = bytes.fromhex(committed.session)
        self.sending.part.take(RoundEnded(session, committed.round_number))
        self.seats.round_committed(session, committed.round_number)
        for ctx0, cell in list(self.cells.items()):
            if cell.terms.plan.session == session and cell.terms.plan.round <= committed.round_number:
                self._leave(ctx0)

    # ---- words

    def _take_word(self, word: Any) -> None:
        match word:
            case CommitteeBody():
                self._take_committee(word)
            case Boxes():
                self.seats.take_boxes(word)
            case Included():
                self.seats.take_included(word)
            case StreamWanted():
                self.seats.send_stream(word)
            case AbortWanted():
                self.seats.take_abort_wanted(word)
            case Signed(said=Abort.kind):
                self.sending.part.take(AbortArrived(word))
            case Signed(said=NotOpened.kind):
                self.sending.part.take(NotOpenedArrived(word, self.disk.reducers))
                self.seats.let_go_of(self.sending.proofs.voids)
            case Signed(said=Echo.kind):
                self.seats.take_echo(word)

    def _take_committee(self, body: CommitteeBody) -> None:
        cell = self.cells.get(body.ctx0)
        if cell is None or cell.committee is not None:
            return
        terms, standing = cell.terms, self.beliefs.standing()
        try:
            committee = check_committee(
                body, terms.ctx0, terms.order, terms.plan.beacon, CHAINS, standing=(standing.policy, NOW_S)
            )
            self.world.invariants.clients.committee_believed(committee, terms)
            self.seats.take_committee(cell.offered, committee)
        except PeerFault as fault:
            cell.settle(fault)
            cell.offered.give_up()
            self._refuse(cell.task.generation, fault)
            return
        cell.settle(committee)

    # ---- effects of the client's machine

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        if isinstance(effect, Upload):
            self._begin_upload(effect.task)
        else:
            super().perform(effect)

    def _train(self, task: TrainTask) -> None:
        started = task.generation

        def trained() -> None:
            self.running.pop(started, None)
            if self.world.chaos.happens("training failed"):
                cell = self._cell_of(task)
                if cell is not None:
                    self.sending.training_failed(cell.terms)
                self.take(WorkFailed(started, "EntryPointFailed: exit status 1"))
                return
            self.kept = self.world.new_update(self.id, Piece.of(task.plan))
            self.take(UpdateReady(started))

        self.running[started] = self.later(self.world.training_s(self.id), trained)

    def _begin_upload(self, task: TrainTask) -> None:
        job = self.job = object()
        kept = self.kept

        def ended(events: Any) -> None:
            if self.job is job:
                for event in events or ():
                    self.take(event)

        self.spawn(self.sending.send_update(job, task, self._cell_of(task), kept), ended)

    def _stop(self, generation: Generation) -> None:
        super()._stop(generation)
        self.job = None
