"""``backup``: the network's stores, copied to a folder, checked there and put back."""

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from fedn_py.cli.exits import Exit
from fedn_py.cli.options import JsonOption, group
from fedn_py.cli.output import hint, instant, note, print_data, print_facts, short, size

if TYPE_CHECKING:
    from fedn_py.reducer.backing_up import Progress
    from fedn_py.reducer.backup_check import Checked
    from fedn_py.reducer.restored import Restored
    from fedn_py.reducer.restoring import Mended
    from fedn_py.settings import ReducerSettings
    from fedn_py.store.backup_folder import Manifest

backups = group("Backups of the network's state: documents, models and packages, in a folder.")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The reducer's settings. Default: FEDN_ variables alone."),
]
TargetArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the backup.")]


class Closes(Protocol):
    """What has to be closed."""

    async def close(self) -> None:
        """Let go of it."""
        ...


Closable = TypeVar("Closable", bound=Closes)


@backups.command("create")
def create_backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to make.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy what the reducer's stores hold to a new folder, while the reducer runs or not.

    Broken off, the same command goes on. An object that the store lacks is named, and the exit code is 1.

    Example: fedn-py backup create -c reducer.yaml backups/2026-11-26
    """
    from fedn_py.cli.progress import transferring

    settings = _settings(config)
    with transferring("backup") as tell:
        manifest = asyncio.run(_create(settings, folder, tell))
    data = {
        "folder": str(folder),
        "id": manifest.id,
        "documents": sum(file.count for file in manifest.documents.values()),
        "objects": len(manifest.objects),
        "size": manifest.size,
        "lacking": manifest.lacking,
    }

    def human() -> None:
        print_facts(
            [
                ("backup", folder),
                ("id", manifest.id),
                ("documents", data["documents"]),
                ("objects", data["objects"]),
                ("size", size(manifest.size)),
            ]
        )

    print_data(data, human, as_json=as_json)
    _tell_lacking(manifest.lacking)
    hint(f"fedn-py backup verify {folder}")


@backups.command("verify")
def verify_backup(folder: TargetArgument, as_json: JsonOption = False) -> None:
    """Read all of a backup: hash every byte, walk every trail of models; exit 1 unless all is there and right.

    Example: fedn-py backup verify backups/2026-11-26
    """
    from fedn_py.cli.progress import transferring

    with transferring("verify") as tell:
        checked = asyncio.run(_verify(folder, tell))

    print_data(_facts_of(checked), lambda: _print_checked(checked), as_json=as_json)
    for fault in checked.faults:
        note(f"wrong: {fault}")
    if not checked.faults:
        _tell_lacking(checked.lacking)
    if not checked.is_whole:
        raise typer.Exit(Exit.FAILED)
    note("The backup is whole.")


@backups.command("restore")
def restore_backup(
    folder: TargetArgument,
    config: ConfigOption = None,
    objects_only: Annotated[
        bool,
        typer.Option("--objects-only", help="Put back objects that the store lacks or has damaged, and nothing else."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a backup and put it into the empty stores that the settings name, while no reducer runs on them.

    Broken off, the same command goes on. Sessions that were under way are stopped, and it is told how to train on.

    Example: fedn-py backup restore -c reducer.yaml backups/2026-11-26
    """
    from fedn_py.cli.progress import transferring

    settings = _settings(config)
    with transferring("verify") as tell:
        checked = asyncio.run(_verify(folder, tell))
    if checked.faults:
        for fault in checked.faults:
            note(f"wrong: {fault}")
        note("The backup is damaged; nothing was restored. Use another backup, or another copy of this one.")
        raise typer.Exit(Exit.FAILED)
    with transferring("restore") as tell:
        if objects_only:
            mended = asyncio.run(_mend(settings, folder, tell))
            print_data(mended, lambda: _print_mended(mended), as_json=as_json)
            return
        restored = asyncio.run(_restore(settings, folder, tell))
    print_data(restored, lambda: print(restored.text), as_json=as_json)
    for digest in checked.lacking:
        note(f"not in this backup: object {digest}")
    hint("fedn-py run reducer" + (f" -c {config}" if config else ""))


async def _create(settings: "ReducerSettings", folder: Path, tell: "Progress") -> "Manifest":
    from fedn_py.reducer.assemble import places
    from fedn_py.reducer.backing_up import make_backup
    from fedn_py.store.backup_folder import open_writing
    from fedn_py.store.opening import open_reading

    async with _closed(await open_reading(*places(settings))) as stores, _closed(open_writing(folder)) as writer:
        return await make_backup(stores, writer, tell, deployment=settings.deployment, reducer=settings.name)


async def _verify(folder: Path, tell: "Progress") -> "Checked":
    from fedn_py.reducer.backup_check import check_backup
    from fedn_py.store.backup_folder import open_backup

    async with _closed(open_backup(folder)) as backup:
        return await check_backup(backup, tell)


async def _restore(settings: "ReducerSettings", folder: Path, tell: "Progress") -> "Restored":
    from fedn_py.reducer.assemble import places
    from fedn_py.reducer.restoring import restore_backup as restore
    from fedn_py.store.backup_folder import open_backup
    from fedn_py.store.opening import open_stores

    by = f"{getpass.getuser()}@{socket.gethostname()}"
    async with _closed(open_backup(folder)) as backup, _closed(await open_stores(*places(settings))) as stores:
        return await restore(backup, stores, by, tell)


async def _mend(settings: "ReducerSettings", folder: Path, tell: "Progress") -> "Mended":
    from fedn_py.reducer.assemble import places
    from fedn_py.reducer.restoring import mend_objects
    from fedn_py.store.backup_folder import open_backup
    from fedn_py.store.opening import open_objects

    async with _closed(open_backup(folder)) as backup, _closed(await open_objects(places(settings)[1])) as objects:
        return await mend_objects(backup, objects, tell)


@contextlib.asynccontextmanager
async def _closed(opened: Closable) -> AsyncIterator[Closable]:
    """Close what was opened, whatever becomes of it."""
    try:
        yield opened
    finally:
        await opened.close()


def _facts_of(checked: "Checked") -> dict[str, object]:
    from dataclasses import asdict

    return {"whole": checked.is_whole, **asdict(checked)}


def _print_checked(checked: "Checked") -> None:
    print_facts(
        [
            ("id", checked.id),
            ("of", f"{checked.deployment}, by fedn_py {checked.software}"),
            ("made", instant(checked.created)),
            ("sessions", checked.sessions),
            ("rounds", checked.rounds),
            ("documents", checked.documents),
            ("objects", checked.objects),
            ("size", size(checked.size)),
        ]
    )


def _print_mended(mended: "Mended") -> None:
    for digest in mended.put:
        print(digest)
    note(f"{len(mended.put)} objects were put back, {mended.sound} were there and right.")


def _tell_lacking(lacking: tuple[str, ...]) -> None:
    if not lacking:
        return
    for digest in lacking:
        note(f"lacking: object {digest}, which the store has not, or not whole")
    note(
        f"All else is in the backup. Put {short(lacking[0])} back into the store from an older one: "
        "fedn-py backup restore --objects-only."
    )
    raise typer.Exit(Exit.FAILED)


def _settings(config: Path | None) -> "ReducerSettings":
    from fedn_py.settings import ReducerSettings, load_settings

    return load_settings(ReducerSettings, config, os.environ)
