"""What a sandbox is asked to be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedn_py.execution.projects import project_folder

DEFAULT_DIR = Path(".fedn") / "sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """What a sandbox is asked to be.

    Attributes:
        dir: all of its state.
        project: folder of a project with fedn.yaml and prepare.py; None for the digits example.
        split: how the data is spread over the clients.
        exit_when_done: end with the session rather than wait for Ctrl-C.
        summary: file for a JSON summary of the session.
        session: start or go on with a session; without it the network waits for people at the web pages.
        new_session: stop the session under way, if there is one, and begin another.
        keep_updates: folder in which every client keeps copies of its updates.
        mongodb, minio: stores to use in the place of the embedded ones.
        port: the reducer's web port, the others follow; None for the usual ones.
    """

    dir: Path = DEFAULT_DIR
    clients: int = 8
    combiners: int = 2
    rounds: int = 5
    project: Path | None = None
    masking: Literal["pet", "none"] = "pet"
    split: Literal["iid", "dirichlet"] = "iid"
    exit_when_done: bool = False
    summary: Path | None = None
    session: bool = True
    new_session: bool = False
    keep_updates: Path | None = None
    mongodb: str | None = None
    minio: str | None = None
    port: int | None = None

    def project_folder(self) -> Path:
        """Return the project's folder; raises UnknownFramework where this installation lacks the example."""
        return self.project or project_folder("sklearn")
