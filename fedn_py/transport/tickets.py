"""Tickets: what lets one client in at one combiner, in memory and for a while."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from fedn_py.identity import ClientId, ClientName, TokenId
from fedn_py.transport.authentication import Caller, TokenExpired, UnknownToken, secret_sha256

_ASK_AGAIN = "Ask the reducer for a combiner again."
_MOST_AWAITED = 1_000


@dataclass(frozen=True, slots=True)
class _Ticket:
    client: ClientId
    name: ClientName
    not_after: float


def new_ticket() -> tuple[str, str]:
    """Make a ticket.

    Returns:
        Its text for the client, and its sha256 (hex) for the combiner.
    """
    text = secrets.token_urlsafe(32)
    return text, secret_sha256(text)


class Tickets:
    """The tickets that a combiner takes: the Authenticator of its server.

    A client may hold several (it was assigned again before the first one ran out); each is good for its own time.

    Args:
        clock: seconds, monotonic.
        most: how many are kept; the oldest go first.
        wait_s: how long one that is not known is waited for: the reducer tells a client and its combiner of a ticket
            at the same time, so the client may be here first.
    """

    def __init__(self, clock: Callable[[], float], *, most: int = 20_000, wait_s: float = 0.0) -> None:
        self._clock = clock
        self._most = most
        self._wait_s = wait_s
        self._awaited: dict[str, asyncio.Event] = {}
        # Both in the order in which tickets came: the oldest of all, and the newest of a client, are found at once.
        self._by_sha256: dict[str, _Ticket] = {}
        self._of_client: dict[ClientId, dict[str, _Ticket]] = {}

    def expect(self, client: ClientId, name: ClientName, ticket_sha256: str, valid_s: float) -> None:
        """Take this ticket from now on, for valid_s seconds."""
        now = self._clock()
        self._forget(ticket_sha256)
        while self._by_sha256 and (len(self._by_sha256) >= self._most or self._oldest().not_after < now):
            self._forget(next(iter(self._by_sha256)))
        ticket = _Ticket(client, name, now + valid_s)
        self._by_sha256[ticket_sha256] = self._of_client.setdefault(client, {})[ticket_sha256] = ticket
        if ticket_sha256 in self._awaited:
            self._awaited[ticket_sha256].set()

    def dismiss(self, client: ClientId) -> None:
        """Take no ticket of this client any more."""
        for sha256 in tuple(self._of_client.get(client, ())):
            self._forget(sha256)

    def name_of(self, client: ClientId) -> ClientName | None:
        """Return the name under which the reducer assigned a client, None where it is not expected."""
        tickets = self._of_client.get(client)
        return next(reversed(tickets.values())).name if tickets else None

    async def authenticate(self, bearer: str, method: str) -> Caller:  # noqa: ARG002 - any method, the table decides
        """Return the client that holds this ticket; its id is the caller's name."""
        # Looked up by its hash: how long that takes says nothing about the ticket itself.
        sha256 = secret_sha256(bearer)
        await self._wait_for(sha256)
        ticket = self._by_sha256.get(sha256)
        if ticket is None:
            raise UnknownToken("this ticket is not known here", remedy=_ASK_AGAIN)
        if self._clock() > ticket.not_after:
            raise TokenExpired("this ticket has run out", remedy=_ASK_AGAIN)
        return Caller("client", ticket.client, TokenId(sha256[:16]))

    async def _wait_for(self, sha256: str) -> None:
        if sha256 in self._by_sha256 or not self._wait_s or len(self._awaited) >= _MOST_AWAITED:
            return
        news = self._awaited.setdefault(sha256, asyncio.Event())
        try:
            async with asyncio.timeout(self._wait_s):
                await news.wait()
        except TimeoutError:
            pass
        finally:
            self._awaited.pop(sha256, None)

    def _oldest(self) -> _Ticket:
        return next(iter(self._by_sha256.values()))

    def _forget(self, sha256: str) -> None:
        ticket = self._by_sha256.pop(sha256, None)
        if ticket is not None:
            of_client = self._of_client[ticket.client]
            del of_client[sha256]
            if not of_client:
                del self._of_client[ticket.client]
