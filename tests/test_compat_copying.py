"""Each hook into what Keras does not publish, to copy layers, works, as seen in Keras 3.15.1."""

import keras
import numpy as np
import pytest

from spfde_keras import compat, compat_copying

L = keras.layers
SEEN = f"seen in Keras 3.15.1, this is {keras.__version__}"


def test_own_attributes_are_those_that_not_every_layer_has():
    """Keras: what `Layer.__init__`, `compile` and `fit` set; TensorFlow: `_self_...`."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self._self_named, self.dense = 3, L.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 2)), verbose=0)
    model.predict(np.ones((2, 2)), verbose=0)
    assert set(compat_copying.own_attributes(model)) == {"_self_named", "dense"}, SEEN
    assert "_kernel" in compat_copying.own_attributes(model.dense), SEEN


def test_a_blank_layer_has_the_settings_and_no_weights():
    """Keras: `Layer.__new__` makes what `__init__` does not need to be called for."""
    dense = L.Dense(2, dtype="mixed_float16", activity_regularizer="l2", name="fc")
    dense.build((None, 3))
    made = compat_copying.blank_like(dense)
    assert type(made) is L.Dense and not made.weights and made is not dense
    for name in ("name", "path", "built", "dtype_policy", "activity_regularizer"):
        assert getattr(made, name) is getattr(dense, name), SEEN
    assert made.get_build_config() == dense.get_build_config(), SEEN


def test_weights_are_listed_in_the_same_order():
    """Keras: `Layer._tracker` and the lists it fills, of which `weights` are made."""
    dense = L.Dense(2)
    dense.build((None, 3))
    made = compat_copying.blank_like(dense)
    made.bias, made._kernel = keras.Variable(np.zeros(2)), keras.Variable(np.zeros((3, 2)))
    pairs = {id(dense.bias): made.bias, id(dense.kernel): made._kernel}
    compat_copying.share_out(dense, made, lambda value: pairs[id(value)])
    assert made.weights == [made._kernel, made.bias], SEEN
    with pytest.raises(ValueError, match="cannot add new elements"):
        made.other = keras.Variable(1.0)


def test_a_copied_variable_is_another_one_of_the_same_path():
    """Keras: `Variable._path` and flags; of a `tf.Variable` it would keep the object."""
    layer = L.Dense(2, name="fc", kernel_constraint="non_neg")
    layer.build((None, 3))
    layer.kernel.trainable = False
    made = compat_copying.copy_variable(layer.kernel)
    for name in ("path", "name", "trainable", "constraint", "dtype"):
        assert getattr(made, name) == getattr(layer.kernel, name), SEEN
    made.assign(np.zeros((3, 2)))
    assert np.asarray(layer.kernel).any(), SEEN
    compat.rename_variable(made, "a/b")
    assert made.path == "a/b" and layer.kernel.path == "fc/kernel", SEEN


def test_a_flag_is_set_without_those_inside():
    """Keras: `Layer._trainable`, of which `Layer.trainable` sets those inside, too."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(4), L.Dense(2)])
    compat_copying.set_trainable_flag(model, False)
    assert not model.trainable and model.layers[-1].trainable, SEEN


def test_wrapped_containers_become_plain_ones():
    """Keras: `TrackedList`, `TrackedDict`, `TrackedSet` wrap what is set as an attribute."""
    layer = L.Layer()
    layer.listed, layer.named, layer.several = [1], {"a": 1}, {1}
    for value, kind in ((layer.listed, list), (layer.named, dict), (layer.several, set)):
        assert type(value) is not kind and compat_copying.empty_container(value) == kind(), SEEN
        assert type(compat_copying.empty_container(value)) is kind, SEEN
