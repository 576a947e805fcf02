"""Learning by compute package: verified, unpacked anew, run apart, ended whole."""

import asyncio
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_network import digest_of
from running_client import Network, client_settings, story
from safetensors.numpy import load_file, save_file

from fedn_py.client.package_learner import WARM_UP_METRIC, PackageLearner
from fedn_py.client.ports import LearningTask
from fedn_py.errors import FednError
from fedn_py.execution.entry_points import EntryPointFailed, EntryPointFault
from fedn_py.execution.outcome import BaseModelChanged
from fedn_py.execution.packing import create_package
from fedn_py.execution.python_env import EnvironmentNotBuilt
from fedn_py.identity import Digest, Generation, SessionId
from fedn_py.protocol.messages import TaskCancelled, TaskFailed

MANIFEST = """
name: echo
version: "1"
entry_points:
  startup: {command: python model.py startup}
  train: {command: python model.py train}
  validate: {command: python model.py validate}
"""
WORKER = "worker: {command: python model.py serve}\n"

MODEL_PY = """
import os, subprocess, sys, time
import numpy as np
from fedn_py.package import load_model, load_task, main, save_metrics, save_model

def startup(out):
    save_model(out, {"w": np.zeros(4, "f4")})

def train(model, out):
    how = load_task().parameters.get("how", "")
    if how == "hang":
        child = subprocess.Popen(["sleep", "300"])
        with open(os.environ["FEDN_DATA_PATH"] + "/pids", "w") as file:
            file.write(f"{os.getpid()} {child.pid}\\n")
        time.sleep(300)
    if how == "write into the base":
        with open(model, "r+b") as file:
            file.seek(-4, 2)
            file.write(np.float32(9).tobytes())
    if how == "crash":
        print("row 17 cannot be read")
        os._exit(3)
    tensors = load_model(model)
    tensors["w"] = tensors["w"] + np.float32(1)
    save_model(out, tensors)
    metrics = {f"m{number}": 1.0 for number in range(int(load_task().parameters.get("metrics", 1)))}
    save_metrics(out, num_samples=load_task().parameters.get("samples", 10), **metrics)

def validate(model, out):
    save_metrics(out, num_samples=5, accuracy=float(load_model(model)["w"][0]))

if __name__ == "__main__":
    main({"startup": startup, "train": train, "validate": validate})
"""


class Packages:
    """Packages to be had, and how often each was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.archives: dict[Digest, bytes] = {}
        self.fetched: Counter[Digest] = Counter()

    def make(self, name: str, *, worker: bool = False, **files: str) -> Digest:
        project = self._folder / name
        project.mkdir(parents=True)
        (project / "fedn.yaml").write_text(files.pop("manifest", MANIFEST) + (WORKER if worker else ""))
        (project / "model.py").write_text(files.pop("model", MODEL_PY))
        (project / "name.txt").write_text(name)
        for file, content in files.items():
            (project / f"{file}.yaml").write_text(content)
        digest = create_package(project, self._folder / f"{name}.tar.gz")
        self.archives[digest] = (self._folder / f"{name}.tar.gz").read_bytes()
        return digest

    async def __call__(self, digest: Digest, into: Path) -> None:
        self.fetched[digest] += 1
        into.write_bytes(self.archives[digest])  # noqa: ASYNC240


class Bench:
    """A learner with a base model and packages."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        (folder / "data").mkdir(exist_ok=True)
        self.data = folder / "data"
        self.settings = client_settings(folder / "anna", 1, data_path=str(self.data), **changes)
        self.packages = Packages(folder / "packages")
        self.base = folder / "base.safetensors"
        save_file({"w": np.zeros(4, np.float32)}, self.base)
        self.out = folder / "new.safetensors"
        self.learner = PackageLearner(self.settings)

    async def train(self, package: Digest, **parameters: Any) -> Any:
        return await self.learner.train(self.base, self.out, a_task(package, **parameters), self.packages)

    async def validate(self, package: Digest) -> Any:
        return await self.learner.validate(self.base, a_task(package), self.packages)

    @property
    def archives(self) -> Path:
        return self.settings.state_dir / "packages"

    def run(self, told: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            try:
                async with asyncio.timeout(60):
                    await told()
            finally:
                await self.learner.close()

        asyncio.run(main())


def a_task(package: Digest, **parameters: Any) -> LearningTask:
    return LearningTask(SessionId("5e55" * 4), 1, 1, package, json.dumps(parameters), 60.0)


def test_a_package_is_fetched_once_and_trains_and_validates(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo")

    async def told() -> None:
        learned = await bench.train(package)
        assert (learned.samples, learned.metrics) == (10, {"m0": 1.0})
        assert list(load_file(bench.out)["w"]) == [1.0] * 4
        assert (await bench.validate(package)).metrics == {"accuracy": 0.0}
        assert bench.packages.fetched[package] == 1
        assert list((bench.settings.state_dir / "scratch").iterdir()) == []

    bench.run(told)


@pytest.mark.parametrize("damage", ["archive", "half of an archive", "unpacked", "half unpacked"])
def test_what_a_crash_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo")

    async def told() -> None:
        await bench.train(package)
        await bench.learner.close()
        archive, unpacked = bench.archives / f"{package}.tar.gz", bench.archives / "unpacked" / package
        match damage:
            case "archive":
                # Sound by itself, and another package: what it is named after is not what it is.
                archive.write_bytes(bench.packages.archives[bench.packages.make("other")])
            case "half of an archive":
                archive.write_bytes(archive.read_bytes()[:100])
            case "unpacked":
                (unpacked / "model.py").write_text("raise SystemExit('written into')")
            case "half unpacked":
                (unpacked / "model.py").unlink()
        bench.learner = PackageLearner(bench.settings)  # the next life
        await bench.train(package)
        assert (unpacked / "name.txt").read_text() == "echo"
        assert digest_of(archive.read_bytes()) == package
        assert bench.packages.fetched[package] == (2 if "archive" in damage else 1)

    bench.run(told)


def test_packages_are_kept_within_bounds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    packages = [bench.packages.make(f"echo-{number}") for number in range(6)]

    async def told() -> None:
        for package in packages:
            assert (await bench.validate(package)).samples == 5
        kept = {file.name for file in bench.archives.iterdir()}
        assert kept == {"unpacked", *(f"{package}.tar.gz" for package in packages[-4:])}
        assert [folder.name for folder in (bench.archives / "unpacked").iterdir()] == [packages[-1]]

    bench.run(told)


def test_a_resident_worker_s_start_is_told_in_the_first_training_s_metrics(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo", worker=True)

    async def told() -> None:
        assert (await bench.train(package)).metrics[WARM_UP_METRIC] > 0
        assert WARM_UP_METRIC not in (await bench.train(package)).metrics

    bench.run(told)


def test_a_package_whose_worker_does_not_start_fails_by_name_with_its_log_and_another_works(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    broken = bench.packages.make("broken", worker=True, model="import no_such_library\n")
    sound = bench.packages.make("sound", worker=True)

    async def told() -> None:
        for _ in range(2):
            with pytest.raises(EntryPointFailed) as failed:
                await bench.train(broken)
            assert "no_such_library" in failed.value.log
        assert (await bench.train(sound)).samples == 10

    bench.run(told)


@pytest.mark.parametrize("worker", [True, False])
def test_a_package_that_crashes_fails_by_name_and_the_next_task_works(tmp_path: Path, worker: bool) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo", worker=worker)

    async def told() -> None:
        with pytest.raises(EntryPointFailed) as failed:
            await bench.train(package, how="crash")
        assert "row 17 cannot be read" in failed.value.log
        assert (await bench.train(package)).samples == 10

    bench.run(told)


def test_a_package_that_writes_into_its_base_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo")

    async def told() -> None:
        with pytest.raises(BaseModelChanged):
            await bench.train(package, how="write into the base")

    bench.run(told)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [({"metrics": 65}, "65 metrics are more than 64"), ({"samples": 2**41}, "from 1 to 1,099,511,627,776")],
)
def test_what_no_combiner_would_take_is_named_before_it_is_sent(
    tmp_path: Path, parameters: dict[str, int], why: str
) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo")

    async def told() -> None:
        with pytest.raises(FednError) as refused:
            await bench.train(package, **parameters)
        assert refused.value.code == "MalformedOutput"
        assert why in refused.value.message

    bench.run(told)


@pytest.mark.parametrize("worker", [True, False])
def test_a_training_that_is_cancelled_ends_with_every_process_it_started(tmp_path: Path, worker: bool) -> None:
    bench = Bench(tmp_path)
    package = bench.packages.make("echo", worker=worker)

    async def told() -> None:
        training = asyncio.create_task(bench.train(package, how="hang"))
        pids = await pids_in(bench.data / "pids")
        assert all(living(pid) for pid in pids)
        training.cancel()
        await asyncio.gather(training, return_exceptions=True)
        assert training.cancelled()
        await gone(pids)
        assert (await bench.train(package)).samples == 10

    bench.run(told)


async def pids_in(file: Path) -> list[int]:
    while not (file.exists() and file.read_text().endswith("\n")):  # noqa: ASYNC110, ASYNC240 - a file has no event
        await asyncio.sleep(0.01)
    return [int(pid) for pid in file.read_text().split()]  # noqa: ASYNC240


def living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pids: list[int]) -> None:
    async with asyncio.timeout(5):
        while any(living(pid) for pid in pids):  # noqa: ASYNC110 - it is nobody's child here
            await asyncio.sleep(0.01)


# ---- environments


PYTHON_ENV = "name: env\ndependencies: [some-library>=1]\n"


def stand_in_installer(folder: Path, script: str) -> None:
    """Put a program called uv first on PATH."""
    folder.mkdir()
    (folder / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "uv").chmod(stat.S_IRWXU)


def test_a_package_s_environment_is_built_where_the_site_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package shows whose Python it runs in; it needs nothing but the standard library.
    model = "import sys\nprint(sys.executable, file=open(sys.argv[2] + '.who', 'w'))\nraise SystemExit(5)\n"
    stand_in_installer(tmp_path / "bin", f'echo "$@" >> {tmp_path}/asked; echo installed > {tmp_path}/installed')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    manifest = MANIFEST + "python_env: python_env.yaml\n"
    for environments, built in (("own", False), ("build", True)):
        folder = tmp_path / environments
        folder.mkdir()
        bench = Bench(folder, environments=environments)
        package = bench.packages.make("env", manifest=manifest, model=model, python_env=PYTHON_ENV)

        async def told(bench: Bench = bench, package: Digest = package) -> None:
            for _ in range(2):
                with pytest.raises(EntryPointFault):
                    await bench.train(package)

        bench.run(told)
        assert (bench.settings.state_dir / "environments").exists() is built
        assert (tmp_path / "installed").exists() is built
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1  # built once, found again
    assert "some-library>=1" in asked[0]
    assert "numpy" in asked[0]


def test_an_environment_that_cannot_be_built_fails_the_task_by_name_with_the_installer_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_installer(tmp_path / "bin", "echo no such library >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    bench = Bench(tmp_path, environments="build")
    manifest = MANIFEST + "python_env: python_env.yaml\n"
    package = bench.packages.make("env", manifest=manifest, python_env=PYTHON_ENV)

    async def told() -> None:
        with pytest.raises(EnvironmentNotBuilt) as failed:
            await bench.train(package)
        assert "no such library" in failed.value.log

    bench.run(told)


# ---- in a whole client


def test_a_client_whose_package_fails_lives_on_and_its_next_package_works(tmp_path: Path) -> None:
    packages = Packages(tmp_path / "packages")
    broken = packages.make("broken", worker=True, model="import no_such_library\n")
    sound = packages.make("sound", worker=True)
    (tmp_path / "data").mkdir()

    async def told(network: Network) -> None:
        network.combiner.objects.objects |= packages.archives
        await network.combiner.heard("attached")
        network.combiner.train(1, package=broken)
        failed = await network.combiner.told(TaskFailed)
        assert failed.reason.startswith("EntryPointFailed: ")
        assert "no_such_library" in failed.log

        network.combiner.train(2, package=sound, round_number=2, parameters='{"how": "write into the base"}')
        assert (await network.combiner.told(TaskFailed)).reason.startswith("BaseModelChanged: ")
        network.combiner.train(3, package=sound, round_number=2)
        header = await network.combiner.heard("arrived")
        assert header.samples == 10
        # From the model that the round names, not from what the package made of it.
        assert list(np.frombuffer(network.combiner.calls.updates[0], "<f4")) == [1.0] * 6

    def learner() -> PackageLearner:
        return PackageLearner(client_settings(tmp_path / "anna", 1, data_path=str(tmp_path / "data")))

    story(tmp_path, told, learner=learner)


def test_a_cancelled_task_ends_the_package_s_processes_in_a_running_client(tmp_path: Path) -> None:
    packages = Packages(tmp_path / "packages")
    package = packages.make("echo")
    (tmp_path / "data").mkdir()

    async def told(network: Network) -> None:
        network.combiner.objects.objects |= packages.archives
        await network.combiner.heard("attached")
        network.combiner.train(1, package=package, parameters='{"how": "hang"}')
        pids = await pids_in(tmp_path / "data" / "pids")
        network.combiner.send(TaskCancelled(Generation(1), "the round is closed"))
        await gone(pids)
        network.combiner.train(2, package=package, round_number=2)
        await network.combiner.heard("arrived")

    def learner() -> PackageLearner:
        return PackageLearner(client_settings(tmp_path / "anna", 1, data_path=str(tmp_path / "data")))

    story(tmp_path, told, learner=learner)
