import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fedn_py.execution.archive import unpack
from fedn_py.execution.entry_points import EntryPointFailed, EntryPointMissing, EntryPointTimedOut
from fedn_py.execution.environment import own_environment
from fedn_py.execution.outcome import BaseModelChanged, EmptyOutput, MalformedOutput
from fedn_py.execution.packing import create_package
from fedn_py.execution.runner import PackageRunner, RunImpossible, RunLimits, TaskFacts
from fedn_py.package import load_model

TASK = TaskFacts(session="ab", round=3, attempt=1, client="anna", parameters='{"step": 2}')
Scenario = Callable[[PackageRunner, Path], Coroutine[Any, Any, None]]


def with_runner(folder: Path, tmp_path: Path, scenario: Scenario, limits: RunLimits | None = None) -> None:
    async def main() -> None:
        create_package(folder, tmp_path / "package.tar.gz")
        package = unpack(tmp_path / "package.tar.gz", tmp_path / "cache")
        runner = PackageRunner(
            package, python=own_environment(), data_path=None, scratch=tmp_path / "scratch", limits=limits
        )
        try:
            await scenario(runner, tmp_path)
        finally:
            await runner.close()

    asyncio.run(main())


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.py").read_text()
    assert old in text
    (folder / "model.py").write_text(text.replace(old, new))


def with_worker(folder: Path) -> None:
    with (folder / "fedn.yaml").open("a") as manifest:
        manifest.write("worker: {command: python model.py serve}\n")


@pytest.mark.parametrize("worker", [False, True])
def test_startup_train_and_validate_run_by_command_and_by_worker(folder: Path, tmp_path: Path, worker: bool) -> None:
    if worker:
        with_worker(folder)

    async def scenario(runner: PackageRunner, here: Path) -> None:
        await runner.warm_up()
        await runner.startup(here / "seed")
        trained = await runner.train(here / "seed", here / "model", TASK)
        assert trained.model == here / "model"
        assert (trained.samples, trained.metrics) == (10, {"loss": 0.5})
        assert trained.log == "training in round 3\n"
        assert load_model(here / "model")["w"].tolist() == [2, 2, 2, 2]
        again = await runner.train(here / "model", here / "model-2", TASK)
        assert again.samples == 10
        measured = await runner.validate(here / "model-2", TASK)
        assert (measured.samples, measured.metrics) == (5, {"accuracy": 4.0})
        assert not list((here / "scratch").iterdir())

    with_runner(folder, tmp_path, scenario)


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        ("save_model(out, tensors)", "pass", EmptyOutput),
        ("save_model(out, tensors)", "open(out, 'w').close()", EmptyOutput),
        ("save_model(out, tensors)", "save_model(out, {'w': tensors['w']})", MalformedOutput),
        ("tensors['w'] + np.float32", "tensors['w'] * np.float32('nan') + np.float32", MalformedOutput),
        (
            "save_metrics(out, num_samples=10",
            "open(out + '.json', 'w').write('{}'); return; dict(n=10",
            MalformedOutput,
        ),
        ("save_metrics(out, num_samples=10", "save_metrics(out, num_samples=0", EntryPointFailed),
        ("tensors = load_model(model)", "raise ValueError('no data')", EntryPointFailed),
        ("tensors = load_model(model)", "import no_such_library", EntryPointFailed),
        ("tensors = load_model(model)", "import time; time.sleep(600)", EntryPointTimedOut),
        ("save_model(out, tensors)", "save_model(out, tensors); save_model(model, tensors)", BaseModelChanged),
    ],
)
def test_a_training_that_goes_wrong_is_a_named_fault_with_its_log_and_leaves_nothing(
    folder: Path, tmp_path: Path, worker: bool, case: tuple[str, str, type[Exception]]
) -> None:
    old, new, fault = case
    change(folder, old.replace("'", '"'), new)
    if worker:
        with_worker(folder)

    async def scenario(runner: PackageRunner, here: Path) -> None:
        await runner.startup(here / "seed")
        await runner.warm_up()
        timeout_s = 2 if fault is EntryPointTimedOut else None
        with pytest.raises(fault) as found:
            await runner.train(here / "seed", here / "model", TASK, timeout_s=timeout_s)
        assert "training in round 3" in found.value.log  # type: ignore[attr-defined]
        assert not (here / "model").exists()
        assert not list((here / "scratch").iterdir())

    with_runner(folder, tmp_path, scenario)


def test_the_shortest_of_package_round_and_site_limits_holds(folder: Path, tmp_path: Path) -> None:
    change(folder, 'print("training', 'import time; time.sleep(600); print("training')

    async def scenario(runner: PackageRunner, here: Path) -> None:
        await runner.startup(here / "seed")
        with pytest.raises(EntryPointTimedOut, match=r"0\.5 s"):
            await runner.train(here / "seed", here / "model", TASK, timeout_s=100)

    with_runner(folder, tmp_path, scenario, RunLimits(train_s=0.5))


def test_an_entry_point_that_a_package_does_not_offer_is_named(folder: Path, tmp_path: Path) -> None:
    async def scenario(runner: PackageRunner, here: Path) -> None:
        with pytest.raises(EntryPointMissing, match="predict"):
            await runner.predict(here / "seed", here / "in", here / "out")

    with_runner(folder, tmp_path, scenario)


def test_a_scratch_folder_that_cannot_be_written_is_this_sides_fault(folder: Path, tmp_path: Path) -> None:
    async def scenario(runner: PackageRunner, here: Path) -> None:
        (here / "scratch").rmdir()
        (here / "scratch").touch()
        with pytest.raises(RunImpossible):
            await runner.startup(here / "seed")

    with_runner(folder, tmp_path, scenario)


def test_the_task_says_what_the_session_says(folder: Path, tmp_path: Path) -> None:
    change(
        folder,
        "tensors = load_model(model)",
        "import os, shutil; shutil.copy(os.environ['FEDN_TASK'], 'seen.json')\n    tensors = load_model(model)",
    )

    async def scenario(runner: PackageRunner, here: Path) -> None:
        await runner.startup(here / "seed")
        await runner.train(here / "seed", here / "model", TASK)
        seen = json.loads((runner.package.folder / "seen.json").read_text())
        assert seen == {"session": "ab", "round": 3, "attempt": 1, "client": "anna", "parameters": {"step": 2}}

    with_runner(folder, tmp_path, scenario)
