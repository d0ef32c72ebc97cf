"""What the benchmarks share: settings, tables, runtimes."""

import dataclasses
import json

import pytest

from apps import program
from benchmarks import report, step_time

TABLE = report.Table(["", "s"], [["dense", "0.5"], ["x", "10.25"]], "one core", ["s: seconds"])


def test_table_is_aligned():
    assert TABLE.aligned() == "one core\n           s\ndense    0.5\nx      10.25\ns: seconds"


def test_table_in_markdown():
    assert TABLE.markdown() == "|  | s |\n| --- | --- |\n| dense | 0.5 |\n| x | 10.25 |"


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


@dataclasses.dataclass(frozen=True)
class _Options(program.Options):
    """Of a benchmark of a run, on data in a folder."""

    steps: int = program.option(15, "timed steps")
    rounds: int = program.option(7, "rounds")
    data_dir: str | None = program.option(None, "folder")
    child: str | None = program.option(None, "in this process")
    run: str | None = program.option(None, "of a run", positional=True)
    json: str | None = program.option(None, "file", written=True)


def tables(found):
    return {
        "seconds": report.Table(["", "s"], [[n, f"{s[0]}"] for n, s in found["seconds"].items()])
    }


def test_results_say_how_they_are_made_again_without_places_of_this_machine(tmp_path, capsys):
    path = tmp_path / "result.json"
    options = _Options(rounds=9, data_dir="/data", child="x", run="/runs/one", json=str(path))
    report.finish(options, {"seconds": {3: (1.5,)}}, tables, leave_out=["child"])
    found = json.loads(path.read_text())
    assert found["command"] == "python benchmarks/test_report.py --rounds=9 --data_dir=DIR RUN"
    assert found["settings"] == {"steps": 15, "rounds": 9, "data_dir": "DIR", "run": "RUN"}
    assert found["seconds"] == {"3": [1.5]}
    # Tables are made of what the file holds.
    assert capsys.readouterr().out == "     s\n3  1.5\n"
    assert set(found) == {
        *("command", "settings", "machine", "versions", "commit", "date", "seconds")
    }
    assert str(tmp_path) not in path.read_text() and "/data" not in path.read_text()


def test_without_a_file_tables_are_printed_all_the_same(capsys):
    report.finish(_Options(), {"seconds": {3: (1.5,)}}, tables)
    assert "1.5" in capsys.readouterr().out
