"""Whatever is wrong with an argument is said at once, by its name, before anything begins."""

import inspect

import numpy as np
import pytest

import spfde_keras
from tests import valid_calls
from tests.test_docs import documented, public_names, resolve


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def cases(folder):
    return valid_calls.cases(folder)


def with_arguments() -> dict[str, object]:
    """All public callables that take arguments, by the first of their names."""
    found, seen = {}, set()
    for name, value in {**public_names(), **{path: resolve(path) for path in documented()}}.items():
        value = getattr(value, "__func__", value)
        if id(value) in seen or not callable(value):
            continue
        seen.add(id(value))
        if inspect.signature(value).parameters:
            found[name] = value
    return found


def test_every_public_callable_is_tried(cases):
    names = {name for name in with_arguments() if not name.endswith((".names", ".register"))}
    assert names - set(cases) - valid_calls.MADE_BY_THE_LIBRARY == set()


def test_every_argument_of_them_is_tried(cases):
    for name, value in with_arguments().items():
        if name in cases and not name.endswith(".get"):
            parameters = inspect.signature(value).parameters.values()
            named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            assert named <= set(cases[name].arguments), name


def test_bad_values_are_refused_by_name_before_anything_begins(cases, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    wrong, tried = [], 0
    for name, case in cases.items():
        for argument, label, value in case.tries():
            outcome = case.outcome(argument, value)
            tried += 1
            if outcome != "clear":
                wrong.append(f"{name}({argument}={label}): {outcome}")
    assert not wrong, "\n".join(wrong[:20])
    assert tried > 5000
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before


def test_the_valid_calls_are_valid(cases):
    for name, case in cases.items():
        if "sparse_mode" not in name and name != "spfde_keras.export_tflite":
            case.call(**{argument: valid for argument, (valid, _) in case.arguments.items()})


def test_numbers_of_numpy_are_as_good_as_any():
    callback = spfde_keras.SpFDE(
        epochs=np.int64(4),
        interval=np.array(2),
        seed=np.uint8(3),
        data_stop=np.float32(0.5),
        sieve=spfde_keras.DataSieve((np.zeros((4, 2)), np.arange(4) % 2)),
        freeze=np.float64(0.25),
    )
    assert (callback.epochs, callback.interval, callback.seed) == (4, 2, 3)
    assert callback.timeline.data_stop == 0.5 and callback.freezing.reduction == 0.25
    assert callback.freezing.argument == "freeze"
