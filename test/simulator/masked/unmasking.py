"""Opening the sums of an attempt and committing what they make; follows fedn_py/reducer/cell_commits.py."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from simulator.masked.store import MaskedRow
from simulator.working import Work

from fedn_py.identity import Digest
from fedn_py.protocol.masked.contexts import encoding_of
from fedn_py.protocol.masked.opening_work import Cell, CellNotOpened, CellOpened
from fedn_py.protocol.masked.round_messages import Answer, BeaconLink, CommittedCell, RoundCommitted
from fedn_py.protocol.masked.signing import Signed, read_signed
from fedn_py.protocol.masked_rounds_work import MaskedEvent
from fedn_py.protocol.reducer_work import RoundNotSaved, RoundSaved
from fedn_py.reducer.attempts import AttemptAtHand
from fedn_py.reducer.cell_commits import stream_within_s
from fedn_py.reducer.cell_opening import CellFiles, CellOutcome, CellToOpen, CellTrials
from fedn_py.reducer.round_records import CommittedElsewhere
from fedn_py.store.ports import ObjectCorrupt, ObjectMissing

if TYPE_CHECKING:
    from simulator.masked.reducer_node import MaskedReducerNode


@dataclass(frozen=True)
class Size:
    """How large a file is."""

    st_size: int


@dataclass(frozen=True)
class InMemory:
    """What a file has in it; the part of a Path that opening a cell uses."""

    content: bytes

    def stat(self) -> Size:
        """Return its size."""
        return Size(len(self.content))

    def open(self, mode: str) -> BytesIO:
        """Return its content."""
        return BytesIO(self.content)


@dataclass(frozen=True)
class OpenedTotal:
    """What opening gave, in memory alone.

    Attributes:
        sums, weight: of the cells that passed, exactly.
    """

    outcomes: dict[bytes, CellOutcome]
    sums: tuple[int, ...]
    weight: int

    @property
    def passed(self) -> frozenset[bytes]:
        """The ctx of the cells in it."""
        return frozenset(ctx for ctx, outcome in self.outcomes.items() if outcome.fault is None)


class Unmasking:
    """Opens cells and commits rounds."""

    def __init__(self, node: "MaskedReducerNode") -> None:
        self._node = node

    # ---- opening

    def open(self, at: AttemptAtHand, ctxs: Sequence[bytes]) -> Work:
        """Open these cells; returns what came of each."""
        opened: OpenedTotal = yield from self._open(at, ctxs)
        at.opened = cast("Any", opened)
        verdicts: list[MaskedEvent] = []
        for ctx in ctxs:
            fault = opened.outcomes[ctx].fault
            if fault is None:
                verdicts.append(MaskedEvent(*at.where, CellOpened(ctx)))
            else:
                self._node.world.chaos.noticed(f"cell not opened: {fault.code}")
                verdicts.append(MaskedEvent(*at.where, CellNotOpened(ctx, f"{fault.code}: {fault.message}")))
        return verdicts

    def _open(self, at: AttemptAtHand, ctxs: Sequence[bytes]) -> Work:
        silent: frozenset[tuple[bytes, bytes]] = frozenset()
        asked: set[tuple[bytes, bytes]] = set()
        while True:
            yield self._node.world.chaos.uniform(0.05, 2)
            opened = yield from self._node.patiently(lambda: self._tried(at, ctxs, silent))  # noqa: B023 - called now
            wanted = {(ctx, member) for ctx in ctxs for member in opened.outcomes[ctx].wanted} - silent
            if not wanted:
                return opened
            self._node.world.chaos.noticed("a stream was wanted for opening")
            silent |= wanted & asked
            for ctx, member in sorted(wanted - asked):
                self._node.words.ask_stream(at, ctx, member)
            waits_until = self._node.world.clock.now + stream_within_s(at)
            while not wanted - asked <= at.streams.keys() and self._node.world.clock.now < waits_until:
                yield 1.0
            silent |= (wanted - asked) - at.streams.keys()
            asked |= wanted

    def _tried(self, at: AttemptAtHand, ctxs: Sequence[bytes], silent: frozenset[tuple[bytes, bytes]]) -> Work:
        encoding = encoding_of(at.plan_body)
        secret = self._node.attempts.secret_of(at)
        outcomes: dict[bytes, CellOutcome] = {}
        total, weight = np.zeros(encoding.n_parameters, np.int64), 0
        for ctx in ctxs:
            cell = _to_open(at, ctx, silent)
            self._node.world.invariants.servers.set_opened(self._node, at, ctx)
            try:
                files = yield from self._fetched(cell)
            except (ObjectMissing, ObjectCorrupt) as fault:
                outcomes[ctx] = CellOutcome(fault)
                continue
            sums = np.empty(encoding.n_parameters, np.int32)
            outcomes[ctx], tail = CellTrials(cell, encoding, secret, files, sums).outcome()
            if tail is not None:
                self._node.world.invariants.servers.cell_opened(at, ctx, sums, tail.weight)
                total += sums
                weight += tail.weight
        return OpenedTotal(outcomes, tuple(int(value) for value in total), weight)

    def _fetched(self, cell: CellToOpen) -> Work:
        """Read a cell's masked sum and sealed streams; a stream that is gone or damaged is not among them."""
        objects = self._node.world.store.objects
        yield self._node.world.chaos.store_s()
        partial, streams = objects.get(cell.partial), dict[bytes, Path]()
        for member, digest in cell.streams.items():
            yield self._node.world.chaos.store_s()
            with suppress(ObjectMissing, ObjectCorrupt):  # no fault of the member's: as if it had not come yet
                streams[member] = cast("Path", InMemory(objects.get(digest)))
        return CellFiles(cast("Path", InMemory(partial)), streams)

    # ---- the commit

    def commit(self, at: AttemptAtHand, ctxs: Sequence[bytes]) -> Work:
        """Make the model of these cells and commit it."""
        node, world = self._node, self._node.world
        opened = cast("OpenedTotal | None", at.opened)
        if opened is None or opened.passed != frozenset(ctxs):
            world.chaos.noticed("cells opened again for the commit")
            opened = yield from self._open(at, ctxs)
        yield world.chaos.uniform(0.05, 2)
        if world.chaos.happens("models not merged"):
            return [RoundNotSaved(*at.where, reason="WrongLength: the mean does not make a model")]
        base = Digest(at.plan_body.base_sha256.hex())
        content = json.dumps({"base": base, "sums": opened.sums, "weight": opened.weight}).encode()
        digest: Digest = yield from node.put(content)
        yield from node.perhaps_sleep("reducer stopped before a commit")
        node.perhaps_crash("reducer crashed before a commit")
        yield from self._write(at, ctxs, digest, opened)
        yield from node.look_after(digest, content)
        node.perhaps_crash("reducer crashed after a commit")
        yield world.chaos.uniform(0.01, 1)
        return [RoundSaved(*at.where, model=digest)]

    def _write(self, at: AttemptAtHand, ctxs: Sequence[bytes], model: Digest, opened: OpenedTotal) -> Work:
        cells = sorted((cell for cell in at.attempt.cells if cell.ctx in ctxs), key=lambda cell: cell.cell)
        plan = at.plan_body
        body = RoundCommitted(
            plan.session,
            plan.round,
            plan.attempt,
            bytes.fromhex(model),
            tuple(_committed(cell) for cell in cells),
            plan.parent_commit,
        )
        commit = self._node.speaker.sign(body)
        included = [included.header_hash for cell in cells for included in cell.rows]
        link = _link(at, cells[0], commit)

        def committed(row: MaskedRow) -> MaskedRow:
            if row.plan.attempt != plan.attempt or (row.status == "committed" and row.model != model):
                raise CommittedElsewhere(row.plan)
            if row.status == "committed":
                return row  # written before, and the answer was lost
            return replace(row, status="committed", model=model, commit=commit, link=link)

        servers = self._node.world.invariants.servers
        servers.committing(model, cells, included, opened.sums, opened.weight)
        yield from self._node.round_changed(at.session, plan.round, committed)


def _to_open(at: AttemptAtHand, ctx: bytes, silent: frozenset[tuple[bytes, bytes]]) -> CellToOpen:
    cell = at.cell_of(ctx)
    assert cell is not None
    assert cell.included_hash is not None
    assert cell.partial_sha256 is not None
    return CellToOpen(
        ctx=ctx,
        included_hash=cell.included_hash,
        n=len(cell.rows),
        partial=Digest(cell.partial_sha256.hex()),
        answers={member: answer for member, answer in cell.answers.items() if (ctx, member) not in silent},
        streams={member: digest for (of, member), digest in at.streams.items() if of == ctx},
    )


def _committed(cell: Cell) -> CommittedCell:
    assert cell.ctx is not None
    assert cell.included_hash is not None
    return CommittedCell(cell.cell, cell.ctx, cell.included_hash, len(cell.rows))


def _link(at: AttemptAtHand, beacon_cell: Cell, commit: Signed) -> BeaconLink:
    combiner = at.combiner_of(beacon_cell)
    answers = [beacon_cell.answers.get(seat.client_id) for seat in beacon_cell.seats]
    nonces = tuple(read_signed(answer, Answer).nonce for answer in answers if answer is not None)
    return BeaconLink(
        round=at.attempt.round,
        attempt=at.attempt.attempt,
        policy_hash=at.plan_body.policy_hash,
        order=at.orders[combiner],
        commit=commit,
        rows=at.committees[combiner].rows,
        nonces=nonces if len(nonces) == len(beacon_cell.seats) else (),
    )
