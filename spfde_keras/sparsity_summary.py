"""What is sparse in a model, what is not, and why."""

import collections
import itertools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from spfde_keras import checks, compat
from spfde_keras.masking import Mask, Subnet, find_masks

_DEAD = ("dead inputs", "dead outputs")


def summary(model: keras.Model, print_fn: Callable[[str], object] = print) -> None:
    """Prints each kernel's scheme, target and actual sparsity, and the layers left dense.

    It ends with the kernels whose zeros the CPU skips, which is decided when the model first runs.

    Where there are any, it counts `dead_units`. Each of several sub-nets has a line; `overlap` is
    the share of its weights that the previous one keeps, too.

    Args:
        model: a `SparseModel`, or any Keras model.
        print_fn: function that takes a line.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="hidden"),
    ...                         keras.layers.Dense(2, name="head")])
    >>> summary(sparsify(mlp, sparsity=0.75))
    kernel         shape  scheme          target  sparsity  kept  dead outputs
    hidden/kernel  8x16   Unstructured()  0.750   0.750     32    2
    total                                         0.750     32    2
    of all weights of the model masks drop 0.539
    dense: head, classifier (last layer)
    zeros skipped: not known before the model has run
    >>> summary(sparsify(mlp, sparsity=[0.5, 0.75], initial="random"))
    kernel         shape  scheme          sub-net    target  sparsity  kept  overlap  dead outputs
    hidden/kernel  8x16   Unstructured()  subnet_50  0.500   0.500     64             0
                          Unstructured()  subnet_75  0.750   0.750     32    1.000    2
    total                                 subnet_50          0.500     64             0
                                          subnet_75          0.750     32    1.000    2
    of all weights of the model masks drop 0.449
    dense: head, classifier (last layer)
    zeros skipped: not known before the model has run
    """
    checks.function("print_fn", print_fn)
    masks = find_masks(model)
    names = getattr(model, "subnets", [])
    rows: list[tuple[str, ...]] = [
        ("kernel", "shape", "scheme", "sub-net", "target", "sparsity", "kept", "overlap", *_DEAD)
    ]
    for mask in masks:
        shape = "x".join(map(str, mask.layout.shape))
        kept = _kept([mask])
        for k, subnet in enumerate(mask.subnets):
            rows.append(
                (*(("", "") if k else (mask.kernel_path, shape)), repr(subnet.scheme))
                + _cells(names, k, f"{subnet.sparsity:.3f}", kept)
                + tuple(map(str, dead_units(subnet)))
            )
    kept = _kept(masks)
    for k in range(len(kept)):
        dead = np.sum([dead_units(mask.subnets[k]) for mask in masks], axis=0)
        cells = _cells(names, k, "", kept) + tuple(map(str, dead))
        rows.append(("" if k else "total", "", "") + cells)
    _print(rows, len(kept) > 1, print_fn)
    if masks:
        print_fn(f"of all weights of the model masks drop {model_sparsity(model):.3f}")
    for name, reason in getattr(model, "left_dense", {}).items():
        print_fn(f"dense: {name}, {reason}")
    _print_choices(model, print_fn)


def dead_units(subnet: Subnet) -> tuple[int, int]:
    """Returns how many inputs and outputs of a kernel have no weight left.

    Args:
        subnet: the kernel, as one sub-net sees it.

    Example:

    >>> mask = find_masks(sparsify(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]),
    ...                            sparsity=0.5, dense=()))[0]
    >>> mask.write(np.ones((2, 2)), np.array([[[True, False], [True, False]]]))
    >>> dead_units(mask.subnets[0])
    (0, 1)
    """
    kept = subnet.layout.to_canonical(subnet.read()[1])
    inputs = int((~kept.any(axis=(0, 2))).sum()) if subnet.layout.inputs else 0
    return inputs, int((~kept.any(axis=(0, 1))).sum())


def subnet_sparsities(model: keras.Model) -> list[float]:
    """Returns the share of zeros in each sub-net, over all kernels that have a mask.

    Args:
        model: a `SparseModel`, or any Keras model.

    Returns:
        Floats in [0, 1], in the order of the sub-nets; empty for a model without masks.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> subnet_sparsities(sparsify(mlp, sparsity=[0.5, 0.75], initial="random"))
    [0.5, 0.75]
    """
    return _sparsities(_kept(find_masks(model))).tolist()


def target_sparsities(model: keras.Model) -> list[float]:
    """Returns the share of zeros that each sub-net has when training ends.

    Args:
        model: a `SparseModel`, or any Keras model.

    Returns:
        Floats in [0, 1], in the order of the sub-nets; empty for a model without masks.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> target_sparsities(sparsify(mlp, sparsity=[0.5, 0.75], initial="dense"))
    [0.5, 0.75]
    """
    masks = find_masks(model)
    if not masks:
        return []
    shares = [[subnet.sparsity for subnet in mask.subnets] for mask in masks]
    sizes = [mask.layout.size for mask in masks]
    return np.average(shares, axis=0, weights=sizes).tolist()


def model_sparsity(model: keras.Model) -> float:
    """Returns the share of all weights of a model that masks drop, in the mean of its sub-nets.

    Weights without a mask count, too: biases, layers left dense.

    Args:
        model: a `SparseModel`, or any Keras model.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> round(model_sparsity(sparsify(mlp, sparsity=0.5)), 3)  # 64 of 178
    0.36
    """
    masks = find_masks(model)
    values = {id(variable) for mask in masks for variable in mask.variables}
    weights = [w for w in model.weights if id(w) not in values and "float" in str(w.dtype)]
    zeros = sum((1 - mask.density) * mask.layout.size for mask in masks)
    return float(zeros / max(1, sum(math.prod(weight.shape) for weight in weights)))


def zero_share(model: keras.Model) -> float:
    """Returns the share of all weights of a model without masks that are zeros of a kernel.

    Args:
        model: any Keras model, such as one made by `densify`.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> round(zero_share(densify(sparsify(mlp, sparsity=0.5))), 3)  # 64 of 178
    0.36
    """
    weights = [w for w in model.weights if "float" in str(w.dtype)]
    # Biases of attention and of recurrent layers have two axes, and start at zero.
    kernels = [w for w in weights if len(w.shape) > 1 and not w.name.endswith(("bias", "alpha"))]
    zeros = sum(np.count_nonzero(np.asarray(kernel) == 0) for kernel in kernels)
    return float(zeros / max(1, sum(math.prod(weight.shape) for weight in weights)))


def mask_overlap(model: keras.Model) -> dict[str, float]:
    """Returns how far the sub-nets of a model are nested.

    Args:
        model: a `SparseModel`.

    Returns:
        For each pair "sparser/denser" of sub-nets the share of the sparser one's weights that
        the denser one keeps, too; empty for a model with fewer than two.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> mask_overlap(sparsify(mlp, sparsity=[0.5, 0.75], initial="random"))
    {'subnet_75/subnet_50': 1.0}

    Source: AST (Yang et al., NeurIPS 2022), whose sub-nets share weights.
    """
    kept = _kept(find_masks(model))
    order = np.argsort(-kept.sum(axis=1), kind="stable")
    return {
        f"{model.subnets[sparser]}/{model.subnets[denser]}": float(
            (kept[sparser] & kept[denser]).sum() / max(1, kept[sparser].sum())
        )
        for denser, sparser in itertools.combinations(order, 2)
    }


def _print_choices(model: keras.Model, print_fn: Callable[[str], object]) -> None:
    """Prints how layers with CPU kernels last computed."""
    able = [layer for layer in compat.all_layers(model) if hasattr(layer, "kernel_choice")]
    layers = [layer for layer in able if layer.kernel_choice is not None]
    if not layers and any(layer.masks for layer in able):
        print_fn("zeros skipped: not known before the model has run")
    skipping = [layer.kernel_choice.speedup for layer in layers if layer.kernel_choice.sparse]
    if skipping:
        measured = [speedup for speedup in skipping if speedup is not None]
        ends = dict.fromkeys(f"{end(measured):.1f}x" for end in (min, max) if measured)
        gain = f", {' to '.join(ends)} as fast" if ends else ""
        print_fn(f"zeros skipped: in {len(skipping)} of {len(layers)} kernels{gain}")
    computing = collections.defaultdict(list)
    for layer in layers:
        if not layer.kernel_choice.sparse:
            computing[layer.kernel_choice.reason].append(layer.path)
    for reason, names in computing.items():
        print_fn(f"zeros computed: {', '.join(names)} ({reason})")


def _kept(masks: list[Mask]) -> np.ndarray:
    """The masks of all kernels, one after the other, bool (sub-nets, weights)."""
    values = [mask.read()[1].reshape(len(mask.subnets), -1) for mask in masks]
    return np.concatenate(values, axis=1) if values else np.zeros((0, 0), bool)


def _sparsities(kept: np.ndarray) -> np.ndarray:
    return 1 - kept.sum(axis=1) / max(1, kept.shape[1])


def _cells(names: Sequence[str], k: int, target: str, kept: np.ndarray) -> tuple[str, ...]:
    """The cells of a row about sub-net `k`, for the masks `kept`."""
    name = names[k] if k < len(names) else str(k)
    count = kept[k].sum()
    overlap = f"{(kept[k] & kept[k - 1]).sum() / max(1, count):.3f}" if k else ""
    return name, target, f"{_sparsities(kept)[k]:.3f}", str(count), overlap


def _print(rows: list[tuple], several: bool, print_fn: Callable[[str], object]) -> None:
    alone = ("sub-net", "overlap")
    columns = [column for column in zip(*rows, strict=True) if several or column[0] not in alone]
    columns = [c for c in columns if c[0] not in _DEAD or any(cell != "0" for cell in c[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        print_fn("  ".join(map(str.ljust, row, widths)).rstrip())
