"""What is sparse in a model, and what is not and why."""

import itertools

import keras
import numpy as np

from spfde_keras.masking import Mask, find_masks


def summary(model: keras.Model, print_fn=print) -> None:
    """Prints each kernel's scheme, target and actual sparsity, and the layers left dense.

    Of several sub-nets, each has a line; `overlap` is the share of its weights that the one
    before it keeps, too.

    Args:
        model: a `SparseModel`, or any Keras model.
        print_fn: function that takes a line.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="hidden"),
    ...                         keras.layers.Dense(2, name="head")])
    >>> summary(sparsify(mlp, sparsity=0.75))
    kernel         shape   scheme          target  sparsity  kept
    hidden/kernel  8x16    Unstructured()  0.750   0.750     32
    total                                          0.750     32
    dense: head, classifier (last layer)
    >>> summary(sparsify(mlp, sparsity=[0.5, 0.75]))
    kernel         shape  scheme          sub-net    target  sparsity  kept  overlap
    hidden/kernel  8x16   Unstructured()  subnet_50  0.500   0.500     64
                          Unstructured()  subnet_75  0.750   0.750     32    1.000
    total                                 subnet_50          0.500     64
                                          subnet_75          0.750     32    1.000
    dense: head, classifier (last layer)
    """
    masks = find_masks(model)
    names = getattr(model, "subnets", [])
    rows = [("kernel", "shape", "scheme", "sub-net", "target", "sparsity", "kept", "overlap")]
    for mask in masks:
        shape = "x".join(map(str, mask.layout.shape))
        kept, shared = _counts([mask])
        for k, subnet in enumerate(mask.subnets):
            rows.append(
                (*(("", "") if k else (mask.kernel_path, shape)), repr(subnet.scheme))
                + _cells(names, k, f"{subnet.sparsity:.3f}", kept, shared, mask.layout.size)
            )
    kept, shared = _counts(masks)
    size = sum(mask.layout.size for mask in masks)
    for k in range(len(kept)):
        rows.append(("" if k else "total", "", "") + _cells(names, k, "", kept, shared, size))
    _print(rows, len(kept) > 1, print_fn)
    for name, reason in getattr(model, "left_dense", {}).items():
        print_fn(f"dense: {name}, {reason}")


def mask_overlap(model: keras.Model) -> dict[str, float]:
    """Returns how far the sub-nets of a model are nested.

    Args:
        model: a `SparseModel`.

    Returns:
        For each pair "sparser/denser" of sub-nets the share of the sparser one's weights that
        the denser one keeps, too; empty for a model with fewer than two.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> mask_overlap(sparsify(mlp, sparsity=[0.5, 0.75]))
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


def _counts(masks: list[Mask]) -> tuple[np.ndarray, np.ndarray]:
    """How many weights each sub-net keeps, and how many of them the one before keeps, too."""
    values = _kept(masks)
    return values.sum(axis=1), (values & np.roll(values, 1, axis=0)).sum(axis=1)


def _kept(masks: list[Mask]) -> np.ndarray:
    """The masks of all kernels in a row, bool (sub-nets, weights)."""
    values = [mask.read()[1].reshape(len(mask.subnets), -1) for mask in masks]
    return np.concatenate(values, axis=1) if values else np.zeros((0, 0), bool)


def _cells(names, k: int, target: str, kept: np.ndarray, shared: np.ndarray, size: int) -> tuple:
    name = names[k] if k < len(names) else str(k)
    overlap = f"{shared[k] / max(1, kept[k]):.3f}" if k else ""
    return name, target, f"{1 - kept[k] / size:.3f}", str(kept[k]), overlap


def _print(rows: list[tuple], several: bool, print_fn) -> None:
    alone = ("sub-net", "overlap")
    columns = [column for column in zip(*rows, strict=True) if several or column[0] not in alone]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        print_fn("  ".join(map(str.ljust, row, widths)).rstrip())
