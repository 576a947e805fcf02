"""Performs what the combiner's machine asks for: hands out tasks, adds updates, stores and reports sums."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fedn_py.combiner.arrivals import Arrivals
from fedn_py.combiner.masked_cells import MaskedCells
from fedn_py.combiner.ports import ReducerStream, Upstream
from fedn_py.combiner.shelf import Shelf
from fedn_py.combiner.storing import StoringSums
from fedn_py.combiner.sums import CellSum, ToldMetrics, summary_of, told_metrics
from fedn_py.errors import FednError
from fedn_py.identity import ClientId, Digest, Generation
from fedn_py.protocol.combiner import NO_LONGER
from fedn_py.protocol.combiner_work import (
    AddUpdate,
    AnswerUpload,
    CancelTask,
    Combiner,
    Effect,
    Event,
    FetchObjects,
    Forget,
    NotReported,
    ObjectsFetched,
    ObjectsNotFetched,
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
    Contribution,
    PartialAggregate,
    ToClient,
    UpdateHeader,
    UpdateReceipt,
    ValidationReport,
    ValidationResult,
)
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.model_files import read_layout
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.spool import SpooledUpload


@dataclass(slots=True)
class CellWork:
    """What is held for one generation.

    Attributes:
        total: the running sum; None for a validation.
        validated: the metrics that clients returned.
    """

    total: CellSum | None = None
    validated: dict[ClientId, ToldMetrics] = field(default_factory=dict)


class Cells:
    """The shell around the combiner's machine.

    Args:
        send: puts a message into a client's outbox; drops it when the client is not attached.
        masked: performs what is asked for masked cells.
    """

    def __init__(
        self,
        shelf: Shelf,
        upstream: Upstream,
        reducer: ReducerStream,
        send: Callable[[ClientId, ToClient], None],
        *,
        arrivals: Arrivals,
        masked: MaskedCells,
    ) -> None:
        self._shelf = shelf
        self._upstream = upstream
        self._reducer = reducer
        self._send = send
        self._work: dict[Generation, CellWork] = {}
        self._storing = StoringSums()
        self._arrivals = arrivals
        self._masked = masked
        self._mailbox: Mailbox[Combiner, Event, Effect] | None = None

    def attach(self, mailbox: Mailbox[Combiner, Event, Effect]) -> None:
        """Give the shell the machine that it serves."""
        self._mailbox = mailbox
        self._masked.attach(mailbox)

    @property
    def _machine(self) -> Mailbox[Combiner, Event, Effect]:
        assert self._mailbox is not None
        return self._mailbox

    def committed(self, model: Digest) -> None:
        """Have the model come that the next order is likely to be about."""
        self._machine.spawn(self._prefetch(model))

    async def _prefetch(self, model: Digest) -> list[Event]:
        await self._shelf.prefetch(model)
        return []

    # ---- what clients bring

    def offer(self, header: UpdateHeader) -> UpdateReceipt | None:
        """Return or raise why an update is not worth receiving, as far as its header tells.

        Of one for which there is no sum nothing is known, its right size neither: not a byte of it is taken.
        """
        work = self._work.get(header.generation)
        if work is None or work.total is None:
            return UpdateReceipt(accepted=False, reason=NO_LONGER)
        work.total.check_offer(header)
        return None

    async def judge(self, client: ClientId, header: UpdateHeader, upload: SpooledUpload) -> UpdateReceipt:
        """Have the machine take or refuse a whole update, and free its bytes."""
        contribution = Contribution(client, header.samples, header.sha256)

        def tell(key: str) -> None:
            self._machine.post(UpdateArrived(header.generation, key, contribution))

        return await self._arrivals.judged(client, header, upload, tell)

    def validated(self, client: ClientId, result: ValidationResult) -> None:
        """Take a client's metrics of a model; its first answer counts."""
        work = self._work.get(result.generation)
        if work is None or client in work.validated:
            return  # of a validation that is closed, or told again
        try:
            work.validated[client] = told_metrics(result.metrics, result.samples, result.release)
        except FednError as fault:
            self._machine.post(TaskNotDone(result.generation, client, f"{fault.code}: {fault.message}"))
            return
        self._machine.post(ValidationReturned(result.generation, client))

    # ---- effects

    async def perform(self, effect: Effect) -> Iterable[Event] | None:
        """Do one effect."""
        match effect:
            case FetchObjects():
                self._machine.spawn(self._fetch(effect))
            case SendTask(client, task):
                self._send(client, task)
            case CancelTask(client, cancelled):
                self._send(client, cancelled)
            case AddUpdate():
                self._machine.spawn(self._add(effect))
            case AnswerUpload(upload_id, receipt):
                self._arrivals.answer(upload_id, receipt)
            case StorePartialAggregate():
                self._storing.add(effect.generation, self._machine.spawn(self._store(effect)))
            case ReportValidation():
                self._report_validation(effect)
            case ReportFailure(failure):
                self._reducer.report(failure)
            case ReportProgress(progress):
                self._reducer.mention(progress)
            case Forget(generation):
                self._work.pop(generation, None)
                self._storing.forget(generation)
                self._masked.forget(generation)
            case _:
                self._masked.perform(effect)
        return None

    async def _fetch(self, effect: FetchObjects) -> list[Event]:
        generation = effect.generation
        try:
            await self._shelf.hold(effect.digests)
            with disk_faults("reading a model"):
                layout = await asyncio.to_thread(read_layout, self._shelf.path(effect.digests[0]))
        except FednError as fault:
            return [ObjectsNotFetched(generation, f"{fault.code}: {fault.message}")]
        self._work[generation] = CellWork(CellSum(layout))
        return [ObjectsFetched(generation)]

    async def _add(self, effect: AddUpdate) -> list[Event]:
        generation, upload_id = effect.generation, effect.upload_id
        work, arrived = self._work.get(generation), self._arrivals.get(upload_id)
        if work is None or work.total is None or arrived is None:
            return [UpdateNotAdded(generation, upload_id, "Late: the round ended while the update was being added")]
        try:
            with disk_faults("reading an update"):
                await work.total.add(arrived.client, arrived.header, arrived.upload)
        except FednError as fault:
            return [UpdateNotAdded(generation, upload_id, f"{fault.code}: {fault.message}")]
        return [UpdateAdded(generation, upload_id)]

    async def _store(self, effect: StorePartialAggregate) -> list[Event]:
        generation, included = effect.generation, effect.included
        work = self._work.get(generation)
        if work is None or work.total is None:
            return []  # cancelled in the meantime
        total, sum_object = work.total, None
        try:
            if included:
                content, sum_object = await total.whole()
                await self._upstream.store(content, sum_object)
        except FednError as fault:
            return [NotReported(generation, f"{fault.code}: {fault.message}")]
        if self._work.get(generation) is not work:
            return []  # cancelled while the store was away: a newer answer may have been given
        weight = sum(contribution.samples for contribution in included)
        metrics = work.total.training_metrics()
        self._reducer.report(PartialAggregate(generation, sum_object, weight, included, effect.excluded, metrics))
        return [Reported(generation)]

    def _report_validation(self, effect: ReportValidation) -> None:
        work = self._work.get(effect.generation, CellWork())
        told = {client: one for client, one in work.validated.items() if client in effect.validated}
        samples = sum(one.samples for one in told.values())
        report = ValidationReport(effect.generation, len(told), samples, summary_of(told), effect.excluded)
        self._reducer.report(report)
