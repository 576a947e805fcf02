"""The task that an entry point was started for: which round, with what parameters, over which data."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedn_py.errors import OwnFault


class UnreadableTask(OwnFault):
    """The file that FEDN_TASK names is not a task."""


@dataclass(frozen=True, slots=True)
class Task:
    """What an entry point may know besides its arguments.

    Attributes:
        session: the training session's id; empty when run by hand.
        round: counts the rounds of the session, from 1; 0 when run by hand.
        attempt: counts the attempts at this round, from 1; 0 when run by hand.
        client: the client's name; empty when run by hand.
        parameters: the session's parameters, as its starter gave them (JSON object).
        data: the site's data, a file or folder (FEDN_DATA_PATH); None where the site set none.
    """

    session: str = ""
    round: int = 0
    attempt: int = 0
    client: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Path | None = None


def load_task() -> Task:
    """Read the task from the file that FEDN_TASK names; without one, a task as run by hand.

    Fields that this version does not know are passed over.

    Raises:
        UnreadableTask: the file is missing or not a JSON object of the described form.
    """
    data_path = os.environ.get("FEDN_DATA_PATH")
    data = Path(data_path) if data_path else None
    path = os.environ.get("FEDN_TASK")
    if not path:
        return Task(data=data)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return Task(
            session=str(content.get("session", "")),
            round=int(content.get("round", 0)),
            attempt=int(content.get("attempt", 0)),
            client=str(content.get("client", "")),
            parameters=dict(content.get("parameters", {})),
            data=data,
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as fault:
        raise UnreadableTask(
            f"FEDN_TASK names {path}, which is no task: {fault}",
            remedy="Unset FEDN_TASK to run by hand, or write a JSON object with round and parameters there.",
        ) from fault
