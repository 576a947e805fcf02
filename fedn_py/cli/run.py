"""``run``: the processes of the network. The reducer's is put together here: its service and its web server."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedn_py.cli.options import group
from fedn_py.cli.output import note

if TYPE_CHECKING:
    from fedn_py.settings import LoggingSettings, ReducerSettings
    from fedn_py.settings.fields import Section

SettingsT = TypeVar("SettingsT", bound="Section")

REDUCER_GRACE_S = 8.0
"""A reducer flushes its log, gives its lease back and lets answers end, each within a second or two."""

run = group("Run a process of the network; SIGTERM or Ctrl-C ends it in good order.")

FileOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings (YAML). Default: FEDN_ variables alone."),
]


@run.command("reducer")
def run_reducer(config: FileOption = None) -> None:
    """Run the reducer: rounds, registry, REST API. While another one is active on the same stores, it stands by.

    Example: fedn-py run reducer -c reducer.yaml
    """
    from fedn_py.runtime.processes import keep_memory_private, run_until_stopped
    from fedn_py.settings import ReducerSettings

    keep_memory_private()
    settings = _load(ReducerSettings, config)
    _log_as("reducer", settings.name, settings.logging)
    run_until_stopped(lambda stop: serve_reducer(settings, stop), grace_s=REDUCER_GRACE_S)


@run.command("combiner")
def run_combiner(config: FileOption = None) -> None:
    """Run a combiner: it hands work to its clients and adds up their updates.

    Example: fedn-py run combiner -c combiner.yaml
    """
    from fedn_py.combiner.assemble import run_combiner as serve
    from fedn_py.runtime.processes import collect_garbage_seldom, keep_memory_private, run_until_stopped
    from fedn_py.settings import CombinerSettings

    keep_memory_private()
    collect_garbage_seldom()
    settings = _load(CombinerSettings, config)
    _log_as("combiner", settings.name, settings.logging)
    run_until_stopped(lambda stop: serve(settings, stop))


@run.command("client")
def run_client(config: FileOption = None) -> None:
    """Run a client: it trains on this site's data, which never leaves it. It only dials out.

    Example: fedn-py run client -c client.yaml
    """
    from fedn_py.client.assemble import run_client as serve
    from fedn_py.runtime.allocator import keep_little
    from fedn_py.runtime.processes import keep_memory_private, run_until_stopped
    from fedn_py.settings import ClientSettings

    keep_little()
    keep_memory_private()
    settings = _load(ClientSettings, config)
    _log_as("client", settings.name, settings.logging)
    run_until_stopped(lambda stop: serve(settings, stop))


async def serve_reducer(settings: "ReducerSettings", stop: asyncio.Event) -> None:
    """Run the reducer and its web server until ``stop`` is set, or one of them fails.

    The web server is there from the start: while another reducer is active, it says so.
    """
    from fedn_py.reducer.assemble import assemble
    from fedn_py.web import create_app, create_standby_app, serve_web, surroundings_of
    from fedn_py.web.metrics import install_metrics, install_standby_metrics
    from fedn_py.web.sign_in import FIRST_LINK_VALID_S, SignInLinks, cookie_key

    reducer = assemble(settings)
    await reducer.open()
    key = cookie_key(settings.state_dir / "web.key")
    standby = create_standby_app(lambda: reducer.waits_for)
    install_standby_metrics(standby, reducer.registry, reducer.known, asyncio.get_running_loop())
    try:
        web = await serve_web(standby, settings.listen_web, settings.certificate)
        host, port = web.address

        async def work() -> None:
            await reducer.become_active()
            links = SignInLinks()
            app = create_app(
                reducer.control,
                asyncio.get_running_loop(),
                settings.limits,
                key=key,
                links=links,
                around=surroundings_of(settings),
            )
            install_metrics(app, reducer.registry)
            web.show(app)
            address = f"https://{_called(host)}:{port}"
            say = _sayer(settings.logging)
            say(f"reducer {settings.name}: {address} (pages, REST API), {settings.listen_grpc} (gRPC)")
            # A log for machines is kept; a sandbox prints a link of its own, and keeps what its processes print.
            if reducer.new_admin is not None and settings.logging.format == "console" and not settings.sandbox_socket:
                link = links.make(reducer.new_admin, FIRST_LINK_VALID_S)
                note(f"sign in as admin, once and within a day: {address}{link}")
            await reducer.run()

        try:
            await _until_first(work(), stop.wait())
        finally:
            # Others wait for the lease; whoever still reads an answer here has a moment for it meanwhile.
            await asyncio.gather(reducer.hand_over(), web.stop())
    finally:
        await reducer.stop()


async def _until_first(*work: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _called(host: str) -> str:
    return "localhost" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound


def _load(model: "type[SettingsT]", file: Path | None) -> "SettingsT":
    from fedn_py.settings import load_settings

    return load_settings(model, file, os.environ)


def _sayer(logging: "LoggingSettings") -> Callable[[str], None]:
    """Return what says something to whoever started this: plainly, or as a line of the log where a machine reads it."""
    from fedn_py.runtime.logging import logger

    return note if logging.format == "console" else logger("fedn_py.cli.run").info


def _log_as(role: str, name: str, logging: "LoggingSettings") -> None:
    from fedn_py.runtime.logging import configure_logging

    configure_logging(logging.format, logging.level, fields={"role": role, "name": name})
