"""What is used of Keras that is not public, to trace updates of optimizers; see `compat`."""

import contextlib
from collections.abc import Iterator

import keras

# What optimizers for TensorFlow override to assign to the variables behind Keras'.
_ASSIGNING = (
    "assign",
    "assign_add",
    "assign_sub",
    "_apply_weight_decay",
    "_backend_update_step",
)


def leaves_out_of_decay(optimizer: keras.optimizers.Optimizer) -> bool:
    """Returns whether some weights do not decay, which an optimizer's configuration leaves out."""
    names = "_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"
    return any(getattr(optimizer, name, None) for name in names)


@contextlib.contextmanager
def catching_updates() -> Iterator[None]:
    """Has optimizers assign to Keras' variables, where a `keras.StatelessScope` catches it.

    On TensorFlow they assign to the variables behind them, for the sake of `tf.distribute`, and
    therefore have no `stateless_apply`. Their base class, whose methods those for TensorFlow
    override, has both.
    """
    classes = {cls.__name__: cls for cls in keras.optimizers.Optimizer.__mro__}
    ours, base = classes["TFOptimizer"], classes["BaseOptimizer"]
    methods = {name: getattr(base, name) for name in _ASSIGNING}
    # In a scope `value` is a tensor, which is no variable's.
    methods["_var_key"] = lambda self, variable: variable._value._unique_id
    before = {name: vars(ours)[name] for name in methods}
    for name, method in methods.items():
        setattr(ours, name, method)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(ours, name, method)
