"""The network's tokens: made, looked up on every call, revoked. Only the hash of a secret is ever kept."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedn_py.errors import FednError, PeerFault
from fedn_py.identity import TokenId
from fedn_py.reducer.control_faults import UnknownToken
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger, NoRecord
from fedn_py.reducer.records import TokenKept
from fedn_py.reducer.shown_tokens import Role
from fedn_py.runtime.scratch import disk_faults
from fedn_py.runtime.secret_files import write_secret
from fedn_py.transport.authentication import Caller, TokenRecord, check, check_record, new_token, token_id_of

ROLES: tuple[Role, ...] = ("admin", "viewer", "combiner", "client")

ADMIN_VALID_S = 365 * 86_400.0
_USE_NOTED_EVERY_S = 60.0


class TokenBook:
    """Makes tokens and knows them again.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, ledger: Ledger, events: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._noted: dict[TokenId, float] = {}

    async def create(self, role: Role, label: str, valid_s: float) -> tuple[str, TokenKept]:
        """Make a token; its text is returned once and kept nowhere."""
        now = self._clock()
        text, record = new_token(role, label, valid_s, now)
        kept = TokenKept(record, now)
        await self._ledger.add("tokens", record.id, kept, created=now_ms(now), role=role)
        self._events.tell("token.created", f"token {record.id} made for {role} {label!r}", token=record.id)
        return text, kept

    async def revoke(self, token: TokenId) -> TokenKept:
        """Make a token worthless from now on; raises UnknownToken."""
        try:
            kept = await self._ledger.change(
                "tokens", token, TokenKept, lambda old: replace(old, token=replace(old.token, revoked=True))
            )
        except NoRecord as fault:
            raise UnknownToken(token) from fault
        self._events.tell("token.revoked", f"token {token} ({kept.token.label!r}) was revoked", "warning", token=token)
        return kept

    async def find(self, bearer: str) -> TokenRecord:
        """Return the record of a token that is good now, or raise the refusal that names what is wrong with it."""
        record = await good_token(self._ledger, bearer, self._clock())
        await self._note_use(record.id)
        return record

    async def still_good(self, token: TokenId) -> TokenRecord:
        """Return the record of a token that was found before and is good now, or raise why it is not."""
        kept = await self._ledger.get("tokens", token, TokenKept)
        return check_record(token, kept.token if kept is not None else None, self._clock(), ROLES)

    async def authenticate(self, bearer: str, method: str) -> Caller:  # noqa: ARG002 - the door's table decides
        """Return who shows this token, for the gRPC servers."""
        record = await self.find(bearer)
        return Caller(record.role, record.label, record.id)

    async def valid_s(self, token: TokenId) -> float:
        """Return how long a token is still good for, in seconds."""
        kept = await self._ledger.get("tokens", token, TokenKept)
        return max(0.0, kept.token.not_after - self._clock()) if kept is not None else 0.0

    async def revoked(self) -> frozenset[TokenId]:
        """Return the tokens that were revoked."""
        kept = await self._ledger.find("tokens", TokenKept)
        return frozenset(one.token.id for one in kept if one.token.revoked)

    async def _note_use(self, token: TokenId) -> None:
        """Keep when a token was last used, to the minute; a call never fails for it."""
        now = self._clock()
        if now - self._noted.get(token, 0.0) < _USE_NOTED_EVERY_S:
            return
        self._noted[token] = now
        try:
            await self._ledger.change("tokens", token, TokenKept, lambda old: replace(old, last_used=now))
        except FednError as fault:
            self._events.tell("token.use_not_noted", fault.message, "warning", token=token)

    async def write_admin(self, file: Path) -> TokenId | None:
        """Have a good admin token in a file that the owner of this process alone can read; return it where it is new.

        Who starts a reducer has its stores and may do anything; the file says so in a form that REST takes.
        """
        with contextlib.suppress(PeerFault):  # unknown here, revoked or expired: it gets a new one
            if (await self.find(await asyncio.to_thread(_text_of, file))).role == "admin":
                return None
        text, kept = await self.create("admin", "reducer's operator", ADMIN_VALID_S)
        with disk_faults("writing the operator's token"):
            await asyncio.to_thread(write_secret, file, text + "\n")
        return kept.token.id


async def good_token(ledger: Ledger, bearer: str, now: float) -> TokenRecord:
    """Return the record of a token that is good now, or raise the refusal that names what is wrong with it."""
    kept = await ledger.get("tokens", token_id_of(bearer), TokenKept)
    return check(bearer, kept.token if kept is not None else None, now, ROLES)


def _text_of(file: Path) -> str:
    with disk_faults("reading the operator's token"):
        # What is no text is no token either.
        return file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else ""


def now_ms(seconds: float) -> int:
    """Return an instant as an integer, by which documents are ordered."""
    return int(seconds * 1000)
