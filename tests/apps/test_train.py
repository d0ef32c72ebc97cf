"""The program: whole short runs."""

import json

import keras
import numpy as np
import pytest

import spfde_keras
from apps import datasets, mobilenets, models, results, train, training
from apps.config import RunConfig
from spfde_keras import updaters
from tests.apps.short_runs import SHORT, run


def read(folder, name):
    return (folder / name).read_bytes()


def test_a_run_writes_all_its_files_and_a_table(tmp_path, capsys):
    flags = SHORT | {"model": "small_cnn", "output_dir": tmp_path}
    assert train.main([f"--{name}={value}" for name, value in flags.items()]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(results.FILES)
    found = json.loads((tmp_path / "results.json").read_text())
    assert 0 <= found["test_accuracy"] <= 1
    assert found["sparsity"] == pytest.approx(0.9, abs=0.001)
    assert 0 < found["training_flops"] < 0.2 * found["dense_training_flops"]
    assert (found["active_samples"], found["train_samples"]) == (80, 100)
    assert 0 < found["frozen_blocks"] < found["blocks"]
    assert found["steps"] == 4 * 3
    assert found["tflite_bytes"] == (tmp_path / "model.tflite").stat().st_size
    assert found["tflite_bytes"] < found["tflite_dense_bytes"]
    assert found["tflite_test_accuracy"] == pytest.approx(found["test_accuracy"], abs=0.005)
    assert found["wall_time_s"] > found["training_time_s"] > 0
    assert found["config"]["method"] == "mest_ems"
    assert found.keys() >= {"versions", "commit", "date"}
    (subnet,) = found["subnets"]
    assert subnet.pop("name") == "subnet_90"
    assert subnet == {name: pytest.approx(found[name], abs=1e-12) for name in subnet}
    assert found["mask_overlap"] == {}
    rows = results.read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1].keys() == set(results.COLUMNS) - {"gradient_corrections"}
    assert read(tmp_path, "training.png").startswith(b"\x89PNG")
    assert keras.saving.load_model(tmp_path / "model.keras").count_params()
    printed = capsys.readouterr().out
    assert f"test accuracy           {found['test_accuracy']:.4f}" in printed.splitlines()
    assert found["tflite_runs_sparse"] is False
    assert "on phones               does not run sparse: " in printed
    assert "unfinished" not in printed
    assert [line.split()[0] for line in printed.splitlines() if "/4 " in line] == [
        "1/4", "2/4", "3/4", "4/4"
    ]  # fmt: skip
    assert "0.85 of 0.90" in printed and "0.90 of 0.90" in printed
    assert "converting to model.tflite, and checking it" in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize(
    ("sparsity", "options"),
    [
        (0.0, {"method": "dense", "freeze_reduction": 0}),
        (0.5, {"method": "static", "scheme": "2:4", "model": "small_cnn"}),
        (0.6, {"method": "set", "scheme": "block:8", "distribution": "erk", "sparsity": 0.6}),
        (0.9, {"method": "mest_em", "sieve_policy": "one_time", "freeze_scheme": "periodic"}),
        (0.9, {"method": "magnitude", "freeze_scheme": "delayed_periodic"}),
        (0.9, {"model": "mobilenet_sparse", "freeze_reduction": 0, "steps_per_execution": 2}),
    ],
)
def test_methods_and_options_reach_the_library(tmp_path, monkeypatch, no_export, sparsity, options):
    # The front stages alone train in a fraction of the time.
    monkeypatch.setattr(mobilenets, "VERSION1_STAGES", mobilenets.VERSION1_STAGES[:2])
    found = run(output_dir=str(tmp_path), **({"freeze_reduction": 0.05} | options))
    assert found["sparsity"] == pytest.approx(sparsity, abs=0.01)
    assert found["active_samples"] == 80


@pytest.mark.parametrize("name", models.names())
def test_every_model_trains_with_the_default_flags(tmp_path, name):
    # Only prepared: whatever is wrong with a run shows then.
    run = training.prepare(RunConfig(model=name, output_dir=str(tmp_path)))
    assert run.model.name == name
    assert run.training.interval == 2


def test_what_a_short_run_can_save_is_a_line(tmp_path, capsys, no_export):
    short = SHORT | {"epochs": 3, "interval": 2, "output_dir": tmp_path}
    assert train.main([f"--{name}={value}" for name, value in short.items()]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: Freezing saves 0.")
    assert line.endswith(" the most that 3 epochs with interval 2 allow, instead of 0.2.")
    assert results.read_history(tmp_path / "history.csv")[-1]["frozen_blocks"] == 1


def test_without_freezing_and_sieving_dense_training_costs_what_it_costs(tmp_path, no_export):
    options = {"method": "dense", "freeze_reduction": 0, "sieve_fraction": 0}
    found = run(output_dir=str(tmp_path), **options)
    assert found["training_flops"] == found["dense_training_flops"] > 0
    assert (found["active_samples"], found["frozen_blocks"]) == (100, 0)


def test_the_plan_is_that_of_before_weights_move_from_kernel_to_kernel(tmp_path, no_export):
    options = {"method": "dsr", "model": "tiny_cnn", "freeze_reduction": 0}
    run = training.prepare(RunConfig(**(SHORT | options), output_dir=str(tmp_path)))
    before = run.training.planned_cost(batch_size=32).total
    found = training.train(run)["planned_training_flops"]
    assert found == pytest.approx(before, rel=1e-4)
    assert found != pytest.approx(run.training.planned_cost(batch_size=32).total, rel=1e-3)


def test_a_dense_model_is_the_one_sub_net(tmp_path, no_export):
    options = {"method": "dense", "freeze_reduction": 0, "epochs": 1}
    found = run(output_dir=str(tmp_path), **options)
    (subnet,) = found["subnets"]
    assert (subnet["name"], subnet["sparsity"]) == ("dense", 0.0)
    assert subnet["test_accuracy"] == found["test_accuracy"]


def test_every_sub_net_is_evaluated_by_itself(tmp_path, capsys):
    options = {"method": "ast", "sparsity": "0.6,0.8,0.95", "freeze_reduction": 0.05}
    options |= {"model": "small_cnn"}
    flags = SHORT | options | {"output_dir": tmp_path}
    assert train.main([f"--{name}={value}" for name, value in flags.items()]) == 0
    printed = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "results.json").read_text())
    assert [subnet["name"] for subnet in found["subnets"]] == [
        "subnet_60",
        "subnet_80",
        "subnet_95",
    ]
    assert found["sparsity"] == pytest.approx(np.mean([0.6, 0.8, 0.95]), abs=0.001)
    assert 0 < found["mask_overlap"]["subnet_95/subnet_60"] <= 1
    model = keras.saving.load_model(tmp_path / "model.keras")
    digits = datasets.load("digits", None, None)
    x = digits.normalize(digits.test_x)
    for index, subnet in enumerate(found["subnets"]):
        plain = spfde_keras.densify(model, index)
        guesses = plain.predict(x, verbose=0).argmax(axis=-1)
        accuracy = subnet["test_accuracy"]
        assert accuracy == pytest.approx(np.mean(guesses == digits.test_y), abs=0.003)
        assert subnet["tflite_test_accuracy"] == pytest.approx(accuracy, abs=0.005)
        assert subnet["sparsity"] == pytest.approx([0.6, 0.8, 0.95][index], abs=0.001)
        line = next(line for line in printed if line.startswith(subnet["name"]))
        assert f"{accuracy:.4f}, .tflite {subnet['tflite_test_accuracy']:.4f}" in line
    assert len({subnet["test_loss"] for subnet in found["subnets"]}) == 3
    for name in ("test_accuracy", "test_loss", "tflite_test_accuracy"):
        assert found[name] == found["subnets"][0][name]
    rows = results.read_history(tmp_path / "history.csv")
    own = {
        f"{column}/{subnet['name']}": subnet
        for column in ("val_accuracy", "val_loss", "sparsity")
        for subnet in found["subnets"]
    }
    assert rows[-1].keys() == set(results.COLUMNS) | own.keys()
    # All test samples are in the curves here.
    for column, subnet in own.items():
        measured = subnet[column.partition("/")[0].replace("val", "test")]
        assert rows[-1][column] == pytest.approx(measured, rel=1e-5)
    assert rows[-1]["val_accuracy"] == rows[-1]["val_accuracy/subnet_60"]
    assert sum(row["gradient_corrections"] for row in rows) > 0


@pytest.mark.parametrize(
    ("options", "names", "correction"),
    [
        ({"method": "ast", "sparsity": 0.9}, ["subnet_90"], True),
        ({"method": "ast", "sparsity": [0.9, 0.5]}, ["subnet_90", "subnet_50"], True),
        ({"method": "ast", "sparsity": "0.9,0.5", "gradient_correction": False}, None, False),
        ({"method": "ast", "scheme": "2:4, 1:4"}, ["subnet_50", "subnet_75"], True),
        ({"method": "joint", "sparsity": "0.9,0.5"}, ["subnet_90", "subnet_50"], False),
    ],
)
def test_several_sub_nets_reach_the_library(tmp_path, options, names, correction):
    options = {"initial_density": 0.7, "freeze_reduction": 0.05} | options
    prepared = training.prepare(RunConfig(output_dir=str(tmp_path), **(SHORT | options)))
    callback, joint = prepared.training, options["method"] == "joint"
    assert prepared.model.subnets == (names or ["subnet_90", "subnet_50"])
    assert type(callback).__name__ == ("Joint" if joint else "Alternating") + "SparseTraining"
    assert callback.gradient_correction is correction
    assert callback.updater.get_config() == updaters.PruneAndRegrow(0.7).get_config()
    assert callback.freezing.reduction == 0.05
    assert callback.sieve is prepared.sieve
    assert (callback.epochs, callback.interval, callback.seed) == (4, 1, 0)


def test_joint_training_writes_no_corrections_and_costs_more(tmp_path, no_export):
    options = {"sparsity": (0.8, 0.9), "epochs": 2, "freeze_reduction": 0}
    joint = run(method="joint", output_dir=str(tmp_path / "joint"), **options)
    ast = run(method="ast", output_dir=str(tmp_path / "ast"), **options)
    # Training alone costs twice as much, the gradients for updates cost the same.
    assert joint["training_flops"] > 1.4 * ast["training_flops"]
    assert joint["steps"] == ast["steps"]
    rows = results.read_history(tmp_path / "joint" / "history.csv")
    assert {row["gradient_corrections"] for row in rows} == {0}


@pytest.mark.slow
def test_sub_nets_of_a_default_run_are_all_good(tmp_path):
    flags = [
        "--method=ast",
        "--model=small_cnn",
        "--sparsity=0.9,0.95,0.98",
        f"--output_dir={tmp_path / 'run'}",
    ]
    assert train.main(flags) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    for subnet in found["subnets"]:
        assert subnet["test_accuracy"] >= 0.93
        assert subnet["tflite_test_accuracy"] == pytest.approx(subnet["test_accuracy"], abs=0.005)
    assert found["flops_share"] <= 0.12
    assert found["wall_time_s"] < 300
