"""What tests of files that train share: one file of a small net, and an app that runs it."""

import keras
import numpy as np
import pytest

import spfde_keras
from tests.device.nets import LOSS, App, small_cnn


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A report, and the model that it is about."""
    keras.utils.set_random_seed(0)
    path, model = tmp_path_factory.mktemp("device") / "trains.tflite", small_cnn()
    before = model.get_weights()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    report = spfde_keras.export_trainable_tflite(model, path, optimizer, LOSS, batch_size=8)
    assert all(map(np.array_equal, model.get_weights(), before))
    return report, model


@pytest.fixture
def app(exported):
    return App(exported[0].path)
