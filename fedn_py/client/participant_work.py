"""Performs what the machine of an update participant asks for: remembers, seals, sends.

The client's own machine decides when to train and when to send; this one decides what may be sent at all. A masked
update is brought on its way by ``send_update``, which does what the machine's phase asks for until the combiner has
answered, and can be taken up again wherever it was cut.
"""

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from fedn_py.client.machines import Machines
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory
from fedn_py.client.memory_rows import KeptUpload, Measured
from fedn_py.client.ports import Combiner
from fedn_py.client.registration import Registration
from fedn_py.client.secret_bytes import DrawnForUpload
from fedn_py.client.update_sealing import PlainUpdate, seal_update
from fedn_py.errors import FednError, OwnFault, PeerFault
from fedn_py.identity import Digest, Generation
from fedn_py.protocol.client import Event as ClientEvent
from fedn_py.protocol.client import UpdateAnswered, UpdateGone, UpdateWithheld, UploadBroken
from fedn_py.protocol.masked import participant
from fedn_py.protocol.masked import participant_work as work
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.differencing import MayBeOpened, SentRecord
from fedn_py.protocol.masked.participant_work import UpdateParticipant
from fedn_py.protocol.messages import MetricsRelease, TrainTask, UpdateHeader, UpdateReceipt
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import disk_faults
from fedn_py.transport.completion import in_thread

_BAD_BOX = "BadBox"

_log = logger("fedn_py.client")


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The operator's policy allows another number of works on one base model."""

    rework_max: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing has happened: when this is answered, all that was asked for before is done."""


Event: TypeAlias = work.Event | PolicyChanged | Settled


def step(state: UpdateParticipant, event: Event) -> tuple[UpdateParticipant, list[work.Effect]]:
    """Advance an update participant by one event; raises what ``participant.step`` does."""
    match event:
        case PolicyChanged(rework_max):
            return replace(state, rework_max=rework_max), []
        case Settled():
            return state, []
        case _:
            return participant.step(state, event)


class ParticipantWork:
    """The shell around an update participant's machine.

    Args:
        release: how far the site lets its metrics go.
        rework_max: of the policy known at start.
        machines: what the machine is run by.

    Attributes:
        mailbox: of the machine; its owner runs it.
    """

    def __init__(
        self,
        registration: Registration,
        memory: MaskedMemory,
        files: MaskedFiles,
        combiner: Combiner,
        *,
        release: MetricsRelease,
        rework_max: int,
        machines: Machines,
    ) -> None:
        self._registration, self._memory, self._files, self._combiner = registration, memory, files, combiner
        self._release: MetricsRelease = release
        self._sealed: KeptUpload | None = None
        self._drawn: DrawnForUpload | None = None
        self._sits_out: MayBeOpened | None = None
        stored = {row.ctx0: work.StoredUpload(row.ctx, row.upload_id) for row in memory.uploads()}
        began = UpdateParticipant(rework_max, seen=memory.seen(), sent=memory.sent(), stored=stored)
        self.mailbox: Mailbox[UpdateParticipant, Event, work.Effect] = Mailbox(
            "update participant", began, step, self.perform, on_fault=machines.stops(self.close)
        )

    @property
    def state(self) -> UpdateParticipant:
        """The machine's present state."""
        return self.mailbox.state

    def close(self) -> None:
        """End the machine."""
        self.mailbox.close()

    async def perform(self, effect: work.Effect) -> Iterable[Event] | None:
        """Do one effect; training, sealing and sending are done by ``send_update`` and the client's own work."""
        match effect:
            case work.SaveSeen(session, seen):
                await in_thread(self._memory.save_seen, session, seen)
            case work.SaveSent(record, upload_id):
                assert self._sealed is not None
                assert self._sealed.upload_id == upload_id
                await in_thread(self._save_sent, record, self._sealed)
            case work.EraseSeeds():
                self._erase()
            case work.SitOut(reason):
                self._sits_out = reason
                _log.warning("this client sits out", reason=reason.message, what_to_do=reason.remedy)
            case work.DropUpdate():
                await in_thread(self._drop_uploads)
            case work.Train() | work.SealUpdate() | work.SendUpload():
                pass
        return None

    def _save_sent(self, record: SentRecord, upload: KeptUpload) -> None:
        self._memory.save_sent(record, upload)
        self._files.tidy()

    def _drop_uploads(self) -> None:
        self._memory.drop_uploads()
        self._files.tidy()

    async def plan_checked(self, terms: CellTerms, plan_hash: bytes) -> None:
        """Take a plan that was believed.

        Raises:
            MayBeOpened, BaseUsedUp, OldRound: this client takes no part in it.
        """
        await self.mailbox.deliver(work.PlanChecked(terms, plan_hash))
        if isinstance(self.state.phase, work.SittingOut) and self._sits_out is not None:
            raise self._sits_out

    def training_failed(self, terms: CellTerms) -> None:
        """Learn that there is no update for a plan."""
        phase = self.state.phase
        if isinstance(phase, work.Training) and phase.terms.work == terms.work:
            self.mailbox.post(work.TrainingFailed(terms.work))

    # ---- on its way

    async def send_update(
        self,
        task: TrainTask,
        terms: CellTerms,
        committee: "asyncio.Future[Committee]",
        plain: PlainUpdate | None,
    ) -> list[ClientEvent]:
        """Bring a task's update to the combiner and return what became of it.

        Args:
            plain: None where only a masked one may be kept, by an earlier life of this process.
        """
        try:
            while True:
                # A seal that was cut may still be saved by the machine: nothing is sent before that.
                await self.mailbox.deliver(Settled())
                answered = await self._advance(task.generation, terms, committee, plain)
                if answered is not None:
                    return [answered]
        except FednError as fault:
            _log.warning("the update stays here", fault=fault.code, reason=fault.message, what_to_do=fault.remedy)
            # What this host lacks is its owner's concern; the network learns the name.
            why = "this client's own log says more" if isinstance(fault, OwnFault) else fault.message
            return [UpdateWithheld(task.generation, f"{fault.code}: {why}")]

    async def _advance(
        self,
        generation: Generation,
        terms: CellTerms,
        committee: "asyncio.Future[Committee]",
        plain: PlainUpdate | None,
    ) -> ClientEvent | None:
        match self.state.phase:
            case work.Training(under) if under.ctx0 == terms.ctx0:
                if plain is None:
                    return UpdateGone(generation)
                await self.mailbox.deliver(work.TrainingEnded(under.work))
            case work.Checking(under) if under.ctx0 == terms.ctx0:
                formed = await _formed(committee)
                await self.mailbox.deliver(work.CommitteeChecked(formed, under))
            case work.Sealing(under, formed, tries) if under.ctx0 == terms.ctx0:
                if plain is None:
                    return UpdateGone(generation)
                await self._seal(under, formed, plain, tries)
            case work.Sent(under, _, _, upload_id) if under.ctx0 == terms.ctx0:
                return await self._send(generation, upload_id)
            case work.SittingOut() if self._sits_out is not None:
                raise self._sits_out
            case _:
                raise NoLongerWanted
        return None

    async def _seal(self, terms: CellTerms, committee: Committee, plain: PlainUpdate, tries: int) -> None:
        upload_id = secrets.token_bytes(16)
        self._drawn = DrawnForUpload.fresh(committee.slots, len(committee.members))
        try:
            with disk_faults("masking the update"):
                sealed = await in_thread(
                    seal_update,
                    plain,
                    terms,
                    committee,
                    self._registration,
                    drawn=self._drawn,
                    upload_id=upload_id,
                    into=self._files.upload_path(upload_id),
                )
            self._files.sealed(upload_id)
            clear = self._release == "client" and terms.plan.metrics_release == "client"
            measured = tuple(Measured(name, value) for name, value in plain.training.items()) if clear else ()
            plan = terms.plan
            self._sealed = KeptUpload(
                terms.ctx0,
                committee.ctx,
                upload_id,
                plan.session,
                plan.round,
                sealed.upload,
                sealed.size,
                sealed.sha256,
                measured,
            )
            _log.info("the update is masked", slots=committee.slots, members=len(committee.members), upload=tries)
            await self.mailbox.deliver(work.UpdateSealed(committee.ctx, upload_id))
        finally:
            self._erase()

    async def _send(self, generation: Generation, upload_id: bytes) -> ClientEvent | None:
        row = next((row for row in self._memory.uploads() if row.upload_id == upload_id), None)
        if row is None:
            raise NoLongerWanted
        path = await in_thread(self._files.path, row)
        try:
            receipt = await self._combiner.upload(self._header(generation, row), path)
        except FednError as fault:
            _log.warning("the masked update was not delivered", reason=fault.message)
            return UploadBroken(generation, fault.message)
        if receipt.accepted:
            return UpdateAnswered(generation, receipt)
        return await self._refused(generation, upload_id, receipt)

    def _header(self, generation: Generation, row: KeptUpload) -> UpdateHeader:
        return UpdateHeader(
            generation,
            row.upload_id.hex(),
            row.size,
            Digest(row.sha256.hex()),
            0,
            {one.name: one.value for one in row.metrics},
            self._release,
            row.upload,
        )

    async def _refused(self, generation: Generation, upload_id: bytes, receipt: UpdateReceipt) -> ClientEvent | None:
        by_member = receipt.reason.startswith(_BAD_BOX)
        await self.mailbox.deliver(work.UploadRefused(upload_id, by_member))
        if isinstance(self.state.phase, work.Sealing):
            _log.warning("a member refused this client's box; masking the update anew", reason=receipt.reason)
            return None
        return UpdateAnswered(generation, receipt)

    def _erase(self) -> None:
        if self._drawn is not None:
            self._drawn.erase()
            self._drawn = None


async def _formed(committee: "asyncio.Future[Committee]") -> Committee:
    """Wait for a cell's committee, and tell how long an update that was ready had to."""
    if committee.done():
        return committee.result()
    clock = asyncio.get_running_loop().time
    began = clock()
    _log.info("the update is ready; waiting for the cell's committee")
    formed = await asyncio.shield(committee)
    _log.info("the cell's committee is there", waited_s=round(clock() - began, 3))
    return formed


class NoLongerWanted(PeerFault):
    """The round of an update is over, or another took its place."""

    def __init__(self) -> None:
        super().__init__("the round of this update is over, or another one took its place")
