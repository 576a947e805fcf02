"""Making a seed model: by a package's own code, which the reducer never runs and the sandbox's process does."""

from pathlib import Path

from fedn_py.execution.archive import unpack
from fedn_py.execution.environment import own_environment
from fedn_py.execution.runner import PackageRunner


async def make_seed(archive: Path, scratch: Path) -> Path:
    """Have a package make its seed model and return the file.

    Args:
        scratch: an empty folder.

    Raises:
        FednError: the archive is refused, or the package's code fails.
    """
    file = scratch / "seed.safetensors"
    package = unpack(archive, scratch / "unpacked")
    runner = PackageRunner(package, python=own_environment(), data_path=None, scratch=scratch / "run")
    try:
        await runner.startup(file)
    finally:
        await runner.close()
    return file
