"""Reasons are counted by codes of a closed list, which is no longer than what is said somewhere."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedn_py
from fedn_py.errors import FednError
from fedn_py.runtime.reason_codes import OTHER, REASON_CODES, code_of

SOURCE = Path(fedn_py.__file__).parent
SAYING_REASONS = ("protocol", "aggregation", "execution", "transport", "combiner", "client")


def test_a_reason_counts_by_the_code_that_it_begins_with() -> None:
    assert code_of("Late: no whole update before the deadline") == "Late"
    assert code_of("NotFinite: parameter 3: is nan") == "NotFinite"


@pytest.mark.parametrize("reason", ["", "Late", "the disk is on fire", "Anna: is ill", "late: x", ": x"])
def test_whatever_else_a_client_says_is_no_label_of_its_own(reason: str) -> None:
    assert code_of(reason) in REASON_CODES | {OTHER}
    assert code_of(reason) == ("Late" if reason == "Late" else OTHER)


def test_every_reason_that_the_machines_write_out_is_in_the_list() -> None:
    written = {code for file in (SOURCE / "protocol").rglob("*.py") for code in codes_in(file)}
    assert "TooFewUpdates" in written
    assert written <= REASON_CODES


def test_nothing_is_in_the_list_that_nobody_says() -> None:
    modules = [
        info.name for part in SAYING_REASONS for info in pkgutil.iter_modules([str(SOURCE / part)], f"fedn_py.{part}.")
    ]
    for module in modules:
        if not module.endswith((".child", ".worker")):
            importlib.import_module(module)
    importlib.import_module("fedn_py.reducer.planning")
    importlib.import_module("fedn_py.reducer.cell_opening")
    written = {code for file in SOURCE.rglob("*.py") for code in codes_in(file)}
    assert written | set(faults(FednError)) >= REASON_CODES


def codes_in(file: Path) -> list[str]:
    return re.findall(r'(?<!")"([A-Z][A-Za-z]+): ', file.read_text(encoding="utf-8"))


def faults(root: type[FednError]) -> Iterator[str]:
    for fault in root.__subclasses__():
        yield fault.__name__
        yield from faults(fault)
