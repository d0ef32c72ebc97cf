"""Whether a model can become a file at all; `export_tflite` asks before any conversion."""

from collections.abc import Mapping

import keras
import numpy as np

from spfde_keras.compat import all_layers
from spfde_keras.export.interpreting import each_sample
from spfde_keras.export.verification import run_keras


def check_inputs(model: keras.Model) -> None:
    """Refuses inputs of strings or of open shapes.

    Args:
        model: a functional model.

    Raises:
        ValueError: names the input.
    """
    for tensor in model.inputs:
        if tensor.dtype == "string":
            raise ValueError(
                "`model` must take numbers, since LiteRT cannot look up strings: put the lookup "
                "(as StringLookup or TextVectorization) before the model, and export the model "
                f"that takes what it gives. Received: strings for input {tensor.name!r}"
            )
        if None in tensor.shape[1:]:
            raise ValueError(
                f"`model` must have fixed input shapes: build it again with them in keras.Input. "
                f"Received: {tensor.shape} for input {tensor.name!r}"
            )


def check_stateless(model: keras.Model) -> None:
    """Refuses layers that keep a state from one call to the next.

    Args:
        model: a functional model.

    Raises:
        ValueError: names the layers.
    """
    stateful = [layer.name for layer in all_layers(model) if getattr(layer, "stateful", False)]
    if stateful:
        raise ValueError(
            "`model` must keep no state between calls, since a file starts each from none: build "
            "it again with stateful=False, and give it the weights with set_weights. "
            f"Received: stateful layers {stateful}"
        )


def check_takes_one(model: keras.Model, samples: Mapping[str, np.ndarray]) -> None:
    """Refuses a model that does not give one output for one sample.

    Args:
        model: a functional model.
        samples: arrays (samples, *input shape) by the names of the inputs in the file.

    Raises:
        ValueError: tells what it gives for the first sample.
    """
    try:
        outputs = run_keras(model, next(each_sample(samples)))
        wrong = [
            f"output {n!r} of shape {o.shape}" for n, o in outputs.items() if o.shape[:1] != (1,)
        ]
    except Exception as failure:
        wrong = [str(failure).splitlines()[0]]
    if wrong:
        raise ValueError(
            "`model` must give one output for one sample, as its file does: build it again with "
            f"no batch size but -1 or 1 in its shapes. Received for one sample: {wrong[0]}"
        )
