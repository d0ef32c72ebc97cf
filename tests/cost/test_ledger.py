import keras
from keras import layers

from spfde_keras.cost.ledger import Ledger
from spfde_keras.cost.model import profile
from spfde_keras.sparsify import sparsify


def test_ledger():
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    model = sparsify(keras.Model(inputs, layers.Dense(2)(hidden)), 0.75)
    ledger = Ledger(profile(model))
    assert ledger.share == 0
    # MACs per sample, dense: forward 16 + 8, weights 16 + 8, inputs 8; hidden keeps 4 of 16.
    ledger.book_training(samples=5, frozen=0)
    ledger.book_dense(samples=10)
    assert (ledger.spent, ledger.dense) == (5 * 2 * (12 + 12 + 8), 10 * 2 * (24 + 24 + 8))
    # Frozen: forward alone of the front, no gradient of the classifier's inputs.
    ledger.book_training(samples=1, frozen=1)
    assert ledger.spent == 5 * 64 + 2 * (12 + 8)
    before = ledger.spent
    ledger.book_gradient("masked", samples=3, frozen=0)
    assert ledger.spent - before == 3 * 64
    ledger.book_gradient("dense", samples=1, frozen=0)
    assert ledger.spent - before == 3 * 64 + 2 * (12 + 24 + 8)
    before = ledger.spent
    # Given the densities of one sub-net: hidden keeps 8 of 16.
    ledger.book_gradient("masked", samples=1, frozen=0, densities={"hidden/kernel": 0.5})
    assert ledger.spent - before == 2 * (16 + 16 + 8)
    assert ledger.share == ledger.spent / ledger.dense
