"""Whether a model can be trained with sieved data."""

from collections.abc import Collection

import keras

from spfde_keras import compat
from spfde_keras.graph import trace


def check_model(model: keras.Model, batch_sizes: Collection[int]) -> None:
    """Refuses models that shuffled batches, or the last and smaller one, are not for.

    Args:
        model: the model to be trained.
        batch_sizes: ints, the numbers of samples in the batches of an epoch.

    Raises:
        ValueError: if a layer is stateful, or a batch is none that the model takes.
    """
    layers = compat.all_layers(model)
    stateful = [layer.name for layer in layers if getattr(layer, "stateful", False)]
    if stateful:
        raise ValueError(
            "A DataSieve shuffles samples, so that a state kept from batch to batch is none of "
            f"theirs: make layers with stateful=False. Received: stateful layers {stateful}"
        )
    fixed = {x.shape[0] for x in model.inputs or () if x.shape[0] is not None}
    for size in sorted(set(batch_sizes) - fixed) if fixed else ():
        try:
            trace(model, [(size, *x.shape[1:]) for x in model.inputs])
        except Exception as error:
            raise ValueError(
                f"All batches must have the size that the model fixes, {fixed.pop()}: "
                "DataSieve.batches(batch_size, drop_remainder=True). Received: a batch of "
                f"{size} samples"
            ) from error
