"""What is chosen, measured once, and remembered."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.kernels import (
    Convolution,
    Status,
    choice,
    choose,
    convolution_of,
    convolution_of_sequences,
    disabled,
    product_of,
)
from spfde_keras.layers import MaskedConv1D, MaskedConv2D, MaskedDense, MaskedEinsumDense

CONVOLUTION = Convolution(64, 8, 8, 32, 32, (3, 3), 1, "same", density=0.1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "cache.json"
    monkeypatch.setenv("SPFDE_KERNELS_CACHE", str(path))
    choice.forget()
    yield path
    choice.forget()


class Machine:
    """Kernels that are there, and are `speedup` times as fast; notes what is measured."""

    def __init__(self):
        self.mode, self.active, self.speedup, self.measured = "auto", True, 3.0, []

    def status(self):
        return Status(self.active, "for a reason", self.mode, None, "2.3.4")

    def measure(self, convolution):
        self.measured.append(convolution)
        return self.speedup


@pytest.fixture
def machine(cache, monkeypatch):
    machine = Machine()
    monkeypatch.setattr(choice, "status", machine.status)
    monkeypatch.setattr(choice, "_speedup", machine.measure)
    return machine


def forget():
    """As a new process does."""
    choice.forget()


@pytest.mark.parametrize(
    "speedup, sparse, shown",
    [(3.04, True, "sparse 3.0x"), (1.06, True, "sparse 1.1x"), (1.02, False, "dense 1.0x")],
)
def test_what_is_faster_is_chosen(machine, speedup, sparse, shown):
    machine.speedup = speedup
    chosen = choose(CONVOLUTION)
    assert (chosen.sparse, chosen.speedup, chosen.reason) == (sparse, speedup, "measured")
    assert str(chosen) == shown


def test_nothing_is_measured_where_nothing_is_to_choose(machine):
    for mode, options, sparse, reason in [
        ("sparse", {}, True, "SPFDE_KERNELS is sparse"),
        ("sparse", {"density": 1.0}, True, "SPFDE_KERNELS is sparse"),
        ("sparse", {"stride": 3}, False, "strides above 2"),
        ("auto", {"stride": 3}, False, "strides above 2"),
        ("auto", {"density": 0.61}, False, "more than 60% of the weights are kept"),
    ]:
        machine.mode = mode
        chosen = choose(Convolution(**(vars(CONVOLUTION) | options)))
        assert (chosen.sparse, chosen.reason) == (sparse, reason)
        assert str(chosen) == ("sparse" if sparse else "dense")
    machine.active = False
    assert choose(CONVOLUTION).reason == "for a reason"
    assert not machine.measured


def test_disabled_and_enabled_again(machine):
    with pytest.raises(ZeroDivisionError), disabled():
        with disabled():
            pass
        chosen = choose(CONVOLUTION)
        assert (chosen.sparse, chosen.reason) == (False, "disabled")
        1 / 0  # noqa: B018
    assert choose(CONVOLUTION).sparse


def test_each_shape_is_measured_once(machine, cache):
    others = [{"batch": 32}, {"kernel": (1, 3)}, {"density": 0.2}, {"padding": "valid"}]
    shapes = [CONVOLUTION, *(Convolution(**(vars(CONVOLUTION) | other)) for other in others)]
    for _ in range(2):
        for shape in shapes:
            choose(shape)
    assert machine.measured == shapes
    assert len(json.loads(cache.read_text())) == 5
    choose(Convolution(**(vars(CONVOLUTION) | {"density": 0.1004})))  # as good as the first
    assert len(machine.measured) == 5


def test_the_next_process_remembers(machine, cache):
    choose(CONVOLUTION)
    assert list(cache.parent.iterdir()) == [cache]
    machine.speedup = 0.5
    forget()
    assert choose(CONVOLUTION).speedup == 3
    assert len(machine.measured) == 1


def test_what_a_run_has_chosen_is_taken_over(machine, cache):
    cache.parent.touch()  # it cannot be kept
    choose(CONVOLUTION)
    chosen = choice.choices()
    forget()
    machine.speedup = 0.5
    choice.take_over(chosen)
    assert choose(CONVOLUTION).speedup == 3
    assert choice.choices() == chosen == json.loads(json.dumps(chosen))
    assert len(machine.measured) == 1


def test_measurements_of_others_are_kept(machine, cache):
    cache.parent.mkdir()
    cache.write_text('{"another machine": 2.5}')
    choose(CONVOLUTION)
    assert json.loads(cache.read_text())["another machine"] == 2.5


def test_other_threads_are_another_measurement(machine, monkeypatch):
    choose(CONVOLUTION)
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 77)
    forget()
    choose(CONVOLUTION)
    assert len(machine.measured) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "\x00\xff"])
def test_a_file_that_cannot_be_read_is_replaced(machine, cache, text):
    cache.parent.mkdir()
    cache.write_bytes(text.encode("latin-1"))
    assert choose(CONVOLUTION).sparse
    assert list(json.loads(cache.read_text()).values()) == [3.0]


@pytest.mark.parametrize("value", ['"fast"', "null", "[]"])
def test_a_value_that_is_no_number_is_measured_again(machine, cache, value):
    choose(CONVOLUTION)
    cache.write_text(cache.read_text().replace("3.0", value))
    forget()
    assert choose(CONVOLUTION).speedup == 3
    assert json.loads(cache.read_text()).popitem()[1] == 3


def test_a_file_that_cannot_be_written_costs_time_only(machine, cache):
    cache.parent.touch()  # a file where the folder should be
    assert choose(CONVOLUTION).sparse
    forget()
    assert choose(CONVOLUTION).sparse
    assert len(machine.measured) == 2


def test_a_folder_in_the_place_of_the_file(machine, cache):
    cache.mkdir(parents=True)
    assert choose(CONVOLUTION).sparse
    assert list(cache.parent.iterdir()) == [cache], "something was left behind"


def test_without_a_name_the_file_is_in_the_users_cache(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("SPFDE_KERNELS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    choose(CONVOLUTION)
    assert (tmp_path / ".cache" / "spfde_keras.json").is_file()


def test_a_measurement(sparse_kernels, cache, monkeypatch):
    monkeypatch.setenv("SPFDE_KERNELS", "auto")
    chosen = choose(CONVOLUTION)
    assert chosen.reason == "measured" and chosen.speedup > 0
    assert list(json.loads(cache.read_text()).values()) == [chosen.speedup]


def test_a_measurement_while_tracing(sparse_kernels, cache, monkeypatch):
    monkeypatch.setenv("SPFDE_KERNELS", "auto")
    found = []

    @tf.function
    def function():
        found.append(choose(CONVOLUTION))
        return 0

    graph = function.get_concrete_function().graph
    assert found[0].reason == "measured"
    assert not [op.name for op in graph.get_operations() if "Conv2D" in op.type]


def built(layer, *shape):
    layer.build((None, *shape))
    return layer.masks[0]


def test_what_a_layer_computes():
    mask = built(MaskedConv2D(6, (3, 2), sparsity=0.75), 8, 9, 4)
    options = {"kernel": (3, 2), "stride": 2, "padding": "same"}
    expected = Convolution(5, 8, 9, 4, 6, (3, 2), 2, "same", 0.25)
    assert convolution_of((5, 8, 9), mask, **options) == expected


def test_sizes_that_are_not_known_are_assumed():
    mask = built(MaskedConv2D(6, 3, sparsity=0.75), None, None, 4)
    found = convolution_of((None, None, 9), mask, (3, 3))
    assert (found.batch, found.height, found.width) == (64, 32, 9)
    assert (choice.DEFAULT_BATCH, choice.DEFAULT_SIZE) == (64, 32)
    found = convolution_of((None, None, 9), mask, (40, 3))  # large enough for its kernel
    assert (found.height, found.width) == (40, 9)
    mask = built(MaskedDense(6, sparsity=0.75), 4)
    assert product_of((None, None), mask).batch == 64 * 32


@pytest.mark.parametrize(
    "sizes, options, expected",
    [
        ((5, 9), {}, (5, 9, 1, "valid")),
        ((5, 9), {"padding": "causal", "dilation": 4}, (5, 3, 4, "same")),
        ((None, None), {"padding": "same", "dilation": 4}, (64, 32, 4, "same")),
    ],
)
def test_sequences_are_images_as_wide_as_the_dilation(sizes, options, expected):
    mask = built(MaskedConv1D(6, 3, sparsity=0.75), None, 4)
    found = convolution_of_sequences(sizes, mask, 3, **options)
    assert (found.batch, found.height, found.width, found.padding) == expected
    assert (found.inputs, found.outputs, found.kernel) == (4, 6, (3, 1))


def test_vectors_of_a_product_are_its_batch():
    mask = built(MaskedDense(6, sparsity=0.75), 4)
    for sizes, batch in [((5,), 5), ((5, 7), 35), ((5, 7, 2), 70)]:
        found = product_of(sizes, mask)
        assert found == Convolution(batch, 1, 1, 4, 6, (1, 1), 1, "valid", 0.25)
    mask = built(MaskedEinsumDense("abcd,cdef->abef", (5, 2, 3), sparsity=0.75), 5, 4, 6)
    found = product_of((2, 5), mask)
    assert (found.batch, found.inputs, found.outputs) == (10, 24, 6)


def test_a_product_is_measured_against_a_product(sparse_kernels, cache, monkeypatch):
    # Convolutions of 1x1 images are several times as slow.
    monkeypatch.setenv("SPFDE_KERNELS", "auto")
    convolve = Mock(side_effect=AssertionError)
    monkeypatch.setattr(tf.nn, "conv2d", convolve)
    choose(product_of((64,), built(MaskedDense(32, sparsity=0.75), 32)))
    (key,) = json.loads(cache.read_text())
    assert "product" in key


def test_density_is_that_at_the_end_in_the_mean_of_subnets():
    mask = built(MaskedDense(8, sparsity=[0.75, 0.875]), 8)
    mask.write(mask.read()[0], np.ones(mask.values.shape, bool))
    assert product_of((5,), mask).density == 0.1875
