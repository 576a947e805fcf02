"""Performs what the client's machine asks for: trains, validates, uploads, tells; one piece of work at a time."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from fedn_py.client.combiner_side import CombinerSide
from fedn_py.client.masked_side import MaskedSide
from fedn_py.client.objects import ObjectFolder
from fedn_py.client.ports import Learned, Learner, LearningTask
from fedn_py.client.update_sealing import OF_VALIDATION
from fedn_py.client.updates import KeptUpdate, UpdateFolder
from fedn_py.errors import FednError
from fedn_py.execution.entry_points import EntryPointFault
from fedn_py.execution.python_env import EnvironmentNotBuilt
from fedn_py.identity import Digest, Generation
from fedn_py.protocol.client import (
    Client,
    DropUpdate,
    Effect,
    Event,
    MetricsReady,
    SendMetrics,
    StopWork,
    TellFailed,
    TellOutcome,
    Train,
    Training,
    UpdateAnswered,
    UpdateReady,
    Upload,
    UploadBroken,
    Uploading,
    Validate,
    Validating,
    WorkFailed,
)
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.messages import (
    Metrics,
    MetricsRelease,
    TaskFailed,
    TrainTask,
    UpdateReceipt,
    ValidationOrder,
    ValidationResult,
)
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import disk_faults

LEFT = "ClientLeft: its site has stopped it"

_log = logger("fedn_py.client")


class ClientWork:
    """The shell around the client's machine.

    Args:
        release: how far the site lets its metrics go.
        release_logs: whether what a failed entry point printed or raised leaves the site, or the fault's name alone.
            The operator's policy must let it too.
    """

    def __init__(
        self,
        learner: Learner,
        combiner: CombinerSide,
        updates: UpdateFolder,
        models: ObjectFolder,
        *,
        release: MetricsRelease,
        release_logs: bool,
    ) -> None:
        self._learner = learner
        self._combiner = combiner
        self._updates = updates
        self._models = models
        self._release: MetricsRelease = release
        self._release_logs = release_logs
        self._kept: KeptUpdate | None = None
        self._measured: tuple[ValidationOrder, Learned] | None = None
        self._job: tuple[Generation, asyncio.Task[None]] | None = None
        self._mailbox: Mailbox[Client, Event, Effect] | None = None
        self._masked: MaskedSide | None = None

    def attach(self, mailbox: Mailbox[Client, Event, Effect], masked: MaskedSide) -> None:
        """Give the shell the machine that it serves, and the way that masked updates go."""
        self._mailbox, self._masked = mailbox, masked

    async def perform(self, effect: Effect) -> Iterable[Event] | None:
        """Do one effect."""
        match effect:
            case Train(task):
                self._begin(task.generation, self._train(task))
            case Upload(task):
                self._begin(task.generation, self._upload(task))
            case Validate(order):
                self._begin(order.generation, self._validate(order))
            case StopWork(generation):
                await self._stop(generation)
            case SendMetrics(generation):
                self._send_metrics(generation)
            case TellFailed(failure):
                _log.error("task failed", reason=failure.reason)
                self._combiner.send(failure)
            case DropUpdate():
                await self._drop_kept()
            case TellOutcome(_, receipt):
                _tell_outcome(receipt)
        return None

    async def _drop_kept(self) -> None:
        if self._kept is not None:
            await self._updates.drop(self._kept)
            self._kept = None

    def left_undone(self) -> TaskFailed | None:
        """Return what to say of the work at hand when this client stops, None where it has none."""
        assert self._mailbox is not None
        match self._mailbox.state.work:
            case Training(task) | Uploading(task):
                return TaskFailed(task.generation, LEFT)
            case Validating(order):
                return TaskFailed(order.generation, LEFT)
            case _:
                return None

    async def close(self) -> None:
        """End the work at hand and the learner."""
        if self._job is not None:
            await self._stop(self._job[0])
        await self._learner.close()

    def _begin(self, generation: Generation, work: Coroutine[Any, Any, Iterable[Event] | None]) -> None:
        assert self._mailbox is not None
        self._job = (generation, self._mailbox.spawn(work))

    async def _stop(self, generation: Generation) -> None:
        """End a piece of work and wait until it has ended: the next one uses the same folders."""
        if self._job is None or self._job[0] != generation:
            return
        _, task = self._job
        self._job = None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    # ---- the pieces of work

    async def _train(self, task: TrainTask) -> list[Event]:
        plan = task.plan
        _log.info("training", round=plan.round_number, attempt=plan.attempt)
        learning = LearningTask(
            plan.session, plan.round_number, plan.attempt, plan.package, plan.parameters, plan.update_timeout_s
        )

        terms = None if self._masked is None else self._masked.terms_of(task)

        async def work() -> None:
            await self._drop_kept()  # one of whose end the machine has not heard: it was stopped at the last moment
            base = await self._model(plan.base_model)
            model = self._updates.new_model_path()
            before = await self._measured_before(base, learning, terms)
            learned = await self._learner.train(base, model, learning, self._combiner.fetch)
            encoding = None if terms is None else terms.encoding
            self._kept = await self._updates.make(plan, base, model, learned, before=before, encoding=encoding)

        events = await self._tried(task.generation, work, lambda: UpdateReady(task.generation))
        if self._masked is not None and any(isinstance(event, WorkFailed) for event in events):
            self._masked.training_failed(task)
        return events

    async def _measured_before(self, base: Path, learning: LearningTask, terms: CellTerms | None) -> Metrics:
        """Return the base model's metrics where a masked plan sums some; a package may not have any."""
        if terms is None or not any(metric.name.startswith(OF_VALIDATION) for metric in terms.plan.metrics):
            return {}
        try:
            return (await self._learner.validate(base, learning, self._combiner.fetch)).metrics
        except FednError as fault:
            _log.warning("the model could not be validated before training", reason=fault.message)
            return {}

    async def _validate(self, order: ValidationOrder) -> list[Event]:
        _log.info("validating", round=order.round_number)
        learning = LearningTask(order.session, order.round_number, 1, order.package, order.parameters, order.timeout_s)

        async def work() -> None:
            model = await self._model(order.model)
            learned = await self._learner.validate(model, learning, self._combiner.fetch)
            self._measured = (order, learned)

        return await self._tried(order.generation, work, lambda: MetricsReady(order.generation))

    async def _tried(
        self, generation: Generation, work: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], Event]
    ) -> list[Event]:
        try:
            with disk_faults("doing a task"):
                await work()
        except (EntryPointFault, EnvironmentNotBuilt) as fault:
            _log.error("the package failed", reason=fault.message, what_to_do=fault.remedy, log=fault.log)
            return [self._failed(generation, fault, fault.log)]
        except FednError as fault:
            _log.error("the task could not be done", reason=fault.message, what_to_do=fault.remedy)
            return [self._failed(generation, fault)]
        return [ended()]

    def _failed(self, generation: Generation, fault: FednError, log: str = "") -> WorkFailed:
        if not (self._release_logs and self._masked is not None and self._masked.logs_may_go):
            # A fault's sentence may hold what the package's own code said of the site's data.
            return WorkFailed(generation, f"{fault.code}: the logs stay at this site, they say more")
        return WorkFailed(generation, f"{fault.code}: {fault.message}", log)

    async def _upload(self, task: TrainTask) -> list[Event]:
        kept = self._kept
        if self._masked is not None and task.masked is not None:
            return await self._masked.send_update(task, None if kept is None else kept.to_mask(self._release))
        if kept is None:
            return [UploadBroken(task.generation, "the update is no longer kept")]
        try:
            if self._masked is not None:  # the policy may have changed while this trained
                await self._masked.check_still_plain(task)
            receipt = await self._combiner.upload(kept.header(task.generation, self._release), kept.values)
        except FednError as fault:
            _log.warning("the update was not delivered", reason=fault.message)
            return [UploadBroken(task.generation, fault.message)]
        return [UpdateAnswered(task.generation, receipt)]

    def _send_metrics(self, generation: Generation) -> None:
        if self._measured is None or self._measured[0].generation != generation:
            return
        order, learned = self._measured
        try:
            if self._masked is not None:  # the policy may have changed while this validated
                self._masked.check_still_clear(order)
        except FednError as fault:
            self._combiner.send(TaskFailed(generation, f"{fault.code}: {fault.message}"))
            return
        metrics = {} if self._release == "none" else learned.metrics
        self._combiner.send(ValidationResult(generation, learned.samples, metrics, self._release))

    async def _model(self, digest: Digest) -> Path:
        return await self._models.have(digest, self._combiner.fetch)


def _tell_outcome(receipt: UpdateReceipt) -> None:
    if receipt.accepted:
        _log.info("the update is in")
    else:
        _log.warning("the update was refused", reason=receipt.reason)
