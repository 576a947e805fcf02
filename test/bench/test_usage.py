"""What the kernel says of processes."""

import os
import time

import numpy as np

from fedn_py.bench.usage import MemoryWatch, available_memory_bytes, forget_peak, loopback_bytes, usage_of


def test_a_process_has_used_time_and_memory() -> None:
    found = usage_of(os.getpid())
    assert found.cpu_s > 0
    assert 10_000_000 < found.anonymous_bytes < found.rss_bytes <= found.peak_rss_bytes


def test_a_peak_can_be_forgotten() -> None:
    np.ones(50_000_000, np.uint8)
    forget_peak(os.getpid())
    after = usage_of(os.getpid())
    assert after.peak_rss_bytes - after.rss_bytes < 10_000_000


def test_the_watch_sees_memory_that_is_given_back_before_its_end() -> None:
    before = usage_of(os.getpid()).anonymous_bytes
    with MemoryWatch(lambda: [("this", os.getpid()), ("gone", 2**22 + 1)]) as watch:
        held = np.ones(30_000_000, np.uint8)
        deadline = time.monotonic() + 20
        while watch.peaks.get("this", 0) < before + 25_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        del held
    assert watch.peaks["this"] >= before + 25_000_000
    assert "gone" not in watch.peaks


def test_the_machine_has_memory_and_has_spoken_to_itself() -> None:
    assert available_memory_bytes() > 0
    assert loopback_bytes() >= 0
