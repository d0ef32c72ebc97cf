"""What the benchmarks share: arguments, tables, files."""

import argparse
import json

import pytest

from benchmarks import report


def test_table_is_aligned(capsys):
    report.print_table(["", "s"], [["dense", "0.5"], ["x", "10.25"]])
    assert capsys.readouterr().out == "           s\ndense    0.5\nx      10.25\n"


def test_json_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    report.write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        report.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "check, text",
    [
        (report.count, "0"),
        (report.count, "-1"),
        (report.count, "1.5"),
        (report.sparsity, "1"),
        (report.sparsity, "nan"),
        (report.sparsity, "much"),
        (report.json_path, "no/such/directory/result.json"),
        (report.json_path, "."),
    ],
)
def test_arguments_are_refused(check, text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be .* Received: "):
        check(text)


def test_arguments_are_read(tmp_path):
    assert report.count("15") == 15
    assert report.sparsity("0.9") == 0.9
    assert report.json_path(str(tmp_path / "a.json")) == tmp_path / "a.json"
