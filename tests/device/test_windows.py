"""Windows lie where TensorFlow puts them."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.device.windows import Phase, Windows, apart, every, in_turns, placed


def row(*numbers):
    return tf.constant(numbers, tf.float32)[None]


@pytest.mark.parametrize("start, expected", [(1, [0, 1, 2, 3, 0]), (-1, [2, 3, 0, 0, 0])])
def test_entries_are_placed(start, expected):
    assert placed(row(1, 2, 3), {1: (start, 5)}).numpy().tolist() == [expected]


def test_entries_that_do_not_fit_are_cut():
    assert placed(row(1, 2, 3, 4), {1: (-1, 2)}).numpy().tolist() == [[2, 3]]
    assert placed(row(1, 2, 3), {1: (1, 2)}, 9.0).numpy().tolist() == [[9, 1]]


def test_entries_are_put_apart_and_taken_back():
    spread = apart(row(1, 2, 3), 1, 2)
    assert spread.numpy().tolist() == [[1, 0, 2, 0, 3, 0]]
    assert every(spread[..., None], {1: (0, 2, 3)})[..., 0].numpy().tolist() == [[1, 2, 3]]


def test_windows_of_an_image_of_five_columns():
    """Windows of 3 that move by 2, padded by one on each side: at -1, 1 and 3."""
    windows = Windows((1, 5), (1, 3), (1, 2), same=True)
    assert (windows.pads, windows.count) == ([(0, 0), (1, 1)], [1, 3])
    assert windows.positions == [(0, 0), (0, 1), (0, 2)]
    padded = windows.pad(tf.reshape(row(1, 2, 3, 4, 5), [1, 1, 5, 1]))
    seen = [windows.seen(padded, at).numpy().ravel().tolist() for at in windows.positions]
    assert seen == [[0, 2, 4], [1, 3, 5], [2, 4, 0]]
    np.testing.assert_array_equal(windows.unpad(padded).numpy().ravel(), [1, 2, 3, 4, 5])
    back = windows.put_back(tf.ones((1, 1, 3, 1)), (0, 1)).numpy().ravel()
    assert back.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_dilated_windows():
    windows = Windows((7, 4), (3, 2), dilations=(2, 3))
    assert (windows.extent, windows.count) == ([5, 4], [3, 1])
    assert windows.positions == [(r, c) for r in (0, 2, 4) for c in (0, 3)]


def test_phases_of_an_image_of_five_columns():
    """Windows at -1, 1 and 3: their middle sees columns 0, 2 and 4, their ends see 1 and 3."""
    windows = Windows((1, 5), (1, 3), (1, 2), same=True)
    even = Phase(first=1, step=1, count=1, dilation=1, start=0, size=3)
    odd = Phase(first=0, step=2, count=2, dilation=1, start=0, size=4)
    assert windows.phases(1) == [even, odd]
    assert windows.phases(0) == [Phase(first=0, step=1, count=1, dilation=1, start=0, size=1)]


def test_windows_step_over_every_other_entry():
    even, odd = Windows((4, 1), (1, 1), (2, 1)).phases(0)
    assert (even.count, odd.count) == (1, 0)


def test_entries_of_two_axes_are_taken_at_once():
    image = np.arange(5 * 6 * 2, dtype="float32").reshape(1, 5, 6, 2)
    found = every(tf.constant(image), {1: (1, 2, 2), 2: (1, 3, 2)}).numpy()
    np.testing.assert_array_equal(found, image[:, 1:4:2, 1:5:3])


def test_tensors_take_turns():
    assert in_turns([row(1, 2), row(3, 4)], 1).numpy().tolist() == [[1, 3, 2, 4]]
