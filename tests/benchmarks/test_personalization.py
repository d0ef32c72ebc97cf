"""Tests of the comparison of ways to adapt, on a net that takes seconds."""

import json

import numpy as np
import pytest

from benchmarks import personalization


def test_a_way_is_measured(tmp_path, capfd):
    path = tmp_path / "ways.json"
    flags = ["--ways=last layer", "--width=0.25", "--desk_epochs=2", "--samples=4", "--epochs=4"]
    assert personalization.main([*flags, "--batch_size=8", f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    (run,) = found["ways"]["last layer"]
    assert run["steps"] == 4 * 40 // 8 and run["state_bytes"] < run["bytes"]
    assert run["before"]["new"] == 0 and run["before"] != run["after"]
    assert "last layer" in capfd.readouterr().out and found["settings"]["samples"] == 4


def test_the_desk_has_no_new_digits_and_no_sample_of_the_device():
    options = personalization.Options()
    train, device, test = personalization.data(options, seed=0)
    assert set(train[1]) == set(range(8)) and set(device[1]) == set(test[1]) == set(range(10))
    assert np.bincount(device[1]).tolist() == [options.samples] * 10
    images = {x.tobytes() for x in train[0]}
    assert not any(x.tobytes() in images for x in device[0])


@pytest.mark.parametrize("flag", ["--samples=1", "--rate=0", "--ways=other", "--seeds=0"])
def test_what_cannot_be_measured_is_refused(flag, capfd):
    assert personalization.main([flag]) == 2
    assert f"`{flag[2:].split('=')[0]}` must be" in capfd.readouterr().err
