"""What tells the states of one file from those of another."""

import keras
import numpy as np

import spfde_keras
from spfde_keras.device.contents import contents_of
from spfde_keras.device.cutting import parts_of
from spfde_keras.device.program import program_of
from spfde_keras.device.stages import stages_of
from spfde_keras.device.state import marks


def saved(optimizer, units=4, frozen=1.0, start=0.0):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(units, name="a"),
        keras.layers.Dense(2, name="b"),
    ]
    model = spfde_keras.wrap(keras.Sequential(layers))
    model.get_layer("a").trainable = False
    model.get_layer("a").bias.assign(np.full(units, frozen))
    model.get_layer("b").bias.assign(np.full(2, start))
    plain = spfde_keras.densify(model)
    parts = parts_of(plain, None)
    stages = stages_of(plain, parts, 0)
    program = program_of(contents_of(model, parts), optimizer, None, stages)
    return program.state.save()["state"].numpy()


def test_states_are_marked_by_what_must_be_the_same():
    optimizers = keras.optimizers
    own = saved(optimizers.Adam())[:6].tolist()
    # Neither trained weights, nor the rate, nor the name, which is counted up.
    assert saved(optimizers.Adam(0.5, name="other"), start=2.0)[:6].tolist() == own
    differ = {
        "units": saved(optimizers.Adam(), units=5),
        "frozen weights": saved(optimizers.Adam(), frozen=2.0),
        "settings": saved(optimizers.Adam(beta_1=0.5)),
        "optimizer": saved(optimizers.Lion()),
    }
    assert all(state[:6].tolist() != own for state in differ.values())
    # Of the same model, whatever trains it.
    assert saved(optimizers.Lion())[:2].tolist() == own[:2]


def test_marks_are_exact_in_float32():
    found = np.array([marks(i) for i in range(200)])
    assert found.dtype == "float32" and found.max() < 2**24 and np.all(found == np.round(found))
    assert len({tuple(one) for one in found.tolist()}) == 200
