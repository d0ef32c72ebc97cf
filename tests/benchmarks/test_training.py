"""Tests of the benchmark of full training runs, on a net that takes seconds."""

import json
import threading

import pytest

from benchmarks import training

NAMES = ["dense Keras", "SpFDE", "SpFDE, zeros computed"]


def test_each_way_trains_in_turns(tmp_path, capfd):
    path = tmp_path / "training.json"
    options = ["--model=small_cnn", "--train_samples=320", "--epochs=6", "--freeze_reduction=0.1"]
    assert training.main([*options, "--json", str(path)]) == 0
    results = json.loads(path.read_text())
    printed = capfd.readouterr().out
    assert list(results["variants"]) == NAMES and all(name in printed for name in NAMES)
    dense, *others = results["variants"].values()
    assert dense["times_faster"] == dense["flops_share"] == 1
    for result in others:
        # One for each epoch, one for what comes after the last.
        assert len(result["turns"]) == 7
        assert result["seconds"] == pytest.approx(sum(result["turns"]))
        assert 0 < result["flops_share"] < 0.3
        assert result["test_accuracy"] > 0.3
    assert others[0]["training_flops"] == others[1]["training_flops"]
    assert dense["test_accuracy"] > 0.5


def test_a_plan_out_of_reach_is_refused_before_any_epoch(capfd):
    options = ["--model=tiny_cnn", "--train_samples=64", "--epochs=2"]
    assert training.main(options) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: `freeze` must be at most")


def test_one_at_a_time_in_the_given_order():
    turns, order = training.Turns(["a", "b", "c"]), []

    def run(name, times):
        turns.take(name)
        for _ in range(times):
            order.append(name)
            turns.pass_on(name)
            turns.take(name)
        turns.pass_on(name, again=False)

    threads = [
        threading.Thread(target=run, args=item) for item in zip("cab", (1, 3, 2), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert "".join(order) == "abcaba"
    assert [len(turns.seconds[name]) for name in "abc"] == [4, 3, 2]


def test_a_failure_stops_only_its_own_thread(monkeypatch):
    done = []

    def fail(callbacks):
        raise ValueError("no such thing")

    ways = {
        "bad": training.Training(None, fail, None),
        "good": training.Training(None, lambda callbacks: done.append(True), None),
    }
    with pytest.raises(ValueError, match="no such thing"):
        training.train(ways)
    assert done == [True]


@pytest.mark.parametrize(
    "option, message",
    [("--sparsity=1.5", "must be a number in [0, 1)"), ("--model=lenet", "`model` must be one of")],
)
def test_what_cannot_be_trained_is_refused(option, message, capfd):
    assert training.main([option]) == 2
    assert message in capfd.readouterr().err
