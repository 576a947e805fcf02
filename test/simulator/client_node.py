"""A client's process: it dials, trains on virtual time, keeps its update and repeats its uploads."""

from typing import Any

from simulator.clock import Alarm
from simulator.combiner_node import CombinerNode
from simulator.network import Call, Stream
from simulator.nodes import Node
from simulator.updates import Update

from fedn_py.identity import ClientId, CombinerName, Generation
from fedn_py.protocol.client import (
    Attached,
    Cancelled,
    Client,
    Committed,
    Detached,
    DropUpdate,
    MetricsReady,
    Piece,
    SendMetrics,
    StopWork,
    Tasked,
    TellFailed,
    TellOutcome,
    Train,
    Training,
    UpdateAnswered,
    UpdateReady,
    Upload,
    UploadBroken,
    Validate,
    WorkFailed,
)
from fedn_py.protocol.messages import (
    ClientHello,
    ClientWelcome,
    RoundCommitted,
    TaskCancelled,
    TrainTask,
    UpdateReceipt,
    ValidateTask,
    ValidationResult,
)

UPLOAD_TRIES = 3


class ClientNode(Node):
    """One of the clients."""

    state: Client

    @property
    def id(self) -> ClientId:
        """Who it is."""
        return ClientId(self.name)

    def begin(self) -> None:
        """Start with nothing and look for a combiner."""
        self.state = Client()
        self.stream: Stream | None = None
        self.kept: Update | None = None
        self.running: dict[Generation, Alarm] = {}
        self.uploading: dict[Generation, Call] = {}
        self.uploads_of: dict[str, int] = {}
        self.first_asked: dict[str, Generation] = {}
        self.sought = 0
        self._seek()

    # ---- connections

    def _seek(self) -> None:
        reducer = self.world.reducers[self.sought % len(self.world.reducers)]
        self.sought += 1
        Call(
            self.world,
            self,
            reducer,
            ask=lambda reply: reducer.assign(self.id, reply),
            answered=self._attach,
            broken=lambda: self.later(self.world.chaos.backoff_s(), self._seek),
        )

    def _attach(self, combiner: CombinerName | None) -> None:
        node = self.world.combiners.get(combiner) if combiner is not None else None
        if node is None or not node.up:
            self.later(self.world.chaos.backoff_s(), self._seek)
            return
        self.stream = self.world.open_stream(self, node)
        self.stream.send(self, ClientHello(self.id, self.name, ""))  # type: ignore[arg-type]

    def stream_ended(self, stream: Stream) -> None:
        """Notice that the combiner has gone, and look for one."""
        if stream is not self.stream:
            return
        self.stream = None
        if self.state.attached:
            if isinstance(self.state.work, Training):
                self.world.chaos.noticed("client cut off while it trained")
            self.take(Detached())
        self.later(self.world.chaos.backoff_s(), self._seek)

    def heard(self, stream: Stream, message: Any) -> None:
        """Take a message from the combiner."""
        if stream is not self.stream:
            return
        match message:
            case ClientWelcome():
                self.take(Attached())
            case TrainTask() | ValidateTask():
                self.take(Tasked(message))
            case TaskCancelled():
                self.take(Cancelled(message))
            case RoundCommitted():
                self.take(Committed(message))

    # ---- effects

    def perform(self, effect: Any) -> None:
        """Do one effect."""
        match effect:
            case Train(task):
                self._train(task)
            case Upload(task):
                assert self.kept is not None
                self._upload(task.generation, self.kept, 1)
            case Validate(order):
                self._validate(order.generation)
            case SendMetrics(generation):
                self._say(ValidationResult(generation, 1, {}, "mean"))
            case StopWork(generation):
                self._stop(generation)
            case TellFailed(failure):
                self._say(failure)
            case DropUpdate():
                self.kept = None
            case TellOutcome(_, receipt):
                self.world.chaos.noticed("update accepted" if receipt.accepted else "update refused")

    def _say(self, message: Any) -> None:
        if self.stream is not None:
            self.stream.send(self, message)

    def _train(self, task: TrainTask) -> None:
        took_s = self.world.training_s(self.id)
        started = task.generation

        def trained() -> None:
            self.running.pop(started, None)
            if self.world.chaos.happens("training failed"):
                self.take(WorkFailed(started, "EntryPointFailed: exit status 1"))
                return
            self.kept = self.world.new_update(self.id, Piece.of(task.plan))
            self.take(UpdateReady(started))

        self.running[started] = self.later(took_s, trained)

    def _validate(self, generation: Generation) -> None:
        def validated() -> None:
            self.running.pop(generation, None)
            failed = self.world.chaos.happens("validation failed")
            self.take(WorkFailed(generation, "EntryPointFailed: exit status 1") if failed else MetricsReady(generation))

        self.running[generation] = self.later(self.world.chaos.uniform(0.1, 4), validated)

    def _upload(self, generation: Generation, update: Update, attempt: int) -> None:
        if self.stream is None:
            return
        combiner = self.stream.listener
        assert isinstance(combiner, CombinerNode)
        self.uploads_of[update.upload_id] = self.uploads_of.get(update.upload_id, 0) + 1
        if self.uploads_of[update.upload_id] == 2:
            self.world.chaos.noticed("update trained once and uploaded twice")
        if self.first_asked.setdefault(update.upload_id, generation) != generation:
            self.world.chaos.noticed("update trained once and used by a later attempt")

        def answered(receipt: UpdateReceipt) -> None:
            self.uploading.pop(generation, None)
            self.take(UpdateAnswered(generation, receipt))

        def broken() -> None:
            self.uploading.pop(generation, None)
            if attempt < UPLOAD_TRIES:
                self._upload(generation, update, attempt + 1)
            else:
                self.world.chaos.noticed("upload given up")
                self.take(UploadBroken(generation, "UploadBroken: no answer"))

        self.uploading[generation] = Call(
            self.world,
            self,
            combiner,
            ask=lambda reply: combiner.upload(generation, update, reply),
            answered=answered,
            broken=broken,
        )

    def _stop(self, generation: Generation) -> None:
        if generation in self.running:
            self.running.pop(generation).cancel()
        if generation in self.uploading:
            self.uploading.pop(generation).forget()
