"""The files of flags for the papers' rows: each is a run, and trains on data of the right shape."""

import json
import re

import pytest

from apps import families, models, program, train, training
from apps.config import RunConfig
from benchmarks.evidence import ROOT
from tests import images as made

PAPERS = ROOT / "apps" / "configs" / "papers"
FILES = sorted(PAPERS.glob("*/*.flags"))
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet2012": 1000}

# One for each paper, data set and way of training; small enough to train in seconds.
SAMPLE = [
    "spfde/cifar100_90_20_20",
    "mest/cifar10_95_em_pattern",
    "mest/cifar10_90_ems_data",
    "mest/cifar100_98_grasp",
    "ast/cifar10_resnet20_ast",
    "ast/cifar100_wrn22_2_n_m",
]


def parsed(path, *more):
    return program.parse(RunConfig, [f"--flagfile={path.relative_to(ROOT)}", *more])


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for name in CLASSES:
        made.write_known(folder, name, 300, 20)
    return folder


def test_all_rows_are_there():
    names = {f"{path.parent.name}/{path.stem}" for path in FILES}
    assert len(names) == 190 and names >= set(SAMPLE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_is_the_run_that_its_name_says(path):
    config, name = parsed(path), path.stem
    data, *words = name.split("_")
    assert config.dataset == {"imagenet": "imagenet2012"}.get(data, data)
    assert config.model in models.names()
    assert config.epochs == (150 if data == "imagenet" else 160)
    alone = re.search("alone_([0-9]+)", name) or re.match("[a-z0-9]+_([0-9]+)_", name)
    if alone:
        assert config.sparsity == (int(alone[1]) / 100,)
    if path.parent.name == "spfde":
        share = int(words[-1]) / 100
        assert (config.method, config.freeze_reduction, config.sieve_fraction) == (
            "mest_ems",
            share,
            share,
        )
    elif "data" not in words:
        assert (config.freeze_reduction, config.sieve_fraction) == (0, 0)
    for word in words:
        if word in ("set", "rigl", "dsr", "static", "dense", "ast", "joint"):
            assert config.method == word
        if word in families.names("schemes"):
            assert config.scheme == (word,)
    text = path.read_text()
    assert text.startswith("# ") and "--dataset" in text + (PAPERS / "imagenet.flags").read_text()


def shortened(path, folder, output):
    """The flags of a row whose net is narrow, for some steps."""
    short = ["--epochs=4", "--interval=1", "--batch_size=64", "--freeze_reduction=0"]
    if "spfde" in str(path):
        short[-1] = "--freeze_reduction=0.03"
    config = parsed(path)
    if config.update_steps:
        short.append("--update_steps=2")
    if config.model != "resnet20":
        short.append("--width=0.25")
    if config.dataset == "imagenet2012":
        short += ["--image_size=32", "--warmup_epochs=0"]
    if config.method == "dense":
        short.remove("--interval=1")
    given = [f"--flagfile={path.relative_to(ROOT)}", *short, f"--data_dir={folder}"]
    return [*given, f"--output_dir={output}"]


@pytest.mark.parametrize("name", SAMPLE)
def test_rows_of_each_kind_are_ready_to_train(name, folder, tmp_path):
    arguments = shortened(PAPERS / f"{name}.flags", folder, tmp_path)
    run = training.prepare(program.parse(RunConfig, arguments))
    assert run.dataset.train_samples == 300
    assert run.model.output_shape[-1] == CLASSES[run.config.dataset]


def test_a_run_prints_what_the_paper_found(folder, tmp_path, capsys):
    path = PAPERS / "spfde" / "cifar100_90_25_25.flags"
    given = [*shortened(path, folder, tmp_path), "--model=mlp"]
    assert train.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    (accuracy,) = [line for line in lines if line.startswith("test accuracy  ")]
    (flops,) = [line for line in lines if line.startswith("training FLOPs")]
    assert accuracy.endswith("; the paper 0.7102") and flops.endswith("; the paper 9.6e+14")
    config = json.loads((tmp_path / "results.json").read_text())["config"]
    assert (config["paper_accuracy"], config["paper_flops"]) == (0.7102, 0.96e15)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_row_trains(path, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_found", lambda run: {"rows": len(run.recorder.rows)})
    monkeypatch.setattr("apps.results.RunFolder.publish", lambda folder: None)
    monkeypatch.setattr("apps.finished.table", lambda found: str(found))
    assert train.main(shortened(path, folder, tmp_path)) == 0
