"""Trying a compute package before it is uploaded: everything that a client would do with it, here and step by step."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fedn_py.errors import FednError
from fedn_py.execution.archive import UnpackedPackage, unpack
from fedn_py.execution.archive_scan import DEFAULT_LIMITS, PackageLimits
from fedn_py.execution.environment import PythonEnvironment, own_environment
from fedn_py.execution.outcome import check_seed_model
from fedn_py.execution.packing import create_package
from fedn_py.execution.projects import PREPARE_NAME, prepare_data
from fedn_py.execution.runner import PackageRunner, RunLimits, TaskFacts

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trial.

    Attributes:
        name: package, data, startup, train, validate, worker, train by worker or validate by worker.
        result: what came of it, one line for people; empty where it failed.
        fault: why it failed; None where it passed.
        log: the last lines that the package printed.
    """

    name: str
    seconds: float
    result: str
    fault: FednError | None = None
    log: str = ""


async def try_package(
    source: Path,
    scratch: Path,
    *,
    data_path: Path | None = None,
    seed_model: Path | None = None,
    parameters: str = "{}",
    python: PythonEnvironment | None = None,
    limits: PackageLimits = DEFAULT_LIMITS,
    run_limits: RunLimits | None = None,
) -> AsyncIterator[Step]:
    """Check and run a package; yields each step once it is done, and ends with the first that failed.

    Args:
        source: the project's folder, or the package file.
        scratch: an empty folder; the caller removes it.
        data_path: what the package trains on; None has its prepare.py make some, where it has one.
        seed_model: trained from instead of what startup makes.
        parameters: JSON object, as a session would give it.
        python: what ``python`` means in its commands; None is this one.
        limits, run_limits: what a client would hold it to.
    """
    trial = _Trial(scratch, python or own_environment(), TaskFacts(round=1, attempt=1, parameters=parameters))
    steps: list[tuple[str, Callable[[], Awaitable[tuple[str, str]]]]] = [
        ("package", lambda: trial.open(source, limits)),
        ("data", lambda: trial.prepare(data_path)),
        ("startup", lambda: trial.seed(seed_model, run_limits)),
        ("train", trial.train),
        ("validate", trial.validate),
        ("worker", lambda: trial.warm_up(run_limits)),
        ("train by worker", trial.train_by_worker),
        ("validate by worker", trial.validate_by_worker),
    ]
    try:
        for name, step in steps:
            began = time.monotonic()
            try:
                result, log = await step()
            except FednError as fault:
                yield Step(name, time.monotonic() - began, "", fault, getattr(fault, "log", ""))
                return
            if result:
                yield Step(name, time.monotonic() - began, result, None, log)
    finally:
        await trial.close()


class _Trial:
    """What the steps hand on to each other; each returns its result and log, an empty result where it is left out."""

    def __init__(self, scratch: Path, python: PythonEnvironment, task: TaskFacts) -> None:
        self._scratch, self._python, self._task = scratch, python, task
        self._seed = scratch / "seed.safetensors"
        self._trained = scratch / "trained.safetensors"
        self._package: UnpackedPackage | None = None
        self._by_command: PackageRunner | None = None
        self._by_worker: PackageRunner | None = None
        self._data: Path | None = None

    async def open(self, source: Path, limits: PackageLimits) -> tuple[str, str]:
        file = source
        if source.is_dir():  # noqa: ASYNC240  one look at a local disk
            file = self._scratch / "package.tar.gz"
            await asyncio.to_thread(create_package, source, file)
        self._package = await asyncio.to_thread(unpack, file, self._scratch / "packages", limits)
        manifest = self._package.manifest
        return f"{manifest.name} {manifest.version}, {file.stat().st_size:,} bytes, sha256 {self._package.digest}", ""

    async def prepare(self, data_path: Path | None) -> tuple[str, str]:
        self._data = data_path
        folder = _there(self._package).folder
        if data_path is not None or not (folder / PREPARE_NAME).exists():
            return "", ""
        parts = await prepare_data(folder, 2, self._scratch / "data", python=self._python)
        self._data = parts[0]
        return f"{PREPARE_NAME} made data for 2 clients; the first is used here", ""

    async def seed(self, seed_model: Path | None, run_limits: RunLimits | None) -> tuple[str, str]:
        package = _there(self._package)
        without_worker = replace(package, manifest=replace(package.manifest, worker=None))
        self._by_command = self._runner(without_worker, run_limits)
        log = ""
        if seed_model is not None:
            self._seed = seed_model
        else:
            log = (await self._by_command.startup(self._seed, self._task)).log
        layout = await asyncio.to_thread(check_seed_model, self._seed)
        return f"a model of {len(layout.tensors):,} tensors, {layout.n_parameters:,} parameters", log

    async def train(self) -> tuple[str, str]:
        return await self._train(_there(self._by_command))

    async def validate(self) -> tuple[str, str]:
        return await self._validate(_there(self._by_command))

    async def warm_up(self, run_limits: RunLimits | None) -> tuple[str, str]:
        package = _there(self._package)
        if package.manifest.worker is None:
            return "", ""
        self._by_worker = self._runner(package, run_limits)
        await self._by_worker.warm_up()
        return "ready", ""

    async def train_by_worker(self) -> tuple[str, str]:
        return await self._train(self._by_worker) if self._by_worker else ("", "")

    async def validate_by_worker(self) -> tuple[str, str]:
        return await self._validate(self._by_worker) if self._by_worker else ("", "")

    async def close(self) -> None:
        if self._by_worker is not None:
            await self._by_worker.close()

    async def _train(self, runner: PackageRunner) -> tuple[str, str]:
        outcome = await runner.train(self._seed, self._trained, self._task)
        return f"{outcome.samples:,} samples{_listed(outcome.metrics)}", outcome.log

    async def _validate(self, runner: PackageRunner) -> tuple[str, str]:
        outcome = await runner.validate(self._trained, self._task)
        return f"{outcome.samples:,} samples{_listed(outcome.metrics)}", outcome.log

    def _runner(self, package: UnpackedPackage, limits: RunLimits | None) -> PackageRunner:
        scratch = self._scratch / "runs"
        return PackageRunner(package, python=self._python, data_path=self._data, scratch=scratch, limits=limits)


def _there(value: Made | None) -> Made:
    assert value is not None  # an earlier step made it, or the trial had ended
    return value


def _listed(metrics: dict[str, float]) -> str:
    return "".join(f", {name} {value:.4g}" for name, value in metrics.items())
