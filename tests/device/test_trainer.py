"""On LiteRT a run has the masks, the samples and the frozen blocks that it has in Keras."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.device import Trainer
from spfde_keras.masking import find_masks
from spfde_keras.sieve.policies import Circular
from tests.device.nets import LOSS, App

L = keras.layers
EPOCHS, SAMPLES, BATCH = 8, 40, 8


def net(cut=None):
    keras.utils.set_random_seed(0)  # before layers are made: they draw their seeds
    layers = [
        keras.Input((6,)),
        *[L.Dense(16, name="a"), L.BatchNormalization(name="norm"), L.ReLU()],
        *[L.Dense(16, activation="relu", name="b"), L.Dense(16, activation="relu", name="c")],
        L.Dense(3, activation="softmax", name="d"),
    ]
    model = spfde_keras.sparsify(keras.Sequential(layers, name="net"), 0.75, dense=("d",))
    for layer in model.layers[:3] if cut else ():
        layer.trainable = False
    return model


def sgd():
    return keras.optimizers.SGD(0.1, momentum=0.9)


def samples():
    random = np.random.default_rng(0)
    return random.random((SAMPLES, 6), "float32"), random.integers(3, size=SAMPLES).astype("int32")


def callback(updater="mest_ems", seed=3, **settings):
    sieve = spfde_keras.DataSieve(samples(), 0.2, Circular(0.5), seed=seed)
    settings = {"epochs": EPOCHS, "interval": 2, "freeze": 0.2, "seed": 5} | settings
    return spfde_keras.SpFDE(updater=updater, sieve=sieve, **settings)


def export(path, updater="mest_ems", cut=None, **settings):
    settings = {
        "stages": 2,
        "updater": updater,
        "samples": SAMPLES,
        "sieve": 0.2,
        "exchange": 0.5,
        "seed": 3,
    } | settings
    spfde_keras.export_trainable_tflite(net(cut), path, sgd(), LOSS, BATCH, cut, **settings)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("device") / "trains.tflite")


def compiled(cut=None, rate=0.1):
    model = net(cut)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS, metrics=["accuracy"])
    return model


def check_same(path, updater, cut=None, frozen=2, rate=0.1, **settings):
    """Trains twice, in Keras and on LiteRT."""
    model = compiled(cut, rate)
    of_keras, of_device = callback(updater, **settings), callback(updater, **settings)
    members, data = [], of_keras.sieve.batches(BATCH)
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: members.append(of_keras.sieve.member.numpy())
    )
    expected = model.fit(data, epochs=EPOCHS, callbacks=[of_keras, note], verbose=0).history
    other, found = compiled(cut, rate), []
    trainer = Trainer(path, other, of_device, cut)
    batches = of_device.sieve.batches(BATCH)
    history = trainer.fit(_Noting(batches, lambda: found.append(of_device.sieve.member.numpy())))
    np.testing.assert_array_equal(found, members)
    assert any(not np.array_equal(members[0], later) for later in members)
    for name in ("frozen_blocks", "active_samples"):
        assert [logs[name] for logs in history] == expected[name]
    assert max(expected["frozen_blocks"]) == frozen
    np.testing.assert_allclose(
        [logs["accuracy"] for logs in history], expected["accuracy"], atol=1e-6
    )
    np.testing.assert_allclose([logs["loss"] for logs in history], expected["loss"], rtol=1e-5)
    spfde_keras.load_device_state(other, trainer.state, cut, updater)
    for kept, twin in zip(find_masks(other), find_masks(model), strict=True):
        np.testing.assert_array_equal(kept.read()[1], twin.read()[1])
    for one, twin in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, twin, atol=1e-5)


class _Noting:
    """Data that says when it is read."""

    def __init__(self, data, note):
        self._data, self._note = data, note

    def __iter__(self):
        self._note()
        return iter(self._data)


def test_runs_are_those_of_keras(path):
    check_same(path, "mest_ems")


def test_a_schedule_is_followed(path):
    check_same(path, "mest_ems", rate=keras.optimizers.schedules.CosineDecay(0.1, 40))


@pytest.mark.slow
@pytest.mark.parametrize("updater", ["set", "mest_em"])
def test_runs_of_other_updaters_are_those_of_keras(updater, tmp_path):
    check_same(export(tmp_path / "trains.tflite", updater), updater)


@pytest.mark.slow
@pytest.mark.parametrize("updater", ["set", "mest_ems"])
def test_runs_behind_a_cut_are_those_of_keras(updater, tmp_path):
    path = export(tmp_path / "trains.tflite", updater, cut="norm", stages=1)
    check_same(path, updater, "norm", frozen=2, freeze=0.1)


def test_what_makes_no_sense_changes_nothing(path):
    app = App(path)
    start, (x, y) = app.state, samples()
    step = {"x": x[:BATCH], "y": y[:BATCH], "rate": np.full(4, 0.1, "float32")}
    for ids in (np.arange(BATCH) + SAMPLES, np.arange(BATCH) - 1):
        assert np.isnan(app.train(**step, sample=ids.astype("int32"))["loss"])
    n = 2 * (6 * 16 + 2 * 16 * 16)
    batch = {"x": x[:BATCH], "y": y[:BATCH]}
    numbers, share = np.zeros(n, "float32"), np.full(4, 0.05, "float32")
    for wrong in ({"share": share * np.nan}, {"share": share * 9}, {"random": numbers + np.inf}):
        given = {"share": share, "random": numbers} | wrong
        assert np.isnan(app.mutate(**batch, **given)["stayed"])
    rests = app.member()["member"]
    wrong = {"random": np.full(SAMPLES, np.nan, "float32"), "shuffle": np.zeros(8, "float32")}
    np.testing.assert_array_equal(app.sieve(**wrong)["member"], rests)
    assert np.count_nonzero(rests) == SAMPLES - 8
    np.testing.assert_array_equal(app.state, start)
    assert np.isfinite(app.train(**step, sample=np.arange(BATCH, dtype="int32"))["loss"])


def test_frozen_blocks_stay_as_they_are(path):
    app, (x, y) = App(path), samples()
    model = compiled()
    step = {"x": x[:BATCH], "y": y[:BATCH], "rate": np.full(4, 0.1, "float32")}
    app.train_2(**step, sample=np.arange(BATCH, dtype="int32"))
    before = {v.path: np.asarray(v) for v in model.variables}
    spfde_keras.load_device_state(model, app.state, updater="mest_ems")
    changed = {v.path.split("/")[-2] for v in model.variables if (before[v.path] != v).any()}
    assert changed == {"c", "d"}


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"freeze": None, "updater": "rigl"}, '"set", "mest_em"'),
        ({"updater": "mest_ems", "epochs": None}, "`callback` must be given `epochs`"),
        ({"update_steps": 2}, "at boundaries alone. Received: update_steps=2"),
        ({"seed": 4}, "the same ones at rest .* seed=4"),
        ({"updater": "set"}, "of this model, of the same `cut` and of the callback's updater"),
        ({"updater": "static"}, "of this model, of the same `cut` and of the callback's updater"),
        ({"freeze": spfde_keras.Freezing(0.35, share=0.9), "interval": 1}, "must have 3 stages"),
    ],
)
def test_files_that_cannot_do_what_is_planned_are_refused(path, settings, said):
    with pytest.raises(ValueError, match=said):
        Trainer(path, compiled(), callback(**settings))


@pytest.mark.parametrize(
    "kind, said",
    [
        ("remainder", r"batches of 8 samples: x of shape \(8, 6\). Received: \(5, 6\)"),
        ("once", "batches each time that it is read, once an epoch. Received: none in epoch 2"),
        ("plain", "`data` must be `sieve.batches.*Received: no batches of a sieve"),
        ("labels", "`data` must give finite losses. Received: nan in epoch 1; labels may be no"),
        ("weights", r"`data` must give \(x, y\), .* no weights of samples. Received: batches of 3"),
    ],
)
def test_data_that_does_not_fit_is_refused(path, kind, said):
    plan = callback()
    trainer, (x, y) = Trainer(path, compiled(), plan), samples()
    batches = plan.sieve.batches(9 if kind == "remainder" else BATCH)
    if kind == "remainder":
        batches = (batch for batch in batches if len(batch[1]) == 5)
    if kind == "once":
        batches = iter(list(batches))
    if kind == "plain":
        batches = [(x[:BATCH], y[:BATCH])]
    if kind == "labels":
        batches = [(inputs, labels + 3) for inputs, labels in batches]
    if kind == "weights":
        batches = [(*batch, np.ones(BATCH, "float32")) for batch in batches]
    with pytest.raises(ValueError, match=said):
        trainer.fit(batches)


def test_models_that_are_not_compiled_are_refused(path):
    model = compiled()
    model.optimizer = None
    for use in (spfde_keras.device.settings_for, lambda *given: Trainer(path, *given)):
        with pytest.raises(ValueError, match="`model` must be compiled"):
            use(model, callback())


def test_labels_of_other_types_and_shapes_are_taken(path):
    plan = callback(epochs=4, interval=1, freeze=None)
    labels = [(x, y.numpy().astype("int64")[:, None]) for x, y in plan.sieve.batches(BATCH)]
    history = Trainer(path, compiled(), plan).fit(labels)
    assert np.isfinite(history[-1]["loss"]) and history[0]["active_samples"] == 32


def test_settings_are_those_that_a_file_needs():
    settings = spfde_keras.device.settings_for(compiled(), callback())
    assert settings.pop("updater").get_config() == spfde_keras.updaters.MESTEMS().get_config()
    exported = {"stages": 2, "samples": SAMPLES, "sieve": 0.2, "exchange": 0.5, "seed": 3}
    assert settings == exported
    # Blocks that the user has frozen are none of the file's.
    behind = spfde_keras.device.settings_for(compiled(cut="norm"), callback(freeze=0.1))
    assert behind["stages"] == 1


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    model = compiled()
    spfde_keras.export_tflite(model, path, tolerance=1e-3)
    with pytest.raises(ValueError, match="that `export_trainable_tflite` wrote"):
        Trainer(path, model, callback())


def test_inputs_of_another_shape_are_refused(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4, 6, 3)), L.Flatten(), L.Dense(8), L.Dense(8), L.Dense(2)]
    model = spfde_keras.sparsify(keras.Sequential(layers), 0.5)
    model.compile("sgd", LOSS)
    path = tmp_path / "trains.tflite"
    spfde_keras.export_trainable_tflite(model, path, "sgd", LOSS, 4)
    trainer = Trainer(path, model, spfde_keras.SpFDE(1, "static"))
    x, y = np.zeros((4, 4, 6, 3), "float32"), np.zeros(4, "int32")
    with pytest.raises(ValueError, match=r"x of shape \(4, 4, 6, 3\). Received: \(4, 3, 4, 6\)"):
        trainer.fit([(x.transpose(0, 3, 1, 2), y)])
    trainer.fit([(x, y)])
    with pytest.warns(UserWarning, match="Training starts over, after 1 steps"):
        trainer.fit([(x, y[:, None])])


def test_a_block_that_the_user_has_frozen_in_the_middle_is_refused():
    model = compiled()
    model.get_layer("b").trainable = False
    model.compile(sgd(), LOSS)
    with pytest.raises(ValueError, match="`model` must train all blocks behind .* 'b' is frozen"):
        spfde_keras.device.settings_for(model, callback())
    settings = spfde_keras.device.settings_for(model, callback(freeze=None))
    assert settings["stages"] == 0
