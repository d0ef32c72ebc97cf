"""`spfde compare`: runs of any method, seeds taken together."""

import json

import pytest

from apps import compare_runs, errors


@pytest.fixture
def run(tmp_path):
    def run(name, accuracy, subnets=(), machine=None, tests=50, **options):
        config = {"dataset": "digits", "model": "mlp", "method": "set", "seed": 0} | options
        found = {
            "config": config | {"output_dir": name},
            "test_accuracy": accuracy,
            "sparsity": 0.9,
            "flops_share": 0.25,
            "training_time_s": 10.0,
            "train_samples": 100,
            "test_samples": tests,
            "machine": machine,
            "subnets": [
                {"name": f"subnet_{share}", "sparsity": share / 100, "test_accuracy": one}
                for share, one in subnets
            ]
            or [{"name": "subnet_90", "sparsity": 0.9, "test_accuracy": accuracy}],
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(found))
        return str(tmp_path / name)

    return run


def test_mean_and_deviation_by_hand(run):
    folders = [run(f"s{seed}", 0.9 + 0.02 * seed, seed=seed) for seed in range(3)]
    table = compare_runs.compare([*folders, run("rigl", 0.5, method="rigl")])
    assert table["config"] == {"dataset": "digits", "model": "mlp"}
    first, second = table["rows"]
    assert (first["options"], first["n"]) == ({"method": "set"}, 3)
    assert first["test_accuracy"] == pytest.approx(0.92)
    assert first["test_accuracy_std"] == pytest.approx(0.02)
    assert (second["n"], second["test_accuracy_std"]) == (1, None)


def test_the_table_names_what_differs(run, capsys, tmp_path):
    folders = [run("a", 0.9), run("b", 0.8, method="rigl", width=2), run("c", 0.7, seed=1)]
    written = tmp_path / "table.json"
    assert compare_runs.main([*folders, f"--json={written}"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines[0][:3] == ["method", "width", "n"]
    assert lines[1][:5] == ["set", "unset", "2", "0.8000", "0.1414"]
    assert lines[2][:4] == ["rigl", "2", "1", "0.8000"]
    assert json.loads(written.read_text())["rows"][0]["n"] == 2


def test_sub_nets_have_rows_of_their_own(run):
    subnets = [(90, 0.9), (95, 0.8)]
    rows = compare_runs.compare([run("ast", 0.9, subnets, method="ast"), run("set", 0.7)])["rows"]
    assert [row["subnet"] for row in rows] == ["subnet_90", "subnet_95", ""]
    assert [row["test_accuracy"] for row in rows] == [0.9, 0.8, 0.7]
    assert rows[1]["sparsity"] == 0.95


def test_times_on_several_machines_have_no_mean(run, capsys):
    quick, slow = {"processor": "Quick", "cores": 2}, {"processor": "Slow", "cores": 1}
    folders = [run("a", 0.9, machine=quick), run("b", 0.8, machine=quick, seed=1)]
    assert compare_runs.main(folders) == 0
    printed = capsys.readouterr().out
    assert " 10 s" in printed and "machine" not in printed
    folders += [run("c", 0.9, machine=slow, seed=2), run("d", 0.9, machine=slow, method="rigl")]
    first, second = compare_runs.compare(folders)["rows"]
    assert (first["n"], first["training_time_s"], second["training_time_s"]) == (3, None, 10.0)
    assert compare_runs.main(folders) == 0
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert lines[3].endswith("several machines") and lines[4].endswith(" 10 s")
    assert last.endswith("do not compare: Quick, 2 cores; Slow, 1 cores")


@pytest.mark.parametrize("differing", [{"seed": 1}, {"method": "rigl"}])
def test_other_data_by_the_same_name_is_refused(run, differing):
    folders = [run("a", 0.9), run("b", 0.9, tests=40, **differing)]
    with pytest.raises(ValueError, match="digits with 50 test_samples in .*a, and with 40 in .*b"):
        compare_runs.compare(folders)
    assert compare_runs.compare([folders[0], run("c", 0.9, tests=40, dataset="mnist")])


def test_the_same_run_twice_is_refused_in_one_line(run, capsys):
    folders = [run("a", 0.9), run("b", 0.9)]
    assert compare_runs.main(folders) == errors.MISUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Runs must differ in their seed") and "seed 0" in line
    assert compare_runs.main([]) == errors.MISUSED
