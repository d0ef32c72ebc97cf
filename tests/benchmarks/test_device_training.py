"""Tests of the benchmark of files that train, on a net that takes seconds."""

import json

import numpy as np

from benchmarks import device_training
from benchmarks.device_training import NETS, Net, timed


def test_each_way_is_measured(tmp_path, capfd, monkeypatch):
    net = Net("tiny_cnn", 0.5, (8, 8, 1), "stem_relu")
    monkeypatch.setattr(device_training, "NETS", {"small_cnn": net})
    monkeypatch.setattr(device_training.os, "sched_setaffinity", lambda *_: None)
    path = tmp_path / "steps.json"
    options = ["--nets=small_cnn", "--batch_size=2", "--rounds=1", f"--json={path}"]
    assert device_training.main(options) == 0
    (ways,) = json.loads(path.read_text())["nets"].values()
    assert set(ways) == {"whole", "cut", "no masks", "Keras, dense", "from features"}
    assert all(found["median_s"] > 0 for found in ways.values())
    assert ways["whole"]["to_whole"] == ways["Keras, dense"]["to_keras"] == 1
    assert ways["whole"]["state_bytes"] < ways["no masks"]["state_bytes"]
    for title in ("whole", "cut", "no masks"):
        assert 0 < ways[title]["state_bytes"] < ways[title]["bytes"] < 2**22
        assert 0 < ways[title]["added_bytes"] < 2**30
    assert "from features" in capfd.readouterr().out


def test_cuts_are_layers_of_their_nets():
    for net in NETS.values():
        model = device_training.models.build(net.model, net.shape, 10, net.width)
        assert model.get_layer(net.cut)


def test_calls_take_turns_and_warm_up_is_left_out():
    order = []
    found = timed({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == list("ab" * 5)
    assert {name: np.size(seconds) for name, seconds in found.items()} == {"a": 3, "b": 3}
