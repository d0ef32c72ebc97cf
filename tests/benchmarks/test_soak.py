"""The soak: what it notes, and five minutes of it."""

import json

import pytest

from benchmarks import soak


def test_it_notes_memory_time_and_traces(tmp_path, capfd):
    path = tmp_path / "soak.json"
    assert soak.main(["--minutes=1", "--epochs=12", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["seen"]
    assert found["epochs"] == 12 and found["traces"] >= 2 and found["unexpected_traces"] == 0
    assert found["resident_mib"] > 100
    assert "unexpected traces" in capfd.readouterr().out


def test_growth_is_from_the_first_to_the_last_fifth_behind_the_warm_up():
    watch = soak.Watch(1.0)
    watch.times = list(range(20))
    watch.resident = [50] * 10 + [100, 100, 100, 100, 101, 101, 101, 101, 103, 103]
    watch.cpu = [9.0] * 10 + [1.0] * 8 + [2.0] * 2
    found = soak.summary(watch, 0.5)
    assert found["memory_growth"] == pytest.approx(0.03)
    assert found["slow_down"] == pytest.approx(1.0)


def test_a_step_traced_where_nothing_has_frozen_is_noted():
    watch = soak.Watch(1000.0)
    callback = soak.Watching(watch)
    for epoch, (frozen, traced) in enumerate([(0, 1), (0, 0), (1, 1), (1, 2)]):
        callback.on_epoch_begin(epoch)
        watch.traces += traced
        callback.on_epoch_end(epoch, {"frozen_blocks": frozen})
    assert (watch.traces, watch.unexpected_traces) == (4, 2)


def test_what_cannot_be_is_refused(capfd):
    assert soak.main(["--minutes=0"]) == 2
    assert "`minutes` must be positive. Received: 0.0" in capfd.readouterr().err


@pytest.mark.slow
def test_five_minutes_need_no_more_memory_and_trace_nothing_new(tmp_path):
    path = tmp_path / "soak.json"
    assert soak.main(["--minutes=5", "--json", str(path)]) == 0
    found = json.loads(path.read_text())["seen"]
    assert found["memory_growth"] <= 0.02
    assert found["unexpected_traces"] == 0
