"""``fedn-py bench``: its numbers are whole; how large they are is for people to judge."""

import json
import subprocess
import sys

PARTS = {"mask", "expand_add", "aggregate", "unmask", "decode"}


def bench(*arguments: str, what: tuple[str, ...] = ("masking", "--params", "40000")) -> str:
    command = [sys.executable, "-m", "fedn_py", "bench", *what, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_part_of_masking_is_measured() -> None:
    found = json.loads(bench("--json"))["data"]
    assert found.keys() >= PARTS
    for part in PARTS:
        assert found[part]["ns_per_weight"] > 0
        assert found[part]["mb_per_s"] > 0
    assert found["memory_mb_per_s"] > 0


def test_people_see_a_table() -> None:
    printed = bench()
    assert all(part in printed for part in PARTS)


def test_people_see_what_the_web_pages_take_and_what_they_should() -> None:
    printed = bench(what=("web", "--clients", "2", "--rounds", "1", "--in-round", "1"))
    assert "validation" in printed
    assert "each page under 300 ms" in printed
    assert "of 18 pages" in printed
