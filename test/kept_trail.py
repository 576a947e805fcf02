"""Stores with sessions and their models in them, written as a reducer writes them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts import chunked
from builders import NORTH, NORTH_1, a_partial, a_plan

from fedn_py.identity import Digest, Generation, InstanceId, SessionId
from fedn_py.protocol.reducer_terms import SessionTerms
from fedn_py.reducer.backing_up import make_backup
from fedn_py.reducer.event_log import event_key, indexed
from fedn_py.reducer.lease import LEASE_KEY, Holder, LeaseRecord
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.masked_documents import AttemptDocument, MaskedDocument
from fedn_py.reducer.records import (
    EventRecord,
    OrderedCell,
    PackageRecord,
    RoundRecord,
    SeedModelRecord,
    SessionRecord,
    SessionStatus,
    round_key,
)
from fedn_py.store.backup_folder import Manifest, open_writing
from fedn_py.store.memory import MemoryDocuments, MemoryObjects
from fedn_py.store.opening import Stores, check_schema
from fedn_py.store.ports import Documents, Objects

FIRST, SECOND = SessionId("5e55"), SessionId("5e56")
FENCE = 7
WRAPPED, SEALED, SUM = "the-wrapped-key", Digest("d" * 64), Digest("5" * 64)


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


@dataclass
class Kept:
    """A network's stores, filled by ``a_session``."""

    documents: Documents = field(default_factory=MemoryDocuments)
    objects: Objects = field(default_factory=MemoryObjects)

    @property
    def stores(self) -> Stores:
        return Stores(self.documents, self.objects)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.documents, FENCE)

    async def begin(self) -> None:
        await check_schema(self.documents)
        holder = Holder("reducer", InstanceId("1"), "here")
        await self.ledger.add("network", LEASE_KEY, LeaseRecord(holder))
        await self.tell(1, "reducer.started")

    async def tell(self, seq: int, kind: str) -> None:
        event = EventRecord(seq, 1.0, kind, "info", kind)
        await self.ledger.add("events", event_key(event.seq), event, **indexed(event))

    async def put(self, content: bytes) -> Digest:
        return (await self.objects.put(chunked(content))).digest

    async def session(
        self, session: SessionId = FIRST, number: int = 1, status: SessionStatus = "finished", rounds: int = 3
    ) -> SessionTerms:
        """Store a session with its package and seed model, and no round."""
        package, seed = await self.put(b"package"), await self.put(b"seed")
        terms = SessionTerms(session, number, rounds, package, seed)
        if await self.ledger.get("packages", package, PackageRecord) is None:
            record = PackageRecord(package, "digits", "1", 7, 1, {}, 1.0)
            await self.ledger.add("packages", package, record, created=1000)
            model = SeedModelRecord(seed, 4, 1, 1, "layout", 1.0)
            await self.ledger.add("models", seed, model, created=1000)
        about = SessionRecord(f"session-{number}", terms, status, "", 1.0)
        await self.ledger.add("sessions", session, about, number=number, status=status)
        return terms

    async def committed(self, terms: SessionTerms, number: int, base: Digest, content: bytes) -> Digest:
        """Store a committed round, over the one that ran; return its model."""
        model = await self.put(content)
        await self._round(terms, number, base, status="committed", model=model, model_size=len(content))
        return model

    async def running(self, terms: SessionTerms, number: int, base: Digest) -> None:
        """Store a round under way, with all that an attempt has: a key, a sealed answer, a cell's sum."""
        attempt = AttemptDocument(1, {"stage": "running"}, "plan", {}, {}, {"ctx/member": SEALED})
        cell = OrderedCell(NORTH, NORTH_1, Generation(1), (), a_partial(sum_object=SUM))
        await self._round(
            terms, number, base, status="running", document=MaskedDocument((attempt,), WRAPPED), cells=(cell,)
        )

    async def _round(
        self, terms: SessionTerms, number: int, base: Digest, cells: tuple[OrderedCell, ...] = (), **fields: Any
    ) -> None:
        plan = a_plan(
            session=terms.session,
            session_number=terms.number,
            round_number=number,
            base_model=base,
            package=terms.package,
        )
        record = RoundRecord(
            plan=plan, generation=Generation(1), cells=cells, started=1.0, attempt_started=1.0, **fields
        )
        found = {"session": terms.session, "number": number, "status": record.status}
        if record.model is not None:
            found |= {"model": record.model, "created": 1000 + number}
        await self.ledger.put("rounds", round_key(terms.session, number), record, **found)

    async def trained(
        self, session: SessionId = FIRST, number: int = 1, done: int = 2, status: SessionStatus = "finished"
    ) -> Sequence[Digest]:
        """Store a session with so many committed rounds; return its models, the seed first."""
        terms = await self.session(session, number, status)
        models = [terms.seed_model]
        for round_number in range(1, done + 1):
            content = f"{session}/{round_number}".encode()
            models.append(await self.committed(terms, round_number, models[-1], content))
        return models


async def a_kept_network(**how: Any) -> Kept:
    """Return stores with one session that has two rounds."""
    kept = Kept()
    await kept.begin()
    await kept.trained(**how)
    return kept


def untold(_done: int, _total: int) -> None:
    pass


async def backed_up(stores: Stores, folder: Path, **how: int) -> Manifest:
    writer = open_writing(folder)
    try:
        return await make_backup(stores, writer, untold, deployment="hospitals", reducer="reducer", **how)
    finally:
        await writer.close()
