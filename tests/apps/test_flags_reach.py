"""What flags about methods make of updaters, sieve, blocks, masks and optimizer."""

import keras
import numpy as np
import pytest

from apps import model_parts, parts, training
from apps.config import RunConfig
from spfde_keras import SpFDE, sparsify
from spfde_keras.masking import find_masks
from spfde_keras.schedules import Step
from spfde_keras.updaters import ACDC, MESTEM, MESTEMS, SET, GraNet, Magnitude, PruneAndRegrow, RigL

L = keras.layers
README = Step((0.02, 0.01, 0.0), (0.5625, 0.75))


@pytest.mark.parametrize(
    ("options", "updater"),
    [
        ({"bound": "0.02,0.01,0@0.5625,0.75", "lam": 0.1}, MESTEMS(README, lam=0.1)),
        ({"method": "mest_em", "mutation": 0.3, "stop": 0.5}, MESTEM(0.3, stop=0.5)),
        ({"method": "set", "mutation": "0.3,0.1@0.5"}, SET(Step((0.3, 0.1), (0.5,)))),
        # Its cosine ends where masks come to rest.
        ({"method": "rigl", "stop": 0.5}, RigL(stop=0.5)),
        ({"method": "magnitude", "stop": 1.0}, Magnitude(stop=1.0)),
        ({"method": "ast", "mutation": 0.2}, PruneAndRegrow(0.5, 0.2)),
        ({"method": "joint", "stop": 0.9}, PruneAndRegrow(0.5, stop=0.9)),
        ({"method": "ast", "updater": "granet", "initial_density": 1.0}, GraNet(1.0)),
        ({"method": "prune_and_regrow", "initial_density": 0.7}, PruneAndRegrow(0.7)),
        ({"method": "ast", "ramp_end": 0.2}, PruneAndRegrow(end=0.2)),
        ({"method": "magnitude", "begin": 0.1}, Magnitude(0.1)),
        ({"method": "ac_dc", "warm_up": 0.2, "phase": 0.1}, ACDC(0.2, 0.1)),
    ],
)
def test_updaters(options, updater):
    assert repr(parts.updater(RunConfig(**options))) == repr(updater)


def test_what_does_not_fit_is_refused_in_the_words_of_flags():
    with pytest.raises(ValueError, match="`stop` must be at least `ramp_end`"):
        parts.updater(RunConfig(method="prune_and_regrow", stop=0.5))


def prepared(tmp_path, **options):
    short = {"epochs": 4, "interval": 1, "train_samples": 100, "model": "mlp", "width": 0.25}
    return training.prepare(RunConfig(**(short | options), output_dir=str(tmp_path / "run")))


def test_sieve_masks_optimizer_and_blocks(tmp_path):
    run = prepared(
        tmp_path,
        exchange=0.5,
        initial="magnitude",
        nesterov=True,
        freeze_reduction=0.01,
        freeze_blocks="hidden.*,classifier",
        sparsity=0.8,
    )
    assert run.sieve.policy.share == 0.5
    assert run.model.optimizer.nesterov and not run.model.losses
    names = [[layer.name for layer in block] for block in run.training._blocks]
    assert names[1] == ["classifier"] and len(names[0]) > 1
    for mask in find_masks(run.model):
        kernel, (kept,) = mask.read()
        assert kept.mean() == pytest.approx(0.2, abs=0.01) and (kernel[kept] != 0).all()


@pytest.mark.parametrize(("share", "most"), [(None, 2), (0.3, 1)])
def test_the_share_of_layers_that_freeze(tmp_path, share, most):
    options = {"model": "small_cnn", "epochs": 8, "freeze_reduction": 0.05}
    run = prepared(tmp_path, freeze_share=share, **options)
    assert run.training.freezer.plan.frozen.max() == most


def test_blocks_that_are_none_are_refused_by_the_flags_name(tmp_path):
    with pytest.raises(ValueError, match="`freeze_blocks`"):
        prepared(tmp_path, freeze_blocks="conv.*")


def test_coupled_weight_decay_is_a_part_of_the_gradient():
    """One step of SGD with momentum: w - rate (g + decay w), of kernels alone, masked or not."""
    net = keras.Sequential([keras.Input((5,)), L.Dense(6, name="a"), L.Dense(3, name="b")])
    decaying = model_parts.with_l2(net, 0.1)
    x, y = (np.random.default_rng(0).normal(size=(8, size)) for size in (5, 3))
    steps = []
    for each in (net, decaying):
        model = sparsify(each, 0.5)
        for one, other in zip(model.weights, sparsify(net, 0.5).weights, strict=True):
            np.testing.assert_array_equal(one, other)
        before = [w.numpy() for w in model.trainable_variables]
        model.compile(keras.optimizers.SGD(0.5, momentum=0.9), "mse")
        callback = SpFDE(1, "static")
        model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[callback])
        steps.append([w.numpy() for w in model.trainable_variables])
    for start, plain, decayed in zip(before, *steps, strict=True):
        expected = plain - 0.5 * 0.1 * start if start.ndim == 2 else plain
        np.testing.assert_allclose(decayed, expected, atol=1e-6)


def test_coupled_decay_reaches_the_net_that_trains(tmp_path):
    run = prepared(tmp_path, coupled_weight_decay=1e-3, weight_decay=0.0)
    layers = [layer for layer in run.model.layers if hasattr(layer, "kernel")]
    assert layers and all(layer.kernel_regularizer.l2 == np.float32(5e-4) for layer in layers)
    assert len(run.model.losses) == len(layers)


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_masks_by_scores_of_the_initial_weights(tmp_path, score):
    def masks(**options):
        run = prepared(tmp_path, initial=score, sparsity=0.8, **options)
        return [mask.read()[1][0] for mask in find_masks(run.model)]

    uniform, divided = masks(), masks(distribution="scores")
    assert [kept.mean().round(1) for kept in uniform] == [0.2] * len(uniform)
    assert sum(kept.sum() for kept in divided) == pytest.approx(
        sum(kept.sum() for kept in uniform), abs=2
    )
    assert len({round(float(kept.mean()), 4) for kept in divided}) > 1
    for kept, other in zip(masks(distribution="scores"), divided, strict=True):
        np.testing.assert_array_equal(kept, other)


def test_scores_divide_only_where_there_are_some():
    with pytest.raises(ValueError, match="`distribution` must not be scores without --initial"):
        RunConfig(distribution="scores")
