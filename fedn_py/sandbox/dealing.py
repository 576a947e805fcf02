"""The clients' data: made by the project's own script, and kept for the next start."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from fedn_py.execution.environment import own_environment
from fedn_py.execution.packing import create_package
from fedn_py.execution.projects import prepare_data
from fedn_py.sandbox.folder import SandboxFolder


def deal(folder: SandboxFolder, project: Path, clients: int, split: str) -> list[Path]:
    """Return a folder of data for each client, made unless an earlier start has made them.

    Raises:
        FednError: of the project, or of its script.
    """
    with tempfile.TemporaryDirectory(dir=folder.path) as scratch:
        digest = create_package(project, Path(scratch) / "package.tar.gz")
    # Named by what makes it: a change to the project has its data made anew.
    out = folder.data / f"{project.resolve().name}-{digest[:12]}-{clients}-{split}"
    parts = [out / f"client-{number}" for number in range(1, clients + 1)]
    whole = out / ".whole"
    if whole.exists():
        return parts
    shutil.rmtree(out, ignore_errors=True)
    parts = asyncio.run(prepare_data(project, clients, out, python=own_environment(), options=("--split", split)))
    whole.touch()
    return parts
