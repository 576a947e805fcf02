"""The processes of a benchmark: one that ends by itself ends the benchmark, with its last words."""

from pathlib import Path

import pytest

from fedn_py.bench.faults import BenchFailed
from fedn_py.bench.network import running_network


@pytest.mark.system
def test_a_process_that_ends_by_itself_is_named_with_its_last_words(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("no plan")
    with running_network(tmp_path, 1) as network:
        network.start_clients("clients-0", "fedn_py.bench.idle_crowd", plan)
        with pytest.raises(BenchFailed, match=r"clients-0 ended with exit code 1(.|\n)*JSONDecodeError") as caught:
            network.awaited("the clients", lambda: None)
    assert str(tmp_path / "logs") in caught.value.remedy
