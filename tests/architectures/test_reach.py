"""Architectures of others go all the way, from sparsify to an exported file."""

import importlib.util
import pathlib
import re

import keras
import pytest

from tests.architectures import applications, nets, reach

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "architectures.md"
# The share of weights that must have a mask, whatever is left dense.
LEAST = {
    "vision transformer": 0.9,
    "MLP-Mixer": 0.9,
    "ConvMixer": 0.25,
    "U-Net": 0.8,
    "text transformer": 0.7,
    "autoencoder": 0.9,
    "siamese": 0.9,
    "TabTransformer": 0.8,
    "LSTM and GRU": 0.9,
    "WaveNet": 0.85,
    "wide and deep": 0.6,
    "subclassed": 0.8,
}


@pytest.mark.filterwarnings("ignore:.*shuffle=True.*")
@pytest.mark.parametrize("name", nets.EXAMPLES)
def test_keras_examples(name, tmp_path):
    found = reach.go(name, nets.EXAMPLES[name], tmp_path, export=False)
    assert found.masked >= LEAST[name]
    assert found.blocks > 1 or name == "subclassed"


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.EXAMPLES)
def test_keras_examples_are_exported(name, tmp_path):
    assert reach.go(name, nets.EXAMPLES[name], tmp_path).file < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", applications.FAMILIES)
def test_applications(name, tmp_path):
    found = reach.go(name, applications.groups()["applications"][name], tmp_path)
    assert found.masked > 0.5 and found.blocks > 1
    keras.utils.clear_session(free_memory=True)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("keras_hub"), reason="keras_hub is missing")
@pytest.mark.parametrize("name", ["BERT", "GPT-2", "Llama", "ViT", "ResNet"])
def test_hub(name, tmp_path):
    found = reach.go(name, applications.groups()["hub"][name], tmp_path)
    assert found.masked > 0.5 and found.blocks > 1


def test_the_page_shows_all_of_them():
    rows = re.findall(r"^\| ([^|]*?) \| \d+%", PAGE.read_text(), re.MULTILINE)
    assert set(rows) >= {*nets.EXAMPLES, *applications.FAMILIES}
