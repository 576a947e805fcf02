"""What a client must not forget: there after a restart, all or nothing, and never quietly replaced."""

import hashlib
import re
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import masked_world as world
import pytest
from masked_world import CLIENTS, a_committee, an_answer, an_upload, the_terms

from fedn_py.client import masked_memory
from fedn_py.client.durable_files import StateDamaged, durable
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_memory import MaskedMemory, MemoryUnwritable, create_memory
from fedn_py.client.memory_rows import KeptAnswer, KeptUpload, Measured, Pinned
from fedn_py.protocol.masked.beacon import KnownBeacon
from fedn_py.protocol.masked.differencing import MemberMemory, PromiseRecord, SentRecord
from fedn_py.protocol.masked.participant_work import Seen
from fedn_py.protocol.masked.signing import sign
from fedn_py.protocol.masked.words import MaskedUpload

OWNER = b"k" * 32
LARGEST_ROUND = 2**64 - 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_memory(tmp_path / "memory.sqlite", OWNER)
    return tmp_path / "memory.sqlite"


@pytest.fixture
def memory(path: Path) -> Iterator[MaskedMemory]:
    opened = MaskedMemory(path, OWNER)
    yield opened
    opened.close()


def again(path: Path) -> MaskedMemory:
    return MaskedMemory(path, OWNER)


def a_kept_upload(upload_id: bytes = b"u" * 16) -> KeptUpload:
    terms = the_terms()
    upload = an_upload(terms, a_committee(terms), CLIENTS[0])
    masked = MaskedUpload(CLIENTS[0].chain, upload.header, upload.sealed.boxes)
    return KeptUpload(b"0" * 32, b"c" * 32, upload_id, world.SESSION, LARGEST_ROUND, masked, 116, b"5" * 32)


def a_kept_answer(ctx: bytes = b"c" * 32) -> KeptAnswer:
    terms = the_terms()
    committee = a_committee(terms)
    uploads = [an_upload(terms, committee, client) for client in CLIENTS[:4]]
    member = world.members_of(committee)[0]
    answer, _ = an_answer(terms, committee, member, uploads)
    return KeptAnswer(ctx, world.SESSION, 3, answer, 132, b"5" * 32)


def a_promise(ctx: bytes, work: bytes = b"w" * 32) -> PromiseRecord:
    return PromiseRecord(work, ctx, b"h" * 32, "strict", (b"a" * 32, b"b" * 32))


RECORD = SentRecord(b"w" * 32, b"b" * 32, b"c" * 32, "reducer", (b"m" * 32,))


def test_a_new_memory_remembers_nothing(memory: MaskedMemory) -> None:
    assert (memory.pinned(), memory.policy(), memory.beacon(b"S" * 16), memory.highest_session()) == (None,) * 4
    assert (memory.sent(), memory.uploads(), memory.answers(), memory.seen()) == ((), (), (), {})
    assert memory.member() == MemberMemory()
    assert memory.memberships() == memory.aborted() == frozenset()
    assert memory.reducers() == {}


def test_everything_is_there_after_a_restart(memory: MaskedMemory, path: Path) -> None:
    known = KnownBeacon(b"S" * 16, 7, LARGEST_ROUND, b"x" * 32, b"y" * 32)
    seen = Seen(LARGEST_ROUND, 2**32 - 1, b"p" * 32)
    pinned = Pinned(b"o" * 32, b"D" * 16, CLIENTS[0].chain)
    policy = sign(world.POLICY, world.OPERATOR)
    upload, answer, promise = a_kept_upload(), a_kept_answer(), a_promise(b"1" * 32)
    memory.save_pinned(pinned)
    memory.save_policy(policy)
    memory.save_reducer(b"r" * 32, 1)
    memory.save_reducer(b"r" * 32, LARGEST_ROUND)
    memory.save_beacon(KnownBeacon(b"S" * 16, 7, 1, b"v" * 32, b"y" * 32))
    memory.save_beacon(known)
    memory.save_beacon(KnownBeacon(b"T" * 16, 3, 1, b"x" * 32, b"y" * 32))
    memory.save_seen(b"S" * 16, Seen(1, 1, b"q" * 32))
    memory.save_seen(b"S" * 16, seen)
    memory.save_sent(RECORD, upload)
    memory.save_membership(b"S" * 16, LARGEST_ROUND, 2)
    memory.save_promise(promise)
    memory.save_abort(b"9" * 32)
    memory.save_answer(answer)
    for one in (memory, again(path)):
        assert (one.pinned(), one.policy(), one.reducers()) == (pinned, policy, {b"r" * 32: LARGEST_ROUND})
        assert (one.beacon(b"S" * 16), one.highest_session(), one.seen()) == (known, 7, {b"S" * 16: seen})
        assert (one.sent(), one.uploads(), one.answers()) == ((RECORD,), (upload,), (answer,))
        assert one.memberships() == {(b"S" * 16, LARGEST_ROUND, 2)}
        assert one.member() == MemberMemory((promise,))
        assert one.aborted() == {b"9" * 32}


def test_work_that_was_to_be_masked_or_was_sent_so_is_known_again(memory: MaskedMemory, path: Path) -> None:
    known = KnownBeacon(b"S" * 16, 7, 1, b"x" * 32, b"y" * 32)
    memory.save_beacon(known, b"1" * 32)
    memory.save_beacon(known)
    memory.save_sent(RECORD, a_kept_upload())
    for one in (memory, again(path)):
        assert [one.was_masked(work) for work in (b"1" * 32, RECORD.work, b"2" * 32)] == [True, True, False]


def test_only_the_first_session_and_those_that_something_was_sent_in_make_others_near(
    memory: MaskedMemory, path: Path
) -> None:
    for number in (5, 21, 4):
        memory.save_beacon(KnownBeacon(bytes([number]) * 16, number, 1, b"x" * 32, b"y" * 32))
        assert again(path).highest_session() == 5
    memory.save_sent(RECORD, replace(a_kept_upload(), session=bytes([4]) * 16))
    assert again(path).highest_session() == 5
    memory.save_sent(RECORD, replace(a_kept_upload(), session=bytes([21]) * 16))
    assert again(path).highest_session() == 21


def test_the_operator_s_next_epoch_lets_a_client_find_its_place_among_the_sessions_anew(
    memory: MaskedMemory, path: Path
) -> None:
    memory.save_policy(sign(world.a_policy(version=4), world.OPERATOR))
    memory.save_beacon(KnownBeacon(b"S" * 16, 5, 1, b"x" * 32, b"y" * 32))
    memory.save_policy(sign(world.a_policy(version=5), world.OPERATOR))
    assert again(path).highest_session() == 5  # a policy that revokes somebody gives nobody another draw
    memory.save_policy(sign(world.a_policy(version=6, epoch_seed=b"e" * 32), world.OPERATOR))
    assert again(path).highest_session() is None
    memory.save_beacon(KnownBeacon(b"T" * 16, 500, 1, b"x" * 32, b"y" * 32))
    memory.save_beacon(KnownBeacon(b"U" * 16, 700, 1, b"x" * 32, b"y" * 32))
    assert again(path).highest_session() == 500  # once


def test_that_something_was_sent_is_remembered_for_ever_its_bytes_are_not(memory: MaskedMemory, path: Path) -> None:
    memory.save_sent(RECORD, a_kept_upload(b"1" * 16))
    memory.save_sent(RECORD, a_kept_upload(b"2" * 16))  # sealed anew for the same committee
    assert (memory.sent(), [row.upload_id for row in memory.uploads()]) == ((RECORD,), [b"2" * 16])
    memory.drop_uploads()
    assert (again(path).sent(), again(path).uploads()) == ((RECORD,), ())


def test_of_many_promises_the_oldest_become_forgotten_works(path: Path) -> None:
    memory, expected = MaskedMemory(path, OWNER, most_promises=2), MemberMemory()
    for number in range(5):
        promise = a_promise(bytes([number]) * 32, bytes([number // 2]) * 32)
        memory.save_promise(promise)
        expected = expected.with_promise(promise, 2)
    assert memory.member() == MaskedMemory(path, OWNER, most_promises=2).member() == expected
    assert expected.forgotten
    memory.drop_answer(b"4" * 32)
    assert memory.member() == expected


def test_a_power_cut_behind_a_write_does_not_undo_it(memory: MaskedMemory) -> None:
    """Each commit syncs the log, at EXTRA as at FULL; below these it would be synced with the database alone."""
    (level,) = memory._db.execute("PRAGMA synchronous").fetchone()
    (journal,) = memory._db.execute("PRAGMA journal_mode").fetchone()
    assert (level, journal) == (3, "wal")


def as_cut(path: Path, into: Path) -> Path:
    """Copy a memory as a process that was killed leaves it."""
    shutil.copytree(path.parent, into)
    return into / path.name


def test_what_was_written_is_there_after_a_cut_at_any_moment(
    path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked_memory, "_MOST_IN_LOG", 3)
    memory = again(path)
    for number in range(8):
        memory.save_abort(bytes([number]) * 32)
        after = again(as_cut(path, tmp_path_factory.mktemp("cut") / "state"))
        assert after.aborted() == memory.aborted() == {bytes([one]) * 32 for one in range(number + 1)}
        after.close()
    memory.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert again(path).aborted() == memory.aborted()


@pytest.mark.parametrize("lost", ["unlink", "truncate"])
def test_a_memory_whose_log_is_missing_is_refused_and_not_taken_for_an_older_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    monkeypatch.setattr(masked_memory, "_MOST_IN_LOG", 3)
    memory = again(path)
    for number in range(8):
        memory.save_abort(bytes([number]) * 32)
        cut = as_cut(path, tmp_path / f"cut-{number}")
        log = cut.with_name(f"{cut.name}-wal")
        log.unlink() if lost == "unlink" else log.write_bytes(b"")
        with pytest.raises(StateDamaged, match=r"memory\.sqlite-wal is missing") as damaged:
            again(cut)
        assert "a new token: it joins as a new one" in damaged.value.remedy


def test_a_cut_while_the_log_is_brought_in_loses_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = again(path)
    memory.save_abort(b"1" * 32)
    cuts: list[Path] = []

    class Cut:
        """A database whose process is killed before, during and after each statement."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self._db = db

        def execute(self, statement: str) -> sqlite3.Cursor:
            result = self._db.execute(statement)
            cuts.append(as_cut(path, tmp_path / f"cut-{len(cuts)}"))
            return result

    monkeypatch.setattr(memory, "_db", Cut(memory._db))
    memory._shelve()
    assert len(cuts) == 3
    for cut in cuts:
        assert again(cut).aborted() == {b"1" * 32}


LOG_HEADER = 32


def the_log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("size", [1, LOG_HEADER - 1])
def test_a_log_that_is_cut_short_is_refused_and_not_taken_for_an_empty_one(
    memory: MaskedMemory, path: Path, tmp_path: Path, size: int
) -> None:
    memory.save_abort(b"1" * 32)
    cut = as_cut(path, tmp_path / "cut")
    log = the_log_of(cut)
    log.write_bytes(log.read_bytes()[:size])
    for _ in range(2):  # and it is left as it is
        with pytest.raises(StateDamaged, match=r"memory\.sqlite-wal is damaged"):
            again(cut)
    assert log.stat().st_size == size


@pytest.mark.parametrize("at", [0, 3, 5, 9, 14, 16, 23, 24, LOG_HEADER - 1])
def test_a_log_whose_header_is_damaged_is_refused_and_not_taken_for_an_empty_one(
    memory: MaskedMemory, path: Path, tmp_path: Path, at: int
) -> None:
    memory.save_abort(b"1" * 32)
    cut = as_cut(path, tmp_path / "cut")
    log = the_log_of(cut)
    log.write_bytes(flipped(log.read_bytes(), at))
    with pytest.raises(StateDamaged, match=r"memory\.sqlite-wal is damaged"):
        again(cut)


def test_a_log_of_a_machine_of_the_other_byte_order_is_one(memory: MaskedMemory, path: Path, tmp_path: Path) -> None:
    cut = as_cut(path, tmp_path / "cut")
    header = bytes.fromhex("377f0683 002de218 00001000 00000001 00000002 00000003")
    words, sums = struct.unpack(">6I", header), [0, 0]
    for number, word in enumerate(words):
        sums[number % 2] = (sums[number % 2] + word + sums[1 - number % 2]) % 2**32
    the_log_of(cut).write_bytes(header + struct.pack(">2I", *sums))
    again(cut).close()


def test_a_cut_right_behind_the_header_of_a_new_log_loses_nothing(
    memory: MaskedMemory, path: Path, tmp_path: Path
) -> None:
    """All is in the database, marked as in need of a log, and of the log's commits none counts any more."""
    memory.save_abort(b"1" * 32)
    memory._db.execute("PRAGMA application_id = 1")
    memory._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    old = the_log_of(path).read_bytes()
    memory._db.execute("PRAGMA application_id = 0")
    cut = as_cut(path, tmp_path / "cut")
    new = the_log_of(cut).read_bytes()
    assert new[:LOG_HEADER] != old[:LOG_HEADER]
    the_log_of(cut).write_bytes(new[:LOG_HEADER] + old[LOG_HEADER:])
    for _ in range(2):
        after = again(cut)
        assert after.aborted() == {b"1" * 32}
        after.close()


class FullDisk(sqlite3.Connection):
    """A database whose mark cannot be taken back, as often as was said."""

    refusals = 0

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement == "PRAGMA application_id = 0" and FullDisk.refusals:
            FullDisk.refusals -= 1
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(statement, *values)  # type: ignore[arg-type]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> type[FullDisk]:
    monkeypatch.setattr(FullDisk, "refusals", 0)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=FullDisk))
    return FullDisk


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_disk_that_is_full_while_the_log_is_brought_in_costs_nobody_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: type[FullDisk], refusals: int
) -> None:
    """Once: closing makes up for it. Twice: the log stays."""
    memory = again(path)
    memory.save_abort(b"1" * 32)
    monkeypatch.setattr(masked_memory, "_MOST_IN_LOG", 1)
    full_disk.refusals = refusals
    with pytest.raises(MemoryUnwritable):
        memory.save_abort(b"2" * 32)
    memory.close()
    assert the_log_of(path).exists() == (refusals == 2)
    for _ in range(2):
        after = again(path)
        assert after.aborted() == {b"1" * 32}
        after.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_disk_that_is_full_at_the_start_costs_nobody_the_memory(
    path: Path, full_disk: type[FullDisk], refusals: int
) -> None:
    memory = again(path)
    memory.save_abort(b"1" * 32)
    memory.close()
    full_disk.refusals = refusals
    with pytest.raises(MemoryUnwritable):
        again(path)
    assert the_log_of(path).exists() == (refusals == 2)
    for _ in range(2):
        after = again(path)
        assert after.aborted() == {b"1" * 32}
        after.close()


def test_a_log_that_cannot_be_brought_in_leaves_memory_and_disk_the_same(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: type[FullDisk]
) -> None:
    memory, promise, policy = (
        again(path),
        a_promise(b"1" * 32),
        sign(world.a_policy(epoch_seed=b"e" * 32), world.OPERATOR),
    )
    monkeypatch.setattr(masked_memory, "_MOST_IN_LOG", 1)
    memory.save_beacon(KnownBeacon(b"S" * 16, 5, 1, b"x" * 32, b"y" * 32))
    full_disk.refusals = 2
    with pytest.raises(MemoryUnwritable):
        memory.save_promise(promise)
    with pytest.raises(MemoryUnwritable):
        memory.save_policy(policy)
    after = again(as_cut(path, tmp_path / "cut"))
    assert memory.member() == after.member() == MemberMemory()
    assert (memory.policy(), memory.highest_session()) == (after.policy(), after.highest_session()) == (None, 5)
    memory.save_promise(promise)
    memory.save_policy(policy)
    assert (memory.member(), memory.policy(), memory.highest_session()) == (MemberMemory((promise,)), policy, None)
    memory.close()


def test_a_log_that_did_not_come_in_past_a_reader_does_at_the_next_write(path: Path, tmp_path: Path) -> None:
    again(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM records").fetchall()
        memory = again(path)
    memory.save_abort(b"1" * 32)
    cut = as_cut(path, tmp_path / "cut")
    the_log_of(cut).unlink()
    with pytest.raises(StateDamaged, match=r"memory\.sqlite-wal is missing"):
        again(cut)
    memory.close()


def test_a_write_that_changes_nothing_costs_none(memory: MaskedMemory) -> None:
    (before,) = memory._db.execute("SELECT total_changes()").fetchone()
    memory.save_membership(b"S" * 16, 1, 1)
    memory.save_membership(b"S" * 16, 1, 1)
    memory.drop_uploads()
    (after,) = memory._db.execute("SELECT total_changes()").fetchone()
    assert after - before == 1


def test_a_write_that_is_cut_leaves_all_or_nothing(
    memory: MaskedMemory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked_memory, "_put", lambda kind, key, value: (kind, key if kind == "sent" else None, value))
    with pytest.raises((MemoryUnwritable, StateDamaged), match="NOT NULL"):
        memory.save_sent(RECORD, a_kept_upload())
    monkeypatch.undo()
    assert (memory.sent(), memory.uploads(), again(path).sent()) == ((), (), ())
    memory.save_sent(RECORD, a_kept_upload())
    assert again(path).sent() == (RECORD,)


# ---- a file that is not what it should be


def test_a_damaged_memory_is_named_and_not_replaced(path: Path) -> None:
    memory = again(path)
    for number in range(200):
        memory.save_membership(b"S" * 16, number, 1)
    memory.close()
    good = path.read_bytes()
    for damage in (b"", b"no database", good[:5000], good[:4096] + bytes(4096) + good[8192:], good[::-1]):
        path.write_bytes(damage)
        with pytest.raises((StateDamaged, MemoryUnwritable), match=r"memory\.sqlite") as damaged:
            again(path)
        assert damaged.value.remedy
        assert path.read_bytes() == damage


def test_a_record_that_cannot_be_read_stops_the_client_at_its_start(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("INSERT INTO records (kind, key, value) VALUES ('sent', x'00', x'0102')")
    database.commit()
    with pytest.raises(StateDamaged, match="record of an upload") as damaged:
        again(path)
    assert "a new token: it joins as a new one" in damaged.value.remedy
    assert "Never put back an older copy: it has forgotten which updates were sent" in damaged.value.remedy


@pytest.mark.parametrize("change", ["UPDATE records SET value = zeroblob(32)", "PRAGMA user_version = 2"])
def test_a_memory_of_another_client_or_another_version_is_refused(path: Path, change: str) -> None:
    database = sqlite3.connect(path)
    database.execute(change)
    database.commit()
    with pytest.raises(StateDamaged):
        again(path)


def test_a_memory_that_cannot_be_written_says_so(memory: MaskedMemory, path: Path) -> None:
    memory._db.execute("PRAGMA query_only = 1")
    with pytest.raises(MemoryUnwritable) as refused:
        memory.save_abort(b"1" * 32)
    assert "disk" in refused.value.remedy
    assert again(path).aborted() == frozenset()
    with pytest.raises(MemoryUnwritable):
        again(path.with_name("nowhere.sqlite"))


# ---- files


def test_files_that_no_record_names_are_removed_at_the_start_and_others_stay(
    memory: MaskedMemory, tmp_path: Path
) -> None:
    content = hashlib.sha256(b"content").digest()
    folder, upload, answer = tmp_path / "masked", replace(a_kept_upload(), sha256=content), a_kept_answer()
    folder.mkdir()
    memory.save_sent(RECORD, upload)
    memory.save_answer(answer)
    for name in (upload.file_name, answer.file_name, "upload-left", "answer-left", ".upload-cut.partial"):
        (folder / name).write_bytes(b"content")
    files = MaskedFiles(folder, memory)
    assert {file.name for file in folder.iterdir()} == {upload.file_name, answer.file_name}
    assert files.path(upload).read_bytes() == b"content"
    files.drop_answer(answer)
    memory.drop_uploads()
    files.tidy()
    assert list(folder.iterdir()) == []
    with pytest.raises(StateDamaged, match="upload-"):
        files.path(upload)


def test_an_upload_that_a_power_cut_has_spoilt_is_not_sent_again(memory: MaskedMemory, tmp_path: Path) -> None:
    folder, upload = tmp_path / "masked", replace(a_kept_upload(), sha256=hashlib.sha256(b"content").digest())
    folder.mkdir()
    memory.save_sent(RECORD, upload)
    (folder / upload.file_name).write_bytes(bytes(7))
    with pytest.raises(StateDamaged, match="is not what was written"):
        MaskedFiles(folder, memory).path(upload)


def test_a_durable_file_is_synced_with_its_folder_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fedn_py.client.durable_files as module

    record: list[str] = []
    monkeypatch.setattr(module.os, "fsync", lambda _: record.append("sync"))
    with durable(tmp_path / "file") as file:
        file.write(b"content")
        record.append("written")
    assert record == ["written", "sync", "sync"]
    with pytest.raises(TypeError), durable(tmp_path / "other") as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_metric_of_any_name_that_is_taken_is_kept(memory: MaskedMemory) -> None:
    upload = replace(a_kept_upload(), metrics=(Measured("ß" * 64, 0.5),))
    memory.save_sent(RECORD, upload)
    assert memory.uploads() == (upload,)


def test_every_kind_of_record_is_looked_at_when_the_file_is_opened() -> None:
    source = Path(masked_memory.__file__).read_text()
    assert set(re.findall(r'_put\("(\w+)"', source)) == set(masked_memory._KINDS)
