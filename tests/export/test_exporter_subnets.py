import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from spfde_keras.export import PRECISIONS, conversion, export_tflite, exporter, run_tflite
from spfde_keras.layers import MaskedDense
from spfde_keras.sparsify import densify, sparsify
from spfde_keras.training import SparseModel

SHAPE = (8, 8, 1)
NAMES = ("subnet_90", "subnet_50", "subnet_5")
SHARED = "hidden"

pytestmark = pytest.mark.usefixtures("no_kit")


def conv_net():
    inputs = layers.Input(SHAPE, name="image")
    x = inputs
    for _ in range(2):
        x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(512, activation="relu", name=SHARED)(x)
    return keras.Model(inputs, layers.Dense(40, name="classifier")(x))


def subnets_of(plain, sparsity=(0.9, 0.5, 0.05)):
    """A model whose sub-nets are far apart: each has its own statistics and masks."""
    model = sparsify(plain, sparsity=sparsity, dense=("first", "last", SHARED))
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 2, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(size=variable.shape))
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return subnets_of(conv_net())


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(1).random((20, *SHAPE), dtype="float32")


def only(path):
    return [entry.name for entry in path.parent.iterdir()] == [path.name]


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def expected(model, samples):
    return [densify(model, subnet=k).predict(samples, verbose=0) for k in range(len(NAMES))]


@pytest.mark.parametrize(
    ("precision", "sparse"), [(name, None) for name in PRECISIONS] + [("float32", False)]
)
def test_each_signature_is_its_subnet_and_shared_layers_are_stored_once(
    path, model, samples, expected, precision, sparse
):
    options = {"precision": precision, "sparse": sparse, "representative_data": samples}
    model.activate(1)
    report = export_tflite(model, path, **options)
    assert model.active == 1
    alone = export_tflite(densify(model, subnet=2), path.with_name("alone.tflite"), **options)

    assert report.signatures == NAMES == tuple(model.subnets)
    assert ", ".join(NAMES) in str(report)
    found = [run_tflite(path, samples, signature=name) for name in NAMES]
    errors = np.array([[error(f, e) for e in expected] for f in found])
    assert errors.diagonal().max() < {"float32": 1e-5, "float16": 2e-3}.get(precision, 0.05)
    assert errors[~np.eye(3, dtype=bool)].min() > 0.15
    verified = [error(f[:16], e[:16]) for f, e in zip(found, expected, strict=True)]
    assert report.max_error == pytest.approx(max(verified), rel=0.3)

    content = path.read_bytes()
    shared = [model.get_layer(name).kernel.numpy() for name in (SHARED, "classifier")]
    weight_bytes = {"float32": 4, "float16": 2}.get(precision, 1)
    assert len(content) < 3 * alone.bytes - 1.9 * weight_bytes * sum(k.size for k in shared)
    if precision == "float32":
        assert [content.count(kernel.T.tobytes()) for kernel in shared] == [1, 1]


def test_a_signature_takes_one_sample_and_keeps_the_names_of_a_single_file(path, model):
    export_tflite(model, path)
    interpreter = Interpreter(str(path))
    names = {"inputs": ["image"], "outputs": ["output_0"]}
    assert interpreter.get_signature_list() == dict.fromkeys(NAMES, names)
    for name in NAMES:
        details = interpreter.get_signature_runner(name).get_input_details()
        assert details["image"]["shape_signature"].tolist() == [1, *SHAPE]


def test_several_inputs_and_outputs_keep_their_names(path):
    numbers = layers.Input((4,), name="b-first")
    tokens = layers.Input((3,), dtype="int32", name="a_second")
    x = layers.Dense(16, name=SHARED)(numbers)
    z = layers.BatchNormalization()(layers.Dense(16)(x))
    y = layers.Flatten()(layers.Embedding(5, 2)(tokens))
    plain = keras.Model([numbers, tokens], {"z": layers.Dense(2)(z), "y": layers.Dense(2)(y)})
    model = subnets_of(plain, sparsity=[0.5, 0.75])
    x = [np.ones((3, 4), "float32"), np.array([[0, 1, 2], [3, 4, 0], [1, 1, 1]])]
    export_tflite(model, path, representative_data=[x])

    for k, name in enumerate(model.subnets):
        outputs = run_tflite(path, {"b_first": x[0], "a_second": x[1]}, signature=name)
        expected = densify(model, subnet=k)(x)
        assert outputs.keys() == expected.keys()
        for key in outputs:
            np.testing.assert_allclose(outputs[key], expected[key], atol=1e-6)


def test_mixed_precision_models_become_float32_files(path, samples):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = subnets_of(conv_net(), sparsity=[0.5, 0.9])
        export_tflite(model, path)
    finally:
        keras.config.set_dtype_policy("float32")
    for k, name in enumerate(model.subnets):
        found = run_tflite(path, samples, signature=name)
        assert found.dtype == "float32"
        assert error(found, densify(model, subnet=k).predict(samples, verbose=0)) < 1e-2


@pytest.mark.parametrize("failure", ["last sub-net broken", "sub-nets mixed up"])
def test_a_file_with_a_wrong_signature_gets_no_name(path, model, monkeypatch, failure):
    path.write_bytes(b"older")
    export_the_models = exporter.convert_models

    def export_others(models, *args):
        if failure == "sub-nets mixed up":
            first, second, third = models.values()
            models = dict(zip(NAMES, (first, third, second), strict=True))
        else:
            for variable in models["subnet_5"].trainable_variables:
                variable.assign(-variable)
        return export_the_models(models, *args)

    monkeypatch.setattr(exporter, "convert_models", export_others)
    with pytest.raises(RuntimeError, match="outputs of subnet_50? are off by .* of their scale"):
        export_tflite(model, path)
    assert only(path) and path.read_bytes() == b"older"


def test_a_subnet_that_gives_nan_is_refused_before_conversion(path, monkeypatch):
    model = subnets_of(conv_net())
    offset = next(variable for variable in model.variables if variable.name == "beta")
    offset.assign(np.where(np.arange(3)[:, None] == 1, np.nan, offset))
    monkeypatch.setattr(exporter, "convert_models", None)
    with pytest.raises(ValueError, match="Keras model itself gives NaN"):
        export_tflite(model, path)
    assert not path.exists()


def test_subnets_of_one_name_are_refused_before_conversion(path, monkeypatch):
    # `sparsify` makes no such model.
    inputs = layers.Input((8,))
    model = SparseModel(inputs, MaskedDense(2, sparsity=[0.5, 0.5])(inputs))
    monkeypatch.setattr(exporter, "convert_models", None)
    with pytest.raises(ValueError, match="sub-nets of different sparsity.*densify.model, subnet=k"):
        export_tflite(model, path)
    assert not path.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_in_the_folder_for_temporary_files(
    path, model, tmp_path_factory, monkeypatch, fails
):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    if fails:

        def convert(*args, **kwargs):
            assert any(folder.iterdir())
            raise RuntimeError("no")

        monkeypatch.setattr(conversion, "convert", convert)
        with pytest.raises(RuntimeError, match="failed: no"):
            export_tflite(model, path)
    else:
        export_tflite(model, path)
    assert list(folder.iterdir()) == []


def test_sub_nets_inside_of_another_model_are_refused(tmp_path):
    """They would be one of them, without a name."""
    layers = [keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(3))]
    inner = sparsify(keras.Sequential(layers), [0.5, 0.75], initial="random")
    x = keras.Input((8,))
    model = keras.Model(x, keras.layers.Softmax()(inner(x)))
    with pytest.raises(ValueError, match="must not hold a model of several sub-nets"):
        export_tflite(model, tmp_path / "model.tflite")
