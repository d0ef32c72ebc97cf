"""Models in a form that phones can run sparse."""

import keras

from spfde_keras.export.rewriting.flip import find_stems, flipped_images
from spfde_keras.export.rewriting.graph import Rewriting
from spfde_keras.export.rewriting.rewrites import REWRITES
from spfde_keras.sparsify import densify


def make_mobile_ready(model: keras.Model) -> keras.Model:
    """Returns a model that computes the same, in a form that phones run sparse if they can.

    XNNPACK skips zeros on phones in a region from a stem (a 3x3 convolution with strides=2, on
    three channels, padded by 1) to a global pooling, made of 1x1 and depthwise convolutions, Add,
    Multiply and activations, each in a certain form: see `spfde_keras.export.inspection.rules`.
    Layers that have an exact equivalent in that form are replaced by it:

    - depthwise convolutions of other sizes, paddings, dilations and multipliers, and average
      poolings, by 3x3 and 5x5 depthwise convolutions;
    - 1x1 convolutions with strides, dilation or groups;
    - a scale or offset of channels, and some activations, by depthwise convolutions and ReLU;
    - a stem on one or two channels, and one that is padded at one end only, as Keras' own
      MobileNets have it: these compute on the flipped image;
    - 1x1 convolutions after the last global pooling by dense layers, and dense layers of a gate
      by 1x1 convolutions.

    Everything else stays the same, and zeros stay zero. `export_tflite(..., mobile=True)` does
    this, and names what is still in the way.

    Args:
        model: a functional or Sequential model, with masks or without.

    Returns:
        A functional `keras.Model` of Keras' own layers, with the same inputs and outputs; of a
        model with several sub-nets the active one.

    Raises:
        ValueError: if the model is not functional.

    Example:

    >>> image = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(image)
    >>> ready = make_mobile_ready(keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)))
    >>> [layer.name for layer in ready.layers[1:]]
    ['stem_pad', 'stem_stem', 'global_average_pooling2d']
    """
    return rewrite_for_phones(densify(model), model.name)


def rewrite_for_phones(model: keras.Model, name: str) -> keras.Model:
    """Does what `make_mobile_ready` does, for a caller who has no other use for the model.

    Args:
        model: as `densify` returns it; its layers go into the new model.
        name: str, of the new model.

    Returns:
        As `make_mobile_ready`.

    Example:

    >>> ready = rewrite_for_phones(densify(model), "phone")
    >>> ready.name, ready.output_shape
    ('phone', (None, 10))
    """
    rewriting = Rewriting(model)
    stems = find_stems(rewriting)
    rewriting.mark_stems(stems, flipped_images(rewriting, stems))
    for site in rewriting.sites:
        rewritten = next(filter(_is_given, (rewrite(site) for rewrite in REWRITES)), None)
        rewriting.put(site, rewriting.repeat(site) if rewritten is None else rewritten)
    outputs = [rewriting.new(tensor) for tensor in rewriting.outputs]
    outputs = keras.tree.pack_sequence_as(model.output, outputs)
    return keras.Model(model.input, outputs, name=name)


def _is_given(rewritten: keras.KerasTensor | None) -> bool:
    return rewritten is not None
