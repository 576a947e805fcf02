"""Where a benchmark's network lives while it runs: a folder that goes afterwards, but for the logs of what failed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedn_py.bench.faults import BenchFailed


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder; where the benchmark fails in it, its ``logs`` stay for people to look into."""
    folder = Path(tempfile.mkdtemp(prefix="fedn-py-bench-"))
    kept: set[Path] = set()
    try:
        yield folder
    except BenchFailed:
        kept = {folder / "logs"}
        raise
    finally:
        for left in set(folder.iterdir()) - kept:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
