"""Reads the writes to documents off a link before MongoDB, as they pass: who wrote what, and what the answer was."""

import struct
import threading
from collections.abc import Iterator
from typing import Any

import bson
from chaos.history import WATCHED, Entry, History, facts_of
from chaos.links import Direction

OP_MSG = 2013
_HEADER = 16


class StoreWatch:
    """Told of every byte of a link; writes into whichever history is there at the time."""

    def __init__(self) -> None:
        self.history: History | None = None
        self._bytes: dict[tuple[int, Direction], bytearray] = {}
        self._asked: dict[tuple[int, int], list[Entry]] = {}
        self._turn = threading.Lock()

    def __call__(self, connection: int, way: Direction, data: bytes, when: float) -> None:
        with self._turn:
            if not data:
                self._ended(connection, when)
                return
            waiting = self._bytes.setdefault((connection, way), bytearray())
            waiting += data
            for message in _messages(waiting):
                if way == "up":
                    self._request(connection, message, when)
                else:
                    self._reply(connection, message, when)

    def _request(self, connection: int, message: bytes, when: float) -> None:
        request_id, _, code = struct.unpack("<iii", message[4:_HEADER])
        if code == OP_MSG:
            writes = [{**write, "start": when} for write in writes_of(_body(message))]
            if writes:
                self._asked[connection, request_id] = writes

    def _reply(self, connection: int, message: bytes, when: float) -> None:
        _, response_to, _ = struct.unpack("<iii", message[4:_HEADER])
        for write in self._asked.pop((connection, response_to), []):
            self._write(write, _result(_body(message)), when)

    def _ended(self, connection: int, when: float) -> None:
        for way in ("up", "down"):
            self._bytes.pop((connection, way), None)  # type: ignore[call-overload]
        for asked in [one for one in self._asked if one[0] == connection]:
            for write in self._asked.pop(asked):
                self._write(write, "unknown", when)

    def _write(self, write: Entry, result: str, when: float) -> None:
        if self.history is not None:
            self.history.add(op="write", by="reducer", **write, end=when, result=result)


def writes_of(command: dict[str, Any]) -> Iterator[Entry]:
    """Yield what a command would write to the documents that are followed."""
    collection = command.get("update") or command.get("insert")
    if collection not in WATCHED:
        return
    for update in command.get("updates", []):
        yield _write(collection, update["q"].get("_id"), update["u"])
    for inserted in command.get("documents", []):
        yield _write(collection, inserted["_id"], inserted)


def _write(collection: str, key: object, stored: dict[str, Any]) -> Entry:
    return {"document": f"{collection}/{key}", **facts_of(collection, stored)}


def _result(reply: dict[str, Any]) -> str:
    if not reply.get("ok"):
        return "unknown"
    return "ok" if reply.get("n") and not reply.get("writeErrors") else "refused"


def _messages(waiting: bytearray) -> Iterator[bytes]:
    while len(waiting) >= 4:
        length = struct.unpack("<i", waiting[:4])[0]
        if len(waiting) < length:
            return
        yield bytes(waiting[:length])
        del waiting[:length]


def _body(message: bytes) -> dict[str, Any]:
    """Return an OP_MSG's command with the documents that stand beside it."""
    at, found = _HEADER + 4, {}
    flags = struct.unpack("<I", message[_HEADER:at])[0]
    end = len(message) - (4 if flags & 1 else 0)  # a checksum
    while at < end:
        kind, size = message[at], struct.unpack("<i", message[at + 1 : at + 5])[0]
        section = message[at + 1 : at + 1 + size]
        if kind == 0:
            found |= bson.decode(section)
        else:
            name_end = section.index(b"\0", 4)
            found[section[4:name_end].decode()] = bson.decode_all(section[name_end + 1 :])
        at += 1 + size
    return found
