"""Methods that move weights from kernel to kernel, in whole trainings."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.masking import find_masks

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 8)).astype("float32"), RNG.integers(0, 3, 64)


def model(initial, sparsity=0.8):
    keras.utils.set_random_seed(0)
    hidden = [L.Dense(16, activation="relu", name=name) for name in "abc"]  # masks go by names
    net = keras.Sequential([keras.Input((8,)), *hidden, L.Dense(3, name="head")])
    sparse = spfde_keras.sparsify(net, sparsity, initial=initial)
    sparse.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return sparse


def train(sparse, updater, epochs=12, callbacks=(), **options):
    training = spfde_keras.SpFDE(updater=updater, interval=1, **options)
    sparse.fit(X, Y, 16, epochs, verbose=0, shuffle=False, callbacks=[training, *callbacks])
    return training


def kept(sparse):
    return [int(np.count_nonzero(mask.read()[1])) for mask in find_masks(sparse)]


@pytest.mark.parametrize("updater", ["dsr", "global_magnitude", "granet"])
def test_kernels_differ_and_the_budget_stays(updater):
    sparse = model("random" if updater == "dsr" else "dense")
    train(sparse, updater)
    assert sum(kept(sparse)) == pytest.approx(0.2 * 640, abs=2)
    assert len(set(round(mask.density, 2) for mask in find_masks(sparse))) > 1
    for mask in find_masks(sparse):
        assert mask.subnets[0].is_settled
        assert 1 - mask.sparsity[0] == pytest.approx(mask.density, abs=0.5 / mask.layout.size)


def test_global_magnitude_ends_with_the_largest_of_all():
    sparse = model("dense")
    before = [m.read()[0].copy() for m in find_masks(sparse)]
    sparse.optimizer.learning_rate = 0.0
    train(sparse, spfde_keras.updaters.GlobalMagnitude(stop=0.5))
    everything = np.sort(np.concatenate([np.abs(one).ravel() for one in before]))
    wanted = [int(np.count_nonzero(np.abs(one) >= everything[-128])) for one in before]
    np.testing.assert_allclose(kept(sparse), wanted, atol=1)


def test_targets_are_saved_with_the_model(tmp_path):
    sparse = model("random")
    train(sparse, "dsr")
    sparse.save(tmp_path / "model.keras")
    loaded = spfde_keras.load_model(tmp_path / "model.keras")
    assert [m.sparsity for m in find_masks(loaded)] == [m.sparsity for m in find_masks(sparse)]
    assert len(set(m.sparsity[0] for m in find_masks(loaded))) > 1


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, killed, resumed = (model("random") for _ in range(3))
    train(whole, "dsr", freeze=0.1)

    class Stop(Exception):
        pass

    def stop(epoch, logs):
        if epoch == 6:
            raise Stop

    breaking = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    with pytest.raises(Stop):
        train(
            killed, "dsr", freeze=0.1, callbacks=[spfde_keras.Resume(tmp_path / "states"), breaking]
        )
    train(resumed, "dsr", freeze=0.1, callbacks=[spfde_keras.Resume(tmp_path / "states")])
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_ac_dc_trains_dense_and_sparse_by_turns():
    sparse, seen = model("dense"), []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(kept(sparse)[0]))
    train(sparse, "ac_dc", epochs=20, callbacks=[note])
    # After each epoch the next one's masks are there: dense up to 2 of 20, then by turns to 16.
    assert seen == [128] + [26, 128] * 7 + [26] * 5
