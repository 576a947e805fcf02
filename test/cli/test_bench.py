"""``fedn-py bench``: its numbers are whole; how large they are is for people to judge."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedn_py.cli.bench_tables import print_rounds, print_scale
from fedn_py.cli.main import build

PARTS = {"mask", "expand_add", "aggregate", "unmask", "decode"}


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedn_py", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def bench(*arguments: str, what: tuple[str, ...] = ("masking", "--params", "40000")) -> str:
    command = [sys.executable, "-m", "fedn_py", "bench", *what, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def commands_now() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_text(errors="replace")


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


def test_people_see_phases_roles_and_limits_of_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    roles = ("reducer", "combiner", "clients")
    print_rounds(
        {
            "clients": 10,
            "model_bytes": 1_000_000,
            "masking": "pet",
            "slots": 2,
            "replicas": 0,
            "tls": True,
            "combiners": 2,
            "client_processes": 3,
            "rounds": 5,
            "median_s": 0.25,
            "min_s": 0.2,
            "max_s": 0.3,
            "limit_s": 0.05,
            "ratio_to_limit": 0.2,
            "wire_bytes": 2 << 20,
            "phases_s": {"updating": 0.125},
            "cpu_s": dict.fromkeys(roles, 0.5),
            "peak_rss_bytes": dict.fromkeys(roles, 3 << 20),
            "growth_models": dict.fromkeys(roles, 1.5),
            "peak_anonymous_bytes": dict.fromkeys(roles, 2 << 20),
            "anonymous_growth_models": dict.fromkeys(roles, 0.75),
            "idle_rss_bytes": dict.fromkeys(roles, 1 << 20),
            "empty_rss_bytes": dict.fromkeys(roles[:2], 1 << 19),
            "memory_bound_bytes": dict.fromkeys(roles, 4 << 20) | {"combiner": 1 << 20},
            "within_bound": dict.fromkeys(roles, True) | {"combiner": False},
            "limits": {"grpc_up_mb_per_s": 1234.5, "fsync_ms": 0.125},
            "limits_before": {"grpc_up_mb_per_s": 1000.0, "fsync_ms": 0.125},
            "limits_after": {"grpc_up_mb_per_s": 1234.5, "fsync_ms": 0.25},
        }
    )
    printed = capsys.readouterr().out
    for words in (
        "10 clients x 1 MB, masked (pet, k 2, r by size), TLS",
        "0.250 s (median of 5; from 0.200 to 0.300)",
        "20 % of the limit",
        "2.0 MiB a round",
    ):
        assert words in printed
    for row in (
        r"updating +0\.125",
        r"reducer +0\.500 +3\.0 MiB +1\.50 +2\.0 MiB +0\.75",
        r"reducer +512\.0 KiB +1\.0 MiB +2\.0 MiB +4\.0 MiB *\n",
        r"combiner +512\.0 KiB +1\.0 MiB +2\.0 MiB +1\.0 MiB +over its bound",
        r"clients +1\.0 MiB +2\.0 MiB +4\.0 MiB *\n",
        r"grpc up +1,23[45] +1,000 +1,23[45] +MB/s",
        r"fsync +0\.125 +0\.125 +0\.250 +ms",
    ):
        assert re.search(row, printed), row


def test_people_see_rounds_and_idle_clients_in_a_table_each(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"median_s": 0.25, "min_s": 0.2, "max_s": 0.3, "limit_s": 0.05, "ratio_to_limit": 0.2}
    idle = {"attached_s": 5.0, "tasked_s": 0.25, "acknowledged_s": 0.5, "combiner_bytes_a_client": 98 << 10}
    print_scale(
        [{"name": "10 x 1 MB, plain", **seconds}, {"name": "1000 idle clients", **idle, "combiner_cpu_idle": 0.1}]
    )
    printed = capsys.readouterr().out
    assert re.search(r"10 x 1 MB, plain +0\.250 +0\.200 +0\.300 +0\.050 +20 %", printed)
    assert re.search(r"1000 idle clients +5\.0 +0\.250 +0\.500 +98\.0 KiB +10 %", printed)
    print_scale([])
    assert "nothing was measured" in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    found = ended("round", "--keep", str(tmp_path), "--json")
    assert found.returncode == 2
    assert "is not an empty folder" in found.stderr
    assert json.loads(found.stdout)["error"]["code"] == "ImpossibleBench"


def test_masked_rounds_of_two_clients_are_refused_before_anything_starts(tmp_path: Path) -> None:
    found = ended("round", "--clients", "2", "--masking", "pet", "--keep", str(tmp_path / "kept"))
    assert found.returncode == 2
    assert "masked rounds need 3 and more" in found.stderr
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("what", ["targets", "scale"])
def test_what_is_not_known_is_not_measured(what: str) -> None:
    found = CliRunner().invoke(build(), ["bench", what, "--only", "nothing"])
    assert found.exit_code == 2
    assert "'nothing' is none of" in found.output


_ENDLESS = """
import sys
from pathlib import Path

from fedn_py.bench.plan import RoundBench
from fedn_py.bench.rounds import measure_rounds
from fedn_py.cli.bench_tables import progressing, stopped_in_order

folder = Path(sys.argv[1])
folder.mkdir()
with stopped_in_order(), progressing() as tell:
    measure_rounds(RoundBench(clients=2, params=10, rounds=100_000), folder, tell, limits=dict)
"""


@pytest.mark.system
def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(folder)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("running") for line in process.stderr)
    assert len([command for command in commands_now() if f"{folder}/" in command]) == 4
    process.send_signal(signal.SIGINT)
    assert "stopped: all processes of the benchmark have ended" in process.stderr.read()
    assert process.wait(30) != 0
    assert [command for command in commands_now() if f"{folder}/" in command] == []
