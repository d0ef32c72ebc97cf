"""Each hook into what Keras does not publish, to trace updates, works, as seen in Keras 3.15.1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import compat_updates

SEEN = f"seen in Keras 3.15.1, this is {keras.__version__}"


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Nadam"])
def test_updates_of_optimizers_are_caught(name):
    """Keras: what `TFOptimizer` overrides of `BaseOptimizer`; `KerasVariable._value`."""
    variables = [keras.Variable([1.0, 2.0]), keras.Variable([3.0])]
    optimizer = getattr(keras.optimizers, name)(0.5, weight_decay=0.1)
    optimizer.build(variables)
    state = [(v, v.value + 0) for v in [*variables, *optimizer.variables]]
    gradients = [tf.constant([0.5, 0.25]), tf.constant([1.0])]
    with compat_updates.catching_updates(), keras.StatelessScope(state) as scope:
        optimizer.apply(gradients, variables)
    caught = [np.asarray(scope.get_current_value(v)) for v, _ in state]
    for v, value in state:
        np.testing.assert_array_equal(v, value, SEEN)
    optimizer.apply(gradients, variables)
    for value, (v, _) in zip(caught, state, strict=True):
        np.testing.assert_allclose(value, v, rtol=1e-6, err_msg=SEEN)


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [({}, False), ({"var_names": ["bias"]}, True), ({"var_list": 1}, True)],
)
def test_weights_left_out_of_decay_are_seen(left_out, expected):
    """Keras: `Optimizer._exclude_from_weight_decay`, and `..._pattern`."""
    optimizer = keras.optimizers.SGD(weight_decay=0.1)
    if "var_list" in left_out:
        left_out = {"var_list": [keras.Variable([1.0])]}
    optimizer.exclude_from_weight_decay(**left_out)
    assert compat_updates.leaves_out_of_decay(optimizer) is expected, SEEN
