"""A combiner's process: streams of clients, a running sum for each generation, one report that is not forgotten."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulator.lease import ReducerWelcome
from simulator.network import Stream
from simulator.nodes import Node
from simulator.store import WeightedSum

from fedn_py.errors import FednError
from fedn_py.identity import ClientId, CombinerName, Generation, InstanceId
from fedn_py.protocol.combiner_work import (
    AddUpdate,
    AnswerUpload,
    CancelTask,
    ClientAttached,
    ClientDetached,
    Combiner,
    FetchObjects,
    Forget,
    NotReported,
    ObjectsFetched,
    ObjectsNotFetched,
    OrderCancelled,
    Ordered,
    Reported,
    ReportFailure,
    ReportProgress,
    ReportValidation,
    SendTask,
    StorePartialAggregate,
    TaskNotDone,
    UpdateAdded,
    UpdateArrived,
    UpdateNotAdded,
    ValidationReturned,
)
from fedn_py.protocol.messages import (
    AttachedClients,
    CellCancelled,
    CellOrder,
    ClientHello,
    ClientWelcome,
    CombinerHello,
    Contribution,
    DismissClient,
    MetricsSummary,
    PartialAggregate,
    RoundCommitted,
    TaskCancelled,
    TaskFailed,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
    ValidationOrder,
    ValidationReport,
    ValidationResult,
)

if TYPE_CHECKING:
    from simulator.updates import Update


class CombinerNode(Node):
    """One of the combiners."""

    state: Combiner

    @property
    def instance(self) -> InstanceId:
        """The name of this life."""
        return InstanceId(f"{self.name}#{self.life}")

    def begin(self) -> None:
        """Start with nothing and join."""
        self.state = Combiner(reconnect_grace_s=self.world.sizes.reconnect_grace_s)
        self.upstream: Stream | None = None
        self.streams: dict[ClientId, Stream] = {}
        self.sums: dict[Generation, WeightedSum] = {}
        self.uploads: dict[str, Update] = {}
        self.waiting: dict[str, Callable[[UpdateReceipt], None]] = {}
        self.accepted: set[str] = set()
        self.report: Any = None
        self.committed: RoundCommitted | None = None
        self.cut_off_until = 0.0
        self.dialled = 0
        self.highest_fence = 0
        self._dial()

    # ---- the reducer

    def next_reducer(self) -> Any:
        """Return the reducer to dial now, each in its turn; None where it cannot be reached."""
        reducers = self.world.reducers
        reducer = reducers[self.dialled % len(reducers)]
        self.dialled += 1
        return reducer if reducer.up and self.world.clock.now >= self.cut_off_until else None

    def welcomed(self, fence: int) -> None:
        """Stay with a reducer, unless there has been a newer one."""
        if self.world.machines.is_older(fence, self.highest_fence):
            self.world.chaos.noticed("an older reducer is left by a combiner")
            assert self.upstream is not None
            self.upstream.break_off()
            return
        self.world.invariants.welcomed(self, fence)
        self.highest_fence = max(fence, self.highest_fence)

    def _dial(self) -> None:
        reducer = self.next_reducer()
        if reducer is None:
            self.later(self.world.chaos.backoff_s(), self._dial)
            return
        self.upstream = self.world.open_stream(self, reducer)
        hello = CombinerHello(CombinerName(self.name), self.instance, self.name, self.world.sizes.max_clients, "")
        self.upstream.send(self, hello)
        self._tell_attached()
        if self.report is not None:
            # Whether the reducer had it before the stream broke is not known here; a second one is refused there.
            self.world.chaos.noticed("report sent again")
            self.upstream.send(self, self.report)

    def cut_off(self, lasts_s: float) -> None:
        """Lose the reducer for a while; clients stay."""
        self.cut_off_until = self.world.clock.now + lasts_s
        if self.upstream is not None:
            self.upstream.break_off()

    def _tell_attached(self) -> None:
        if self.upstream is not None:
            self.upstream.send(self, AttachedClients(tuple(sorted(self.state.attached))))

    def _report(self, message: Any) -> None:
        self.report = message
        if self.upstream is not None:
            self.upstream.send(self, message)

    def stream_ended(self, stream: Stream) -> None:
        """Notice that the reducer or a client has gone."""
        if stream is self.upstream:
            self.upstream = None
            self.later(self.world.chaos.backoff_s(), self._dial)
        elif self.streams.get(ClientId(stream.dialler.name)) is stream:
            self._leave(ClientId(stream.dialler.name))

    def _leave(self, client: ClientId) -> None:
        del self.streams[client]
        self.take(ClientDetached(client))
        self._tell_attached()

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from the reducer or from a client."""
        if stream is self.upstream:
            self._heard_reducer(message)
        else:
            self._heard_client(stream, ClientId(stream.dialler.name), message)

    def _heard_reducer(self, message: Any) -> None:
        match message:
            case ReducerWelcome(fence):
                self.welcomed(fence)
            case CellOrder() | ValidationOrder():
                self.take(Ordered(message))
            case CellCancelled():
                self.take(OrderCancelled(message))
            case RoundCommitted():
                self.take_commit(message)
            case DismissClient(client):
                if client in self.streams:
                    self.streams[client].break_off()
                    self._leave(client)

    def take_commit(self, committed: RoundCommitted) -> None:
        """Pass a commit on, once: it is told again with each stream to the reducer."""
        if committed != self.committed:
            self.committed = committed
            for stream in list(self.streams.values()):
                stream.send(self, committed)

    # ---- clients

    def _heard_client(self, stream: Stream, client: ClientId, message: Any) -> None:
        match message:
            case ClientHello():
                self.streams[client] = stream
                stream.send(self, ClientWelcome(CombinerName(self.name), 10.0))
                if self.committed is not None:
                    stream.send(self, self.committed)
                self.take(ClientAttached(client))
                self._tell_attached()
            case TaskFailed(generation, reason, log):
                self.take(TaskNotDone(generation, client, reason, log))
            case ValidationResult(generation):
                self.take(ValidationReturned(generation, client))

    def upload(self, generation: Generation, update: "Update", reply: Callable[[UpdateReceipt], None]) -> None:
        """Take a whole update from a client."""
        self.world.invariants.uploaded(self, generation, update)
        self.uploads[update.upload_id] = update
        self.waiting[update.upload_id] = reply
        contribution = Contribution(update.client, update.samples, update.sha256)
        self.take(UpdateArrived(generation, update.upload_id, contribution))

    # ---- effects

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        world = self.world
        match effect:
            case FetchObjects(generation):
                self.later(world.chaos.uniform(0.01, 1), lambda: self._fetch(generation))
            case SendTask(client, task):
                self._say(client, task)
            case CancelTask(client, cancelled):
                self._say(client, cancelled)
            case AddUpdate():
                world.invariants.update_taken(self, effect)
                self.later(world.chaos.uniform(0.01, 1), lambda: self._add(effect))
            case AnswerUpload(upload_id, receipt):
                if not receipt.accepted:
                    world.chaos.noticed(f"upload refused: {receipt.reason.split(':')[0]}")
                elif upload_id in self.accepted:
                    world.chaos.noticed("duplicate upload answered")
                else:
                    self.accepted.add(upload_id)
                if upload_id in self.waiting:
                    self.waiting.pop(upload_id)(receipt)
            case StorePartialAggregate():
                longest_s = 300 if world.chaos.happens("partial stored very late") else 2
                self.later(world.chaos.uniform(0.05, longest_s), lambda: self._store(effect))
            case ReportValidation(generation, validated, excluded):
                self._report(ValidationReport(generation, len(validated), len(validated), MetricsSummary(), excluded))
            case ReportFailure(failure):
                world.chaos.noticed("cell failed")
                self._report(failure)
            case Forget(generation):
                self.sums.pop(generation, None)
            case ReportProgress():
                pass

    def _say(self, client: ClientId, message: TrainTask | ValidateTask | TaskCancelled) -> None:
        if client in self.streams:
            self.streams[client].send(self, message)

    def _fetch(self, generation: Generation) -> None:
        if self.world.chaos.happens("objects not fetched"):
            self.take(ObjectsNotFetched(generation, "the store is away"))
            return
        order = getattr(self.state.work, "order", None)
        try:
            if isinstance(order, CellOrder) and order.generation == generation:
                self.world.store.objects.get(order.plan.base_model)
        except FednError as fault:
            self.world.chaos.noticed(f"objects not fetched: {fault.code}")
            self.take(ObjectsNotFetched(generation, f"{fault.code}: {fault.message}"))
        else:
            self.take(ObjectsFetched(generation))

    def _add(self, effect: AddUpdate) -> None:
        generation, upload_id = effect.generation, effect.upload_id
        if self.world.chaos.happens("update unfit"):
            self.take(UpdateNotAdded(generation, upload_id, "NotFinite: it holds a NaN"))
            return
        update = self.uploads[upload_id]
        so_far = self.sums.setdefault(generation, WeightedSum({}, 0))
        before = so_far.coordinates.get(update.client, 0)
        coordinates = {**so_far.coordinates, update.client: before + update.samples * update.value}
        self.sums[generation] = WeightedSum(coordinates, so_far.weight + update.samples)
        self.take(UpdateAdded(generation, upload_id))

    def _store(self, effect: StorePartialAggregate) -> None:
        generation = effect.generation
        if self.world.chaos.happens("partial not stored") or self.world.store.objects.away:
            self.take(NotReported(generation, "the store is away"))
            return
        if effect.included and generation not in self.sums:
            return  # a newer order or a cancellation came, and the sum is forgotten
        total = self.sums.get(generation, WeightedSum({}, 0))
        stored = None
        if effect.included:
            stored = self.world.store.objects.put(total.content(generation))
        partial = PartialAggregate(generation, stored, total.weight, effect.included, effect.excluded, MetricsSummary())
        self.world.invariants.partial_made(partial, total)
        if self.take(Reported(generation)):
            self._report(partial)
