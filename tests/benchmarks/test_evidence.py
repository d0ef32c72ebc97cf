"""Runs of the comparison of methods: their order, their flags, and what is done already."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apps import program
from apps.config import RunConfig
from benchmarks import evidence, evidence_tables
from tests.apps import finished_runs

ROWS = evidence.rows(seeds=1)
TABLES = (evidence_tables.EQUAL, evidence_tables.PARTS, evidence_tables.ANALYSED)
TABLES += (evidence_tables.SUBNETS, evidence_tables.DIGITS)


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(evidence.ROOT)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.flags.stem)
def test_each_file_is_a_run(row, at_root):
    config = program.parse(RunConfig, row.arguments(None))
    assert config.dataset in ("fashion_mnist", "digits") and config.seed == 0
    assert {f"--method={config.method}", f"--epochs={config.epochs}"} <= set(row.text())


def test_each_file_is_in_a_table():
    named = {name for table in TABLES for _, name in table}
    groups = ("20_", "21_", "22_", "30_", "31_", "32_", "50_alone_", "60_")  # put together there
    names = {row.flags.stem for row in ROWS}
    assert {name for name in names if not name.startswith(groups)} == {
        name for name in named if not name.startswith(groups)
    }
    methods = {name.split("_", 1)[1] for name in evidence_tables.METHODS.values()}
    files = {name.split("_", 1)[1] for name in names if name[:2] in ("20", "30")}
    assert {name.rsplit("_", 1)[0] for name in files} == methods - {"ems"}


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


@pytest.fixture
def described(tmp_path, monkeypatch):
    """A folder in place of the repository, for files of flags of the test's own."""
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    flags = tmp_path / evidence.FLAGS
    flags.mkdir(parents=True)
    (flags / "10_short.flags").write_text("--model=mlp\n--epochs=4\n--freeze_reduction=0\n")
    return flags


def test_nothing_is_trained_before_all_runs_are_checked(described, monkeypatch, capfd):
    monkeypatch.setattr(evidence, "train", None)
    assert evidence.main(["--seeds=2", "--check"]) == 0
    (described / "20_too_much.flags").write_text("--epochs=4\n--freeze_reduction=0.9\n")
    assert evidence.main(["--seeds=2"]) == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert last.startswith("error: apps/configs/evidence/20_too_much.flags: `freeze_reduction` ")


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_leaves_its_result_and_goes_on_where_it_was(described, monkeypatch, capfd, begun):
    commands, run = [], subprocess.run

    def trained(command, **options):
        if "train" not in command:
            return run(command, **options)
        commands.append(command)
        (folder,) = (part[13:] for part in command if part.startswith("--output_dir="))
        shutil.rmtree(folder, ignore_errors=True)
        options = {"data_dir": "there", "output_dir": folder, "seed": 1}
        finished_runs.folder(Path(folder), **options)

    monkeypatch.setattr(evidence.subprocess, "run", trained)
    if begun:
        Path("runs/evidence/10_short-seed1/unfinished").mkdir(parents=True)
    assert evidence.main(["--only=seed1"]) == 0
    (command,) = commands
    assert ("--resume" in command) == begun and "--seed=1" in command
    found = json.loads((evidence.RESULTS / "10_short-seed1.json").read_text())
    flags = ["--model=mlp", "--epochs=4", "--freeze_reduction=0"]
    assert found["flags"] == flags and found["machine"]["cores"] > 0
    assert found["command"] == (
        "spfde train --flagfile=apps/configs/evidence/10_short.flags --seed=1"
    )
    assert found["results"]["test_accuracy"] == 0.875 and len(found["history"]) == 5
    assert not {"data_dir", "output_dir"} & found["results"]["config"].keys()
    assert evidence.main(["--only=seed1"]) == 0 and len(commands) == 1
