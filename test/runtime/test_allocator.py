"""The allocator of a process that moves much gives back what was freed."""

import ctypes
import subprocess
import sys

import pytest

from fedn_py.runtime.allocator import keep_little

STORY = """
from fedn_py.runtime.allocator import keep_little
def held():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))
keep_little()
large = bytearray(30 << 20)  # by itself it would have glibc keep up to 60 MiB from here on
del large
before = held()
pieces = [bytearray(b"x") * (1 << 20) for _ in range(50)]
assert held() >= before + 45
pieces.clear()
print(held() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: /proc tells a process's memory")
def test_little_is_kept_of_what_was_freed() -> None:
    told = subprocess.run([sys.executable, "-c", STORY], check=True, capture_output=True, text=True)
    assert int(told.stdout) <= 20


@pytest.mark.parametrize("fault", [OSError, AttributeError])
def test_another_allocator_is_left_as_it_is(fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: None) -> None:
        raise fault

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_little()
