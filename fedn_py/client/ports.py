"""What a client daemon needs: somebody who learns, and a combiner to speak to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from fedn_py.identity import Digest, SessionId
from fedn_py.protocol.messages import FromClient, Metrics, ToClient, UpdateHeader, UpdateReceipt
from fedn_py.transport.chunks import InChunks


@dataclass(frozen=True, slots=True)
class LearningTask:
    """What is asked of a learner.

    Attributes:
        parameters: JSON object, as the session's starter gave it.
        timeout_s: how long the round gives it.
    """

    session: SessionId
    round_number: int
    attempt: int
    package: Digest
    parameters: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Learned:
    """A training or validation that ended well.

    Attributes:
        samples: how many samples it stands for, at least 1.
        tensors: of the trained model where it is in memory; None where it is in the file that was asked for.
    """

    samples: int
    metrics: Metrics
    tensors: Mapping[str, npt.NDArray[Any]] | None = field(default=None, compare=False, repr=False)


class Fetch(Protocol):
    """Gets objects from the combiner, whichever it is now."""

    async def __call__(self, digest: Digest, into: Path) -> None:
        """Download an object into a file, whole and checked; waits out lost connections."""
        ...


class Learner(Protocol):
    """Trains and validates: a compute package, or a participant in this process.

    Both methods raise a FednError that says what is wrong, EntryPointFault with the log for one.
    """

    async def train(self, base: Path, out_model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        """Train from a model, and check that the new one is of the same tensors and finite.

        It is in ``tensors`` of what is returned, or else at ``out_model``.
        """
        ...

    async def validate(self, model: Path, task: LearningTask, fetch: Fetch) -> Learned:
        """Measure a model."""
        ...

    async def close(self) -> None:
        """End what still runs."""
        ...


class Combiner(Protocol):
    """Whatever combiner the client is attached to now."""

    def send(self, message: FromClient) -> None:
        """Say something to it, if it is there."""
        ...

    async def upload(self, header: UpdateHeader, source: Path | InChunks) -> UpdateReceipt:
        """Upload an update; raises the fault of a transfer that cannot be finished."""
        ...

    async def upload_object(self, upload_id: str, digest: Digest, path: Path) -> None:
        """Upload an object; raises the fault of a transfer that cannot be finished."""
        ...


class Listener(Protocol):
    """Takes what comes from the combiner, in its order."""

    def attached(self) -> None:
        """Learn that a combiner has welcomed the client."""
        ...

    def detached(self) -> None:
        """Learn that its stream is over."""
        ...

    def heard(self, message: ToClient) -> None:
        """Take a message."""
        ...
