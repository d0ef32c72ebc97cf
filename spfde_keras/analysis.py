"""What is sparse in a model, and what is not and why."""

import keras

from spfde_keras.masking import find_masks


def summary(model: keras.Model, print_fn=print) -> None:
    """Prints each kernel's scheme, target and actual sparsity, and the layers left dense.

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
    """
    rows = [("kernel", "shape", "scheme", "target", "sparsity", "kept")]
    kept_in_all = size_in_all = 0
    for mask in find_masks(model):
        size = mask.layout.size
        kept = round(mask.density * size)
        kept_in_all, size_in_all = kept_in_all + kept, size_in_all + size
        shape = "x".join(map(str, mask.layout.shape))
        shares = f"{mask.sparsity:.3f}", f"{1 - kept / size:.3f}"
        rows.append((mask.kernel_path, shape, repr(mask.scheme), *shares, str(kept)))
    if size_in_all:
        share = f"{1 - kept_in_all / size_in_all:.3f}"
        rows.append(("total", "", "", "", share, str(kept_in_all)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_fn("  ".join(map(str.ljust, row, widths)).rstrip())
    for name, reason in getattr(model, "left_dense", {}).items():
        print_fn(f"dense: {name}, {reason}")
