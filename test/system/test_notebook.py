"""The page on notebooks holds: its blocks are run in order, as cells, on a network of real processes."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_network import UNEQUAL, RunningNetwork
from test_by_hand import blocks


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a block and return the value of its last expression, as a notebook does."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_the_cells_of_the_page_train_a_model_and_look_at_it(
    start_network: Callable[..., RunningNetwork],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pandas")
    network = start_network()
    network.start_combiner(1)
    network.await_combiners(1)
    for number, data in enumerate(network.prepared(UNEQUAL, 2), start=1):
        network.start_client(number, data)
    network.await_clients(2)
    network.made(UNEQUAL, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDN_PROFILE", str(network.folder.profile))
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for cell in blocks("use-from-a-notebook.md", "python"):
        value = run_cell(cell, names)
        if hasattr(value, "_repr_html_"):
            shown.append(value._repr_html_())

    assert names["session"].status == "finished"
    assert list(names["frame"]["number"]) == [1, 2, 3]
    assert (tmp_path / "model.safetensors").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "client-1 True ('included', 3, '')" in printed
    assert sum("<td>client-1</td>" in table for table in shown) == 1
    assert any("<td>fedn.yaml</td>" in table for table in shown)
    assert names["network"].client(names["network"].clients()[-1].id).revoked
