"""The restore drill: a network trains, is backed up while it does, loses everything, and trains on from the backup."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running_network import UNEQUAL, RunningNetwork
from typer.testing import CliRunner

from fedn_py.cli.main import build
from fedn_py.reducer.restored import NUMBERS_SKIPPED
from fedn_py.reducer.shown_objects import ModelView
from fedn_py.reducer.shown_sessions import SessionOptions
from fedn_py.reducer.trail_head import FILE_NAME, TrailHeadFile


def test_a_network_on_the_embedded_stores_trains_on_from_its_backup(
    start_network: Callable[..., RunningNetwork], tmp_path: Path
) -> None:
    network, backup = start_network(), tmp_path / "backup"
    (data,) = network.prepared(UNEQUAL, 1)
    network.start_combiner(1)
    network.start_client(1, data)
    network.await_clients(1)
    package, seed = network.uploaded(UNEQUAL)
    options = SessionOptions(package=package, seed_model=seed, rounds=100_000, validate=False)  # type: ignore[arg-type]
    session = network.network.start_session(options).id

    def models_are(count: int) -> list[ModelView]:
        """Wait for so many models of the session, and return them, the first round's first."""

        def seen() -> list[ModelView] | None:
            views = network.network.models(session)[::-1]
            return views if len(views) >= count else None

        return network.awaited(f"{count} rounds", seen)

    def run(*words: str | Path) -> Any:
        """Run a command as the reducer's operator does, and return what it printed as JSON."""
        environ = {"FEDN_PROFILE": str(network.folder.profile)}
        done = CliRunner().invoke(build(), [*map(str, words), "--json"], env=environ)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)["data"]

    # While it trains: beside the reducer, which holds its stores.
    models_are(2)
    config = network.folder.settings("reducer")
    run("backup", "create", "-c", config, backup)
    kept = run("backup", "verify", backup)["rounds"]
    assert kept >= 2
    lost = models_are(kept + 2)
    # The pages read a commit from the stores a moment before the reducer's own disk names it, and clients hear of it.
    head = TrailHeadFile(network.folder.state("reducer") / FILE_NAME)

    def is_named() -> bool | None:
        named = head.read()
        return True if named is not None and named.round >= lost[-1].number else None

    network.awaited("the head of the trail", is_named)
    reducer = network.children._children.pop("reducer").process
    reducer.kill()
    reducer.wait()
    for name in ("documents", "objects"):
        shutil.rmtree(network.folder.state("reducer") / name)

    restored = run("backup", "restore", "-c", config, backup)
    assert "session-1 ends with the model of round" in restored["text"]
    network.start("reducer", "reducer")
    network.network = network.awaited("the reducer", network.reached)

    # Its own disk knows of rounds that are gone: it names them, and makes none of them a second time.
    told = network.await_event("stores.restored", "its own disk names")
    seen = re.search(r"at round (\d+) with model", told)
    assert seen is not None
    assert int(seen[1]) >= lost[-1].number
    assert network.network.status().restored == told
    view = network.network.session(session)
    assert (view.status, view.rounds_done) == ("stopped", kept)
    trail = network.network.models(session)[::-1]
    assert [one.digest for one in trail] == [one.digest for one in lost[:kept]]
    assert run("model", "verify")["faults"] == []

    network.await_clients(1)
    ended = network.run_session(package, trail[-1].digest, 2, validate=False)
    assert (ended.status, ended.rounds_done) == ("finished", 2)
    assert ended.number > 1 + NUMBERS_SKIPPED
    assert network.network.status().restored == ""
    assert [one.digest for one in network.network.models(session)[::-1]] == [one.digest for one in trail]
