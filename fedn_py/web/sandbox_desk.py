"""In a sandbox, the reducer's line to the process that started the network: for what no reducer can do by itself."""

import asyncio
from pathlib import Path
from typing import Protocol, TypeVar

from fedn_py.errors import OwnFault
from fedn_py.runtime.desk import (
    MOST_BYTES,
    AddClient,
    Added,
    Answer,
    DeskMalformed,
    Done,
    Kill,
    Look,
    MadeSeed,
    MadeToken,
    MakeSeed,
    MakeToken,
    MaskedUpdateView,
    Processes,
    ProcessView,
    Request,
    ShowMasked,
    StartAgain,
    read_answer,
    write_request,
)

AnswerT = TypeVar("AnswerT", bound=Answer)

_SOON_S = 30.0
_PACKAGE_S = 600.0
"""For what runs code of a package."""


class DeskAway(OwnFault):
    """The sandbox's process does not answer."""


class SandboxDesk(Protocol):
    """What pages of a sandbox can have done; each raises DeskAway or DeskRefused with the sandbox's own words."""

    async def processes(self) -> tuple[ProcessView, ...]:
        """Return all processes of the sandbox."""
        ...

    async def kill(self, name: str) -> None:
        """End a client or combiner as a power cut would."""
        ...

    async def start_again(self, name: str) -> None:
        """Start a client or combiner that has ended."""
        ...

    async def add_client(self) -> str:
        """Start one more client and return its name."""
        ...

    async def make_token(self, label: str, days: float) -> MadeToken:
        """Make a client's token with its join credential."""
        ...

    async def make_seed(self, package: str) -> MadeSeed:
        """Have a package of this network make its seed model, and upload that."""
        ...

    async def masked_update(self, client: str = "") -> MaskedUpdateView:
        """Return the last masked update of a client, or the newest of all."""
        ...


class SocketDesk:
    """Speaks to the sandbox over its Unix socket, one connection for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def processes(self) -> tuple[ProcessView, ...]:
        """See SandboxDesk."""
        return (await self._ask(Look(), Processes)).processes

    async def kill(self, name: str) -> None:
        """See SandboxDesk."""
        await self._ask(Kill(name), Done)

    async def start_again(self, name: str) -> None:
        """See SandboxDesk."""
        await self._ask(StartAgain(name), Done)

    async def add_client(self) -> str:
        """See SandboxDesk."""
        return (await self._ask(AddClient(), Added, within_s=_PACKAGE_S)).name

    async def make_token(self, label: str, days: float) -> MadeToken:
        """See SandboxDesk."""
        return await self._ask(MakeToken(label, days), MadeToken)

    async def make_seed(self, package: str) -> MadeSeed:
        """See SandboxDesk."""
        return await self._ask(MakeSeed(package), MadeSeed, within_s=_PACKAGE_S)

    async def masked_update(self, client: str = "") -> MaskedUpdateView:
        """See SandboxDesk."""
        return await self._ask(ShowMasked(client), MaskedUpdateView)

    async def _ask(self, request: Request, wanted: type[AnswerT], *, within_s: float = _SOON_S) -> AnswerT:
        try:
            async with asyncio.timeout(within_s):
                line = await self._exchange(write_request(request))
        except (OSError, ValueError) as fault:  # a timeout is an OSError, a line beyond the limit a ValueError
            raise DeskAway(
                f"the sandbox does not answer ({str(fault) or 'no answer in time'})",
                remedy="It answers once all its processes are up: look at the terminal that it was started in.",
            ) from fault
        answer = read_answer(request, line)
        if not isinstance(answer, wanted):
            raise DeskMalformed(f"the sandbox answered with {type(answer).__name__}", remedy="Start the sandbox again.")
        return answer

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MOST_BYTES)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()
