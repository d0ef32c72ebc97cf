"""A line for each epoch."""

import keras
import pytest

from apps import progress, results

ROW = {
    "epoch": 7.0,
    "loss": 0.25,
    "accuracy": 0.5,
    "val_accuracy": 0.75,
    "sparsity": 0.85,
    "target_sparsity": 0.9,
    "frozen_blocks": 2.0,
    "active_samples": 1150.0,
    "flops_share": 0.125,
    "seconds": 1.25,
}


def test_sparsity_stands_beside_its_target():
    assert progress.epoch_line(ROW, 60).split() == (
        "7/60 0.25 0.5000 0.7500 0.85 of 0.90 2 1150 0.125 1.2 s".split()
    )


def test_several_sub_nets_are_a_range():
    row = ROW | {"val_accuracy/a": 0.75, "val_accuracy/b": 0.5, "val_loss/b": 3.0}
    assert "  0.5000-0.7500  " in progress.epoch_line(row, 60)


def test_the_longest_line_fits():
    row = ROW | {"epoch": 1600, "loss": 1.2345e9, "active_samples": 1281167, "seconds": 3600}
    row |= {"val_accuracy/a": 0.75, "val_accuracy/b": 0.5, "frozen_blocks": 100}
    line = progress.epoch_line(row, 1600)
    assert len(line) <= 100
    assert line.split()[:2] == ["1600/1600", "1.234e+09"]


def test_one_line_an_epoch_below_headings(tmp_path, capsys):
    recorder = results.Recorder(tmp_path / "history.csv")
    callbacks = keras.callbacks.CallbackList([recorder, progress.EpochLines(recorder, 2)])
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch, {"loss": float("nan"), **ROW})
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["epoch", "loss"]
    assert (first.split()[0], second.split()[0]) == ("1/2", "2/2")
    assert len(heading) == len(first) == len(second)


def test_what_is_measured_is_in_the_row_and_not_in_its_time(tmp_path, monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr(results.time, "perf_counter", lambda: next(clock))
    measured = {"val_loss": 0.5, "val_accuracy/subnet_90": 0.75, "val_accuracy": 0.5}
    recorder = results.Recorder(tmp_path / "history.csv", lambda: measured)
    recorder.on_epoch_begin(0)
    recorder.on_epoch_end(0, {"loss": 1.0, "unknown": 3.0})
    (row,) = results.read_history(tmp_path / "history.csv")
    assert row == recorder.rows[0]
    assert list(row) == [
        "epoch", "loss", "val_loss", "val_accuracy", "seconds", "val_accuracy/subnet_90"
    ]  # fmt: skip
    assert row["seconds"] == pytest.approx(2.5)
