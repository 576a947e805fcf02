"""A compute package at work: train, validate, startup and predict, by resident worker where it has one.

Each run has a scratch folder of its own, which holds the task and the outputs until they have passed their check and
is gone afterwards.
"""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fedn_py.errors import OwnFault
from fedn_py.execution.archive import UnpackedPackage
from fedn_py.execution.entry_points import EntryPointMissing, Finished, run_entry_point
from fedn_py.execution.environment import PythonEnvironment, entry_point_variables
from fedn_py.execution.manifest import Command
from fedn_py.execution.outcome import BaseModelChanged, check_seed_model, check_trained_model, read_results
from fedn_py.execution.processes import LOG_BYTES
from fedn_py.execution.worker import ResidentWorker

_BY_WORKER = ("train", "validate")


class RunImpossible(OwnFault):
    """This machine lacks what it takes to run a package at all: disk, memory, processes."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a package is told of its task.

    Attributes:
        round: 0 outside of a session, as in a trial.
        parameters: JSON object, as the session's starter gave it.
    """

    session: str = ""
    round: int = 0
    attempt: int = 0
    client: str = ""
    parameters: str = "{}"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How long an entry point may take, in seconds, whatever the package says; and how much log is kept, in bytes."""

    train_s: float = 86_400.0
    validate_s: float = 86_400.0
    startup_s: float = 3_600.0
    predict_s: float = 86_400.0
    log_bytes: int = LOG_BYTES


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """A training whose output passed.

    Attributes:
        model: where the new model is.
        samples: its weight.
        seconds: the entry point took, checks apart.
    """

    model: Path
    samples: int
    metrics: dict[str, float]
    seconds: float
    log: str


@dataclass(frozen=True, slots=True)
class ValidateOutcome:
    """A validation whose output passed; samples is how many the metrics stand for."""

    samples: int
    metrics: dict[str, float]
    seconds: float
    log: str


class PackageRunner:
    """Runs the entry points of one unpacked package on one site's data.

    Args:
        package: as ``unpack`` returns it.
        python: the Python that its commands mean.
        data_path: handed on as FEDN_DATA_PATH.
        scratch: a folder for what runs write; made if absent.
        limits: the site's own.
    """

    def __init__(
        self,
        package: UnpackedPackage,
        *,
        python: PythonEnvironment,
        data_path: Path | None,
        scratch: Path,
        limits: RunLimits | None = None,
    ) -> None:
        self.package = package
        self._python, self._data_path, self._scratch = python, data_path, scratch.absolute()
        self._limits = limits or RunLimits()
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._worker = self._made_worker()

    async def warm_up(self) -> None:
        """Start the resident worker, where the package has one, so that imports do not count in a round.

        Raises:
            EntryPointFault: it does not start; its log says why.
        """
        if self._worker is not None:
            await self._worker.warm_up()

    async def startup(self, out_model: Path, task: TaskFacts = TaskFacts()) -> Finished:
        """Have the package make a seed model, checked and put at ``out_model``.

        Raises:
            EntryPointFault: it has no startup, failed, or wrote no sound model.
        """
        async with self._run_folder(task) as folder:
            made = folder / "seed.safetensors"
            finished = await self._run("startup", [made], folder, self._limits.startup_s)
            await asyncio.to_thread(check_seed_model, made, log=finished.log)
            await asyncio.to_thread(shutil.move, made, out_model)
        return finished

    async def train(
        self, base: Path, out_model: Path, task: TaskFacts, *, timeout_s: float | None = None
    ) -> TrainOutcome:
        """Have the package train from a model; the new one is checked and put at ``out_model``.

        Args:
            base: the model to train from; must stay as it is.
            out_model: replaced if it exists.
            task: what the package is told.
            timeout_s: what is left of the round; the package's and the site's limits hold as well.

        Raises:
            EntryPointFault: it failed, took too long, or wrote something that cannot be used.
        """
        before = _fingerprint(base)
        async with self._run_folder(task) as folder:
            made = folder / "model.safetensors"
            limit_s = min(self._limits.train_s, timeout_s or self._limits.train_s)
            finished = await self._run("train", [base, made], folder, limit_s)
            if _fingerprint(base) != before:
                raise BaseModelChanged(
                    "train", "changed the model it was given to read", log=finished.log, remedy="Write to OUT_MODEL."
                )
            await asyncio.to_thread(check_trained_model, made, base, log=finished.log)
            results = read_results("train", folder / f"{made.name}.json", log=finished.log)
            await asyncio.to_thread(shutil.move, made, out_model)
        return TrainOutcome(out_model, results.samples, results.metrics, finished.seconds, finished.log)

    async def validate(self, model: Path, task: TaskFacts, *, timeout_s: float | None = None) -> ValidateOutcome:
        """Have the package measure a model on this site's data.

        Raises:
            EntryPointFault: it failed, took too long, or wrote no sound metrics.
        """
        async with self._run_folder(task) as folder:
            limit_s = min(self._limits.validate_s, timeout_s or self._limits.validate_s)
            finished = await self._run("validate", [model, folder / "metrics.json"], folder, limit_s)
            results = read_results("validate", folder / "metrics.json", log=finished.log)
        return ValidateOutcome(results.samples, results.metrics, finished.seconds, finished.log)

    async def predict(self, model: Path, source: Path, target: Path) -> Finished:
        """Have the package predict; what the files hold is the package's own affair.

        Raises:
            EntryPointFault: it has no predict, failed or took too long.
        """
        async with self._run_folder(TaskFacts()) as folder:
            return await self._run("predict", [model, source, target], folder, self._limits.predict_s)

    async def close(self) -> None:
        """End the resident worker; running tasks fail."""
        if self._worker is not None:
            await self._worker.close()

    def _made_worker(self) -> ResidentWorker | None:
        command = self.package.manifest.worker
        if command is None:
            return None
        return ResidentWorker(
            command.words,
            python=self._python,
            cwd=self.package.folder,
            environment=entry_point_variables(self._python, scratch=self._scratch, data_path=self._data_path),
            log_bytes=self._limits.log_bytes,
        )

    async def _run(self, name: str, arguments: Sequence[Path], folder: Path, limit_s: float) -> Finished:
        command = self._command(name)
        timeout_s = min(limit_s, command.timeout_s or limit_s)
        words = _absolute(arguments)
        task_file = folder / "task.json"
        if self._worker is not None and name in _BY_WORKER:
            return await self._worker.run(name, words, task_file=task_file, timeout_s=timeout_s)
        variables = entry_point_variables(self._python, scratch=folder, data_path=self._data_path)
        return await run_entry_point(
            name,
            [*command.words, *words],
            python=self._python,
            cwd=self.package.folder,
            environment=variables | {"FEDN_TASK": str(task_file)},
            timeout_s=timeout_s,
            log_bytes=self._limits.log_bytes,
        )

    def _command(self, name: str) -> Command:
        command = self.package.manifest.commands().get(name)
        if command is None:
            raise EntryPointMissing(
                name, "entry point does not exist", remedy=f"Add entry_points.{name} to the package's fedn.yaml."
            )
        return command

    @asynccontextmanager
    async def _run_folder(self, task: TaskFacts) -> AsyncIterator[Path]:
        content = {
            "session": task.session,
            "round": task.round,
            "attempt": task.attempt,
            "client": task.client,
            "parameters": json.loads(task.parameters),
        }
        try:
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._scratch))
        except OSError as fault:
            raise _impossible(fault) from fault
        try:
            (folder / "task.json").write_text(json.dumps(content), encoding="utf-8")
            yield folder
        except OSError as fault:
            raise _impossible(fault) from fault
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _impossible(fault: OSError) -> RunImpossible:
    return RunImpossible(
        f"this machine could not run the package: {fault}", remedy="Look for a full disk, or for too many processes."
    )


def _absolute(paths: Sequence[Path]) -> list[str]:
    return [str(path.absolute()) for path in paths]


def _fingerprint(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
