"""Masked cells of a simulated combiner; follows fedn_py/combiner/masked_cells.py."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from simulator.masked.certified import CHAINS
from simulator.nodes import Node
from simulator.working import Work

from fedn_py.combiner.masked_reports import closed_cell
from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import ClientId, Digest, Generation
from fedn_py.masking.hashing import plain_hash
from fedn_py.masking.pet import add_masked
from fedn_py.model.pieces import WrongLength
from fedn_py.protocol.combiner_work import (
    NotReported,
    ObjectsNotFetched,
    Reported,
    UpdateAdded,
    UpdateNotAdded,
)
from fedn_py.protocol.masked.boxes import WrongShape, check_header
from fedn_py.protocol.masked.cell_updates import Late
from fedn_py.protocol.masked.cell_work import (
    AddVector,
    CollectingUpdates,
    StoreSum,
    TermsChecked,
    UploadOffered,
    VectorArrived,
)
from fedn_py.protocol.masked.contexts import CellTerms
from fedn_py.protocol.masked.round_messages import BoxFor, IncludedRow
from fedn_py.protocol.masked.round_messages import UpdateHeader as SignedHeader
from fedn_py.protocol.masked.words import Boxes, MaskedUpload
from fedn_py.protocol.messages import (
    CellOrder,
    MaskedPartial,
    MetricsSummary,
    SaidToClient,
    UpdateReceipt,
)

if TYPE_CHECKING:
    from simulator.masked.combiner_node import MaskedCombinerNode

Reply = Callable[[Any], None]
LATE = Late()


@dataclass
class Held:
    """What is held for one masked cell: terms, the running sum, boxes by upload."""

    terms: CellTerms
    words: "np.ndarray[Any, Any]"
    boxes: dict[IncludedRow, MaskedUpload] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrived:
    """A whole vector that waits to be judged."""

    upload: MaskedUpload
    vector: bytes


class Cells:
    """What is held for cells, and what clients bring to them.

    Attributes:
        held: by generation. arrived: whole vectors that wait. replies: to those who wait for their judgement.
    """

    def __init__(self, node: "MaskedCombinerNode") -> None:
        self._node = node
        self._numbers = count(1)
        self.held: dict[Generation, Held] = {}
        self.arrived: dict[str, Arrived] = {}
        self.replies: dict[str, Reply] = {}

    # ---- what clients bring

    def upload(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, vector: bytes, reply: Reply
    ) -> None:
        """Take an upload: header and boxes at once, the bytes when they are here."""
        self._node.world.invariants.servers.reached(self._node, upload, by_reducer=False)
        self._node.world.invariants.servers.reached(self._node, vector, by_reducer=False)
        refusal = self._offered(client, generation, upload, len(vector))
        if refusal is not None:
            reply(refusal)
            return
        self._node.spawn(self._receive(client, generation, upload, vector, reply))

    def _offered(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, size: int
    ) -> UpdateReceipt | None:
        work = self._node.state.work
        if not isinstance(work, CollectingUpdates) or work.order.generation != generation:
            return _refusal(LATE)
        try:
            self._node.trust.registered(client, upload.chain)
            n_words = work.terms.encoding.n_words
            verified = check_header(upload.header, upload.chain, work.acknowledged.committee, n_words, CHAINS)
            if tuple(tuple(plain_hash(box) for box in slot) for slot in upload.boxes) != verified.header.box_hashes:
                raise WrongShape("its boxes are not those that it names")
            if size != 4 * n_words:
                raise WrongLength("a masked update", size, 4 * n_words)
        except FednError as fault:
            return _refusal(fault)
        row = IncludedRow(verified.client.client_id, verified.hash)
        self.held[generation].boxes[row] = upload
        try:
            taken = Node.take(self._node, UploadOffered(generation, client, verified.client, row))
        except PeerFault as fault:
            self.held[generation].boxes.pop(row, None)
            return _refusal(fault)
        self._node.still_up()
        return None if taken else _refusal(LATE)

    def _receive(
        self, client: ClientId, generation: Generation, upload: MaskedUpload, vector: bytes, reply: Reply
    ) -> Work:
        stream = self._node.streams.get(client)
        yield self._node.world.chaos.uniform(0.05, 3)
        if self._node.streams.get(client) is not stream or (stream is not None and stream.broken):
            self._node.world.chaos.noticed("masked upload cut")
            return
        if self._node.world.chaos.happens("vector damaged"):
            vector = bytes(len(vector))
        header = SignedHeader.decode(upload.header.body)
        row = IncludedRow(header.client_id, self._node.world.header_hash(upload.header.body))
        key = f"arrival {next(self._numbers)}"
        self.arrived[key], self.replies[key] = Arrived(upload, vector), reply
        self._node.take(VectorArrived(generation, key, client, row))

    def take_stream(self, client: ClientId, stream: bytes, reply: Reply) -> None:
        """Take the sealed stream of an answer, if the reducer asked this client for one."""
        if not any(one == client for one, _ in self._node.asked_streams):
            self._node.world.chaos.noticed("stream not asked for here")
            return  # refused; its member is asked again
        self._node.spawn(self._put_stream(stream, reply))

    def _put_stream(self, stream: bytes, reply: Reply) -> Work:
        yield self._node.world.chaos.uniform(0.05, 1)
        if self._node.world.chaos.happens("stream lost") or self._node.world.store.objects.away:
            return
        self._put(stream)
        reply(True)

    def _put(self, content: bytes) -> Digest:
        """Store an object, where the reducer can read it."""
        self._node.world.invariants.servers.reached(self._node, content, by_reducer=True)
        return self._node.world.store.objects.put(content)

    # ---- effects

    def relay(self, generation: Generation, member: ClientId, rows: Iterable[IncludedRow]) -> None:
        held, work = self.held.get(generation), self._node.state.work
        if held is None or not isinstance(work, CollectingUpdates):
            return
        committee = work.acknowledged.committee
        seat = committee.member(bytes.fromhex(member))
        assert seat is not None
        boxes = [
            BoxFor(upload.chain, upload.header, upload.boxes[seat.slot][seat.replica])
            for upload in (held.boxes[row] for row in rows if row in held.boxes)
        ]
        if boxes:
            self._node.send(member, SaidToClient(Boxes(committee.ctx, tuple(boxes))))

    def check(self, order: CellOrder) -> Work:
        yield self._node.world.chaos.uniform(0.01, 1)
        if self._node.world.chaos.happens("objects not fetched") or self._node.world.store.objects.away:
            return [ObjectsNotFetched(order.generation, "StoreUnavailable: the store is away")]
        try:
            terms = self._node.trust.check_order(order)
        except FednError as fault:
            return [ObjectsNotFetched(order.generation, f"{fault.code}: {fault.message}")]
        self.held[order.generation] = Held(terms, np.zeros(terms.encoding.n_words, np.uint32))
        return [TermsChecked(order.generation, terms)]

    def add_vector(self, effect: AddVector) -> Work:
        yield self._node.world.chaos.uniform(0.01, 1)
        generation, key = effect.generation, effect.upload_id
        held, arrived = self.held.get(generation), self.arrived.get(key)
        if held is None or arrived is None:
            return [UpdateNotAdded(generation, key, "Late: the round ended while the update was being added")]
        header = SignedHeader.decode(arrived.upload.header.body)
        if hashlib.sha256(arrived.vector).digest() != header.vector_hash:
            return [UpdateNotAdded(generation, key, "DigestMismatch: it is not the vector that its header names")]
        add_masked(held.words, np.frombuffer(arrived.vector, "<u4").astype(np.uint32))
        return [UpdateAdded(generation, key)]

    def store_sum(self, effect: StoreSum) -> Work:
        generation = effect.generation
        yield self._node.world.chaos.uniform(
            0.05, 300 if self._node.world.chaos.happens("partial stored very late") else 2
        )
        held = self.held.get(generation)
        if held is None:
            return []
        if self._node.world.chaos.happens("partial not stored") or self._node.world.store.objects.away:
            return [NotReported(generation, "StoreUnavailable: the store is away")]
        digest = self._put(held.words.astype("<u4").tobytes())
        self._node.perhaps_crash()
        closed = self._node.trust.sign(closed_cell(effect, digest))
        self._node.report_of_cell(
            MaskedPartial(generation, closed, len(effect.rows), effect.excluded, MetricsSummary())
        )
        return [Reported(generation)]


def _refusal(fault: FednError) -> UpdateReceipt:
    return UpdateReceipt(accepted=False, reason=f"{fault.code}: {fault.message}")
