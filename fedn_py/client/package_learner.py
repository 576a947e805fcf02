"""Learning by compute package: downloaded once, unpacked safely, run as subprocesses."""

import shutil
import time
from pathlib import Path

from fedn_py.aggregation.admission import check_samples
from fedn_py.aggregation.metrics import MAX_NAMES, check_metrics
from fedn_py.client.objects import ObjectFolder
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.execution.archive import UnpackedPackage, unpack
from fedn_py.execution.environment import PythonEnvironment, own_environment
from fedn_py.execution.python_env import build_environment, parse_python_env
from fedn_py.execution.runner import PackageRunner, RunLimits, TaskFacts, TrainOutcome, ValidateOutcome
from fedn_py.identity import Digest
from fedn_py.runtime.logging import logger
from fedn_py.settings.roles import ClientSettings
from fedn_py.transport.completion import in_thread

WARM_UP_METRIC = "worker_start_s"
"""Seconds that a package's resident worker took to start, in the metrics of the first training that it served."""

_PACKAGES_KEPT = 4

_log = logger("fedn_py.client")


class PackageLearner:
    """Runs the entry points of whatever package the session names; implements ``Learner``."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        folder = settings.state_dir / "packages"
        self._archives = ObjectFolder(folder, ".tar.gz", _PACKAGES_KEPT)
        self._unpacked = folder / "unpacked"
        self._runner: PackageRunner | None = None
        self._digest: Digest | None = None

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        """Run the package's train entry point."""
        runner, started_s = await self._ready(task.package, fetch)
        outcome = await runner.train(base, out_model, self._facts(task), timeout_s=task.timeout_s)
        learned = _learned(outcome)
        started = {WARM_UP_METRIC: started_s} if started_s and len(learned.metrics) < MAX_NAMES else {}
        return Learned(learned.samples, {**learned.metrics, **started})

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        """Run the package's validate entry point."""
        runner, _ = await self._ready(task.package, fetch)
        outcome = await runner.validate(model, self._facts(task), timeout_s=task.timeout_s)
        return _learned(outcome)

    async def close(self) -> None:
        """End the package's resident worker."""
        if self._runner is not None:
            await self._runner.close()
            self._runner = self._digest = None

    def _facts(self, task: LearningTask) -> TaskFacts:
        return TaskFacts(task.session, task.round_number, task.attempt, self._settings.name, task.parameters)

    async def _ready(self, digest: Digest, fetch: Fetch) -> tuple[PackageRunner, float]:
        """Return the runner of a package, and the seconds that its worker took to start if it started now."""
        if self._runner is not None and self._digest == digest:
            return self._runner, 0.0
        await self.close()
        archive = await self._archives.have(digest, fetch)
        package = await in_thread(_unpacked_anew, archive, self._unpacked)
        runner = PackageRunner(
            package,
            python=await self._python(package.folder, package.manifest.python_env),
            data_path=self._settings.data_path,
            scratch=self._settings.state_dir / "scratch",
            limits=RunLimits(train_s=self._settings.train_timeout_s, validate_s=self._settings.train_timeout_s),
        )
        started_s = 0.0
        if self._settings.worker_warm_up and package.manifest.worker is not None:
            begun = time.monotonic()
            await runner.warm_up()
            started_s = time.monotonic() - begun
        self._runner, self._digest = runner, digest
        _log.info(
            "package ready", package=package.manifest.name, digest=digest[:12], worker_start_s=round(started_s, 2)
        )
        return runner, started_s

    async def _python(self, folder: Path, python_env: str | None) -> PythonEnvironment:
        if self._settings.environments == "own" or python_env is None:
            return own_environment()
        text = await in_thread((folder / python_env).read_bytes)
        return await build_environment(parse_python_env(text), self._settings.state_dir / "environments")


def _unpacked_anew(archive: Path, into: Path) -> UnpackedPackage:
    # What an earlier life or an earlier package left there may have been cut short or written into.
    if into.exists():
        shutil.rmtree(into)
    return unpack(archive, into)


def _learned(outcome: TrainOutcome | ValidateOutcome) -> Learned:
    """Return what a package measured, held to what the network takes."""
    check_samples(outcome.samples)
    return Learned(outcome.samples, check_metrics(outcome.metrics))
