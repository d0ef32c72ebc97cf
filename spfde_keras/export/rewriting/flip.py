"""Where sparse regions begin, and whether images must be flipped for that.

A stem must be padded by 1 on every side. Keras' own MobileNets pad theirs by 0 at the start and 1
at the end, and so does padding="same" with strides=2 on an image of even size. On the flipped
image the same windows are padded by 1 at the start and 0 at the end, which on an even image is the
same as by 1 on every side. So the image is flipped once, and every kernel after it.
"""

import keras
from keras import layers

from spfde_keras.export.rewriting.graph import CallSite, Rewriting, is_per_channel, pools_all
from spfde_keras.export.rewriting.windows import embedding, pads_mean, windows

STEM_SIZES = (3,)
DEPTHWISE_SIZES = (3, 5)

# Layers that compute each pixel from the same pixel, or from all of them.
_POINTWISE = (
    layers.Activation,
    layers.ActivityRegularization,
    layers.Add,
    layers.Average,
    layers.Concatenate,
    layers.Dense,
    layers.Dropout,
    layers.ELU,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.Identity,
    layers.LeakyReLU,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.ReLU,
    layers.SpatialDropout2D,
    layers.Subtract,
)
_WINDOWED = (layers.DepthwiseConv2D, layers.SeparableConv2D, layers.AveragePooling2D)


def find_stems(rewriting: Rewriting) -> list[CallSite]:
    """Returns the first convolutions that can be the stem of a sparse region.

    They halve an image of up to three channels and fit into a 3x3 kernel that is padded by 1,
    as they are or flipped.

    Args:
        rewriting: of the model.
    """
    stems: list[CallSite] = []
    after: set[int] = set()
    for site in rewriting.sites:
        if any(id(tensor) in after for tensor in site.inputs):
            after.update(map(id, site.outputs))
        elif _is_stem(site):
            stems.append(site)
            after.update(map(id, site.outputs))
    return stems


def flipped_images(rewriting: Rewriting, stems: list[CallSite]) -> set[int]:
    """Returns the ids of the tensors that must be flipped for the stems; none if they must not.

    Args:
        rewriting: of the model.
        stems: as `find_stems` returns them.
    """
    fit, fit_flipped = (
        all(_fits(site, STEM_SIZES, flip) for site in stems) for flip in (False, True)
    )
    if fit or not fit_flipped:
        return set()
    flipped = {id(site.output) for site in stems}
    for site in rewriting.sites:
        read = [id(tensor) for tensor in site.inputs if _has_pixels(tensor)]
        if flipped.isdisjoint(read):
            continue
        if not flipped.issuperset(read) or not _can_flip(site):
            return set()
        flipped.update(map(id, site.outputs))
    made = [tensor for site in rewriting.sites for tensor in site.outputs if _has_pixels(tensor)]
    is_shown = any(rewriting.is_result(tensor) and id(tensor) in flipped for tensor in made)
    return set() if is_shown else flipped


def _is_stem(site: CallSite) -> bool:
    layer = site.layer
    return (
        type(layer) is layers.Conv2D
        and layer.groups == 1
        and site.input.shape[-1] <= 3
        and tuple(layer.strides) == (2, 2)
        and any(_fits(site, STEM_SIZES, flip) for flip in (False, True))
    )


def _fits(site: CallSite, sizes: tuple[int, ...], flip: bool) -> bool:
    found = windows(site)
    if found is None:
        return False
    _, rows, columns = found
    if flip:
        rows, columns = rows.flipped, columns.flipped
    return embedding(rows, columns, sizes) is not None


def _has_pixels(tensor: keras.KerasTensor) -> bool:
    return len(tensor.shape) > 2 and tensor.shape[1:3] != (1, 1)


def _can_flip(site: CallSite) -> bool:
    """Whether a call on flipped images gives the flipped result, with its kernel flipped."""
    layer = site.layer
    if pools_all(site):
        return True
    if type(layer) is layers.AveragePooling2D and pads_mean(site):
        return False
    is_pointwise = type(layer) is layers.Conv2D and tuple(layer.kernel_size) == (1, 1)
    if type(layer) in _WINDOWED or is_pointwise:
        return _fits(site, DEPTHWISE_SIZES, flip=True)
    if type(layer) is layers.ZeroPadding2D:
        # Its reader takes it in, and pads by itself.
        readers = site.rewriting.readers(site.output)
        is_own = site.rewriting.is_read_once(site.output)
        return is_own and type(readers[0].layer) in _WINDOWED
    if type(layer) is layers.PReLU:
        return set(layer.shared_axes or ()) >= {1, 2}
    if type(layer) is layers.Concatenate:
        return layer.axis in (-1, 3)
    return type(layer) in _POINTWISE or is_per_channel(site)
