"""The example projects that users start from: where they are, how one becomes the user's own, how its data is made."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import fedn_py
from fedn_py.errors import OwnFault
from fedn_py.execution.entry_points import EntryPointFault, run_entry_point
from fedn_py.execution.environment import PythonEnvironment, entry_point_variables
from fedn_py.execution.manifest import MANIFEST_NAME

FRAMEWORKS = MappingProxyType({"sklearn": "digits-sklearn", "keras": "mnist-keras"})
"""Framework to the example project that ``fedn-py new`` copies."""

PREPARE_NAME = "prepare.py"
_PREPARE_TIMEOUT_S = 600.0
_NAME_LINE = re.compile(r"^name:.*$", re.MULTILINE)


class UnknownFramework(OwnFault):
    """There is no example project for it."""


class TargetExists(OwnFault):
    """A new project would overwrite what is there."""


class DataNotPrepared(OwnFault):
    """A project's prepare.py is missing, failed, or did not make a folder for each client.

    Attributes:
        log: the last lines that it printed.
    """

    def __init__(self, why: str, log: str = "") -> None:
        super().__init__(
            f"the project's data could not be prepared: {why}",
            remedy=f"{PREPARE_NAME} is run with --clients N --out DIR and makes DIR/client-1 to DIR/client-N.",
        )
        self.log = log


def project_folder(framework: str) -> Path:
    """Return the example project's folder: in the installed wheel, or in the checkout that this runs from.

    Raises:
        UnknownFramework: there is none, or this installation lacks it.
    """
    name = FRAMEWORKS.get(framework)
    if name is None:
        raise UnknownFramework(
            f"there is no example project for {framework!r}", remedy=f"Choose one of: {', '.join(FRAMEWORKS)}."
        )
    package = Path(fedn_py.__file__).resolve().parent
    for folder in (package / "projects" / name, package.parent / "test" / name):
        if (folder / MANIFEST_NAME).is_file():
            return folder
    raise UnknownFramework(f"the example project {name} is not in this installation", remedy="Reinstall fedn-py.")


def copy_project(framework: str, target: Path) -> Path:
    """Copy an example project into a new folder and name it after that; return the folder.

    Raises:
        UnknownFramework: there is no such example.
        TargetExists: the folder is there and not empty.
    """
    source = project_folder(framework)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise TargetExists(f"{target} exists already", remedy="Choose another name, or remove it.")
    left_out = shutil.ignore_patterns("__pycache__", ".venv", ".pytest_cache", "data", "*.tar.gz", "*.safetensors*")
    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)
    manifest = target / MANIFEST_NAME
    name = re.sub(r"[^a-z0-9._-]+", "-", target.resolve().name.lower()).strip("._-")[:63] or "project"
    manifest.write_text(
        _NAME_LINE.sub(f"name: {name}", manifest.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    return target


async def prepare_data(
    project: Path, clients: int, out: Path, *, python: PythonEnvironment, options: Sequence[str] = ()
) -> list[Path]:
    """Run a project's ``prepare.py --clients N --out DIR``; return the data path of each client.

    Args:
        project: the project's folder.
        clients: how many parts the data is split into.
        out: where the parts go, ``client-1`` to ``client-N``.
        python: the Python that runs it.
        options: further arguments, such as ``--split dirichlet``.

    Raises:
        DataNotPrepared: with the log.
    """
    with tempfile.TemporaryDirectory() as scratch:
        variables = entry_point_variables(python, scratch=Path(scratch), data_path=None)
        words = ["python", PREPARE_NAME, "--clients", str(clients), "--out", _absolute(out), *options]
        try:
            finished = await run_entry_point(
                PREPARE_NAME, words, python=python, cwd=project, environment=variables, timeout_s=_PREPARE_TIMEOUT_S
            )
        except EntryPointFault as fault:
            raise DataNotPrepared(fault.message, fault.log) from fault
    parts = [out / f"client-{number}" for number in range(1, clients + 1)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise DataNotPrepared(f"it made no {', '.join(missing[:5])} in {out}", finished.log)
    return parts


def _absolute(path: Path) -> str:
    return str(path.absolute())
