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
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fedn_py.aggregation.admission import check_samples
from fedn_py.aggregation.metrics import check_metrics
from fedn_py.client.ports import Fetch, Learned, LearningTask
from fedn_py.errors import FednError, PeerFault
from fedn_py.execution.outcome import check_trained_tensors
from fedn_py.package import load_model
from fedn_py.package.models import storable
from fedn_py.runtime.processes import keep_memory_private, run_until_stopped

Result = TypeVar("Result")

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
            The new model (same names, shapes and types), the number of samples it was trained on, and metrics. Its
            arrays are read until the round has ended: return copies of those that you write to before the next call
            of ``train``.
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

        keep_memory_private()
        settings = load_settings(ClientSettings, Path(settings_file), os.environ)
        configure_logging(settings.logging.format, settings.logging.level)
        run_until_stopped(lambda stop: run_client(settings, stop, ParticipantLearner(self)))


class ParticipantLearner:
    """Has a participant learn; implements ``Learner``.

    A thread cannot be stopped: a call that nobody waits for any more goes on, and the next one waits for its end. It
    does not keep the process from ending.
    """

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._turn = asyncio.Lock()
        self._call: asyncio.Future[Learned] | None = None

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Call the participant's train and check what it returns like a package's output; it stays in memory."""
        return await self._called(lambda: self._train(base, task))

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:  # noqa: ARG002
        """Call the participant's validate."""
        return await self._called(lambda: self._validate(model, task))

    async def close(self) -> None:
        """Tell the participant that it is over; what it still does may take this as a sign to end."""

        def take_leave() -> None:
            with _own_words("on_stop"):
                self._participant.on_stop()

        await _in_daemon(take_leave)

    async def _called(self, call: Callable[[], Learned]) -> Learned:
        async with self._turn:
            if self._call is not None:
                await asyncio.wait({self._call})
            self._call = _in_daemon(call)
            try:
                return await asyncio.shield(self._call)
            finally:
                if self._call.done():  # what it returned holds a whole model
                    self._call = None

    def _train(self, base: Path, task: LearningTask) -> Learned:
        with _own_words("train"):
            returned: Any = self._participant.train(load_model(base), _told(task))
            if not isinstance(returned, tuple) or len(returned) != 3 or not isinstance(returned[0], Mapping):
                raise _wrong("train", returned, "a model, the number of samples and metrics")
            model, samples, metrics = returned
            tensors = storable({name: np.asarray(values) for name, values in model.items()})
        check_trained_tensors(tensors, base)
        return replace(_learned("train", samples, metrics), tensors=tensors)

    def _validate(self, model: Path, task: LearningTask) -> Learned:
        with _own_words("validate"):
            returned: Any = self._participant.validate(load_model(model), _told(task))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise _wrong("validate", returned, "metrics and the number of samples")
        metrics, samples = returned
        return _learned("validate", samples, metrics)


def _told(task: LearningTask) -> ParticipantTask:
    return ParticipantTask(task.session, task.round_number, task.attempt, json.loads(task.parameters))


def _learned(method: str, samples: object, metrics: object) -> Learned:
    if isinstance(samples, bool) or not isinstance(samples, Integral):
        raise _wrong(method, samples, "a whole number as the number of samples")
    if not isinstance(metrics, Mapping):
        raise _wrong(method, metrics, "a mapping of names to numbers as metrics")
    check_samples(int(samples))
    return Learned(int(samples), check_metrics(metrics))


def _wrong(method: str, returned: object, wanted: str) -> ParticipantFailed:
    return ParticipantFailed(
        f"the participant's {method} returned an object of type {type(returned).__name__}, not {wanted}",
        remedy=f"Look at what {method} returns in the participant's code.",
    )


@contextmanager
def _own_words(method: str) -> Iterator[None]:
    """Turn whatever a participant's code raises into a fault that names it."""
    try:
        yield
    except FednError:
        raise
    except BaseException as fault:  # sys.exit too: it is the participant's word, not this process's
        raise ParticipantFailed(
            f"the participant's {method} raised {type(fault).__name__}: {fault}",
            remedy=f"Look at {method} in the participant's code.",
        ) from fault


def _in_daemon(call: Callable[[], Result]) -> "asyncio.Future[Result]":
    """Call a function in a thread that the process does not wait for when it ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    # Read, or asyncio would report a fault that nobody waits for any more.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def settle(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], object] = future.set_result, call()
        except BaseException as fault:
            outcome = future.set_exception, fault
        with suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="participant", daemon=True).start()
    return future
