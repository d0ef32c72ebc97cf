"""Runs that are killed, and go on; states that are damaged."""

import os
import shutil
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras import DataSieve, Resume, SpFDE, sparsify
from spfde_keras.kernels import choice
from spfde_keras.resume import callback, folder, states
from spfde_keras.resume.folder import MARK
from spfde_keras.resume.settings import UNKNOWN
from tests.interruptions import BreakOff

EPOCHS = 6
INDEX, DATA = "state.index", "state.data-00000-of-00001"


class Killed(BaseException):
    pass


def make(
    width=12, optimizer="adam", updater="rigl", epochs=EPOCHS, sieve_seed=0, freeze=None,
    activation="relu", rate=0.1, sparsity=0.75, from_logits=True, fraction=0.25,
):  # fmt: skip
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [keras.Input((8,))]
        + [keras.layers.Dense(width, activation=activation, name=f"dense{i}") for i in range(3)]
        + [keras.layers.Dropout(rate), keras.layers.Dense(3)]
    )
    model = sparsify(net, sparsity)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
    rng = np.random.default_rng(1)
    data = rng.random((40, 8)), rng.integers(0, 3, 40)
    sieve = DataSieve(data, fraction=fraction, seed=sieve_seed)
    return model, sieve, SpFDE(epochs, updater, interval=1, freeze=freeze, sieve=sieve)


def train(folder, *more, batch_size=16, of_fit=None, **options):
    """Trains as a new process does; returns the model and all that must be equal."""
    keras.utils.clear_session(free_memory=False)
    model, sieve, sparse = make(**options)
    resume = Resume(folder)
    model.fit(
        sieve.batches(batch_size),
        epochs=sparse.epochs,
        callbacks=[resume, *more, sparse],
        **{"verbose": 0, "shuffle": False} | (of_fit or {}),
    )
    values = [*model.variables, *sieve.variables, *model.optimizer.variables]
    return [v.numpy() for v in values], resume.history, sparse.training_flops


def assert_equal(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert found[1:] == expected[1:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Killed):
        train(folder, BreakOff(4, 1, Killed))
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """The states of a run that was killed in its fifth epoch."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_killed_again_and_again_equals_one_that_was_not(tmp_path):
    whole = train(tmp_path / "whole", freeze=0.1)
    for epoch, batch in [(0, 0), (2, 1), (5, 1)]:
        with pytest.raises(Killed):
            train(tmp_path / "states", BreakOff(epoch, batch, Killed), freeze=0.1)
    assert_equal(train(tmp_path / "states", freeze=0.1), whole)
    assert names(tmp_path / "states") == ["epoch-0005", "epoch-0006", MARK]
    assert whole[1][-1]["frozen_blocks"] > 0 and len(whole[1]) == EPOCHS


def test_what_is_complete_is_not_trained_again_and_says_so(whole, tmp_path):
    train(tmp_path)
    with pytest.warns(UserWarning, match="Nothing is left to train: .* a run of 6 epochs"):
        assert_equal(train(tmp_path), whole)


@pytest.mark.parametrize(
    ("file", "how"),
    [
        (DATA, "flipped"),
        (INDEX, "flipped"),
        (DATA, "cut"),
        (INDEX, "missing"),
        (INDEX, "another"),
    ],
)
def test_a_damaged_state_is_named_and_the_one_before_taken(whole, stopped, file, how):
    path = stopped / "epoch-0004" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    changed = {
        "flipped": content,
        "cut": content[:-7],
        "another": (stopped / "epoch-0003" / file).read_bytes(),
    }
    path.write_bytes(changed[how]) if how in changed else path.unlink()
    with pytest.warns(UserWarning, match="epoch-0004 is damaged .*after epoch 3 is taken") as told:
        assert_equal(train(stopped), whole)
    (line,) = (str(one.message) for one in told if one.category is UserWarning)
    assert len(line.replace(str(stopped), "")) < 400 and "\n" not in line


def test_a_state_under_another_epochs_name_is_damaged(whole, stopped):
    shutil.rmtree(stopped / "epoch-0004")
    shutil.copytree(stopped / "epoch-0003", stopped / "epoch-0004")
    with pytest.warns(UserWarning, match=r"epoch-0004 is damaged \(it is of epoch 3\)"):
        assert_equal(train(stopped), whole)


def test_without_a_whole_state_nothing_begins(stopped):
    for epoch in (3, 4):
        (stopped / f"epoch-000{epoch}" / "state.index").write_bytes(b"no")
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="No state .* is whole.*epoch-0004 is .*epoch-0003 is"):
        train(stopped)
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 13}, "Received: model.dense0.units was 12, is 13$"),
        ({"activation": "tanh"}, "model.dense0.activation was 'relu', is 'tanh'"),
        ({"rate": 0.5}, "model.dropout.rate was 0.1, is 0.5"),
        ({"sparsity": 0.7}, "model.dense0.sparsity.kernel was 0.75, is 0.7"),
        ({"optimizer": "sgd"}, "optimizer.class_name was 'Adam', is 'SGD'"),
        ({"optimizer": keras.optimizers.Adam(0.5)}, "optimizer.learning_rate was 0.001, is 0.5"),
        ({"from_logits": False}, "loss.from_logits was True, is False"),
        ({"fraction": 0.5}, "sieve.fraction was '10 of 40 samples', is '20 of 40 samples'"),
        ({"batch_size": 8}, "sieve.batch_size was 16, is 8"),
        ({"of_fit": {"class_weight": {0: 2.0}}}, "fit.class_weight was None, is {'0': 2.0}"),
        ({"of_fit": {"initial_epoch": 1}}, "`initial_epoch` must be 4, the epochs in .*: 1"),
        ({"updater": "set"}, r"same settings. Received: updater was RigL.*, is SET"),
        ({"epochs": 7}, "epochs was 6, is 7"),
        ({"sieve_seed": 1}, "sieve.seed was 0, is 1"),
    ],
)
def test_another_model_or_other_settings_are_refused(stopped, options, message):
    with pytest.raises(ValueError, match=message):
        train(stopped, **options)
    assert names(stopped) == ["epoch-0003", "epoch-0004", MARK]


def test_another_model_is_refused_where_none_describes_itself(stopped, monkeypatch):
    parts = dict.fromkeys(["model", "optimizer", "loss", "loss_weights", "sieve"], UNKNOWN)
    monkeypatch.setattr(callback, "configuration", lambda *_: parts | {"fit": {}})
    with pytest.raises(ValueError, match=r"'dense0/kernel' with shape .*\(8, 13\).* \(8, 12\)"):
        train(stopped, width=13)


def test_states_of_earlier_versions_are_taken(whole, tmp_path, monkeypatch):
    def without(self, path, facts):
        return save(self, path, {name: facts[name] for name in facts if name != "configuration"})

    with monkeypatch.context() as patch, pytest.raises(Killed):
        save = callback.Checkpoint.save
        patch.setattr(callback.Checkpoint, "save", without)
        train(tmp_path, BreakOff(4, 1, Killed))
    assert_equal(train(tmp_path), whole)


def test_what_only_watches_may_differ(stopped):
    watching = keras.callbacks.CSVLogger(stopped.parent / "log.csv")
    with pytest.raises(Killed):
        options = {"verbose": 2, "initial_epoch": 4, "validation_data": (np.ones((2, 8)), [0, 1])}
        train(stopped, watching, BreakOff(4, 0, Killed), of_fit=options)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 2}, "fit.steps was 1, is 2"),
        ({"steps_per_epoch": 2}, "fit.steps was 1, is 2"),
    ],
)
def test_other_steps_are_refused_without_masks_too(tmp_path, changed, message):
    def fit(**options):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        model.compile("sgd", "mse")
        data = {"x": np.ones((4, 8)), "y": np.ones((4, 4)), "verbose": 0}
        model.fit(**data, **options, callbacks=[Resume(tmp_path)])

    fit(epochs=1)
    with pytest.raises(ValueError, match=message):
        fit(epochs=2, **changed)
    fit(epochs=2)


@pytest.mark.parametrize("name", ["notes.txt", "epoch-0001", "writing"])
def test_a_folder_of_something_else_is_refused_and_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"`folder` must be empty, .*which holds '{name}'"):
        train(tmp_path)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_something_else_in_a_folder_of_states_is_refused_and_stays(stopped):
    (stopped / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="which holds 'notes.txt'"):
        train(stopped)
    assert (stopped / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("folder", ["", 3, None, "gs://bucket/run"])
def test_a_folder_is_a_path_on_this_machine(folder):
    with pytest.raises(ValueError, match="`folder` must be the path of a folder on this machine"):
        Resume(folder)


def test_a_second_process_is_refused_and_the_first_goes_on(whole, tmp_path):
    program = (
        "import runpy, sys\n"  # without TensorFlow, which takes long to import
        "try: runpy.run_path(sys.argv[1])['OwnFolder'](sys.argv[2], '.*').open()\n"
        "except ValueError as error: print(error)"
    )

    class Second(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                command = [sys.executable, "-c", program, folder.__file__, str(tmp_path)]
                self.said = subprocess.run(command, capture_output=True, text=True).stdout

    second = Second()
    assert_equal(train(tmp_path, second), whole)
    assert "must be of one run at a time" in second.said and str(tmp_path) in second.said
    command = [sys.executable, "-c", program, folder.__file__, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), None])
def test_a_full_disk_is_one_line_and_the_state_before_stays(whole, tmp_path, monkeypatch, error):
    def full(*_):
        raise error or tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                where = (states, "flush") if error else (tf.train.Checkpoint, "write")
                patch.setattr(*where, full)

    with monkeypatch.context() as patch, pytest.raises(OSError) as raised:
        train(tmp_path, Fill())
    assert "state after epoch 4 cannot be written" in str(raised.value)
    assert "(No space left on device)" in str(raised.value)
    assert names(tmp_path) == ["epoch-0002", "epoch-0003", MARK]
    assert_equal(train(tmp_path), whole)


def test_choices_of_kernels_are_part_of_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "_of_run", {"one": 2.0})
    with pytest.raises(Killed):
        train(tmp_path, BreakOff(1, 0, Killed))
    monkeypatch.setattr(choice, "_of_run", {"one": 0.5, "two": 1.5})
    with pytest.raises(Killed):
        train(tmp_path, BreakOff(1, 0, Killed))
    assert choice.choices() == {"one": 2.0, "two": 1.5}


def test_other_kernels_than_before_are_a_warning(stopped, monkeypatch):
    monkeypatch.setattr(callback, "_kernels_in_use", lambda: "sparse")
    with pytest.raises(Killed), pytest.warns(UserWarning, match="'sparse' here, and were 'off'"):
        train(stopped, BreakOff(4, 0, Killed))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"`folder` must be a folder that can be written.*file"):
        train(tmp_path / "file" / "states")


def test_a_folder_may_lie_elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    kept = states.States(tmp_path / "link")
    kept.open()
    kept.write(1, lambda path: (path / "weights").write_text("..."))
    assert names(tmp_path / "elsewhere") == ["epoch-0001", MARK]
    kept.remove()
    assert names(tmp_path) == ["elsewhere", "link"] and not names(tmp_path / "elsewhere")


def test_what_callbacks_change_is_kept_in_whatever_order(tmp_path):
    class Halve(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / 2 ** (epoch + 1)

    with pytest.raises(Killed):
        train(tmp_path, BreakOff(2, 0, Killed), Halve())
    model, sieve, sparse = make()
    rates = []
    rate = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    callbacks = [Resume(tmp_path), rate, sparse]
    model.fit(sieve.batches(16), epochs=EPOCHS, verbose=0, shuffle=False, callbacks=callbacks)
    assert rates[0] == pytest.approx(0.025)


def test_models_without_masks_resume_too(tmp_path):
    def fit(folder, *more):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        model.compile("adam", "mse")
        resume = Resume(folder)
        history = model.fit(
            np.ones((4, 8)), np.ones((4, 4)), epochs=4, verbose=0, callbacks=[*more, resume]
        )
        assert len(resume.history) == 4
        fit.epochs = history.epoch
        resume.discard()
        return model.get_weights()

    expected = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "parts", BreakOff(2, 0, Killed))
    for one, other in zip(fit(tmp_path / "parts"), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert fit.epochs == [2, 3]
    assert not any(tmp_path.iterdir())


def test_a_model_that_is_not_built_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(4)])
    model.compile("adam", "mse")
    resume = Resume(tmp_path)
    resume.set_model(model)
    with pytest.raises(ValueError, match="must be built before `fit`"):
        resume.on_train_begin()


def test_a_later_fit_is_not_the_resumed_one(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    data = np.ones((4, 8)), np.ones((4, 4))
    model.fit(*data, epochs=2, verbose=0, callbacks=[Resume(tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(*data, epochs=3, verbose=0, callbacks=[Resume(tmp_path)])
    assert model.fit(*data, epochs=2, verbose=0).epoch == [0, 1]


def test_it_is_public():
    assert spfde_keras.Resume is callback.Resume
    assert os.fspath(Resume(os.path.join("a", "b"))._states.path) == os.path.join("a", "b")
