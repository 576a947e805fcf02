"""The reducer's line to its sandbox, over a real socket."""

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fedn_py.runtime.desk import DeskMalformed
from fedn_py.web.sandbox_desk import DeskAway, SocketDesk


def asked_of(place: Path, line: bytes, work: Coroutine[Any, Any, Any]) -> Any:
    """Answer one request with a line and return what came of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(line)
        writer.close()

    async def main() -> Any:
        async with await asyncio.start_unix_server(answer, place):
            return await work

    return asyncio.run(main())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_where_nobody_listens_the_desk_is_away(place: Path) -> None:
    with pytest.raises(DeskAway, match="does not answer"):
        asyncio.run(SocketDesk(place).processes())
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place))
    with pytest.raises(DeskAway):
        asyncio.run(SocketDesk(place).processes())


@pytest.mark.parametrize("line", [b"", b"[]", b'{"answer": {"name": "client-9"}}\n'])
def test_what_is_no_answer_is_a_fault_with_a_remedy(place: Path, line: bytes) -> None:
    with pytest.raises(DeskMalformed) as fault:
        asked_of(place, line, SocketDesk(place).processes())
    assert fault.value.remedy


def test_an_answer_without_an_end_is_given_up(place: Path) -> None:
    with pytest.raises(DeskAway):
        asked_of(place, b"x" * (2 << 20), SocketDesk(place).processes())


def test_a_new_client_comes_with_its_name(place: Path) -> None:
    assert asked_of(place, b'{"answer": {"name": "client-9"}}\n', SocketDesk(place).add_client()) == "client-9"
