import doctest
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest
from absl import app, flags
from absl.testing import flagsaver
from keras import layers

from spfde_keras.export import export_tflite
from spfde_keras.sparsify import densify, sparsify

SCRIPT = pathlib.Path(__file__).parents[2] / "tflite" / "switch_subnets.py"


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("switch_subnets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(cli):
    def run(*arguments, **values):
        flags.FLAGS.mark_as_parsed()
        with flagsaver.flagsaver(**values):
            cli.main(["switch_subnets.py", *map(str, arguments)])

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files with sub-nets, not densest first, and with one signature."""
    folder = tmp_path_factory.mktemp("files")
    plain = keras.Sequential([layers.Input((8,)), layers.Dense(16), layers.Dense(2)])
    model = sparsify(plain, sparsity=[0.875, 0.05, 0.5], initial="random")
    export_tflite(model, folder / "subnets.tflite")
    export_tflite(densify(model), folder / "single.tflite")
    (folder / "text.tflite").write_text("text")
    return folder


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [(9, "subnet_5"), (3, "subnet_5"), (2.9, "subnet_50"), (1, "subnet_95"), (0.9, "subnet_95")],
)
def test_the_densest_within_the_budget_answers(cli, budget, chosen):
    latencies = {"subnet_95": 1.0, "subnet_5": 3.0, "subnet_50": 2.0}
    assert cli.choose(latencies, budget) == chosen


def test_without_one_in_the_budget_the_fastest_answers(cli):
    assert cli.choose({"subnet_50": 2.0, "subnet_90": 1.5, "subnet_95": 1.8}, 1) == "subnet_90"


def test_a_denser_one_within_the_budget_is_taken_even_if_it_is_faster(cli):
    assert cli.choose({"subnet_90": 2.0, "subnet_50": 1.0}, 3) == "subnet_50"


def test_examples(cli):
    assert doctest.testmod(cli) == doctest.TestResults(failed=0, attempted=2)


def test_latency_is_the_median_without_the_first_runs(cli, monkeypatch):
    durations = [1.0] * cli._WARM_UP + [0.001, 0.005, 0.002]
    ticks = itertools.chain.from_iterable((0.0, duration) for duration in durations)
    monkeypatch.setattr(cli.time, "perf_counter", lambda: next(ticks))
    assert cli.median_latency(lambda: None, runs=3) == pytest.approx(2)


def test_the_file_is_loaded_once_and_each_subnet_runs(cli, folder):
    subnets = cli.load(str(folder / "subnets.tflite"))
    assert list(subnets) == ["subnet_5", "subnet_50", "subnet_87_5"]
    outputs = [subnet()["output_0"] for subnet in subnets.values()]
    assert all(output.shape == (1, 2) for output in outputs)
    assert (outputs[0] != outputs[1]).any() and (outputs[1] != outputs[2]).any()


def test_each_budget_has_its_answer(cli, run, folder, monkeypatch, capsys):
    medians = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(cli, "median_latency", lambda *_: next(medians))
    monkeypatch.setattr(cli, "milliseconds", lambda *_: 1.75)
    monkeypatch.setattr(cli.platform, "machine", lambda: "aarch64")
    run(folder / "subnets.tflite", budget_ms=["5", "2.5", "1.5", "0.5", "3"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["sub-net", "median", "ms"],
        ["subnet_5", "3.000"],
        ["subnet_50", "2.000"],
        ["subnet_87_5", "1.000"],
        [],
        ["budget", "ms", "took", "ms", "answered", "by"],
        ["5", "1.750", "subnet_5"],
        ["2.5", "1.750", "subnet_50"],
        ["1.5", "1.750", "subnet_87_5,", "too", "late"],
        ["0.5", "1.750", "subnet_87_5,", "too", "late"],
        ["3", "1.750", "subnet_5"],
    ]


def test_end_to_end_without_tensorflow(folder, tmp_path):
    for name in ("tensorflow", "keras", "spfde_keras"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('must not be imported')")
    command = [sys.executable, SCRIPT, folder / "subnets.tflite", "--budget_ms=10000,1e-6"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert done.returncode == 0, done.stderr
    assert re.search(r"\n10000 +\d+\.\d{3}  subnet_5\n1e-06 .*, too late\n", done.stdout)


@pytest.mark.parametrize(("machine", "told"), [("x86_64", True), ("AMD64", True), ("arm64", False)])
def test_x86_is_told_that_it_shows_no_difference(
    cli, run, folder, monkeypatch, capsys, machine, told
):
    monkeypatch.setattr(cli.platform, "machine", lambda: machine)
    run(folder / "subnets.tflite", budget_ms=["1"], runs=1)
    assert ("computes sparse weights as dense ones" in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("arguments", "budgets", "message"),
    [
        (["missing.tflite"], ["1"], "missing.tflite does not exist"),
        (["text.tflite"], ["1"], "text.tflite is not a .tflite file"),
        (["single.tflite"], ["1"], "must be sub-nets, such as subnet_90. Received: serving_de"),
        (["subnets.tflite"], None, "must be numbers greater than 0, .* Received: None"),
        (["subnets.tflite"], ["1", "fast"], "must be numbers greater than 0, .* Received: 1,fast"),
        (["subnets.tflite"], ["1", "0"], "must be numbers greater than 0, .* Received: 1,0"),
        (["subnets.tflite"], ["nan"], "must be numbers greater than 0, .* Received: nan"),
    ],
)
def test_wrong_input_is_one_line(run, folder, arguments, budgets, message):
    with pytest.raises(SystemExit) as stopped:
        run(*(folder / argument for argument in arguments), budget_ms=budgets)
    # Python prints a text exit code to stderr and exits with 1.
    assert re.search(f"^error: .*{message}", stopped.value.code)
    assert "\n" not in stopped.value.code


def test_a_file_is_needed(run):
    with pytest.raises(app.UsageError, match="One .tflite file is needed. Received: "):
        run(budget_ms=["1"])
