"""The rows of a report, and their curves by hand."""

import math

import pytest

from apps.report_rows import rows
from tests.apps import finished_runs


def epochs(run):
    return [row["epoch"] for row in run.history]


def test_a_curve_is_the_mean_and_range_over_seeds(tmp_path):
    runs = [finished_runs.folder(tmp_path / f"s{s}", 0.6 + 0.1 * s, seed=s) for s in range(3)]
    (row,) = rows(runs)
    line = row.curve("val_accuracy", epochs, times=100)
    assert list(line.x) == [1, 2, 3, 4]
    assert (line.y[0], line.y[-1]) == pytest.approx((35, 70))
    assert (line.low[0], line.low[-1]) == pytest.approx((30, 60))
    assert (line.high[0], line.high[-1]) == pytest.approx((40, 80))
    end = row.end("training_flops")
    assert [*end.x, *end.y, *end.low, *end.high] == pytest.approx([2e11, 70, 60, 80])


def test_one_seed_has_no_range_and_a_missing_column_no_value(tmp_path):
    (row,) = rows([finished_runs.folder(tmp_path / "run")])
    assert not row.curve("val_accuracy", epochs).low
    line = row.curve("gradient_corrections", epochs)
    assert len(line.y) == 4 and all(map(math.isnan, line.y)) and not line.points


def test_a_sub_net_has_its_own_column(tmp_path):
    first, second = rows([finished_runs.folder(tmp_path / "run", 0.9, ("a", "b"))])
    assert first.curve("val_accuracy", epochs).y[-1] == pytest.approx(0.9)
    assert second.curve("val_accuracy", epochs).y[-1] == pytest.approx(0.8)
    assert second.curve("loss", epochs).y == first.curve("loss", epochs).y
    assert (second.key, second.name, second.index) == ("b", "b", 1)
