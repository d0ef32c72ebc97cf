"""State that is saved with a model and is not part of it."""

import keras

from spfde_keras.state import SavedState


class Progress(SavedState):
    def __init__(self):
        super().__init__(name="progress")
        self.epochs = self.variable("epochs", (), "int64")


def model():
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    net.progress = Progress()
    return net


def test_it_is_saved_and_restored_with_the_model(tmp_path):
    saved, restored = model(), model()
    saved.progress.epochs.assign(7)
    saved.save_weights(tmp_path / "model.weights.h5")
    restored.load_weights(tmp_path / "model.weights.h5")
    assert restored.progress.epochs == 7
    assert restored.progress.epochs.path == "progress/epochs"


def test_it_is_none_of_the_models_weights():
    net = model()
    assert [weight.name for weight in net.weights] == ["kernel", "bias"]
    assert [weight.name for weight in net.trainable_variables] == ["kernel", "bias"]
