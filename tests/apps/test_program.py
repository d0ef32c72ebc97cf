"""What programs share: options from flags, statuses, one line for an error, whole files."""

import dataclasses
import json
import os
import subprocess
import sys
import warnings

import pytest

from apps import errors, flag_help, program
from apps.program import Options, option


@dataclasses.dataclass(frozen=True)
class Timing(Options):
    steps: int = option(15, "timed steps", least=1, topic="timing")
    share: float | None = option(None, "a share", least=0, below=1)
    kind: str = option("new", "the kind", choices=("new", "old"), topic="what is timed")
    sizes: tuple[int, ...] = option((8, 16), "sizes", several=int, least=2)
    more: bool = option(False, "more of them")
    json: str | None = option(None, "the file", written=True)
    folders: tuple[str, ...] = option((), "folders", several=str, positional=True)


def test_flags_are_given_in_each_way(tmp_path):
    path = tmp_path / "result.json"
    arguments = ["a", "--steps", "9", "--more", "--share=0", "b", "--sizes=4,2", f"--json={path}"]
    assert program.parse(Timing, arguments) == Timing(
        steps=9, more=True, share=0.0, sizes=(4, 2), json=str(path), folders=("a", "b")
    )
    assert program.parse(Timing, []) == Timing()
    assert Timing().sizes == (8, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps=0"], "`steps` must be an integer of at least 1. Received: 0"),
        (["--steps=1.5"], "flag --steps=1.5"),
        (["--share=1"], "`share` must be a number in [0, 1). Received: 1.0"),
        (["--share=90"], "`share` must be a number in [0, 1). Received: 90.0; 90 % is 0.9"),
        (["--flagfile=no/such"], "`flagfile` must be a file that can be read. Received: no/such"),
        (["--share=-1"], "`share` must be a number in [0, 1). Received: -1.0"),
        (["--share=nan"], "`share` must be a number in [0, 1). Received: nan"),
        (["--share=much"], "flag --share=much"),
        (["--kind=odd"], "`kind` must be one of new, old. Received: odd"),
        (["--sizes=2,1"], "`sizes` must be an integer of at least 2. Received: 1"),
        (["--sizes=2,x"], "`sizes` must be numbers separated by commas. Received: 2,x"),
        (["--json=no/such/folder/a.json"], "`json` must be a file in a folder that can be"),
        (["--json=."], "`json` must be a file in a folder that can be written. Received: ."),
        (["--unknown"], "Unknown command line flag 'unknown'"),
    ],
)
def test_wrong_command_lines_are_one_line_and_status_2(capsys, arguments, message):
    assert program.run(pytest.fail, Timing, "", arguments) == errors.MISUSED == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_what_is_no_flag_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Plain(Options):
        run: str | None = option(None, "a folder", positional=True)

    assert program.parse(Plain, ["a"]).run == "a"
    with pytest.raises(ValueError, match="must be flags, as --name=value. Received: b c"):
        program.parse(Plain, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, 2), (RuntimeError, 1), (FileNotFoundError, 1)]
)
def test_known_errors_are_one_line_with_a_status(capsys, error, status):
    def main(options):
        raise error("all\n  wrong")

    assert program.run(main, Timing, "", []) == status
    assert capsys.readouterr().err == "error: all wrong\n"


def test_each_of_several_reasons_has_a_line(capsys):
    def main(options):
        raise RuntimeError("two are\nwrong:\n- the  first\n- the second\n  of them")

    assert program.run(main, Timing, "", []) == errors.FAILED
    printed = capsys.readouterr().err
    assert printed == "error: two are wrong:\n- the first\n- the second of them\n"


def test_a_warning_is_one_line(capsys):
    def main(options):
        warnings.warn("not\n  good", stacklevel=1)

    assert program.run(main, Timing, "", []) == 0
    assert capsys.readouterr().err == "warning: not good\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        program.run(lambda options: 1 / 0, Timing, "", [])


def test_help_has_topics_and_defaults_in_front(capsys):
    assert program.run(pytest.fail, Timing, "Times steps.", ["--help"]) == 0
    assert capsys.readouterr().out == (
        "Times steps.\n"
        "\n"
        "timing\n"
        "  --steps=15                  timed steps\n"
        "  --share=                    a share\n"
        "\n"
        "what is timed\n"
        "  --kind=new                  the kind (new, old)\n"
        "  --sizes=8,16                sizes\n"
        "  --more=false                more of them\n"
        "  --json=                     the file\n"
    )


def test_help_wraps_what_is_long():
    @dataclasses.dataclass(frozen=True)
    class Long(Options):
        a_name_that_leaves_no_room: str = option("the_default", "what " * 30)

    flag, *said = flag_help.flag_help(Long, program.text).splitlines()
    assert flag == "  --a_name_that_leaves_no_room=the_default"
    assert len(said) > 1
    assert all(line.startswith(" " * 30) and len(line) <= 100 for line in said)


@pytest.mark.parametrize("arguments", ["apps.train --help", "apps --help"])
def test_a_reader_that_leaves_is_no_failure(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", *arguments.split()], stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (errors.FAILED, b"")


def test_other_broken_pipes_are_reported(capfd):
    assert errors.report(BrokenPipeError(32, "Broken pipe")) == errors.FAILED
    assert capfd.readouterr().err == "error: [Errno 32] Broken pipe\n"


def test_json_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    program.write_json(path, {"a": [1, 2]})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    with pytest.raises(TypeError):
        program.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]


QUIET = """
import apps, importlib.util, sys
importlib.util.find_spec("tensorflow")
assert "tensorflow" not in sys.modules
import tensorflow as tf
tf.constant(1.0)
print(tf.__spec__.loader.get_filename("tensorflow"), file=sys.stderr)
"""


def test_programs_say_nothing_of_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", QUIET],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.endswith("__init__.py\n") and done.stderr.count("\n") == 1
