"""What is recorded in whole trainings, and how it is kept."""

import json

import keras
import numpy as np
import pytest

from spfde_keras import (
    AlternatingSparseTraining,
    Analyses,
    DataSieve,
    Freezing,
    Resume,
    SpFDE,
    load_model,
    sparsify,
    wrap,
)
from spfde_keras.masking import find_masks
from tests.interruptions import BreakOff

L = keras.layers
EPOCHS = 6
rng = np.random.default_rng(1)
X, Y = rng.random((40, 8)).astype("float32"), rng.integers(0, 3, 40)


def make(sparsity=0.75, width=12):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [keras.Input((8,))]
        + [L.Dense(width, activation="relu", name=f"dense{i}") for i in range(3)]
        + [L.BatchNormalization(), L.Dropout(0.1), L.Dense(3, name="head")]
    )
    model = wrap(net) if sparsity is None else sparsify(net, sparsity)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.3, momentum=0.9), loss)
    return model


def callback(sparsity=0.75, sieve=None, updater="set", epochs=EPOCHS, interval=2, **options):
    alternates = isinstance(sparsity, list)
    kind = AlternatingSparseTraining if alternates else SpFDE
    updater = "prune_and_regrow" if alternates else updater
    return kind(epochs, updater, interval, sieve=sieve, **options)


def train(sparsity=0.75, more=(), sieved=True, probe=X[:8], analysed=True, of_fit=None, **options):
    """Trains; returns the model and the `Analyses`."""
    model = make(sparsity)
    sieve = DataSieve((X, Y), fraction=0.25) if sieved else None
    training = callback(sparsity, sieve, **options)
    analyses = Analyses(training, probe=probe)
    data = {"x": sieve.batches(8)} if sieve else {"x": X, "y": Y, "batch_size": 8}
    arguments = {"epochs": training.epochs, "verbose": 0, "shuffle": False}
    callbacks = [*([analyses] if analysed else []), *more, training]
    model.fit(callbacks=callbacks, **data | arguments | (of_fit or {}))
    return model, analyses


def array(lists):
    return np.array(lists, "float64")


def assert_holds(found):
    """What holds of each training."""
    shape = len(found["epochs"]), len(found["layers"])
    assert json.loads(json.dumps(found)) == found
    for measures in found["subnets"].values():
        for name in ("density", "similarity", "overlap", "explored", "cka"):
            values = array(measures[name])
            assert values.shape == shape
            assert np.all((values >= 0) & (values <= 1) | np.isnan(values))
        assert set(measures["similarity"][-1]) == set(measures["cka"][-1]) == {1.0}
        assert np.isnan(array(measures["overlap"][0])).all()
        explored, density = array(measures["explored"]), array(measures["density"])
        assert not np.any(np.diff(explored, axis=0) < 0) and not np.any(explored < density)
    assert array(found["gradient_norms"]).shape == shape
    assert sorted(sum(found["blocks"], [])) == list(range(shape[1]))


@pytest.fixture(scope="module")
def analysed():
    return train(updater="mest_ems", freeze=Freezing(0.15))


def test_what_is_recorded(analysed):
    model, analyses = analysed
    found = analyses.result()
    assert_holds(found)
    assert found["version"] == 1
    assert found["epochs"] == [2, 4, 6]
    assert found["layers"] == ["dense0", "dense1", "dense2"]  # the last one is dense
    assert found["blocks"] == [[0], [1], [2], []]
    (measures,) = found["subnets"].values()
    assert list(found["subnets"]) == model.subnets == ["subnet_75"]
    assert measures["density"][-1] == [mask.density for mask in find_masks(model)]
    forgetting = found["forgetting"]
    assert [sum(row) for row in forgetting["histogram"]] == [30] * 3
    assert len(forgetting["easiest"]) == len(set(forgetting["hardest"])) == 16
    assert model.analyses is None


def test_frozen_kernels_have_no_gradient(analysed):
    norms = array(analysed[1].result()["gradient_norms"])
    assert np.isnan(norms[-1]).any() and not np.isnan(norms[0]).any()
    assert np.all(norms[~np.isnan(norms)] > 0)


def test_masks_are_those_that_boundaries_leave():
    kept = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch % 2:
                kept.append([mask.read()[1][0] for mask in find_masks(self.model)])

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 0:
                kept.append([mask.read()[1][0] for mask in find_masks(self.model)])

    _, analyses = train(more=[Look()])
    (measures,) = analyses.result()["subnets"].values()
    start, *kept = kept
    for k in range(3):
        ever = start[k]
        for record in range(3):
            now = kept[record][k]
            ever = ever | now
            assert measures["density"][record][k] == pytest.approx(now.mean(), rel=1e-5)
            assert measures["explored"][record][k] == pytest.approx(ever.mean(), rel=1e-5)
            if record:
                before = kept[record - 1][k]
                expected = (before & now).sum() / (before | now).sum()
                assert measures["overlap"][record][k] == pytest.approx(expected, rel=1e-5)
        assert measures["explored"][-1][k] > 0.25


def test_exploration_counts_masks_within_intervals_too():
    kept = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            kept.append(find_masks(self.model)[0].read()[1][0])

    _, analyses = train(more=[Look()], update_steps=3)
    (measures,) = analyses.result()["subnets"].values()
    ever = np.any(kept, axis=0)
    at_boundaries = np.any(kept[::8], axis=0)
    assert measures["explored"][-1][0] == pytest.approx(ever.mean(), rel=1e-5)
    assert at_boundaries.sum() < ever.sum()


def test_training_is_the_same_with_it(analysed):
    plain, _ = train(updater="mest_ems", freeze=Freezing(0.15), analysed=False)
    for one, other in zip(analysed[0].variables, plain.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("sparsity", [[0.5, 0.75], None])
def test_a_resumed_run_ends_with_the_same(tmp_path, sparsity):
    options = {"sparsity": sparsity, "updater": "static"}
    whole = train(**options)[1].result()
    with pytest.raises(KeyboardInterrupt):
        train(more=[Resume(tmp_path), BreakOff(3, 1)], **options)
    assert train(more=[Resume(tmp_path)], **options)[1].result() == whole


def test_so_does_one_that_was_killed_again_and_again(tmp_path):
    whole = train(updater="rigl")[1].result()
    for epoch in (1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            train(updater="rigl", more=[Resume(tmp_path), BreakOff(epoch, 1)])
    with pytest.raises(ValueError, match="same probe samples.*`probe`"):
        train(updater="rigl", more=[Resume(tmp_path)], probe=X[8:16])
    assert train(updater="rigl", more=[Resume(tmp_path)])[1].result() == whole
    with pytest.warns(UserWarning, match="Nothing is left"):
        assert train(updater="rigl", more=[Resume(tmp_path)])[1].result() == whole


def test_sub_nets_are_recorded_each():
    model, analyses = train([0.5, 0.75])
    found = analyses.result()
    assert_holds(found)
    assert list(found["subnets"]) == model.subnets == ["subnet_50", "subnet_75"]
    for index, name in enumerate(model.subnets):
        densities = [mask.subnets[index].density for mask in find_masks(model)]
        assert found["subnets"][name]["density"][-1] == pytest.approx(densities, rel=1e-5)
    first, second = (array(each["cka"]) for each in found["subnets"].values())
    assert model.active == 0 and np.any(first[0] != second[0])


def test_a_dense_model_has_what_applies():
    _, analyses = train(None, updater="static")
    found = analyses.result()
    assert found["layers"] == ["dense0", "dense1", "dense2", "head"]
    measures = found["subnets"]["dense"]
    assert measures["density"] == [[1.0] * 4] * 3
    assert measures["overlap"] == measures["explored"] == [[None] * 4] * 3
    assert measures["cka"][-1] == measures["similarity"][-1] == [1.0] * 4
    assert np.all(array(found["gradient_norms"]) > 0)
    assert np.all(array(measures["cka"][0]) < 1)


def test_without_probe_and_sieve_there_is_the_rest():
    _, analyses = train(sieved=False, probe=None)
    found = analyses.result()
    assert "forgetting" not in found
    (measures,) = found["subnets"].values()
    assert measures["cka"] == [[None] * 3] * 3
    assert measures["similarity"][-1] == [1.0] * 3


def test_a_training_that_stops_is_recorded_where_it_stops():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    _, analyses = train(more=[Stop()], updater="static")
    found = analyses.result()
    assert found["epochs"] == [2, 3]
    assert found["gradient_norms"][-1] == [None] * 3
    assert found["forgetting"]["histogram"][-1][0] > 0


def test_a_training_that_goes_on_is_recorded_on():
    model, training = make(), SpFDE(updater="set", interval=2)
    analyses = Analyses(training, probe=X[:4])
    given = {"x": X, "y": Y, "verbose": 0, "callbacks": [training, analyses]}
    model.fit(epochs=4, **given)
    before = analyses.result()
    model.fit(epochs=8, initial_epoch=4, **given)
    found = analyses.result()
    assert_holds(found)
    assert found["epochs"] == [2, 4, 6, 8]
    assert found["gradient_norms"][:2] == before["gradient_norms"]
    assert found["subnets"]["subnet_75"]["overlap"][:2] == before["subnets"]["subnet_75"]["overlap"]
    with pytest.warns(UserWarning, match="starts over"):
        model.fit(epochs=2, **given)
    assert analyses.result()["epochs"] == [2]


def test_models_saved_while_it_records_load(tmp_path):
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras", save_freq="epoch")
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_freq="epoch", save_weights_only=True
    )
    model, _ = train(more=[saving, weights])
    expected = [variable.numpy() for variable in model.weights]
    other = make()
    other.load_weights(tmp_path / "6.weights.h5")
    for loaded in (load_model(tmp_path / "6.keras"), other):
        for variable, value in zip(loaded.weights, expected, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value)


def test_it_is_written_as_json(analysed, tmp_path):
    analysed[1].save(tmp_path / "analyses.json")
    assert json.loads((tmp_path / "analyses.json").read_text()) == analysed[1].result()
    assert [path.name for path in tmp_path.iterdir()] == ["analyses.json"]


def test_nothing_to_show_before_fit():
    with pytest.raises(RuntimeError, match="give the callback to `fit` first"):
        Analyses(SpFDE()).result()


def fit(callbacks, model=None, **options):
    (model or make()).fit(X, Y, epochs=2, verbose=0, callbacks=callbacks, **options)


def test_what_is_wrong_is_said_before_the_first_step():
    with pytest.raises(ValueError, match="`training` must be among the callbacks"):
        fit([Analyses(SpFDE()), SpFDE()])
    training = SpFDE()
    with pytest.raises(ValueError, match="`training` must be among the callbacks"):
        model = make()
        analyses = Analyses(training)
        fit(keras.callbacks.CallbackList([analyses, training], model=model, epochs=2), model)
    with pytest.raises(ValueError, match=r"`probe` must be samples as the model.*\[\(4, 5\)\]"):
        fit([training, Analyses(training, probe=np.zeros((4, 5)))])
    with pytest.raises(ValueError, match="`probe` must be an array of at least 2 samples"):
        Analyses(training, probe=X[:1])
    with pytest.raises(ValueError, match="`probe` must be an array of at least 2 samples"):
        Analyses(training, probe=[X[:4], X[:3]])

    class Own(L.Dense):
        """Of a class that no masked form is known of."""

    model = wrap(keras.Sequential([keras.Input((8,)), Own(3)]))
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="need a model with kernels"):
        fit([training, Analyses(training)], model)


def test_what_was_not_analysed_from_the_beginning_is_refused():
    model, training = make(), SpFDE(updater="set")
    fit([training], model)
    with pytest.raises(ValueError, match="cannot follow 0 epochs that were analysed"):
        model.fit(
            X, Y, epochs=4, initial_epoch=2, verbose=0, callbacks=[training, Analyses(training)]
        )
