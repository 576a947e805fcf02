"""A simulated client's masked updates: remembered, sealed, sent; follows fedn_py/client/participant_work.py."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.updates import Update
from simulator.working import Part, Work

from fedn_py.client.memory_rows import KeptUpload
from fedn_py.client.participant_work import NoLongerWanted, PolicyChanged
from fedn_py.errors import FednError
from fedn_py.identity import Generation
from fedn_py.masking.fixed_point import Encoder
from fedn_py.masking.pet import Masker, mask_key
from fedn_py.protocol.client import Event as ClientEvent
from fedn_py.protocol.client import UpdateAnswered, UpdateGone, UpdateWithheld, UploadBroken
from fedn_py.protocol.masked import participant_work as work
from fedn_py.protocol.masked.boxes import update_header
from fedn_py.protocol.masked.committee import Committee
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.differencing import MayBeOpened, Proofs
from fedn_py.protocol.masked.participant_work import UpdateParticipant
from fedn_py.protocol.masked.signing import Signed
from fedn_py.protocol.masked.words import MaskedUpload
from fedn_py.protocol.messages import TrainTask, UpdateReceipt

if TYPE_CHECKING:
    from simulator.masked.client_node import Cell, MaskedClientNode

UPLOAD_TRIES = 3


@dataclass(frozen=True)
class DrawnBytes:
    """The random bytes of one upload, as fedn_py/client/secret_bytes.py draws them."""

    seeds: tuple[bytes, ...]
    rounding: bytes
    ephemeral: tuple[bytes, ...]


class Sending:
    """The shell around an update participant's machine."""

    def __init__(self, node: "MaskedClientNode") -> None:
        self._node = node
        self._sealed: tuple[KeptUpload, bytes] | None = None
        self._sits_out: MayBeOpened | None = None
        disk = node.disk
        stored = {row.ctx0: work.StoredUpload(row.ctx, row.upload_id) for row in disk.uploads.values()}
        began = UpdateParticipant(node.beliefs.rework_max, seen=disk.seen, sent=disk.sent, stored=stored)
        self.part = Part(node, "update", began, node.world.machines.participant, self._perform)

    @property
    def state(self) -> UpdateParticipant:
        """The machine's present state."""
        state: UpdateParticipant = self.part.state
        return state

    @property
    def proofs(self) -> Proofs:
        """What shows that sets can never be opened."""
        return self.state.proofs

    def _perform(self, effect: work.Effect) -> None:
        node = self._node
        match effect:
            case work.SaveSeen(session, seen):
                node.save(replace(node.disk, seen={**node.disk.seen, session: seen}))
            case work.SaveSent(record, upload_id):
                assert self._sealed is not None
                assert self._sealed[0].upload_id == upload_id
                node.save(node.disk.with_sent(record, *self._sealed))
            case work.SitOut(reason):
                node.world.chaos.noticed("a client sits out")
                self._sits_out = reason
            case work.DropUpdate():
                node.save(replace(node.disk, uploads={}, vectors={}))
            case work.EraseSeeds() | work.Train() | work.SealUpdate() | work.SendUpload():
                pass

    def plan_checked(self, terms: CellTerms, plan_hash: bytes) -> None:
        """Take a plan that was believed; raises MayBeOpened, BaseUsedUp, OldRound."""
        self.part.take(work.PlanChecked(terms, plan_hash))
        if isinstance(self.state.phase, work.SittingOut) and self._sits_out is not None:
            raise self._sits_out

    def policy_changed(self, rework_max: int) -> None:
        """Go by another policy."""
        self.part.take(PolicyChanged(rework_max))

    def learn_own_abort(self, abort: Signed) -> None:
        """Hear of this client's own Abort."""
        self.part.offer(work.AbortArrived(abort))

    def training_failed(self, terms: CellTerms) -> None:
        """Learn that there is no update for a plan."""
        phase = self.state.phase
        if isinstance(phase, work.Training) and phase.terms.work == terms.work:
            self.part.offer(work.TrainingFailed(terms.work))

    # ---- on its way

    def send_update(self, job: Any, task: TrainTask, cell: "Cell | None", plain: Update | None) -> Work:
        """Bring a task's update to the combiner; returns the client's events."""
        node = self._node
        try:
            if cell is None:
                raise NoLongerWanted
            while node.job is job:
                answered = yield from self._advance(job, task.generation, cell, plain)
                if answered is not None:
                    return [answered]
        except FednError as fault:
            node.world.chaos.noticed(f"update withheld: {fault.code}")
            return [UpdateWithheld(task.generation, f"{fault.code}: {fault.message}")]
        return []

    def _advance(self, job: Any, generation: Generation, cell: "Cell", plain: Update | None) -> Work:
        ctx0 = cell.terms.ctx0
        match self.state.phase:
            case work.Training(under) if under.ctx0 == ctx0:
                if plain is None:
                    return UpdateGone(generation)
                self.part.take(work.TrainingEnded(under.work))
            case work.Checking(under) if under.ctx0 == ctx0:
                while cell.committee is None:
                    yield cell.formed
                    if self._node.job is not job:
                        return None
                if isinstance(cell.committee, FednError):
                    raise cell.committee
                self.part.take(work.CommitteeChecked(cell.committee, under))
            case work.Sealing(under, formed) if under.ctx0 == ctx0:
                if plain is None:
                    return UpdateGone(generation)
                yield self._node.world.chaos.uniform(0.05, 2)
                if self._node.job is job:
                    self._seal(under, formed, plain)
            case work.Sent(under, _, _, upload_id) if under.ctx0 == ctx0:
                answered: ClientEvent | None = yield from self._send(job, generation, upload_id)
                return answered
            case work.SittingOut() if self._sits_out is not None:
                raise self._sits_out
            case _:
                raise NoLongerWanted
        return None

    def _seal(self, terms: CellTerms, committee: Committee, plain: Update) -> None:
        node = self._node
        drawn = node.world.machines.draw(node, terms.work, committee)
        upload, vector = seal(node, terms, committee, plain, drawn)
        digest = node.world.sha256(vector)
        plan = terms.plan
        upload_id = node.world.headers[upload.header.body].upload_id
        kept = KeptUpload(terms.ctx0, committee.ctx, upload_id, plan.session, plan.round, upload, len(vector), digest)
        self._sealed = kept, vector
        self.part.take(work.UpdateSealed(committee.ctx, upload_id))

    def _send(self, job: Any, generation: Generation, upload_id: bytes) -> Work:
        node = self._node
        row = next((row for row in node.disk.uploads.values() if row.upload_id == upload_id), None)
        if row is None:
            raise NoLongerWanted
        vector = node.disk.vectors[upload_id]
        node.world.invariants.clients.upload_sent(node, row)
        receipt: UpdateReceipt | None = None
        for _ in range(UPLOAD_TRIES):
            receipt = yield from node.asked_of_combiner(
                lambda combiner, reply: combiner.cells.upload(node.id, generation, row.upload, vector, reply)
            )
            if receipt is not None or node.job is not job or node.stream is None:
                break
            node.world.chaos.noticed("masked upload sent again")
        if node.job is not job:
            return None
        if receipt is None:
            return UploadBroken(generation, "no answer")
        node.world.chaos.noticed(f"upload {'accepted' if receipt.accepted else receipt.reason.split(':')[0]}")
        if receipt.accepted:
            return UpdateAnswered(generation, receipt)
        self.part.take(work.UploadRefused(upload_id, receipt.reason.startswith("BadBox")))
        return None if isinstance(self.state.phase, work.Sealing) else UpdateAnswered(generation, receipt)


def draw(node: "MaskedClientNode", work_hash: bytes, committee: Committee) -> DrawnBytes:
    """Draw the random bytes of one upload."""
    seeds = tuple(node.random_bytes() for _ in range(committee.slots))
    return DrawnBytes(seeds, node.random_bytes(), tuple(node.random_bytes() for _ in committee.members))


def seal(
    node: "MaskedClientNode", terms: CellTerms, committee: Committee, plain: Update, drawn: DrawnBytes
) -> tuple[MaskedUpload, bytes]:
    """Mask an update; returns what goes before it, and its bytes."""
    world, who, encoding = node.world, node.who, terms.encoding
    values = world.values_of(plain)
    keys = [mask_key(committee.ctx, who.id, slot, seed) for slot, seed in enumerate(drawn.seeds)]
    metrics = (0.0,) * len(encoding.metric_bounds)
    vector = np.empty(encoding.n_words, np.uint32)
    Masker(Encoder(encoding, world.weight_of(plain), metrics, drawn.rounding), keys).chunk(0, values, vector)
    content = vector.astype("<u4").tobytes()
    sealed = world.machines.seal(committee, who.id, drawn.seeds, drawn.ephemeral)
    header = update_header(
        committee,
        who.id,
        sealed,
        upload_id=node.random_bytes(16),
        vector_hash=hashlib.sha256(content).digest(),
        n_words=encoding.n_words,
    )
    signed = node.signed(header)
    world.sealed(node, plain, header, signed.body)
    world.invariants.clients.sealed(node, committee.ctx, drawn, values.astype("<f8").tobytes(), content)
    return MaskedUpload(who.chain, signed, sealed.boxes), content
