"""What the benchmarks share: settings, tables, runtimes."""

import pytest

from benchmarks import report, step_time


def test_table_is_aligned(capsys):
    report.print_table(["", "s"], [["dense", "0.5"], ["x", "10.25"]])
    assert capsys.readouterr().out == "           s\ndense    0.5\nx      10.25\n"


def test_settings_are_all_options_but_the_file():
    options = step_time.Options(steps=9, json="result.json")
    assert report.settings(options) == {
        "model": "resnet32",
        "width": 2.0,
        "sparsity": 0.9,
        "batch_size": 64,
        "steps": 9,
    }


def test_runtimes_must_be_installed(monkeypatch):
    monkeypatch.setattr(report, "available_runtimes", lambda: ["wasm"])
    assert report.check_installed(["wasm"]) == ("wasm",)
    with pytest.raises(ValueError, match="^not installed: arm64. Run `make mobile-kit`$"):
        report.check_installed(["wasm", "arm64"])
