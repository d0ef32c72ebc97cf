"""What cannot become a file that trains is refused by name, before it is converted."""

import re

import keras
import pytest

import spfde_keras
from spfde_keras.device import exporter
from tests.device.nets import LOSS

L = keras.layers


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Says why an export is refused; fails where it is not."""
    monkeypatch.setattr(exporter, "convert", lambda *_: pytest.fail("it was converted"))

    def refused(model, optimizer="sgd", loss=LOSS, **settings):
        with pytest.raises(ValueError) as refusal:
            path = tmp_path / "trains.tflite"
            spfde_keras.export_trainable_tflite(model, path, optimizer, loss, 4, **settings)
        return str(refusal.value)

    return refused


def net(*layers, shape=(8, 8, 3), **settings):
    body = [keras.Input(shape), *layers, L.Flatten(), L.Dense(4)]
    return keras.Sequential(body, **settings)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (L.Dropout(0.5, name="drop"), r"layer 'drop' \(Dropout\) needs .*Random"),
        (L.GaussianNoise(0.5, name="noise"), r"layer 'noise' \(GaussianNoise\) needs .*Random"),
        (
            L.UpSampling2D(2, interpolation="bilinear", name="up"),
            r"layer 'up' \(UpSampling2D\) needs ResizeBilinearGrad",
        ),
        (L.SpectralNormalization(L.Conv2D(2, 3, name="c")), "change, when they are called, .*c/k"),
    ],
)
def test_layers(refused, layer, said):
    assert re.search(said, refused(net(L.Conv2D(3, 3), layer)))


def test_volumes_and_loops(refused):
    volumes = net(L.Conv3D(2, 3, name="volume"), shape=(4, 4, 4, 1))
    assert "layer 'volume' (Conv3D) needs Conv3D," in refused(volumes)
    loops = net(L.LSTM(4, name="loop"), shape=(6, 2))
    assert "layer 'loop' (LSTM) needs" in refused(loops)


def test_models(refused):
    a, b = keras.Input((4,)), keras.Input((4,))
    assert "2 inputs and 1 outputs" in refused(keras.Model([a, b], L.Dense(2)(L.Add()([a, b]))))
    several = spfde_keras.sparsify(net(L.Dense(8)), [0.5, 0.75])
    assert "one sub-net. Received: subnet_50, subnet_75" in refused(several)
    assert "fixed input shapes" in refused(
        keras.Sequential([keras.Input((None, 3)), L.Dense(2), L.GlobalMaxPooling1D(), L.Dense(4)])
    )
    assert "float32. Received: {'half': 'float16'}" in refused(
        net(L.Dense(2, dtype="mixed_float16", name="half"))
    )
    still = net(L.Dense(2))
    still.trainable = False
    assert "weights that are trained" in refused(still)

    class Mine(keras.Model):
        def train_step(self, data):
            return {}

    assert "must have been called once" in refused(keras.Model())
    x = keras.Input((4,))
    assert "Mine, which overrides train_step" in refused(Mine(x, L.Dense(2)(x)))


def test_optimizers(refused):
    optimizers, model = keras.optimizers, net(L.Dense(2))
    schedule = optimizers.schedules.CosineDecay(0.1, 10)
    assert "a number as its learning rate" in refused(model, optimizers.SGD(schedule))
    assert "SGD with gradient_accumulation_steps" in refused(
        model, optimizers.SGD(gradient_accumulation_steps=2)
    )
    assert "Adam with use_ema" in refused(model, optimizers.Adam(use_ema=True))
    decays = optimizers.SGD(weight_decay=0.1)
    decays.exclude_from_weight_decay(var_names=["bias"])
    assert "SGD after exclude_from_weight_decay" in refused(model, decays)
    assert "a Keras optimizer that wraps no other, or its name" in refused(
        model, optimizers.LossScaleOptimizer(optimizers.SGD())
    )


def test_losses(refused):
    assert "`loss` must be a Keras loss" in refused(net(L.Dense(2)), loss="no such loss")


def test_masks_that_cannot_change(refused):
    model = spfde_keras.sparsify(net(L.Dense(8), L.Dense(8)), 0.5)
    for optimizer in ("muon", "adafactor"):
        said = refused(model, optimizer, updater="set")
        assert "`updater` must be None where an optimizer, or a constraint, sees whole" in said
    blocks = spfde_keras.sparsify(net(L.Dense(8), L.Dense(8)), 0.5, scheme="block:4")
    assert "not kept one by one. Received: scheme" in refused(blocks, updater="set")
    assert "nothing that is trained has a mask" in refused(net(L.Dense(8)), updater="set")


def test_samples_that_cannot_be_counted(refused):
    model = net(L.Dense(8))
    assert "`samples` must be 0 where the loss does not" in refused(model, loss="mse", samples=9)
    assert "`sieve` must be 0 where no `samples` are counted" in refused(model, sieve=0.2)
    assert "`sieve` must be a share that leaves samples" in refused(model, samples=2, sieve=0.9)


def test_stages(refused):
    model = net(L.Dense(8))
    assert "`stages` must be an integer of at least 0 and less than 2" in refused(model, stages=2)
