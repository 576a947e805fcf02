"""``fedn-py backup`` as an operator runs it, on the embedded stores."""

import asyncio
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from grpc_network import AUTHORITY, CERTIFICATE
from kept_trail import FIRST, Kept, digest_of

from fedn_py.cli.main import build, main
from fedn_py.reducer.records import SessionRecord
from fedn_py.store.lock import FolderLock
from fedn_py.store.opening import EmbeddedStores, open_stores
from fedn_py.transport.certificates import write_pair

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "back-up-and-restore.md"
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its exit code, its JSON and what it told a person."""

    def call(*words: object) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["fedn-py", "backup", *map(str, words), "--json"])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else None, printed.err

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The settings of a reducer whose stores have one session of two rounds."""
    files = {"certificate_file": tmp_path / "r.pem", "key_file": tmp_path / "r.key"}
    write_pair(CERTIFICATE.certificate_pem, CERTIFICATE.key_pem, *files.values())
    (tmp_path / "authority.pem").write_bytes(AUTHORITY.certificate_pem)
    named = {name: str(file) for name, file in files.items()} | {"authority_file": str(tmp_path / "authority.pem")}
    file = tmp_path / "reducer.yaml"
    file.write_text(yaml.safe_dump({"state_dir": str(tmp_path / "state"), "certificate": named}))

    async def fill() -> None:
        place = EmbeddedStores(tmp_path / "state")
        stores = await open_stores(place, place)
        kept = Kept(stores.documents, stores.objects)
        await kept.begin()
        await kept.trained(status="running")
        await stores.close()

    asyncio.run(fill())
    return file


def lose(config: Path) -> None:
    shutil.rmtree(config.parent / "state")


def test_created_verified_lost_and_restored(run: Run, config: Path, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "state" / "documents")  # as a reducer that runs holds it
    code, made, _ = run("create", "-c", config, tmp_path / "backup")
    lock.release()
    assert (code, made["data"]["objects"], made["data"]["lacking"]) == (0, 4, [])
    code, seen, told = run("verify", tmp_path / "backup")
    assert (code, seen["data"]["whole"], seen["data"]["id"]) == (0, True, made["data"]["id"])
    assert "The backup is whole." in told

    lose(config)
    code, restored, _ = run("restore", "-c", config, tmp_path / "backup")
    assert (code, restored["data"]["backup"]) == (0, made["data"]["id"])

    async def read() -> SessionRecord | None:
        place = EmbeddedStores(tmp_path / "state")
        stores = await open_stores(place, place)
        found = await Kept(stores.documents, stores.objects).ledger.get("sessions", FIRST, SessionRecord)
        await stores.close()
        return found

    session = asyncio.run(read())
    assert session is not None
    assert session.status == "stopped"
    code, mended, _ = run("restore", "--objects-only", "-c", config, tmp_path / "backup")
    assert (code, mended["data"]) == (0, {"put": [], "sound": 4})


def test_a_store_that_lacks_an_object_is_backed_up_and_mended_from_an_older_backup(
    run: Run, config: Path, tmp_path: Path
) -> None:
    assert run("create", "-c", config, tmp_path / "old")[0] == 0
    lost = digest_of(b"5e55/1")
    (tmp_path / "state" / "objects" / lost[:2] / lost).write_bytes(b"5e55/!")
    code, made, told = run("create", "-c", config, tmp_path / "new")
    assert (code, made["data"]["lacking"]) == (1, [lost])
    assert f"lacking: object {lost}" in told
    code, seen, _ = run("verify", tmp_path / "new")
    assert (code, seen["data"]["whole"], seen["data"]["faults"]) == (1, False, [])
    code, mended, _ = run("restore", "--objects-only", "-c", config, tmp_path / "old")
    assert (code, mended["data"]) == (0, {"put": [lost], "sound": 3})
    assert run("create", "-c", config, tmp_path / "newest")[0] == 0


def test_a_damaged_backup_is_not_restored(run: Run, config: Path, tmp_path: Path) -> None:
    run("create", "-c", config, tmp_path / "backup")
    model = digest_of(b"5e55/2")
    (tmp_path / "backup" / "objects" / model[:2] / model).unlink()
    lose(config)
    code, seen, told = run("verify", tmp_path / "backup")
    assert code == 1
    assert f"wrong: the backup is damaged: {model} cannot be read" in told
    assert seen["data"]["faults"]
    assert run("restore", "-c", config, tmp_path / "backup")[0] == 1
    assert not (tmp_path / "state").exists()


def test_what_cannot_be_is_refused_by_name(run: Run, config: Path, tmp_path: Path) -> None:
    run("create", "-c", config, tmp_path / "backup")
    refused = {
        "BackupExists": ("create", "-c", config, tmp_path / "backup"),
        "NotABackup": ("verify", tmp_path),
        "StoresNotEmpty": ("restore", "-c", config, tmp_path / "backup"),
    }
    for name, words in refused.items():
        code, answer, told = run(*words)
        assert (code, answer["error"]["code"]) == (1, name)
        assert answer["error"]["remedy"] in told
    lock = FolderLock(tmp_path / "state" / "documents")
    assert run("restore", "-c", config, tmp_path / "backup")[1]["error"]["code"] == "StoreInUse"
    lock.release()
    lose(config)
    assert run("create", "-c", config, tmp_path / "other")[1]["error"]["code"] == "StoreMisconfigured"


def test_every_command_of_the_page_is_one_with_the_options_that_it_has() -> None:
    command = typer.main.get_command(build())
    lines = re.findall(r"^(?: {4})?(fedn-py .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        found: Any = command
        words = shlex.split(line)[1:]
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        found.make_context(line, words)  # raises where an option is none
