"""What cannot be exported is refused in one line, before anything is converted."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras.export import export_tflite, exporter
from tests.export.keras_nets import SHAPE, conv_net

IMAGES = np.ones((4, *SHAPE))

pytestmark = pytest.mark.usefixtures("no_kit")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


def reshaped(shape, last=False):
    x = layers.Input((8,), batch_size=4)
    reshaped = keras.ops.reshape(layers.Dense(8)(x), shape)
    return keras.Model(x, reshaped if last else layers.Dense(2)(reshaped))


def averaged():
    x = layers.Input((8,))
    return keras.Model(x, keras.ops.mean(layers.Dense(2)(x)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: reshaped((4, 4, 2)), "no batch size .* calling Reshape"),
        (lambda: reshaped((4, -1), last=True), r"no batch size .* of shape \(4, 2\)"),
        (averaged, r"one output for one sample.*shape \(\)"),
    ],
)
def test_models_that_need_several_samples_are_refused(path, monkeypatch, build, message):
    monkeypatch.setattr(exporter, "convert_models", None)
    with pytest.raises(ValueError, match=message):
        export_tflite(build(), path)


def test_stateful_layers_are_refused_by_name(path, monkeypatch):
    monkeypatch.setattr(exporter, "convert_models", None)
    x = layers.Input((3, 2), batch_size=1)
    model = keras.Model(x, layers.GRU(2, stateful=True, name="memory")(x))
    with pytest.raises(ValueError, match="stateful=False.*'memory'"):
        export_tflite(model, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "`precision` must be one of .*float32.*Received: 'int4'"),
        ({"precision": "int8_dynamic", "sparse": True}, "nor smaller .* Use .*float16"),
        ({"precision": "int8_full", "sparse": True}, "nor smaller .* Use .*float16"),
        ({"precision": "int8_full"}, "`representative_data` must be given"),
        (
            {"representative_data": np.zeros((4, 8, 8))},
            r"\(samples, 8, 8, 1\) for input 'image'",
        ),
        ({"representative_data": np.zeros((0, 8, 8, 1))}, "at least one"),
        ({"representative_data": []}, "at least one"),
        ({"representative_data": 3}, "`representative_data` must be an array"),
        ({"representative_data": np.full((4, 8, 8, 1), np.inf)}, "infinity in batch 0"),
        ({"representative_data": [IMAGES, IMAGES * np.nan]}, "infinity in batch 1"),
        ({"representative_data": np.full((4, 8, 8, 1), 1e300)}, "fit the inputs' dtypes"),
        ({"precision": "int8_dynamic", "mobile": True}, "'float32' or 'float16' with mobile=True"),
        ({"sparse": False, "mobile": True}, "`sparse` must not be False with mobile=True"),
        ({"tolerance": 0}, "`tolerance` must be a finite number greater than 0. Received: 0"),
    ],
)
def test_wrong_arguments_are_refused_before_conversion(path, monkeypatch, arguments, message):
    monkeypatch.setattr(exporter, "convert_models", None)
    path.write_bytes(b"older")
    with pytest.raises(ValueError, match=message):
        export_tflite(conv_net(), path, **arguments)
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.keras", "`path` must end in .tflite"),
        ("missing/model.tflite", "existing, writable folder.*No such file"),
        ("a file/model.tflite", "existing, writable folder.*Not a directory"),
        ("folder.tflite", "must not be a folder"),
    ],
)
def test_wrong_paths_are_refused_before_conversion(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr(exporter, "densify", None)
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "a file").touch()
    with pytest.raises(ValueError, match=message):
        export_tflite(conv_net(), tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a file", "folder.tflite"]


def test_a_read_only_folder_is_refused(path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ValueError, match="writable folder.*Permission denied"):
        export_tflite(conv_net(), path)


def test_models_without_fixed_shapes_are_refused(path):
    inputs = layers.Input((None, None, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ValueError, match="`model` must have fixed input shapes"):
        export_tflite(model, path)
    assert not path.exists()


def test_strings_are_refused_by_name(path):
    word = layers.Input((1,), dtype="string", name="word")
    lookup = layers.StringLookup(vocabulary=["a"], output_mode="one_hot")
    model = keras.Model(word, layers.Dense(2)(lookup(word)))
    with pytest.raises(ValueError, match="put the lookup .* strings for input 'word'"):
        export_tflite(model, path)
    assert not path.exists()
