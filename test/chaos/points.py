"""The named points at which a process can be killed or stopped, in one table.

Each point is a call of a function of the product, before or after it. What a call is about is its passing's name, such
as the key of a round's document: the same thing done again is not passed twice. The product knows nothing of them: the
launcher puts them around its functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Arguments = Mapping[str, Any]
"""A call's arguments by name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place where a process may end.

    Attributes:
        place: "module:function" or "module:class.function".
        passing: what this call is about, None where it is not at this point; "" counts each call.
    """

    name: str
    role: str
    place: str
    when: Literal["before", "after"]
    passing: Callable[[Arguments], str | None] = lambda _: ""


# ---- what a write of the reducer's is about


def _record(call: Arguments) -> Mapping[str, Any] | None:
    if call["collection"] != "rounds":
        return None
    record: Mapping[str, Any] = call["content"]["record"]
    return record


def _newest(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    document = record.get("document")
    if not document or not document["attempts"]:
        return None
    attempt: Mapping[str, Any] = document["attempts"][-1]["attempt"]
    return attempt


def _attempt(call: Arguments) -> str | None:
    record = _record(call)
    return f"{call['key']}/{record['plan']['attempt']}" if record is not None else None


def _commit(call: Arguments) -> str | None:
    record = _record(call)
    return call["key"] if record is not None and record["status"] == "committed" else None


def _failed(call: Arguments) -> str | None:
    record = _record(call)
    return _attempt(call) if record is not None and record["status"] == "failed" else None


def _validated(call: Arguments) -> str | None:
    record = _record(call)
    return call["key"] if record is not None and record["validation"] is not None else None


def _set_stored(call: Arguments) -> str | None:
    newest = _newest(_record(call) or {})
    stored = newest is not None and any(cell["included_hash"] for cell in newest["cells"])
    return _attempt(call) if stored else None


def _answer_stored(call: Arguments) -> str | None:
    newest = _newest(_record(call) or {})
    stored = newest is not None and any(cell["answers"] for cell in newest["cells"])
    return _attempt(call) if stored else None


def _opening_stored(call: Arguments) -> str | None:
    newest = _newest(_record(call) or {})
    return _attempt(call) if newest is not None and newest["opening"] else None


def _key_unset(call: Arguments) -> str | None:
    record = _record(call)
    document = record.get("document") if record is not None else None
    return _attempt(call) if document and not document["round_key"] else None


def _session_finished(call: Arguments) -> str | None:
    if call["collection"] != "sessions":
        return None
    return str(call["key"]) if call["content"]["record"]["status"] == "finished" else None


# ---- what combiners and clients do


def _partial(call: Arguments) -> str | None:
    return "" if type(call["message"]).__name__ in {"PartialAggregate", "MaskedPartial"} else None


def _validation(call: Arguments) -> str | None:
    return "" if type(call["message"]).__name__ == "ValidationReport" else None


def _answer(call: Arguments) -> str | None:
    return "" if getattr(call["word"], "said", None) == "answer" else None


_WRITE = "fedn_py.store.mongodb:MongoDocuments.update"
_INSERT = "fedn_py.store.mongodb:MongoDocuments.insert"
_MEMORY = "fedn_py.client.masked_memory:MaskedMemory"

POINTS = (
    Point("attempt unwritten", "reducer", _INSERT, "before", _attempt),
    Point("attempt written, its orders not sent", "reducer", _INSERT, "after", _attempt),
    Point("committee arrived", "reducer", "fedn_py.reducer.masked_words:MaskedWords.committee_formed", "before"),
    Point("set unwritten", "reducer", _WRITE, "before", _set_stored),
    Point("set stored, nobody asked", "reducer", _WRITE, "after", _set_stored),
    Point("answer stored", "reducer", _WRITE, "after", _answer_stored),
    Point("opening unwritten", "reducer", _WRITE, "before", _opening_stored),
    Point("opening stored, nothing opened", "reducer", _WRITE, "after", _opening_stored),
    Point("model not stored", "reducer", "fedn_py.store.minio:MinioObjects.put", "before"),
    Point("commit unwritten", "reducer", _WRITE, "before", _commit),
    Point("commit written, nobody told", "reducer", _WRITE, "after", _commit),
    Point("key still in the document", "reducer", _WRITE, "before", _key_unset),
    Point("key unset", "reducer", _WRITE, "after", _key_unset),
    Point("failure unwritten", "reducer", _WRITE, "before", _failed),
    Point("validation unwritten", "reducer", _WRITE, "before", _validated),
    Point("validation written", "reducer", _WRITE, "after", _validated),
    Point("session's end unwritten", "reducer", _WRITE, "before", _session_finished),
    Point("keys offered", "combiner", "fedn_py.combiner.masked_cells:MaskedCells.keys_offered", "before"),
    Point(
        "committee told, not confirmed",
        "combiner",
        "fedn_py.combiner.reducer_stream:ReducerVoice.tell_committee",
        "after",
    ),
    Point("masked update added", "combiner", "fedn_py.combiner.masked_sum:MaskedSum.add", "after"),
    Point("update added", "combiner", "fedn_py.combiner.sums:CellSum.add", "after"),
    Point(
        "sum stored, not reported",
        "combiner",
        "fedn_py.combiner.reducer_stream:ReducerVoice.report",
        "before",
        _partial,
    ),
    Point("sum reported", "combiner", "fedn_py.combiner.reducer_stream:ReducerVoice.report", "after", _partial),
    Point("answer came, not passed on", "combiner", "fedn_py.combiner.words:Words.from_client", "before", _answer),
    Point("metrics came", "combiner", "fedn_py.combiner.cells:Cells.validated", "before"),
    Point(
        "validation not reported",
        "combiner",
        "fedn_py.combiner.reducer_stream:ReducerVoice.report",
        "before",
        _validation,
    ),
    Point("membership saved, no key offered", "client", f"{_MEMORY}.save_membership", "after"),
    Point("update made", "client", "fedn_py.client.updates:UpdateFolder.make", "after"),
    Point("upload saved, not sent", "client", f"{_MEMORY}.save_sent", "after"),
    Point("upload under way", "client", "fedn_py.transport.transfer:_read", "before"),
    Point("promise saved, not said", "client", f"{_MEMORY}.save_promise", "after"),
    Point("answer saved, not sent", "client", f"{_MEMORY}.save_answer", "after"),
)

NAMES = {point.name: point for point in POINTS}
