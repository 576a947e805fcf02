"""What the kernel says of processes."""

import os
import time

import numpy as np

from fedn_py.bench.usage import (
    MemoryWatch,
    Usage,
    available_memory_bytes,
    cpu_s,
    forget_peak,
    loopback_bytes,
    most_grown,
    usage_of,
)


def test_a_process_has_used_time_and_memory() -> None:
    found = usage_of(os.getpid())
    assert found.cpu_s > 0
    assert 10_000_000 < found.anonymous_bytes < found.rss_bytes <= found.peak_rss_bytes


def test_of_several_processes_the_one_counts_that_grew_most_and_not_the_largest() -> None:
    before = {1: Usage(1.0, 60, 60, 50), 2: Usage(2.0, 100, 100, 90)}
    after = {1: Usage(2.0, 160, 70, 60), 2: Usage(4.0, 170, 100, 90)}
    assert most_grown(before, after) == 1
    assert (cpu_s(before), cpu_s(after)) == (3.0, 6.0)


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
        while watch.peaks.get(os.getpid(), 0) < before + 25_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        del held
    assert watch.peaks[os.getpid()] >= before + 25_000_000
    assert set(watch.peaks) == {os.getpid()}


def test_the_machine_has_memory_and_has_spoken_to_itself() -> None:
    assert available_memory_bytes() > 0
    assert loopback_bytes() >= 0
