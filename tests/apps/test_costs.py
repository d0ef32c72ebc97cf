import json
import subprocess
import sys

import pytest

from apps import costs as program
from apps import method_costs as costs


@pytest.fixture(scope="module")
def table():
    return costs.costs("resnet32", width=2, classes=100, epochs=160)


def row(table, method, sparsity=0.9):
    return next(r for r in table["rows"] if (r["method"], r["sparsity"]) == (method, sparsity))


def flops(table, method):
    return row(table, method)["training_flops"]


def test_training_flops_agree_with_the_papers(table):
    assert row(table, "dense", None)["training_flops"] == pytest.approx(1.32e16, rel=0.01)
    assert flops(table, "static, SET") == pytest.approx(1.32e15, rel=0.08)
    assert flops(table, "SpFDE 25%+25%") == pytest.approx(0.96e15, rel=0.08)


def test_savings_agree_with_the_papers(table):
    against_mest = flops(table, "SpFDE 20%+20%") / flops(table, "MEST EM&S") - 1
    against_set = flops(table, "SpFDE 25%+25%") / flops(table, "static, SET") - 1
    assert against_mest == pytest.approx(-0.27, abs=0.03)
    assert against_set == pytest.approx(-0.27, abs=0.03)


@pytest.mark.parametrize("configuration", ["15%+15%", "20%+20%", "25%+25%"])
def test_memory_agrees_with_the_papers(table, configuration):
    found = row(table, f"SpFDE {configuration}")
    assert -0.25 - 0.05 <= found["memory_average_vs_set"] <= -0.20 + 0.05
    assert -0.44 - 0.05 <= found["memory_minimum_vs_set"] <= -0.42 + 0.05


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
def test_methods_rank_as_they_should(table, sparsity):
    cost = {r["method"]: r["training_flops"] for r in table["rows"] if r["sparsity"] == sparsity}
    assert cost["static, SET"] < cost["MEST EM"] < cost["RigL"] < cost["MEST EM&S"]
    assert cost["MEST EM"] == pytest.approx(cost["static, SET"], rel=0.001)
    assert cost["SpFDE 25%+25%"] < cost["SpFDE 20%+20%"] < cost["SpFDE 15%+15%"]


def test_plans_out_of_reach_are_named_and_not_computed():
    table = costs.costs("resnet32", epochs=4, interval=2, sparsities=[0.9])
    found = row(table, "SpFDE 25%+25%")
    assert found["training_flops"] is None
    assert "`reduction` must be at most" in found["note"]
    assert "out of reach" in costs.render(table)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": "resnet33"}, "`model` must be one of"),
        ({"bound": "0.1,0"}, "`bound` must be a number, or numbers"),
        ({"epochs": 0}, "`epochs` must be an integer of at least 1"),
        ({"sparsities": [1.2]}, r"`sparsities` must be a number in \(0, 1\). Received: 1.2"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        costs.costs(**{"model": "mlp", "input_shape": (8, 8, 1)} | arguments)


def test_a_sparsity_is_not_rounded():
    table = costs.costs("mlp", input_shape=(8, 8, 1), epochs=10, sparsities=[0.985])
    assert "98.5%  static, SET" in costs.render(table)


def test_the_interval_follows_the_epochs_and_rules_the_model():
    table = costs.costs("mlp", input_shape=(8, 8, 1), epochs=10, sparsities=[0.9])
    assert table["config"]["interval"] == 1
    assert row(table, "SpFDE 20%+20%")["training_flops"]
    said = " ".join(table["rules"])
    assert "One multiply-accumulate" in said and "SpFDE x+y" in said
    assert "recurrent" not in said and "unknown size" not in said


def test_a_bound_is_that_of_spfde_and_ems(table):
    readme = "0.02,0.01,0@0.5625,0.75"
    found = costs.costs("resnet32", width=2, classes=100, sparsities=[0.9], bound=readme)
    assert flops(found, "EM&S of train") == flops(found, "MEST EM&S") == flops(table, "MEST EM&S")
    assert flops(found, "SpFDE 20%+20%") < flops(table, "SpFDE 20%+20%")
    assert "EM&S of train, and SpFDE, have that of `--bound`" in costs.render(found)


def test_command_prints_the_table_and_writes_it(tmp_path):
    target = tmp_path / "costs.json"
    command = [sys.executable, "-m", "apps.costs", "--model=mlp", "--input_shape=8,8,1"]
    command += ["--epochs=40", f"--json={target}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "SpFDE 20%+20%" in done.stdout
    assert "How this is counted" in done.stdout
    assert json.loads(target.read_text())["config"]["epochs"] == 40
    assert list(tmp_path.iterdir()) == [target]


def test_command_refuses_wrong_input_in_one_line(tmp_path, capsys):
    target = tmp_path / "missing" / "costs.json"
    assert program.main(["--model=mlp", f"--json={target}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: `json` must be a file in a folder that can be written")
