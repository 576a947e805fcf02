"""Puts the client together from its settings."""

import asyncio
import contextlib
from collections.abc import Iterator

from fedn_py.client.beliefs import Beliefs
from fedn_py.client.combiner_side import CombinerSide
from fedn_py.client.hearing import Hearing
from fedn_py.client.masked_files import MaskedFiles
from fedn_py.client.masked_side import MaskedSide
from fedn_py.client.objects import ObjectFolder
from fedn_py.client.package_learner import PackageLearner
from fedn_py.client.ports import Learner
from fedn_py.client.state_folder import MASKED_FOLDER, StateFolder
from fedn_py.client.updates import UpdateFolder
from fedn_py.client.work import ClientWork
from fedn_py.identity import ClientName
from fedn_py.protocol.client import Client, Effect, Event, step
from fedn_py.runtime.lifetimes import work_until
from fedn_py.runtime.logging import logger
from fedn_py.runtime.mailbox import Mailbox
from fedn_py.runtime.scratch import empty_folder
from fedn_py.runtime.start_checks import exposed, little_room, tell
from fedn_py.settings.roles import ClientSettings

_MODELS_KEPT = 2

_log = logger("fedn_py.client")


async def run_client(settings: ClientSettings, stop: asyncio.Event, learner: Learner | None = None) -> None:
    """Run a client until ``stop`` is set.

    Args:
        learner: trains and validates; a compute package does where it is None.

    Raises:
        StateFolderInUse, StateDamaged, KeyExposed: of its state folder.
        MemoryUnwritable: what it must not forget cannot be written.
    """
    async with contextlib.AsyncExitStack() as closing:
        folder = closing.enter_context(StateFolder(settings.state_dir))
        updates = UpdateFolder(empty_folder(folder.path / "updates"), ClientName(settings.name), settings.keep_updates)
        models = ObjectFolder(folder.path / "models", ".safetensors", _MODELS_KEPT)
        empty_folder(folder.path / "scratch")
        files = MaskedFiles(folder.path / MASKED_FOLDER, folder.memory)
        combiner = CombinerSide(settings, folder.registration)
        work = ClientWork(
            learner or PackageLearner(settings),
            combiner,
            updates,
            models,
            release=settings.metrics_release,
            release_logs=settings.release_logs,
        )
        mailbox: Mailbox[Client, Event, Effect] = Mailbox("client", Client(), step, work.perform)
        beliefs = Beliefs(folder.registration, folder.memory)
        masked = MaskedSide(
            folder.registration,
            folder.memory,
            files,
            combiner,
            release=settings.metrics_release,
            beliefs=beliefs,
            post=mailbox.post,
        )
        hearing = Hearing(masked, beliefs, combiner, mailbox.post, allowed_packages=settings.allowed_packages)
        work.attach(mailbox, masked)
        combiner.attach(hearing)
        closing.push_async_callback(work.close)
        tell(await asyncio.to_thread(lambda: tuple(_start_warnings(settings))))
        _log.info("client started", name=settings.name, reducer=", ".join(settings.reducer))
        left = asyncio.Event()

        async def leave() -> None:
            await stop.wait()
            await combiner.leave(work.left_undone())
            left.set()

        await work_until(left, mailbox.run(), masked.run(), hearing.run(), combiner.run(), leave())


def _start_warnings(settings: ClientSettings) -> Iterator[str]:
    """Look for what does not stop a client that starts, and will."""
    yield from exposed(settings.token_file)
    yield from little_room(settings.state_dir)
