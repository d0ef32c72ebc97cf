"""A file in LiteRT's interpreter, as an app has it: its signatures by name."""

import os
from typing import Any

import numpy as np

from spfde_keras.export.verification import quiet


def staged(name: str, stage: int) -> str:
    """Returns the name of a signature with so many blocks frozen.

    >>> staged("train", 0), staged("train", 2)
    ('train', 'train_2')
    """
    return f"{name}_{stage}" if stage else name


class App:
    """The signatures of a file; what they store lasts as long as this.

    Args:
        path: a .tflite file that is whole.
    """

    def __init__(self, path: str | os.PathLike[str]):
        from spfde_keras.export.litert import Interpreter

        self.path = os.fspath(path)
        with quiet():
            interpreter = Interpreter(model_path=self.path)
            self._signatures = {
                name: interpreter.get_signature_runner(name)
                for name in interpreter.get_signature_list()
            }

    def __contains__(self, name: str) -> bool:
        return name in self._signatures

    def __getitem__(self, name: str) -> Any:
        return self._signatures[name]

    def shape(self, name: str, of: str) -> tuple[int, ...]:
        """Returns the shape of an input of a signature."""
        return tuple(map(int, self[name].get_input_details()[of]["shape"]))

    def zeros(self, name: str) -> dict[str, np.ndarray]:
        """Returns zeros for all inputs of a signature."""
        details = self[name].get_input_details()
        return {of: np.zeros(about["shape"], about["dtype"]) for of, about in details.items()}

    def singly(self, name: str, x: np.ndarray) -> np.ndarray:
        """Returns the one output of a signature that takes one sample, for many."""
        found = [self[name](x=x[i : i + 1]) for i in range(len(x))]
        return np.concatenate([value for one in found for value in one.values()])
