"""Gradient correction between sub-nets that are trained one after the other."""

import tensorflow as tf


def correct(
    gradient: tf.Tensor, previous: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Removes from a gradient what conflicts with the previous sub-net's, and masks it again.

    Where g . p < 0, the corrected gradient is g - (g . p / |p|^2) p, orthogonal to p before it
    is masked; otherwise it is g.

    Args:
        gradient: float tensor, this sub-net's masked gradient g of one kernel.
        previous: float tensor of its shape, the uncorrected gradient p of the previous sub-net.
        mask: bool tensor of its shape, this sub-net's mask.

    Returns:
        The corrected gradient, and whether there was a conflict, a bool scalar.

    Example:

    >>> g, conflict = correct(tf.constant([1.0, 1.0]), tf.constant([-1.0, 0.0]), [True, True])
    >>> g.numpy().tolist(), bool(conflict)
    ([0.0, 1.0], True)

    Source: AST (Yang et al., NeurIPS 2022), section 3.3; Yu et al., "Gradient surgery for
    multi-task learning", NeurIPS 2020.
    """
    product = tf.reduce_sum(gradient * previous)
    norm = tf.reduce_sum(tf.square(previous))
    # A loss scaled too far gives infinite gradients, which the optimizer skips anyway.
    conflict = (product < 0) & (norm > 0) & tf.math.is_finite(product) & tf.math.is_finite(norm)
    share = tf.where(conflict, tf.math.divide_no_nan(product, norm), 0)
    corrected = tf.where(mask, gradient - share * previous, tf.zeros((), gradient.dtype))
    return tf.where(conflict, corrected, gradient), conflict
