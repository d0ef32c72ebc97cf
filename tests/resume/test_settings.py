"""Settings that must be the same where a run goes on."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.resume.settings import _text, check_same, configuration, first_difference


def test_what_differs_is_named():
    before = {"epochs": "6", "seed": "0", "old": "1"}
    with pytest.raises(ValueError) as raised:
        check_same(before, {"epochs": "7", "seed": "0", "new": "2"})
    assert str(raised.value) == (
        "A run must be resumed with the same settings. Received: epochs was 6, is 7; old was 1, "
        "is None; new was None, is 2"
    )
    check_same(before, dict(before))


def test_addresses_do_not_count():
    assert _text([object()]) == _text([object()]) == "[<object object>]"


class Block(keras.layers.Layer):
    """Like most of users', it does not describe what is inside."""

    def __init__(self, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.dropout = keras.layers.Dense(4), keras.layers.Dropout(rate)

    def call(self, x):
        return self.dropout(self.dense(x)) + x


def described(rate=0.1, inner_rate=0.1, **compile_arguments):
    inputs = keras.Input((4,))
    hidden = Block(inner_rate)(keras.layers.Dense(4)(inputs)) + inputs
    hidden = keras.layers.Dropout(rate)(keras.layers.Lambda(lambda x: 2 * x)(hidden))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    attention = keras.layers.MultiHeadAttention(2, 4)
    hidden = attention(keras.layers.Reshape((1, 4))(inner(hidden)), hidden[:, None])
    model = spfde_keras.sparsify(keras.Model(inputs, hidden), 0.5, dense=())
    model.compile(**{"optimizer": "adam", "loss": "mse"} | compile_arguments)
    return configuration(model)


@pytest.fixture(scope="module")
def before():
    return described()


def test_numbers_that_a_process_gives_do_not_count(before):
    assert described() == before
    other = described(optimizer=keras.optimizers.Adam(name="other"), metrics=["mae"])
    assert first_difference(before, other) is None


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"rate": 0.2}, "model.dropout.rate was 0.1, is 0.2"),
        ({"inner_rate": 0.2}, "model.block.rate was 0.1, is 0.2"),
        ({"optimizer": "adamw"}, "optimizer.class_name was 'Adam', is 'AdamW'"),
        ({"loss": "mae"}, "loss was 'mse', is 'mae'"),
        ({"loss": lambda y, y_pred: y_pred}, "loss was 'mse', is 'lambda'"),
        ({"loss_weights": [2.0]}, "loss_weights was None, is [2.0]"),
        (
            {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())},
            "optimizer.class_name was 'Adam', is 'LossScaleOptimizer'",
        ),
    ],
)
def test_the_first_difference_is_named(before, options, difference):
    assert first_difference(before, described(**options)) == difference


def test_rates_that_callbacks_have_changed_do_not_count():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    before = configuration(model)
    model.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    model.optimizer.learning_rate = 0.25
    assert first_difference(before, configuration(model)) is None
    model.compile(keras.optimizers.SGD(0.25), "mse")
    assert "learning_rate was 0.5, is 0.25" in first_difference(before, configuration(model))


def test_long_differences_are_short():
    assert first_difference({"a": [1] * 9}, {"a": [1] * 8}) == "a had 9 parts, has 8"
    line = first_difference({"a": "x" * 999}, {"a": "x" * 998})
    assert len(line) < 300 and line.count("...") == 2
