"""The documents of a simulated network: the memory store, over a network that is slow, cut off or loses answers.

Reducers write through the ledger of fedn_py/reducer/ledger.py and nothing else. A document's content is the number of
a value that is kept beside it: what is tried here is who may write when, not how values are spelled.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.working import Pause, Signal, at_once

from fedn_py.store.memory import MemoryDocuments
from fedn_py.store.ports import Collection, Document, Documents, JSONValue, Outcome, StoreUnavailable

if TYPE_CHECKING:
    from simulator.reducer_node import ReducerNode

SLOW_S = 3.0
_GIVES_UP_S = 2.0


@dataclass(frozen=True)
class Kept:
    """What a document says: which value is its content."""

    value: int


class Shelf:
    """Documents and the values that they name.

    Attributes:
        documents: the memory store.
        away: nobody reaches it now.
    """

    def __init__(self) -> None:
        self.documents = MemoryDocuments()
        self.away = False
        self._values: list[Any] = []

    def keep(self, value: Any) -> Kept:
        """Keep a value and return what names it."""
        self._values.append(value)
        return Kept(len(self._values) - 1)

    def value(self, kept: Kept) -> Any:
        """Return a value."""
        return self._values[kept.value]

    def value_in(self, content: Mapping[str, JSONValue]) -> Any:
        """Return the value of a document's content, None where it names none."""
        record = content.get("record")
        number = record.get("value") if isinstance(record, dict) else None
        return self._values[number] if isinstance(number, int) else None

    def now(self, collection: Collection, key: str) -> Document | None:
        """Return a document as it is, at once; for those who watch."""
        found: Document | None = at_once(self.documents.get(collection, key))
        return found

    def insert_now(self, collection: Collection, key: str, value: Any) -> None:
        """Add a document at once, before any reducer has one."""
        content = {"record": {"value": self.keep(value).value}}
        at_once(self.documents.insert(collection, key, content, fence=0, operation="first"))


class StoreLink:
    """One process's way to the documents; what it has sent is on its way, whatever becomes of the process.

    A write has three results, and an unknown one may have been applied, may be applied later, or never.
    """

    def __init__(self, node: "ReducerNode", shelf: Shelf) -> None:
        self._node, self._shelf = node, shelf
        self.documents: Documents = shelf.documents

    async def insert(
        self, collection: Collection, key: str, content: Mapping[str, JSONValue], *, fence: int, operation: str
    ) -> Outcome:
        """See Documents.insert."""

        async def act() -> Outcome:
            return await self.documents.insert(collection, key, content, fence=fence, operation=operation)

        return await self._write(act, collection, key)

    async def update(
        self,
        collection: Collection,
        key: str,
        content: Mapping[str, JSONValue],
        *,
        version: int,
        fence: int,
        operation: str,
    ) -> Outcome:
        """See Documents.update."""

        async def act() -> Outcome:
            return await self.documents.update(
                collection, key, content, version=version, fence=fence, operation=operation
            )

        return await self._write(act, collection, key)

    async def get(self, collection: Collection, key: str) -> Document | None:
        """See Documents.get."""
        answer: Document | None = await self._asked(lambda: at_once(self.documents.get(collection, key)))
        return answer

    async def _asked(self, act: Callable[[], Any]) -> Any:
        """Have something done there, and wait for the answer; raises StoreUnavailable where none comes."""
        world, answered, got = self._node.world, Signal(), list[Any]()
        slow_s = SLOW_S if world.chaos.happens("documents slow") else 0.0

        def arrive() -> None:
            if self._shelf.away:
                world.clock.after(_GIVES_UP_S, answered.fire)
                return
            got.append(act())
            world.clock.after(world.chaos.store_s() + slow_s, answered.fire)

        world.clock.after(world.chaos.store_s(), arrive)
        await Pause(answered)
        if not got:
            raise StoreUnavailable("the documents cannot be reached")
        return got[0]

    async def _write(self, act: Callable[[], Awaitable[Outcome]], collection: Collection, key: str) -> Outcome:
        def apply() -> Outcome:
            before = self._shelf.now(collection, key)
            outcome: Outcome = at_once(act())  # type: ignore[arg-type]
            self._node.world.document_written(self._node, collection, key, before, outcome)
            if self._node.up and self._node.world.chaos.happens("reducer crashed after a write"):
                self._node.world.crash_for_a_while(self._node)
            return outcome

        world = self._node.world
        if not self._shelf.away and world.chaos.happens("answer of a write lost"):
            fate = world.rng.choice(("applied", "never applied", "applied later"))
            world.chaos.noticed(f"unknown outcome: {fate}")
            if fate == "applied":
                await self._asked(apply)
            elif fate == "applied later":
                world.clock.after(world.chaos.uniform(1, 12), apply)
            await Pause(world.chaos.uniform(0.5, 4))
            return "unknown"
        outcome: Outcome = await self._asked(apply)
        return outcome

    # ---- what no reducer of a simulated network asks for

    async def find(
        self,
        collection: Collection,
        equals: Mapping[str, str | int | bool] | None = None,
        *,
        order_by: str = "",
        descending: bool = False,
        limit: int = 0,
        after: str | int | None = None,
    ) -> Sequence[Document]:
        """See Documents.find."""
        raise NotImplementedError

    async def count(self, collection: Collection, equals: Mapping[str, str | int | bool] | None = None) -> int:
        """See Documents.count."""
        raise NotImplementedError

    async def delete(self, collection: Collection, key: str, *, version: int, fence: int) -> Outcome:
        """See Documents.delete."""
        raise NotImplementedError

    async def forget(self) -> None:
        """See Documents.forget."""

    async def check(self) -> None:
        """See Documents.check."""

    async def close(self) -> None:
        """See Documents.close."""
