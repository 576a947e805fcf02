"""What a package's process finds around it: which Python, and which environment variables.

The environment is made afresh from a list of names. The client's tokens, store credentials and whatever else stands in
its own environment never reach a package.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PASSED_ON = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    # how many threads numerical libraries take
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    # which devices and backends they use
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "JAX_COMPILATION_CACHE_DIR",
    "KERAS_BACKEND",
    "TF_CPP_MIN_LOG_LEVEL",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_PYTHONS = ("python", "python3")


@dataclass(frozen=True, slots=True)
class PythonEnvironment:
    """The Python that a package's commands mean by ``python``.

    Attributes:
        interpreter: its executable.
    """

    interpreter: Path

    @property
    def bin_folder(self) -> Path:
        """The folder of its commands, first on the PATH of a package."""
        return self.interpreter.parent


def own_environment() -> PythonEnvironment:
    """Return the Python that runs this process."""
    return PythonEnvironment(Path(sys.executable))


def entry_point_variables(
    python: PythonEnvironment, *, scratch: Path, data_path: Path | None, outside: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return all environment variables of a package's process, FEDN_TASK apart.

    Args:
        python: goes first on its PATH.
        scratch: its folder for temporary files.
        data_path: the site's data, FEDN_DATA_PATH; None leaves it out.
        outside: the environment that the allowed names are taken from; None is that of this process.
    """
    source = os.environ if outside is None else outside
    variables = {name: source[name] for name in _PASSED_ON if name in source}
    variables["PATH"] = os.pathsep.join([str(python.bin_folder), source.get("PATH", _SYSTEM_PATH)])
    variables["TMPDIR"] = str(scratch)
    variables["PYTHONUNBUFFERED"] = "1"  # the last lines before a crash are those that matter
    variables["PYTHONIOENCODING"] = "utf-8"
    if data_path is not None:
        variables["FEDN_DATA_PATH"] = str(data_path.absolute())
    return variables


def find_program(words: Sequence[str], python: PythonEnvironment, *, cwd: Path, path: str) -> str | None:
    """Return what a command's first word stands for, or None where there is no such program.

    ``python`` and ``python3`` are the environment's interpreter; ``./name`` is in the package; anything else is looked
    up in ``path``.
    """
    first = words[0]
    if first in _PYTHONS:
        return str(python.interpreter)
    if "/" in first:
        file = cwd / first
        return str(file) if os.access(file, os.X_OK) and file.is_file() else None
    return shutil.which(first, path=path)
