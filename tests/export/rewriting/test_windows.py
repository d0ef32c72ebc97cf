"""Kernels inside larger ones: against Keras' own convolutions, whatever they are padded by."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras.export.rewriting.mobile import make_mobile_ready
from spfde_keras.export.rewriting.windows import Window, embedding, place, spread


def fill(model):
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    return model


PADS = ["same", "valid", (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)]
# Which of them are rewritten, by kernel and stride, worked out by hand; height and width are
# padded the other way round. With strides=2 on images of even size only.
REWRITTEN = {
    (1, 1): {"same", "valid"},
    (1, 2): {"same", "valid"},
    (2, 1): {"same", "01", "10"},
    (2, 2): {"same", "valid", "01", "10"},
    (3, 1): set(),
    (3, 2): {"same", "01", "10"},
    (4, 1): {"same", "21"},
    (4, 2): {"same", "11", "21"},
    (5, 1): set(),
    (5, 2): set(),
}


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
def test_every_padding_gives_what_keras_gives(kernel, strides, size):
    image, outputs = keras.Input((size, size + 2, 2)), {}
    for pads in PADS:
        padding = pads if isinstance(pads, str) else "valid"
        x = image if padding == pads else layers.ZeroPadding2D((pads, pads[::-1]))(image)
        name = f"{pads[0]}{pads[1]}" if padding != pads else padding
        outputs[name] = layers.DepthwiseConv2D(kernel, strides, padding, name=name)(x)
    model = fill(keras.Model(image, outputs))
    ready = make_mobile_ready(model)
    images = np.random.default_rng(1).normal(size=(2, size, size + 2, 2))
    found, expected = ready(images), model(images)
    changed = set()
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=0, atol=1e-5)
        layer = next(layer for layer in ready.layers if layer.name.startswith(name))
        if layer.name != name:
            changed.add(name)
    assert changed == (REWRITTEN[kernel, strides] if strides == 1 or size % 2 == 0 else set())


@pytest.mark.parametrize("pads", [((1, 0), (1, 0)), ((1, 1), (1, 1))])
def test_padding_in_front_alone_becomes_padding_on_every_side(pads):
    # The last position never sees the zeros after it, but phones ask for them.
    image = keras.Input((8, 8, 2))
    x = layers.ZeroPadding2D(pads, name="pad")(image)
    model = fill(keras.Model(image, layers.DepthwiseConv2D(3, 2, name="dw")(x)))
    ready = make_mobile_ready(model)
    names = [layer.name for layer in ready.layers[1:]]
    assert names == (["dw_pad", "dw_depthwise"] if pads[0] == (1, 0) else ["pad", "dw"])
    assert ready.layers[1].padding == ((1, 1), (1, 1))
    images = np.random.default_rng(1).normal(size=(2, 8, 8, 2))
    np.testing.assert_allclose(ready(images), model(images), rtol=0, atol=1e-5)


def test_positions_by_hand():
    # 8 pixels in steps of 2 under 3: windows begin at 0, 2, 4, 6; the last looks at pixel 8.
    same = Window(size=8, before=0, kernel=3, stride=2, outputs=4)
    assert same.offset(3) is None and same.offset(5) == 2 and same.is_padded
    # Read backwards they begin at -1, 1, 3, 5.
    assert same.flipped == Window(8, 1, 3, 2, 4) and same.flipped.offset(3) == 0
    # Two pixels without padding: 0 to 6, each the lower ones of a padded 3.
    assert Window(8, 0, 2, 2, 4).offset(3) == 1 and not Window(8, 0, 2, 2, 4).is_padded
    assert Window(7, 1, 3, 2, 4).offset(3) is None  # odd
    assert Window(8, 0, 3, 1, 6).offset(3) is None  # an image that shrinks
    assert embedding(same, Window(8, 1, 3, 2, 4), (3, 5)) == (5, (2, 1))
    assert embedding(same, Window(8, 1, 3, 1, 8), (3, 5)) is None


def test_a_flipped_window_sees_the_flipped_image():
    random = np.random.default_rng(0)
    for size, before, kernel, stride in itertools.product((5, 8), (0, 1, 2), (2, 3), (1, 2)):
        for outputs in range(1, 5):
            window = Window(size, before, kernel, stride, outputs)
            image, taps = random.normal(size=size), random.normal(size=kernel)

            def run(window, image, taps):
                wide = np.pad(image, 20)
                starts = 20 - window.before + window.stride * np.arange(window.outputs)
                return np.array([wide[s : s + len(taps)] @ taps for s in starts])

            mirrored = run(window.flipped, image[::-1], taps[::-1])
            np.testing.assert_allclose(mirrored[::-1], run(window, image, taps))


def test_kernels_by_hand():
    kernel = np.arange(1, 5).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(
        place(kernel, 3, (1, 0))[..., 0, 0], [[0] * 3, [1, 2, 0], [3, 4, 0]]
    )
    np.testing.assert_array_equal(spread(kernel, (2, 1))[..., 0, 0], [[1, 2], [0, 0], [3, 4]])
