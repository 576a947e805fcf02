"""The page on reliability names tests, trials and commits: each of them is there."""

import re
from functools import cache
from pathlib import Path

import pytest

PAGE = "docs/explanation/reliability.md"
TEST = re.compile(r"`(test/[\w/-]+\.py)::(\w+)`")
FUNCTION = re.compile(r"^def (\w+)\(", re.MULTILINE)
SITUATION = re.compile(r"^\| (\d+)\. .*\|$", re.MULTILINE)
TRIAL = re.compile(r"\b(plain|masked), ([a-z][\w' -]*?)['`]")


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    """Return the page's text."""
    return (root / PAGE).read_text(encoding="utf-8")


@cache
def functions_in(file: Path) -> frozenset[str]:
    """Return the names of a file's functions; nothing where there is no file."""
    return frozenset(FUNCTION.findall(file.read_text(encoding="utf-8"))) if file.exists() else frozenset()


def test_every_test_that_the_page_names_exists(page: str, root: Path) -> None:
    named = TEST.findall(page)
    assert len(named) > 60
    assert [f"{file}::{name}" for file, name in named if name not in functions_in(root / file)] == []


def test_nothing_that_looks_like_a_test_escapes_that(page: str) -> None:
    assert page.count("::test_") == len(TEST.findall(page))


def test_each_of_the_situations_is_shown_by_a_test(page: str) -> None:
    rows = {int(found[1]): found[0] for found in SITUATION.finditer(page)}
    assert list(rows) == list(range(1, 32))
    assert [number for number, row in rows.items() if not TEST.search(row)] == []


def test_every_trial_of_chaos_that_the_page_names_is_in_the_table(page: str, root: Path) -> None:
    tables = {
        kind: "".join((root / "test/chaos" / f"{name}_trials.py").read_text("utf-8") for name in (kind, "standby"))
        for kind in ("plain", "masked")
    }
    named = TRIAL.findall(page)
    assert named
    assert [f"{kind}, {name}" for kind, name in named if f'"{name}"' not in tables[kind]] == []
