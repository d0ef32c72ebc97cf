"""Random streams that a resumed run repeats."""

import zlib

import numpy as np


def generator(seed: int, event: int, path: str) -> np.random.Generator:
    """Returns the generator for one event (update number) and one variable.

    It depends on nothing else: neither on the process nor on what was drawn before.

    Args:
        seed: int >= 0, seed of the run.
        event: int >= 0, number of the update.
        path: str, path of the variable.

    Returns:
        A `numpy.random.Generator`.

    Example:

    >>> generator(0, 1, "a").random() == generator(0, 1, "a").random()
    True
    """
    return np.random.default_rng([seed, event, zlib.crc32(path.encode())])
