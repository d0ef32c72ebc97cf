"""The program, after what came before: resuming, wrong input, and folders that are not empty."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from apps import datasets, errors, results, train, training
from apps.config import RunConfig
from spfde_keras.resume import folder
from tests.apps.short_runs import SHORT, Killed, kill, run


@pytest.mark.parametrize(
    ("options", "epoch"),
    [
        ({"method": "mest_ems", "augment": True, "freeze_reduction": 0.15}, 5),  # some are frozen
        ({"method": "rigl", "freeze_reduction": 0.15}, 3),  # none is yet, and in an interval
        ({"method": "mest_em", "freeze_reduction": 0, "sieve_policy": "one_time"}, 5),
        # Resumed after 20 steps, in a round, and in an interval with one sub-net yet to change.
        (
            {"method": "ast", "sparsity": "0.5,0.8,0.9", "freeze_reduction": 0.1, "batch_size": 20},
            5,
        ),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path, monkeypatch, no_export, options, epoch
):
    options = options | {"epochs": 8, "interval": 2}
    whole = run(output_dir=str(tmp_path / "whole"), **options)
    with monkeypatch.context() as patch:
        kill(patch, epoch)
        with pytest.raises(Killed):
            run(output_dir=str(tmp_path / "cut"), **options)
    keras.utils.clear_session()
    resumed = run(output_dir=str(tmp_path / "cut"), resume=True, **options)

    weights = [
        keras.saving.load_model(tmp_path / folder / "model.keras").get_weights()
        for folder in ("whole", "cut")
    ]
    for expected, found in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    for name in (
        "test_accuracy",
        "test_loss",
        "training_flops",
        "steps",
        "active_samples",
        "subnets",
    ):
        assert resumed[name] == whole[name]
    histories = [results.read_history(tmp_path / f / "history.csv") for f in ("whole", "cut")]
    for expected, found in zip(*histories, strict=True):
        assert {**found, "seconds": 0} == {**expected, "seconds": 0}


def test_a_run_killed_before_its_first_state_starts_again(tmp_path, monkeypatch, no_export):
    with monkeypatch.context() as patch:
        kill(patch, 0)
        with pytest.raises(Killed):
            run(output_dir=str(tmp_path))
    assert len(run(output_dir=str(tmp_path), resume=True)["config"]) > 0
    assert len(results.read_history(tmp_path / "history.csv")) == SHORT["epochs"]


def test_a_run_killed_after_training_only_writes_its_results(tmp_path, monkeypatch, no_export):
    with monkeypatch.context() as patch:
        patch.setattr(training, "export_tflite", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(output_dir=str(tmp_path))
    found = run(output_dir=str(tmp_path), resume=True)
    assert found["steps"] == 4 * 3
    assert len(results.read_history(tmp_path / "history.csv")) == SHORT["epochs"]


def folder_contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with results of an earlier run and a killed one."""
    folder = tmp_path_factory.mktemp("killed")
    earlier = json.dumps({"config": json.loads(RunConfig(**SHORT).to_json())})
    for name in results.FILES:
        (folder / name).write_text(earlier)
    with pytest.MonkeyPatch.context() as patch:
        kill(patch, 1)
        with pytest.raises(Killed):
            run(output_dir=str(folder))
    assert all((folder / name).read_text() == earlier for name in results.FILES)
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(killed, tmp_path / "run")


WRONG = [
    (
        ["--sparsity=0.9,much"],
        "`sparsity` must be numbers separated by commas. Received: 0.9,much",
    ),
    (["--sparsity="], "`sparsity` must be numbers separated by commas."),
    (
        ["--sparsity=0.9,0.95"],
        "`sparsity` must be one value with method mest_ems; several are for ast and joint. "
        "Received: 0.9,0.95",
    ),
    (["--scheme=2:4,1:4", "--method=set"], "`scheme` must be one value with method set"),
    (["--freeze_reduction=-0.1"], "`freeze_reduction` must be a number in [0, 1). Received: -0.1"),
    (["--freeze_reduction=1"], "`freeze_reduction` must be a number in [0, 1). Received: 1.0"),
    (["--freeze_share=0"], "`freeze_share` must be a number in (0, 1). Received: 0.0"),
    (["--epochs=0"], "`epochs` must be an integer of at least 1"),
    (["--epochs=many"], "flag --epochs=many"),
    (["--model=vgg"], "`model` must be one of tiny_cnn, "),
    (["--no_such_flag"], "Unknown command line flag 'no_such_flag'"),
    (["--flagfile=/no/such"], "/no/such"),
    (["digits"], "arguments must be flags"),
    (["--sparsity=90"], "`sparsity` must be a number in [0, 1). Received: 90.0; 90 % is 0.9"),
    (
        ["--sparsity=0.9,1.2", "--method=ast"],
        "`sparsity` must be a number in [0, 1). Received: 1.2",
    ),
    (["--sparsity=0.9,0.9", "--method=joint"], "`sparsity` must differ from sub-net to sub-net"),
    (["--scheme=2:4,", "--method=ast"], "`scheme` must be a Scheme, its configuration, 'block'"),
    (
        ["--sparsity=0.9,0.8", "--scheme=block,block,block", "--method=ast"],
        "`scheme` and `sparsity` must each be a single value, or one for each sub-net",
    ),
    (["--initial_density=0", "--method=ast"], "`initial_density` must be a number in (0, 1]"),
    (["--scheme=3:7"], "`scheme`|3:7|divide"),
    (["--freeze_reduction=0.9"], " with --freeze_scheme=single_shot, 4 epochs and interval 1. "),
    (
        ["--freeze_reduction=0.1", "--interval=2", "--model=small_cnn"],
        "4 epochs and interval 2. Received: 0.1; --interval=1 reaches it",
    ),
    (["--sieve_fraction=1"], "`sieve_fraction` must be a number in [0, 1). Received: 1.0"),
    (["--train_samples=5000"], "`train_samples` must be in [1, 1437]. Received: 5000"),
    (["--dataset=mnist"], "`tfds build mnist --data_dir=FOLDER` prepares it. Received: None"),
    (["--dataset=mnist", "--data_dir=/no/such"], "`data_dir` must be a folder"),
    (["--update_steps=2000"], "`update_steps` must be below the steps of an interval, 1 x 3: "),
    (
        ["--method=magnitude", "--initial=random", "--freeze_reduction=0"],
        "Magnitude starts from a dense model: ",
    ),
    (["--resume", "--sparsity=0.8", "--seed=3"], "--sparsity was None, is 0.8; --seed was 0, is 3"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_wrong_input_is_one_line_and_touches_nothing(unfinished, capsys, flags, message):
    before = folder_contents(unfinished)
    short = [f"--{name}={value}" for name, value in SHORT.items()]
    assert train.main([f"--output_dir={unfinished}", *short, *flags]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("error: ")
    assert any(part in printed[0] for part in message.split("|"))
    assert folder_contents(unfinished) == before


def test_resume_needs_an_unfinished_run(tmp_path, capsys):
    assert train.main([f"--output_dir={tmp_path}/new", "--resume"]) == 2
    assert "`resume` needs an unfinished run in" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_output_folder_must_be_writable(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train.main([f"--output_dir={tmp_path}/file/run"]) == 2
    assert "`output_dir` must be a folder that can be written" in capsys.readouterr().err


def test_output_folder_must_not_be_read_only(tmp_path, capsys, monkeypatch):
    # For root no folder is read-only: what the system says of the others' is made up.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert train.main([f"--output_dir={tmp_path}"]) == 2
    assert "`output_dir` must be a folder that can be written" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_new_run_replaces_an_unfinished_one(unfinished, no_export):
    found = run(output_dir=str(unfinished), seed=1)
    assert found["config"]["seed"] == 1
    assert {path.name for path in unfinished.iterdir()} == set(results.FILES)
    assert len(results.read_history(unfinished / "history.csv")) == SHORT["epochs"]


def test_history_keeps_all_digits_and_writes_whole_numbers_as_such(tmp_path):
    row = {"epoch": 1.0, "loss": 1 / 3, "active_samples": 80.0}
    results.write_history(tmp_path / "history.csv", [row])
    with open(tmp_path / "history.csv", newline="") as file:
        reader = csv.DictReader(file)
        (written,) = reader
    assert reader.fieldnames == ["epoch", "loss", "active_samples"]
    assert (written["epoch"], written["active_samples"]) == ("1", "80")
    assert results.read_history(tmp_path / "history.csv") == [row]


def test_a_finished_run_of_other_options_is_not_replaced_without_a_word(tmp_path):
    def folder(**options):
        return results.RunFolder(RunConfig(output_dir=str(tmp_path), **options))

    folder().open()  # nothing there yet
    finished = {"config": json.loads(RunConfig(epochs=6, output_dir=str(tmp_path)).to_json())}
    (tmp_path / "results.json").write_text(json.dumps(finished))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder(epochs=6).open()  # the same again
    with pytest.warns(UserWarning, match=r"replaced \(--epochs was 6, is 7\); --output"):
        folder(epochs=7).open()
    assert RunConfig(seed=2).folder.endswith("-seed2") and "seed" not in RunConfig().folder


@pytest.mark.parametrize("name", ["unfinished/notes.txt", "results.json", "publishing/mine"])
def test_what_no_run_has_written_is_refused_and_stays(tmp_path, capsys, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": 1}')
    for more in ([], ["--resume"]):
        assert train.main([f"--output_dir={tmp_path}", *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: `output_dir` must ") and name.split("/")[-1] in line
    assert folder_contents(tmp_path) == {pathlib.Path(name): b'{"mine": 1}'}


def test_something_else_beside_what_a_run_has_left_is_refused(unfinished, capsys):
    for place in ("notes.txt", "states/notes.txt"):
        path = unfinished / "unfinished" / place
        path.write_text("mine")
        assert train.main([f"--output_dir={unfinished}", "--resume"]) == 2
        assert "which holds 'notes.txt'" in capsys.readouterr().err
        assert path.read_text() == "mine"
        path.unlink()


def test_other_files_in_the_output_folder_stay(tmp_path, no_export):
    (tmp_path / "notes.txt").write_text("mine")
    run(output_dir=str(tmp_path), epochs=2)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_begun_by_an_earlier_version_is_refused(tmp_path, capsys):
    backup = tmp_path / "unfinished" / "backup"
    backup.mkdir(parents=True)
    (backup / "latest.weights.h5").write_text("weights")
    (tmp_path / "unfinished" / "config.json").write_text(RunConfig().to_json())
    for more in ([], ["--resume"]):
        assert train.main([f"--output_dir={tmp_path}", *more]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a run that an earlier version has begun" in line and "remove" in line
    assert (backup / "latest.weights.h5").read_text() == "weights"


@pytest.mark.parametrize("config", [None, "", "{", "[]", '{"epochs": 4}'])
def test_options_that_cannot_be_read_lose_nothing(unfinished, capsys, config):
    for name in ("config.json", "config_again.json"):
        path = unfinished / "unfinished" / name
        path.unlink() if config is None else path.write_text(config)
    before = folder_contents(unfinished)
    flags = [f"--{name}={value}" for name, value in SHORT.items()]
    assert train.main([f"--output_dir={unfinished}", "--resume", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: `resume` must continue a run of the same options")
    assert folder_contents(unfinished) == before


@pytest.mark.parametrize("damaged", ["config.json", "config_again.json"])
def test_options_are_kept_twice(unfinished, damaged):
    path = unfinished / "unfinished" / damaged
    path.write_text(path.read_text().replace('"epochs": 4', '"epochs": 5'))
    results.RunFolder(RunConfig(**SHORT, output_dir=str(unfinished), resume=True)).check()
    with pytest.raises(ValueError, match="--batch_size was 32, is 16"):
        results.RunFolder(
            RunConfig(**SHORT | {"batch_size": 16}, output_dir=str(unfinished), resume=True)
        ).check()


@pytest.mark.parametrize("moved", range(len(results.FILES) + 1))
def test_results_whose_publishing_was_killed_are_published(tmp_path, monkeypatch, capsys, moved):
    config = RunConfig(**SHORT, output_dir=str(tmp_path))
    results.RunFolder(config).open()
    written = {name: f"new {name}" for name in results.FILES}
    found = {"config": json.loads(config.to_json())}
    written["results.json"] = json.dumps(found)
    for name, text in written.items():
        (tmp_path / "unfinished" / name).write_text(text)
        (tmp_path / name).write_text(json.dumps(found | {"old": True}))
    replace, left = os.replace, [moved]

    def dying(*paths):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(*paths)

    folder = results.RunFolder(config)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        if moved == len(results.FILES):  # all is done but this
            patch.setattr(pathlib.Path, "rmdir", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            folder.publish()
    again = results.RunFolder(dataclasses.replace(config, resume=True))
    assert again.finished() == found
    assert folder_contents(tmp_path) == {
        pathlib.Path(name): text.encode() for name, text in written.items()
    }


def test_a_run_that_is_finished_is_not_trained_again(tmp_path, capsys, no_export):
    run(output_dir=str(tmp_path))
    before, flags = folder_contents(tmp_path), SHORT | {"output_dir": tmp_path}
    given = [f"--{name}={value}" for name, value in flags.items()]
    assert train.main([*given, "--resume"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert train.main([*given, "--resume", "--seed=3"]) == 2
    assert "--seed was 0, is 3" in capsys.readouterr().err
    assert folder_contents(tmp_path) == before


def test_a_second_run_in_the_same_folder_is_refused(unfinished, capsys):
    program = (
        "import runpy, sys\n"  # without TensorFlow, which takes long to import
        "runpy.run_path(sys.argv[1])['OwnFolder'](sys.argv[2], '.*').open()\n"
        "print('open', flush=True)\nsys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program, folder.__file__, unfinished / "unfinished"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert first.stdout.readline() == b"open\n"
    before = folder_contents(unfinished)
    flags = [f"--{name}={value}" for name, value in SHORT.items()]
    for more in ([], ["--resume"]):
        assert train.main([f"--output_dir={unfinished}", *flags, *more]) == 2
        assert "`output_dir` must be of one run at a time" in capsys.readouterr().err
    assert folder_contents(unfinished) == before
    first.kill()
    first.communicate()
    results.RunFolder(RunConfig(output_dir=str(unfinished))).check()


def test_what_was_trained_is_kept_where_its_export_fails(tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("The converter failed.")

    monkeypatch.setattr(training, "export_tflite", fail)
    flags = SHORT | {"output_dir": tmp_path}
    assert train.main([f"--{name}={value}" for name, value in flags.items()]) == 1
    printed = capsys.readouterr()
    path = tmp_path / "unfinished" / "model.keras"
    assert f"what was trained is kept: {path}" in printed.out
    assert printed.err == "error: The converter failed.\n"
    assert keras.saving.load_model(path).count_params()


def test_a_pixel_that_is_no_number_ends_the_run_at_once(tmp_path, monkeypatch, capsys):
    load = datasets.load

    def with_nan(*arguments, **options):
        dataset = load(*arguments, **options)
        images = dataset.train_x.astype("float32")
        images[5, 0, 0] = np.nan
        object.__setattr__(dataset, "train_x", images)
        return dataset

    monkeypatch.setattr(datasets, "load", with_nan)
    flags = SHORT | {"output_dir": tmp_path, "sieve_fraction": 0, "batch_size": 50}
    assert train.main([f"--{name}={value}" for name, value in flags.items()]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Training stops at step ")
    assert "the inputs of sample id 5." in line


@pytest.mark.parametrize(
    "sent, said", [(signal.SIGTERM, "told to stop by SIGTERM"), (signal.SIGINT, "interrupted")]
)
def test_a_run_that_is_told_to_stop_ends_with_a_status_of_its_own(
    tmp_path, monkeypatch, capsys, no_export, sent, said
):
    end = results.Recorder.on_epoch_end

    def terminated(self, epoch, logs=None):
        end(self, epoch, logs)
        if epoch == 2:
            os.kill(os.getpid(), sent)

    # A process in the background of a shell may have been told to ignore it.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    given = [f"--{name}={value}" for name, value in (SHORT | {"output_dir": tmp_path}).items()]
    with monkeypatch.context() as patch:
        patch.setattr(results.Recorder, "on_epoch_end", terminated)
        assert train.main(given) == errors.STOPPED == 75
    signal.signal(signal.SIGINT, ignored)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stopped: {said}; `--resume` goes on from the last ")
    assert signal.getsignal(signal.SIGTERM) is before
    assert train.main([*given, "--resume"]) == 0
    assert "Resuming after epoch 2" in capsys.readouterr().out
