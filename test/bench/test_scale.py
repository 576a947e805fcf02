"""Many sizes in a row: each is kept as it comes, drawn, and put into its page."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fedn_py.bench import kept, plan
from fedn_py.bench.faults import BenchFailed, ImpossibleBench
from fedn_py.bench.idle import IdleBench
from fedn_py.bench.kept import KeptPoints
from fedn_py.bench.page import BEGIN, END, refresh
from fedn_py.bench.plan import RoundBench, check
from fedn_py.bench.plot import Curve, Panel, svg_of
from fedn_py.bench.scale import SERIES, USUAL, measure_scale, points_of
from fedn_py.bench.targets import TARGETS, measure_targets

PAGE = f"# Scaling\n\n{BEGIN}\n\nNot measured yet.\n\n{END}\n\nThe rest.\n"
ROLES = ("reducer", "combiner", "clients")


def figures(bench: RoundBench) -> dict[str, Any]:
    seconds = bench.clients * bench.model_bytes / 1e8
    return {
        "clients": bench.clients,
        "model_bytes": bench.model_bytes,
        "combiners": bench.combiners,
        "client_processes": bench.crowds,
        "masking": bench.masking,
        "params": bench.params,
        "rounds": bench.rounds,
        "tls": bench.tls,
        "lean": bench.lean,
        "slots": bench.slots,
        "replicas": bench.replicas,
        "phases_s": {"updating": seconds} | ({"sum2": 0.5} if bench.masking == "pet" else {}),
        "median_s": seconds,
        "min_s": seconds,
        "max_s": seconds,
        "limit_s": seconds / 2,
        "ratio_to_limit": 0.5,
        "cpu_s": dict.fromkeys(ROLES, 1.0),
        "peak_rss_bytes": dict.fromkeys(ROLES, 3_000_000),
        "idle_rss_bytes": dict.fromkeys(ROLES, 1_000_000),
        "limits_after": {},
    }


def idle_figures(bench: IdleBench) -> dict[str, Any]:
    return {
        "clients": bench.clients,
        "client_processes": bench.crowds,
        "heartbeat_s": bench.heartbeat_s,
        "attached_s": bench.clients / 200,
        "tasked_s": bench.clients / 4_000,
        "acknowledged_s": bench.clients / 3_000,
        "combiner_bytes_a_client": 98 * 1024,
        "combiner_cpu_idle": 0.123,
        "reconnected": 0,
    }


Measured = list[RoundBench | IdleBench]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    asked: Measured = []

    def measure(bench: RoundBench, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
        assert list(folder.iterdir()) == []
        asked.append(bench)
        return figures(bench)

    def measure_idle(bench: IdleBench, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
        assert list(folder.iterdir()) == []
        tell("all are attached")
        asked.append(bench)
        return idle_figures(bench)

    monkeypatch.setattr(kept, "measure_rounds", measure)
    monkeypatch.setattr(kept, "measure_idle", measure_idle)
    return asked


def rounds_of(series: str) -> list[RoundBench]:
    return [one.bench for one in points_of(series) if isinstance(one.bench, RoundBench)]


def test_the_series_are_those_that_the_page_promises() -> None:
    swept = {series: set(rounds_of(series)) for series in SERIES}
    assert {bench.clients for bench in swept["clients"]} == {10, 30, 100, 300, 1_000}
    assert {bench.model_bytes for bench in swept["params"]} == {1_000_000, 10_000_000, 100_000_000, 500_000_000}
    assert {bench.combiners for bench in swept["combiners"]} == {1, 2, 4}
    assert {bench.model_bytes for bench in swept["memory"]} == {1_000_000, 100_000_000, 500_000_000}
    assert {(bench.clients, bench.crowds) for bench in swept["memory"]} == {(4, 4)}
    assert [one.bench for one in points_of("idle")] == [IdleBench(clients=count) for count in (1_000, 3_000, 10_000)]
    assert all({bench.masking for bench in swept[series]} == {"none", "pet"} for series in USUAL if series != "idle")
    (large,) = swept["large"]
    assert (large.clients, large.model_bytes, large.masking, large.rounds, large.lean) == (40, 10**9, "none", 1, True)
    assert set(SERIES) == {*USUAL, "large"}


def test_all_that_is_usual_fits_a_machine_of_24_gb_with_30_gb_of_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk: Any = type("Usage", (), {"free": 30 * 10**9})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    monkeypatch.setattr(plan, "available_memory_bytes", lambda: 22 * 10**9)
    for bench in (bench for series in USUAL for bench in rounds_of(series)):
        check(bench, tmp_path)


def test_what_two_series_share_is_measured_once(tmp_path: Path, measured: Measured) -> None:
    points = measure_scale(SERIES, tmp_path, print, missing=False)
    assert len(measured) == len({repr(bench) for bench in measured}) == 30
    assert len(points) == 34


def test_the_page_gets_a_picture_and_tables_and_keeps_its_words(tmp_path: Path, measured: Measured) -> None:
    (tmp_path / "scaling.md").write_text(PAGE)
    measure_scale(SERIES, tmp_path, print, missing=False)
    text = (tmp_path / "scaling.md").read_text()
    assert text.startswith("# Scaling\n")
    assert text.endswith(f"{END}\n\nThe rest.\n")
    assert "Not measured yet" not in text
    assert (
        "| 1,000 | masked | 10.000 (10.000 to 10.000) | 5.000 | 50 % | 1.00, 1.00, 1.00 | 2 MB, 2 MB; 70 MB |" in text
    )
    assert "| 4 x 100 MB, a process each, masked | 4.000 | 2.000 | 50 % | 2 MB, 2 MB; 367 MB | 2 MB; 300 MB |" in text
    assert "| 4 x 1 MB, a process each, plain | 0.040 | 0.020 | 50 % | 2 MB, 2 MB; 70 MB | 2 MB; 3 MB |" in text
    assert "| 10,000 | 50.0 | 2.500 | 3.333 | 98 | 12 |" in text
    assert "| 40 x 1000 MB, lean, plain | 400.000 | 200.000 | 50 % | 2 MB, 2 MB; 3,067 MB |  |" in text
    assert "](images/scaling.svg)" in text
    picture = ET.fromstring((tmp_path / "images" / "scaling.svg").read_text())
    assert len(picture.findall(".//{*}polyline")) == 9
    again = text
    measure_scale(["params"], tmp_path, print, missing=True)
    assert (tmp_path / "scaling.md").read_text() == again


def test_an_interrupted_run_loses_nothing_and_goes_on(
    tmp_path: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(bench: RoundBench, *_: Any) -> dict[str, Any]:
        if bench.model_bytes > 1_000_000:
            raise KeyboardInterrupt
        return figures(bench)

    with monkeypatch.context() as patched:
        patched.setattr(kept, "measure_rounds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure_scale(["params"], tmp_path, print, missing=False)
    known = json.loads((tmp_path / "scaling.json").read_text())["points"]
    assert [point["name"] for point in known] == ["10 x 1 MB, plain", "10 x 1 MB, masked"]
    measure_scale(["params"], tmp_path, print, missing=True)
    assert measured == rounds_of("params")[2:]


def test_one_that_cannot_be_measured_is_named_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(bench: RoundBench, *_: Any) -> dict[str, Any]:
        if bench.model_bytes == 10_000_000:
            raise ImpossibleBench("no room", remedy="Make some.")
        return figures(bench)

    monkeypatch.setattr(kept, "measure_rounds", too_large)
    with pytest.raises(BenchFailed, match="10 x 10 MB, plain, 10 x 10 MB, masked"):
        measure_scale(["params"], tmp_path, print, missing=False)
    known = KeptPoints(tmp_path / "scaling.json")
    assert [point["name"] for point in known.of(points_of("params"))][-1] == "10 x 500 MB, masked"


def test_what_was_measured_with_other_committees_is_missing(tmp_path: Path, measured: Measured) -> None:
    measure_scale(["params"], tmp_path, print, missing=False)
    file = tmp_path / "scaling.json"
    file.write_text(file.read_text().replace('"replicas": 1', '"replicas": 2', 1))
    measured.clear()
    measure_scale(["params"], tmp_path, print, missing=True)
    assert measured == [points_of("params")[0].bench]


def test_what_was_measured_before_an_option_existed_was_measured_without_it(tmp_path: Path, measured: Measured) -> None:
    measure_scale(["params"], tmp_path, print, missing=False)
    assert "line_bytes_per_s" not in (tmp_path / "scaling.json").read_text()
    measured.clear()
    measure_scale(["params"], tmp_path, print, missing=True)
    assert measured == []
    file = tmp_path / "scaling.json"
    file.write_text(file.read_text().replace('"replicas": 1', '"line_bytes_per_s": 9, "replicas": 1', 1))
    measure_scale(["params"], tmp_path, print, missing=True)
    assert measured == [points_of("params")[0].bench]


def test_limits_that_were_measured_once_are_shown_and_missing(tmp_path: Path, measured: Measured) -> None:
    (tmp_path / "scaling.md").write_text(PAGE)
    measure_scale(["combiners"], tmp_path, print, missing=False)
    file = tmp_path / "scaling.json"
    known = json.loads(file.read_text())
    for point in known["points"]:
        del point["limits_after"]
    file.write_text(json.dumps(known))
    as_new = (tmp_path / "scaling.md").read_text()
    measure_scale([], tmp_path, print, missing=True)
    assert (tmp_path / "scaling.md").read_text() == as_new
    measured.clear()
    measure_scale(["combiners"], tmp_path, print, missing=True)
    assert measured == rounds_of("combiners")


def test_idle_clients_are_told_without_rounds_and_measured_where_they_are_missing(
    tmp_path: Path, measured: Measured
) -> None:
    told: list[str] = []
    (tmp_path / "scaling.md").write_text(PAGE)
    points = measure_scale(["idle"], tmp_path, told.append, missing=False)
    assert [point["name"] for point in points] == ["1000 idle clients", "3000 idle clients", "10000 idle clients"]
    assert told[-1] == "3 of 3, 10000 idle clients: all are attached"
    text = (tmp_path / "scaling.md").read_text()
    assert "| 1,000 | 5.0 | 0.250 | 0.333 | 98 | 12 |" in text
    assert "scaling.svg" not in text
    assert "By " not in text
    measured.clear()
    measure_scale(["idle"], tmp_path, print, missing=True)
    assert measured == []


def test_the_page_is_whole_without_idle_clients(tmp_path: Path, measured: Measured) -> None:
    (tmp_path / "scaling.md").write_text(PAGE)
    measure_scale(["clients"], tmp_path, print, missing=False)
    text = (tmp_path / "scaling.md").read_text()
    assert "By clients, 1 MB each:" in text
    assert "and idle:" not in text


def test_the_targets_stand_beside_what_was_measured(tmp_path: Path, measured: Measured) -> None:
    (tmp_path / "performance.md").write_text(PAGE)
    points = measure_targets(["10 x 1 MB", "1000 x 1 MB"], tmp_path, print)
    assert [(point["name"], point["target_s"]) for point in points] == [
        ("10 x 1 MB, plain", 0.10),
        ("10 x 1 MB, masked", 0.19),
        ("1000 x 1 MB, plain", 8.0),
        ("1000 x 1 MB, masked", 14.0),
    ]
    assert measured[-1] == replace(TARGETS[-1].bench, masking="pet")
    text = (tmp_path / "performance.md").read_text()
    assert "| 10 x 1 MB | plain | 0.1 | 0.100 (0.100 to 0.100) | 0.050 | 50 % | 2 MB, 2 MB; 70 MB |" in text
    assert "| work |  | updating, s | sum2, s | CPU s: reducer | CPU s: combiner | CPU s: clients |" in text
    assert "| 10 x 1 MB | masked | 0.100 | 0.500 | 1.00 | 1.00 | 1.00 |" in text
    assert len(TARGETS) == 5


def test_a_page_without_a_place_for_figures_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    with pytest.raises(ImpossibleBench, match="no place for figures"):
        refresh(page, "figures")
    assert page.read_text() == "# Page\n"


def test_larger_values_are_higher_and_further_right_and_names_do_not_overlap() -> None:
    curves = tuple(Curve(name, ((1, 0.1), (10, 1.0), (100, 10.0)), place) for place, name in enumerate("a<b"))
    picture = ET.fromstring(svg_of([Panel("t", "clients", "s", curves)]))
    places = [tuple(map(float, point.split(","))) for point in picture.find(".//{*}polyline").attrib["points"].split()]
    assert places == sorted(places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    names = [float(text.attrib["y"]) for text in picture.findall(".//{*}text") if text.attrib.get("style")]
    assert all(after - before >= 13 for before, after in pairwise(names))
