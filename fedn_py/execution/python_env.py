"""``python_env.yaml``: the Python libraries that a package needs, and the environment that is built for them once.

The file has ``name``, ``python`` (a version such as 3.11), ``build_dependencies`` and ``dependencies`` (requirements as
pip takes them). A site chooses by its setting ``environments`` whether it builds what packages ask for; by default it
does not, and a missing library shows as a failed import in the log.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

import fedn_py
from fedn_py.errors import OwnFault, PeerFault
from fedn_py.execution.entry_points import EntryPointFault, run_entry_point
from fedn_py.execution.environment import PythonEnvironment, entry_point_variables, own_environment
from fedn_py.execution.manifest import MAX_MANIFEST_BYTES

_KEYS = {"name", "python", "build_dependencies", "dependencies"}
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]*\])?\s*([<>=!~;][^\x00-\x1f]*)?")
_OF_OURS = ("numpy>=2.0", "safetensors>=0.5")  # what fedn_py.package imports
_BUILD_TIMEOUT_S = 3_600.0
_WHOLE = "fedn-complete"


class InvalidPythonEnv(PeerFault):
    """A python_env.yaml that cannot be followed."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the package's python_env.yaml {why}",
            remedy="It holds name, python and dependencies, a list of requirements such as 'scikit-learn>=1.6'.",
        )


class EnvironmentNotBuilt(OwnFault):
    """The libraries that a package asks for could not be installed here.

    Attributes:
        log: the last lines of the installer.
    """

    def __init__(self, why: str, log: str = "") -> None:
        super().__init__(
            f"the package's Python environment could not be built: {why}",
            remedy="Check this machine's access to its package index, or set environments: own and install them here.",
        )
        self.log = log


@dataclass(frozen=True, slots=True)
class PythonRequirements:
    """What a package asks of Python.

    Attributes:
        python: a version such as "3.11"; empty takes what is here.
        dependencies: requirements as pip takes them.
    """

    python: str
    dependencies: tuple[str, ...]


def parse_python_env(text: bytes) -> PythonRequirements:
    """Read the content of python_env.yaml, or raise InvalidPythonEnv.

    Requirements are names with versions; options of the installer, addresses and paths are refused.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise InvalidPythonEnv(f"has more than {MAX_MANIFEST_BYTES:,} bytes")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise InvalidPythonEnv("is no YAML") from fault
    if not isinstance(found, dict) or not found.keys() <= _KEYS:
        raise InvalidPythonEnv(f"has other keys than {', '.join(sorted(_KEYS))}")
    dependencies = found.get("dependencies") or []
    if not isinstance(dependencies, list):
        raise InvalidPythonEnv("has dependencies that are no list")
    for requirement in dependencies:
        if not isinstance(requirement, str) or not _REQUIREMENT.fullmatch(requirement):
            raise InvalidPythonEnv(f"asks for {str(requirement)[:80]!r}, which is no requirement")
    python = str(found.get("python") or "")
    if not re.fullmatch(r"(3\.\d{1,3}(\.\d{1,3})?)?", python):
        raise InvalidPythonEnv(f"asks for Python {python[:40]!r}; quote the version, as in python: '3.11'")
    return PythonRequirements(python, tuple(dependencies))


async def build_environment(
    requirements: PythonRequirements, into: Path, *, installer: Sequence[str] | None = None
) -> PythonEnvironment:
    """Return an environment with the requirements and the author's side of fedn_py, made now unless it is there.

    Several processes may ask for the same one at once; one builds it, the others wait.

    Args:
        requirements: what the package asks for.
        into: folder of all environments; each is named by what is in it.
        installer: the command that the requirements are added to; None is uv where it is found, otherwise pip.

    Raises:
        EnvironmentNotBuilt: this Python is another version, or an installation failed.
    """
    if requirements.python and not platform.python_version().startswith(f"{requirements.python}."):
        raise EnvironmentNotBuilt(f"it asks for Python {requirements.python}, this is {platform.python_version()}")
    folder = _folder(into, requirements)
    lock = await asyncio.to_thread(_locked, folder.with_suffix(".lock"))
    try:
        if not (folder / _WHOLE).exists():
            await _build(requirements, folder, installer)
    finally:
        os.close(lock)
    return PythonEnvironment(_interpreter(folder))


def _folder(into: Path, requirements: PythonRequirements) -> Path:
    facts = [sorted(requirements.dependencies), platform.python_version(), platform.platform(), fedn_py.__version__]
    return into.absolute() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _locked(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise EnvironmentNotBuilt(str(fault)) from fault
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


async def _build(requirements: PythonRequirements, folder: Path, installer: Sequence[str] | None) -> None:
    # It is built where it will be used, because a virtual environment cannot be moved; the mark at the end is what
    # makes it count.
    with _cleared(folder):
        try:
            await asyncio.to_thread(venv.create, folder, with_pip=False, symlinks=os.name != "nt")
            await asyncio.to_thread(_copy_authors_side, folder)
        except OSError as fault:
            raise EnvironmentNotBuilt(str(fault)) from fault
        command = [*(installer or _installer(folder)), *_OF_OURS, *requirements.dependencies]
        variables = entry_point_variables(own_environment(), scratch=folder, data_path=None)
        network = {
            name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "UV_")) or name in _PROXIES
        }
        try:
            await run_entry_point(
                "environment",
                command,
                python=own_environment(),
                cwd=folder,
                environment=variables | network,
                timeout_s=_BUILD_TIMEOUT_S,
            )
        except EntryPointFault as fault:
            raise EnvironmentNotBuilt(fault.message, fault.log) from fault
        (folder / _WHOLE).touch()


_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")


@contextlib.contextmanager
def _cleared(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _installer(folder: Path) -> list[str]:
    target = str(_interpreter(folder))
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", target]
    return [sys.executable, "-m", "pip", "--python", target, "install", "--disable-pip-version-check"]


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _copy_authors_side(folder: Path) -> None:
    source = Path(fedn_py.__file__).parent
    libraries = folder / ("Lib" if os.name == "nt" else f"lib/python{sys.version_info[0]}.{sys.version_info[1]}")
    target = libraries / "site-packages" / "fedn_py"
    shutil.copytree(source / "package", target / "package", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "errors.py", "py.typed"):
        shutil.copy(source / name, target / name)
