"""The script of docs/existing_script.md runs, before and after, and few lines differ."""

import difflib
import re
from pathlib import Path

import keras
import pytest

from spfde_keras.masking import find_masks

PAGE = Path(__file__).parents[1] / "docs" / "existing_script.md"


def scripts() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_at_most_ten_lines_differ():
    before, after = (script.splitlines() for script in scripts())
    lines = [line for line in difflib.ndiff(before, after) if line[:2] in ("+ ", "- ")]
    added, removed = (sum(line[0] == sign for line in lines) for sign in "+-")
    assert 0 < max(added, removed) <= 10 and added + removed <= 10


@pytest.mark.parametrize("index", [0, 1], ids=["before", "after"])
def test_both_versions_run_as_they_stand(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    names: dict = {"__name__": "script"}
    exec(scripts()[index], names)
    files = {"model.keras", "log.csv"} | ({"model.tflite"} if index else set())
    assert {path.name for path in tmp_path.iterdir()} == files
    _, accuracy = names["model"].evaluate(names["validation"], verbose=0)
    assert accuracy > 0.75
    masks = find_masks(names["model"])
    assert all(mask.density == pytest.approx(0.1, abs=0.01) for mask in masks)
    assert len(masks) == 2 * index
