"""What never changes in a training is a line, and nothing else is."""

import re
import warnings

import keras
import numpy as np
import pytest

from spfde_keras import AlternatingSparseTraining, DataSieve, SpFDE, sparsify, wrap
from spfde_keras.masking import find_masks
from spfde_keras.sieve.policies import Circular, OneTime
from spfde_keras.standstill import warn_of_few_units, warn_of_few_visits, warn_of_standstill
from spfde_keras.timeline import Timeline
from spfde_keras.updaters import ACDC, MESTEMS, SET, Magnitude, PruneAndRegrow, Static


def said(epochs, interval, updater=None, data_stop=None, policy=None):
    masks_stop = 0.0 if updater is None else updater.stop
    timeline = Timeline(epochs, interval, masks_stop, data_stop)
    sieve = policy and DataSieve((np.zeros((10, 2)), np.zeros(10)), policy=policy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_standstill(timeline, updater, sieve)
    return [str(warning.message) for warning in caught]


def test_an_interval_as_long_as_training_changes_nothing():
    assert said(4, 10, SET(), policy="circular") == [
        "Masks never change: 4 epochs with interval 10 leave no update before the end; a shorter "
        "`interval` does.",
        "The samples in training never change: 4 epochs with interval 10 leave no update before "
        "the end; a shorter `interval` does.",
    ]
    for updater in (MESTEMS(), Magnitude(), PruneAndRegrow()):
        assert len(said(4, 4, updater)) == 1
    assert said(1, 1, SET()) == [
        "Masks never change: 1 epoch with interval 1 leave no update before the end."
    ]


def test_a_stop_before_the_first_update_leaves_none():
    assert said(4, 1, SET(stop=0.2)) == [
        "Masks never change: none of the updates, every 1 of 4 epochs (`interval`), comes before "
        "the updater's `stop`, 0.2."
    ]
    assert said(8, 2, SET(), data_stop=0.1, policy="circular") == [
        "The samples in training never change: none of the updates, every 2 of 8 epochs "
        "(`interval`), comes before `data_stop`, 0.1; a shorter `interval` does."
    ]
    (line,) = said(5, 4, MESTEMS(), policy="circular")
    assert line.startswith("The samples") and "before the updater's `stop`, 0.75; " in line
    (line,) = said(4, 1, SET(), data_stop=0.5, policy=OneTime(at=0.6))
    assert line.endswith("comes before `data_stop`, 0.5, from 0.6 of training on.")
    (line,) = said(10, 4, SET(), policy=OneTime(at=0.9))
    assert "comes before the end, from 0.9 of training on; a shorter" in line


@pytest.mark.parametrize(
    ("updater", "data_stop", "policy"),
    [
        (SET(stop=0.3), None, "circular"),
        (MESTEMS(stop=0.2), None, None),  # drops what its bound has let grow
        (Magnitude(stop=0.2), None, None),  # prunes all at once
        (Static(), None, "circular"),
        (None, None, "one_time"),
        (SET(), 0.0, "circular"),
        (SET(), 0.5, OneTime(at=0.5)),
        (SET(stop=0.3), None, OneTime(at=0.75)),
    ],
)
def test_what_changes_or_is_not_to_is_no_line(updater, data_stop, policy):
    assert said(4, 1, updater, data_stop, policy) == []


def model(sparsity):
    dense = [keras.layers.Dense(8) for _ in range(3)]
    made = keras.Sequential([keras.Input((4,)), *dense])
    made = wrap(made) if sparsity is None else sparsify(made, sparsity)
    made.compile("sgd", "mse")
    return made


@pytest.mark.parametrize(
    ("callback", "sparsity", "lines"),
    [
        (SpFDE(interval=10), 0.5, 1),
        (AlternatingSparseTraining(interval=2), [0.5, 0.75], 1),
        (SpFDE(), 0.5, 0),
        (SpFDE(interval=10), None, 0),
        (SpFDE(interval=10, updater="static"), 0.5, 0),
    ],
)
def test_fit_says_it_once(callback, sparsity, lines):
    x, y = np.zeros((8, 4)), np.zeros((8, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(sparsity).fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    found = [
        w
        for w in caught
        if re.match("(Masks|The samples in training) never change", str(w.message))
    ]
    assert len(found) == lines


@pytest.mark.parametrize(
    ("epochs", "interval", "stop", "policy", "often"),
    [
        (12, 1, 0.75, "circular", "once"),
        (12, 2, 0.75, Circular(0.5), "twice"),
        (12, 3, 0.75, "circular", None),
        (11, 1, 0.75, "circular", None),  # 3 epochs would leave two updates
        (12, 1, 0.5, "circular", None),
        (12, 1, 0.75, "one_time", None),  # counts from the start
    ],
)
def test_a_ranking_by_one_bit_is_a_line_where_there_is_room_for_more(
    epochs, interval, stop, policy, often
):
    sieve = DataSieve((np.zeros((10, 2)), np.zeros(10)), policy=policy)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few_visits(Timeline(epochs, interval, stop), sieve)
    lines = [str(warning.message) for warning in caught]
    assert len(lines) == (often is not None)
    if often:
        assert f"seen {often} between" in lines[0] and lines[0].endswith(f"Received: {interval}")


def test_a_sieve_that_sets_nothing_aside_ranks_nothing():
    sieve = DataSieve((np.zeros((10, 2)), np.zeros(10)), fraction=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few_visits(Timeline(12, 1, 0.75), sieve)


@pytest.mark.parametrize(("interval", "lines"), [(1, 1), (None, 0)])
def test_fit_says_so_of_an_interval_that_was_given(interval, lines):
    sieve = DataSieve((np.zeros((8, 4)), np.zeros((8, 8))), correct=lambda y, y_pred: y[:, 0] > 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = SpFDE(12, "set", interval, sieve=sieve)
        model(0.5).fit(sieve.batches(8), epochs=12, verbose=0, shuffle=False, callbacks=[callback])
    assert sum("by one bit" in str(w.message) for w in caught) == lines


def test_phases_that_no_update_meets_are_told():
    (line,) = said(10, 1, ACDC())
    assert line == (
        "Updates of masks are 0.1 of training apart, and phases of ACDC take 0.05: some are passed "
        "over. Give it a longer `phase`, or training more epochs."
    )
    assert said(40, 4, ACDC())[0].endswith("more epochs, or a shorter `interval`.")
    assert said(20, 1, ACDC()) == said(10, 1, ACDC(phase=0.1)) == []


@pytest.mark.parametrize("scheme", ["filter", "channel", "unstructured"])
def test_units_too_few_to_exchange_one_are_told(scheme):
    net = [keras.layers.Conv2D(size, 3, name=f"of{size}") for size in (16, 64, 32)]
    model = sparsify(keras.Sequential([keras.Input((9, 9, 16)), *net]), 0.9, scheme, dense=())
    kernels = [mask.subnets[0] for mask in find_masks(model)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few_units(Timeline(8, 1, 0.75), MESTEMS(), kernels)
        warn_of_few_units(Timeline(8, 1, 0.75), SET(0.9), kernels)
        warn_of_few_units(Timeline(8, 1, 0.75), Static(), kernels)
    said = [str(one.message).partition(": by")[0] for one in caught]
    few = {"filter": 1, "channel": 2, "unstructured": 0}[scheme]
    told = f"Masks of {few} of 3 kernels never change, such as that of 'of16/kernel'"
    assert said == [told] * bool(few)
