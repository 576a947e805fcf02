"""Taking part from a process of one's own: two methods instead of a compute package.

from fedn_py.client import Participant

class MySite(Participant):
    def train(self, model, task):
        ...
        return model, num_samples, {"loss": 0.3}

    def validate(self, model, task):
        return {"accuracy": 0.9}, num_samples

MySite().run("client.yaml")
"""

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn_py.aggregation.admission import check_samples
from fedn_py.aggregation.metrics import check_metrics
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.errors import FednError, PeerFault
from fedn_py.execution.outcome import check_trained_model
from fedn_py.package import load_model, save_model
from fedn_py.runtime.processes import run_until_stopped

Model = dict[str, npt.NDArray[Any]]
"""Tensor name to values."""

Trained = tuple[Mapping[str, npt.NDArray[Any]], int, Mapping[str, float]]
"""The new model, the number of samples it was trained on, and metrics."""


@dataclass(frozen=True, slots=True)
class ParticipantTask:
    """What a participant is told of its task.

    Attributes:
        parameters: as the session's starter gave them.
    """

    session: str
    round: int
    attempt: int
    parameters: Mapping[str, Any]


class ParticipantFailed(PeerFault):
    """A participant's own code raised."""


class Participant:
    """A site that trains and validates in this process; override ``train`` and ``validate``.

    Both are called in a worker thread, one at a time.
    """

    def train(
        self, model: Model, task: ParticipantTask
    ) -> tuple[Mapping[str, npt.NDArray[Any]], int, Mapping[str, float]]:
        """Train from a model.

        Args:
            model: the global model, yours to change.

        Returns:
            The new model (same names, shapes and types), the number of samples it was trained on, and metrics.
        """
        raise NotImplementedError

    def validate(self, model: Model, task: ParticipantTask) -> tuple[Mapping[str, float], int]:
        """Measure a model; returns metrics and the number of samples they stand for."""
        raise NotImplementedError

    def on_stop(self) -> None:
        """Take leave: called once when the client stops."""

    def run(self, settings_file: str | Path) -> None:
        """Take part until SIGTERM or Ctrl-C.

        Raises:
            InvalidSettings: says everything that is wrong with the file.
        """
        # Only here: reading settings and running a client needs more than defining a participant does.
        from fedn_py.client.assemble import run_client
        from fedn_py.runtime.logging import configure_logging
        from fedn_py.settings import ClientSettings, load_settings

        settings = load_settings(ClientSettings, Path(settings_file), os.environ)
        configure_logging(settings.logging.format, settings.logging.level)
        run_until_stopped(lambda stop: run_client(settings, stop, ParticipantLearner(self)))


class ParticipantLearner:
    """Has a participant learn; implements ``Learner``."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._busy = asyncio.Lock()

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Call the participant's train and check what it returns like a package's output."""
        async with self._busy:
            return await asyncio.to_thread(self._train, base, out_model, task)

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Call the participant's validate."""
        async with self._busy:
            return await asyncio.to_thread(self._validate, model, task)

    async def close(self) -> None:
        """Tell the participant that it is over."""
        await asyncio.to_thread(self._participant.on_stop)

    def _train(self, base: Path, out_model: Path, task: LearningTask) -> Learned:
        with _own_words("train"):
            model, samples, metrics = self._participant.train(load_model(base), _told(task))
            save_model(out_model, {name: np.asarray(values) for name, values in model.items()})
        check_trained_model(out_model, base)
        check_samples(samples)
        return Learned(samples, check_metrics(metrics))

    def _validate(self, model: Path, task: LearningTask) -> Learned:
        with _own_words("validate"):
            metrics, samples = self._participant.validate(load_model(model), _told(task))
        check_samples(samples)
        return Learned(samples, check_metrics(metrics))


def _told(task: LearningTask) -> ParticipantTask:
    return ParticipantTask(task.session, task.round_number, task.attempt, json.loads(task.parameters))


@contextmanager
def _own_words(method: str) -> Iterator[None]:
    """Turn whatever a participant's code raises into a fault that names it."""
    try:
        yield
    except FednError:
        raise
    except Exception as fault:
        raise ParticipantFailed(
            f"the participant's {method} raised {type(fault).__name__}: {fault}",
            remedy=f"Look at {method} in the participant's code.",
        ) from fault
