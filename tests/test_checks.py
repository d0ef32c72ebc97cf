"""One check for each kind of value. `test_bad_values.py` tries them where they are used."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from spfde_keras import DataSieve, Freezing, SpFDE, checks, sparsify


def net():
    dense = [keras.layers.Dense(4) for _ in range(3)]
    return keras.Sequential([keras.Input((4,)), *dense])


@pytest.mark.parametrize(
    "make",
    [
        lambda: sparsify(net(), 20),
        lambda: sparsify(net(), [0.5, 20]),
        lambda: DataSieve((np.zeros((10, 4)), np.zeros(10)), fraction=20),
        lambda: SpFDE(freeze=20),
        lambda: Freezing(20),
    ],
)
def test_the_share_that_was_meant_is_told(make):
    with pytest.raises(ValueError, match=r"Received: 20; 20 % is 0\.2$"):
        make()


def test_other_numbers_are_no_per_cent():
    with pytest.raises(ValueError, match=r"Received: -1$"):
        sparsify(net(), -1)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), np.float16(0.5)])
def test_numbers(value):
    found = checks.number("x", value)
    assert found == 0.5 and type(found) is float


@pytest.mark.parametrize("value", [3, np.int8(3), np.array(3), np.uint64(3)])
def test_whole_numbers(value):
    found = checks.whole("x", value)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [True, np.True_, np.array(True)])
def test_switches(value):
    assert checks.switch("x", value) is True


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({}, "a finite number"),
        ({"least": 0}, "a finite number of at least 0"),
        ({"above": 0}, "a finite number greater than 0"),
        ({"most": 2}, "a finite number of at most 2"),
        ({"below": 2}, "a finite number less than 2"),
        ({"least": 0, "most": 1}, "a number in [0, 1]"),
        ({"above": 0, "below": 0.5}, "a number in (0, 0.5)"),
    ],
)
def test_the_rule_of_a_number(limits, rule):
    with pytest.raises(ValueError) as refused:
        checks.number("x", "a", **limits)
    assert str(refused.value) == f"`x` must be {rule}. Received: 'a'"


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        ({"least": 0}, [0, 1e300], [-1e-9]),
        ({"above": 0}, [1e-9], [0]),
        ({"most": 1}, [1, -5], [1.1]),
        ({"below": 1}, [0.99], [1]),
    ],
)
def test_limits(limits, good, bad):
    for value in good:
        assert checks.number("x", value, **limits) == value
    for value in [*bad, float("nan"), float("inf"), -float("inf"), True, None]:
        with pytest.raises(ValueError, match="^`x` must be "):
            checks.number("x", value, **limits)


def test_what_is_too_large_for_64_bits():
    with pytest.raises(ValueError, match=r"`x` must be .* and less than 2\*\*63. Received: 92233"):
        checks.whole("x", 2**63)


def test_long_values_are_cut_and_on_one_line():
    with pytest.raises(ValueError) as refused:
        checks.number("x", np.zeros((40, 40)))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    assert checks.folder("x", tmp_path / "new") == str(tmp_path / "new")
    with pytest.raises(ValueError, match="`x` must be the path of a folder. Received: .*is none"):
        checks.folder("x", tmp_path / "file")


def test_it_needs_nothing_but_the_standard_library():
    code = f"import runpy, sys; runpy.run_path({checks.__file__!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert loaded.returncode == 0 and not {"numpy", "keras"} & set(loaded.stdout.split())
