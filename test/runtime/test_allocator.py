"""The allocator of a process that moves much gives back what was freed."""

import ctypes
import platform
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


THREADS = """
import ctypes, sys, threading
from fedn_py.runtime.allocator import keep_little
keep_little()
here = threading.Barrier(4)
def work():
    held = bytearray(300_000)
    here.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux: /proc tells a process's memory")
def test_little_is_kept_of_what_was_freed() -> None:
    told = subprocess.run([sys.executable, "-c", STORY], check=True, capture_output=True, text=True)
    assert int(told.stdout) <= 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, which tells of its heaps")
def test_all_threads_share_one_heap() -> None:
    told = subprocess.run([sys.executable, "-c", THREADS], check=True, capture_output=True, text=True)
    assert told.stdout.count("<heap nr=") == 1


CHUNKS = """
import resource
from fedn_py.runtime.allocator import keep_little
keep_little()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(100):
    chunks = [bytearray(b"x") * (1 << 20) for _ in range(8)]
    del chunks
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc's allocator")
def test_chunks_that_were_freed_are_used_again_without_the_kernel() -> None:
    told = subprocess.run([sys.executable, "-c", CHUNKS], check=True, capture_output=True, text=True)
    assert int(told.stdout) <= 10_000  # of the 200,000 pages of all chunks


@pytest.mark.parametrize("fault", [OSError, AttributeError])
def test_another_allocator_is_left_as_it_is(fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: None) -> None:
        raise fault

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_little()
