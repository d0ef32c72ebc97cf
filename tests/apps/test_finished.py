"""Reading finished runs: from folders, from files of evidence, and what is wrong with them."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from apps import finished, finished_analyses
from tests.apps import finished_runs


def test_a_folder_and_a_file_of_evidence_are_the_same_run(tmp_path):
    folder = finished.load(finished_runs.folder(tmp_path / "run"))
    file = finished.load(finished_runs.evidence(tmp_path / "run.json"))
    assert folder.results | {"machine": file.machine} == file.results
    assert folder.history == file.history
    assert [row["epoch"] for row in file.history] == [1, 2, 3, 4]
    assert (folder.command, folder.machine) == (None, {})
    assert file.command == "spfde train --flagfile=run.flags" and file.machine["cores"] == 2


def test_what_results_lack_is_one_line(tmp_path):
    folder = finished_runs.folder(tmp_path / "run", subnets=("a", "b"))
    found = finished.read(folder)
    with pytest.raises(ValueError, match="one of this version. Received: .*run, .* no 'speed'$"):
        found["speed"]
    with pytest.raises(ValueError, match="Received: .*run, whose results have no 'speed'$"):
        found["subnets"][1]["speed"]
    assert found.get("speed") is None


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "A folder must hold results.json of a finished run. Received: {}"),
        ("{", "must hold results.json of a finished run. Received: {}, whose results.json is dam"),
        ("[]", "whose results.json is damaged"),
        ('{"config": {"method": "set"}, "subnets": [3]}', "whose results.json is damaged"),
        (
            '{"config": {"method": "set"}, "sparsity": "0.9"}',
            "`sparsity` of a finished run must be a number. Received: '0.9', in {}",
        ),
        ('{"config": {"method": "set"}, "subnets": [{"sparsity": null}]}', "Received: None, in {}"),
    ],
)
def test_damaged_results_are_refused(tmp_path, content, rule):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError) as refusal:
        finished.read(tmp_path)
    assert rule.format(tmp_path) in str(refusal.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.json"
    for content in ("{", "[]", '{"results": 3}', '{"rows": []}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="of `make evidence`. Received: .*other.json$"):
            finished.read(path)


@pytest.mark.parametrize(
    "lines", [None, "", "epoch,loss", "epoch,loss\n1,a", "loss\n1", "epoch\n1\n3", "epoch\n1,2"]
)
def test_a_damaged_history_is_one_line_that_names_the_file(tmp_path, lines):
    folder = pathlib.Path(finished_runs.folder(tmp_path / "run"))
    (folder / "history.csv").unlink()
    if lines is not None:
        (folder / "history.csv").write_text(lines)
    with pytest.raises(ValueError, match="a line for each epoch. Received: .*run/history.csv$"):
        finished.load(folder)


@pytest.mark.parametrize("history", [None, 3, [3], ["epoch", "x"]])
def test_a_damaged_history_of_evidence_is_one_line(tmp_path, history):
    path = pathlib.Path(finished_runs.evidence(tmp_path / "run.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"history": history}))
    with pytest.raises(ValueError, match="a line for each epoch. Received: .*run.json$"):
        finished.load(path)


class TestAnalyses:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = pathlib.Path(finished_runs.folder(tmp_path / "run"))
        (folder / "analyses.json").write_text(json.dumps(finished_runs.analyses()))
        return folder

    def test_arrays_with_nan_where_a_measure_does_not_apply(self, folder):
        found = finished_analyses.read(folder)
        nan = np.nan
        np.testing.assert_array_equal(found.gradient_norms, [[0.5, 0.25], [0.125, nan]])
        np.testing.assert_array_equal(found.subnets["subnet_90"]["overlap"], [[nan] * 2, [0.75, 1]])
        assert found.blocks == (0, 1) and found.forgetting.hardest == (98, 99)
        assert not found.pictures

    def test_a_whole_row_or_measure_may_be_null(self, folder):
        changed = finished_runs.analyses()
        changed["subnets"]["subnet_90"] |= {"overlap": [None, [0.75, 1.0]], "cka": None}
        del changed["forgetting"], changed["blocks"]
        (folder / "analyses.json").write_text(json.dumps(changed))
        found = finished_analyses.read(folder)
        assert np.isnan(found.subnets["subnet_90"]["overlap"][0]).all()
        assert np.isnan(found.subnets["subnet_90"]["cka"]).all()
        assert found.forgetting is None and found.blocks == (None, None)

    def test_an_older_run_has_none(self, folder):
        (folder / "analyses.json").unlink()
        assert finished_analyses.read(folder) is None

    def test_a_file_of_the_comparison_holds_them_too(self, tmp_path):
        path = pathlib.Path(finished_runs.evidence(tmp_path / "a.json"))
        assert finished_analyses.read(path) is None
        held = json.loads(path.read_text())
        path.write_text(json.dumps(held | {"analyses": finished_runs.analyses()}))
        assert finished_analyses.read(path).layers == ("conv2d_1", "dense<b>")
        path.write_text(json.dumps(held | {"analyses": {"epochs": [2]}}))
        with pytest.raises(ValueError, match="^Analyses must be as .*a.json"):
            finished_analyses.read(path)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"epochs": [2, 4, 6]}, "`density` has 2 where there should be 3"),
            ({"epochs": []}, "`epochs` has none"),
            ({"layers": ["one"], "blocks": None}, "`density` has 2 where there should be 1"),
            ({"gradient_norms": [["x", 1], [1, 1]]}, "could not convert"),
            ({"subnets": {"a": {}}}, "no 'density'"),
            ({"blocks": [[7]]}, "out of range"),
            ({"forgetting": {"histogram": []}}, "out of range"),
        ],
    )
    def test_a_damaged_file_is_one_line_that_names_it(self, folder, change, reason):
        (folder / "analyses.json").write_text(json.dumps(finished_runs.analyses() | change))
        with pytest.raises(ValueError, match="^Analyses must be as .*run/analyses.json") as refusal:
            finished_analyses.read(folder)
        assert reason in str(refusal.value) and "\n" not in str(refusal.value)

    def test_a_picture_must_be_one(self, folder):
        (folder / "easiest.png").write_bytes(finished_runs.PNG)
        assert finished_analyses.read(folder).pictures == {"easiest": finished_runs.PNG}
        (folder / "hardest.png").write_bytes(b"text")
        with pytest.raises(ValueError, match=r"analyses.json \(hardest.png is no PNG file\)"):
            finished_analyses.read(folder)


def test_programs_that_read_runs_do_without_tensorflow(tmp_path):
    run, out = finished_runs.folder(tmp_path / "run"), tmp_path / "out"
    code = (
        "import sys\n"
        "from apps import compare_runs, report\n"
        f"assert report.main([{run!r}, '--html={out}.html']) == 0\n"
        f"assert compare_runs.main([{run!r}, '--json={out}.json']) == 0\n"
        "assert not {'tensorflow', 'keras', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
