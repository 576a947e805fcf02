"""Tokens: made once, known again, refused by name, and never kept in a form that could be shown."""

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from unruly_store import Trouble, UnrulyDocuments

from fedn_py.reducer.control_faults import UnknownToken
from fedn_py.reducer.event_log import EventLog
from fedn_py.reducer.ledger import Ledger
from fedn_py.reducer.records import EventRecord, TokenKept
from fedn_py.reducer.token_book import ADMIN_VALID_S, TokenBook
from fedn_py.runtime.scratch import DiskFailed
from fedn_py.store.memory import MemoryDocuments
from fedn_py.transport.authentication import TokenExpired, TokenRevoked, WrongTokenSecret
from fedn_py.transport.authentication import UnknownToken as TokenNotKnown


@dataclass
class Book:
    now: float = 1_000.0
    memory: MemoryDocuments = field(default_factory=MemoryDocuments)
    trouble: Trouble = field(default_factory=Trouble)

    def open(self) -> TokenBook:
        self.ledger = Ledger(UnrulyDocuments(self.memory, self.trouble), 1)
        self.events = EventLog(self.ledger, 0)
        return TokenBook(self.ledger, self.events, clock=lambda: self.now)

    def all_that_is_stored(self) -> str:
        return json.dumps(
            {name: [one.text for one in kept.values()] for name, kept in self.memory._collections.items()}
        )


def with_book(story: Callable[[Book, TokenBook], Awaitable[None]]) -> None:
    async def told() -> None:
        book = Book()
        await story(book, book.open())

    asyncio.run(told())


def test_a_token_is_made_known_again_and_says_what_it_is() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, kept = await tokens.create("client", "hospital-a", 60.0)
        record = await tokens.find(text)
        assert (record.id, record.role, record.label, record.not_after) == (
            kept.token.id,
            "client",
            "hospital-a",
            1_060.0,
        )
        caller = await tokens.authenticate(text, "/any")
        assert (caller.role, caller.name, caller.token_id) == ("client", "hospital-a", record.id)

    with_book(story)


def test_its_text_is_kept_nowhere() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        with structlog.testing.capture_logs() as lines:
            text, kept = await tokens.create("admin", "me", 60.0)
            await tokens.find(text)
            await tokens.revoke(kept.token.id)
            await book.events.flush()
        secret = text.rsplit(".", 1)[1]
        assert secret not in book.all_that_is_stored()
        assert secret not in str(lines)
        assert secret not in repr(tokens.__dict__)
        assert kept.token.secret_sha256 not in str(lines)

    with_book(story)


def test_a_token_expires_by_the_clock() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, kept = await tokens.create("client", "a", 60.0)
        book.now = 1_060.0
        await tokens.find(text)
        assert await tokens.valid_s(kept.token.id) == 0.0
        book.now = 1_060.5
        with pytest.raises(TokenExpired):
            await tokens.find(text)

    with_book(story)


def test_how_long_a_token_is_good_for_is_told_and_never_negative() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        _, kept = await tokens.create("client", "a", 60.0)
        book.now = 1_045.0
        assert await tokens.valid_s(kept.token.id) == 15.0
        book.now = 2_000.0
        assert await tokens.valid_s(kept.token.id) == 0.0

    with_book(story)


def test_a_revoked_token_is_worthless_at_once_and_after_a_restart() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, kept = await tokens.create("client", "a", 60.0)
        await tokens.create("client", "b", 60.0)
        assert (await tokens.revoke(kept.token.id)).token.revoked
        for again in (tokens, book.open()):
            with pytest.raises(TokenRevoked):
                await again.find(text)
            assert await again.revoked() == {kept.token.id}

    with_book(story)


def test_what_is_no_token_of_this_network_is_refused_by_name() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, _ = await tokens.create("client", "a", 60.0)
        for wrong, refusal in {
            "": TokenNotKnown,
            "a password": TokenNotKnown,
            "fedn1.0123456789abcdef." + "x" * 43: TokenNotKnown,
            text[:-1] + ("a" if text[-1] != "a" else "b"): WrongTokenSecret,
        }.items():
            with pytest.raises(refusal) as caught:
                await tokens.find(wrong)
            assert not wrong or wrong not in str(caught.value)
        with pytest.raises(UnknownToken):
            await tokens.revoke("0" * 16)  # type: ignore[arg-type]

    with_book(story)


def test_when_it_was_used_last_is_noted_to_the_minute() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, kept = await tokens.create("client", "a", 600.0)

        async def last_used() -> float | None:
            found = await book.ledger.get("tokens", kept.token.id, TokenKept)
            return found.last_used if found else None

        assert await last_used() is None
        await tokens.find(text)
        assert await last_used() == 1_000.0
        book.now = 1_059.0
        book.trouble.begin(0, "fails")
        await tokens.find(text)
        assert book.trouble.calls == 1  # read, and nothing written
        assert await last_used() == 1_000.0
        book.now = 1_060.0
        await tokens.find(text)
        assert await last_used() == 1_060.0

    with_book(story)


def test_a_call_does_not_fail_because_its_use_cannot_be_noted() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, _ = await tokens.create("client", "a", 600.0)
        book.trouble.begin(2, "fails")  # read the token, and then the write
        await tokens.find(text)
        assert book.trouble.struck

    with_book(story)


def test_a_token_that_is_used_while_it_is_revoked_stays_revoked() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        text, kept = await tokens.create("client", "a", 600.0)
        await asyncio.gather(tokens.find(text), tokens.revoke(kept.token.id), return_exceptions=True)
        with pytest.raises(TokenRevoked):
            await tokens.find(text)

    with_book(story)


# ---- the operator's own token


def text_in(file: Path) -> str:
    return file.read_text()


def test_the_operators_token_is_written_once_for_its_owner_alone(tmp_path: Path) -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        await tokens.write_admin(file)
        first = text_in(file)
        record = await tokens.find(first.strip())
        assert (record.role, record.not_after) == ("admin", 1_000.0 + ADMIN_VALID_S)
        await book.open().write_admin(file)
        assert text_in(file) == first

    file = tmp_path / "state" / "admin.token"
    with_book(story)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["admin.token"]


def test_it_is_renewed_when_the_store_no_longer_knows_it(tmp_path: Path) -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        await tokens.write_admin(file)
        first = text_in(file)
        emptied = Book()
        fresh = emptied.open()
        await fresh.write_admin(file)
        assert text_in(file) != first
        assert (await fresh.find(text_in(file).strip())).role == "admin"

    file = tmp_path / "admin.token"
    with_book(story)


@pytest.mark.parametrize("what", ["expired", "revoked", "garbage", "no text", "a viewer's"])
def test_it_is_renewed_when_it_is_worthless(tmp_path: Path, what: str) -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        await tokens.write_admin(file)
        match what:
            case "expired":
                book.now += ADMIN_VALID_S + 1
            case "revoked":
                await tokens.revoke((await tokens.find(text_in(file).strip())).id)
            case "garbage":
                written(b"garbage\n")
            case "no text":
                written(b"\xff\xfe\x00\x80")
            case _:
                written((await tokens.create("viewer", "v", 60.0))[0].encode())
        await tokens.write_admin(file)
        assert (await tokens.find(text_in(file).strip())).role == "admin"

    file = tmp_path / "admin.token"
    written = file.write_bytes
    with_book(story)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        with pytest.raises(DiskFailed, match="operator's token"):
            await tokens.write_admin(tmp_path / "file" / "admin.token")

    (tmp_path / "file").write_text("in the way")
    with_book(story)


def test_the_events_name_tokens_by_their_id() -> None:
    async def story(book: Book, tokens: TokenBook) -> None:
        _, kept = await tokens.create("client", "hospital-a", 60.0)
        await tokens.revoke(kept.token.id)
        await book.events.flush()
        told = await book.ledger.find("events", EventRecord, order_by="seq")
        assert [(event.kind, event.subject["token"]) for event in told] == [
            ("token.created", kept.token.id),
            ("token.revoked", kept.token.id),
        ]

    with_book(story)
