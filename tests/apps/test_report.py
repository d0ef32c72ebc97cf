"""`spfde report`: the tables of finished runs, again."""

import json

import pytest

from apps import errors, report

FOUND = {
    "config": {"method": "mest_ems"},
    "subnets": [{}],
    "test_accuracy": 0.99,
    "tflite_test_accuracy": 0.98,
    "sparse_mode_test_accuracy": None,
    "sparse_mode_test_samples": 0,
    "sparsity": 0.9,
    "training_flops": 2e11,
    "flops_share": 0.1,
    "active_samples": 80,
    "train_samples": 100,
    "frozen_blocks": 3,
    "blocks": 5,
    "tflite_bytes": 1000,
    "tflite_share": 0.25,
    "tflite_runs_sparse": False,
    "wall_time_s": 7.0,
}


@pytest.fixture
def run(tmp_path):
    def run(name, found):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(found))
        return str(folder)

    return run


def test_each_run_has_its_table(run, capsys):
    folders = [run("a", FOUND), run("b", FOUND | {"sparsity": 0.5})]
    assert report.main(folders) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert [first.splitlines()[0], second.splitlines()[0]] == folders
    assert "test accuracy           0.9900\n" in first
    assert "sparsity                0.9000\n" in first
    assert "sparsity                0.5000\n" in second


def test_what_is_no_run_is_one_line(run, tmp_path, capsys):
    def refusal(*folders):
        status = report.main(folders)
        (line,) = capsys.readouterr().err.splitlines()
        return status, line

    unfinished = str(tmp_path / "no")
    assert refusal() == (
        errors.MISUSED,
        "error: At least one folder of a finished run is needed. Received: none",
    )
    assert refusal(run("a", FOUND), unfinished) == (
        errors.MISUSED,
        f"error: A folder must hold results.json of a finished run. Received: {unfinished}",
    )
    inside = str(tmp_path)
    assert refusal(inside)[1].endswith(
        f"Received: {inside}; folders in it do: give them, as {inside}/*"
    )
    older = {name: value for name, value in FOUND.items() if name != "blocks"}
    assert refusal(run("b", older))[1].endswith("b, whose results have no 'blocks'")
