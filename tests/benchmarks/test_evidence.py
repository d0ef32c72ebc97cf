"""Runs of the comparison of methods: their order, their flags, and what is done already."""

import json
import re

import pytest

from apps import program
from apps.config import RunConfig
from benchmarks import evidence, evidence_tables

ROWS = evidence.rows(seeds=1)


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(evidence.ROOT)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.flags.stem)
def test_each_file_is_a_run(row, at_root):
    config = program.parse(RunConfig, row.arguments(None))
    assert config.dataset in ("fashion_mnist", "digits") and config.seed == 0
    assert {f"--method={config.method}", f"--epochs={config.epochs}"} <= set(row.text())


def test_the_most_telling_come_first_with_all_seeds():
    names = [row.name for row in evidence.rows("^[12]0_", 2)]
    first = [name for name in names if name.startswith("10_")]
    assert names[: len(first)] == first
    assert [name[-1] for name in first] == sorted(name[-1] for name in first)


def test_a_run_is_done_if_its_result_has_the_same_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    (row,) = evidence.rows("^10_ems_90-seed0$", 2)
    assert not row.is_done()
    row.result.write_text(json.dumps({"flags": row.text()}))
    assert row.is_done()
    row.result.write_text(json.dumps({"flags": [*row.text(), "--epochs=2"]}))
    assert not row.is_done()
    assert "--dataset=fashion_mnist" in row.text() and "--sparsity=0.9" in row.text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--only=10_demse"],
            "`only` must fit names of runs.* Received: '10_demse', which fits none",
        ),
        (["--only=("], r"`only` must be a regular expression. Received: '\('"),
    ],
)
def test_runs_that_are_not_there_are_refused(flags, said, capfd):
    assert evidence.main(flags) == 2
    assert re.search(said, capfd.readouterr().err)


def test_what_is_done_is_said_and_not_trained_again(capfd, monkeypatch, at_root):
    monkeypatch.setattr(evidence, "train", None)
    assert evidence.main(["--only=^80_digits_dense", "--seeds=1"]) == 0
    assert "1 of 1 runs are done" in capfd.readouterr().err


def test_results_of_other_flags_are_not_shown(tmp_path, monkeypatch):
    for module in (evidence, evidence_tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    (row,) = evidence.rows("^10_ems_90-seed0$", 2)
    row.result.write_text(json.dumps({"flags": [*row.text(), "--epochs=2"]}))
    with pytest.raises(ValueError, match="10_ems_90-seed0.json is of other flags than 10_ems_90"):
        evidence_tables.read()


def test_a_folder_of_data_is_given_to_runs_that_need_one():
    digits, fashion = evidence.rows("^(80_digits_dense|10_dense)-seed0$", 1)[::-1]
    assert "--data_dir=DIR" in fashion.arguments("DIR")
    assert "--data_dir=DIR" not in digits.arguments("DIR")
