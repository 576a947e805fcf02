"""The benchmark of masking."""

import pytest

from fedn_py.bench.masking import measure


def test_every_row_is_measured_and_masking_holds_little_beside_its_result() -> None:
    rows = measure(2_000_000, repeats=1)
    for name in ("mask", "expand_add", "aggregate", "unmask", "decode"):
        row = rows[name]
        assert isinstance(row, dict)
        assert row["ns_per_weight"] > 0
        assert row["mb_per_s"] == pytest.approx(4_000 / row["ns_per_weight"], rel=0.01)
    assert isinstance(rows["memory_mb_per_s"], float)
    assert rows["memory_mb_per_s"] > 0
    ratio = rows["mask_peak_memory_ratio"]
    assert isinstance(ratio, float)
    assert ratio <= 1.25
