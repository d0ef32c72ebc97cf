"""The blocks of what a file trains, of which more and more are frozen."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import keras

from spfde_keras import checks
from spfde_keras.device.cutting import Parts
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.trainability import Trainability


@dataclasses.dataclass(frozen=True)
class Stages:
    """Blocks of a model's tail. In stage k the first k of them are frozen.

    Args:
        blocks: layers that are trained, front to back; one block of all where none is frozen.
        count: int, how many may be frozen.
    """

    blocks: Sequence[Sequence[keras.layers.Layer]]
    count: int

    @property
    def numbers(self) -> range:
        """Those of all stages: in 0 everything is trained."""
        return range(self.count + 1)

    def block_of(self, variable: keras.Variable) -> int:
        """Returns the number of the block that a trainable variable is in."""
        return next(
            number
            for number, block in enumerate(self.blocks)
            if any(v is variable for layer in block for v in layer.trainable_variables)
        )

    @contextlib.contextmanager
    def frozen(self, stage: int) -> Iterator[None]:
        """A context in which the layers of the first blocks are frozen."""
        layers = [layer for block in self.blocks[:stage] for layer in block]
        before = [Trainability(layer) for layer in layers]
        try:
            for layer in layers:
                layer.trainable = False
            yield
        finally:
            for one in before:
                one.restore()


def stages_of(model: keras.Model, parts: Parts, count: int) -> Stages:
    """Returns the blocks of a model's tail.

    Args:
        model: the whole model, without masks.
        parts: of the same.
        count: int, how many blocks may be frozen.

    Raises:
        ValueError: if there are not enough.
    """
    if not count:
        return Stages([parts.tail.layers], 0)
    blocks = trained_blocks(model, parts)
    checks.whole("stages", count, least=0, below=len(blocks))
    return Stages(blocks, count)


def trained_blocks(model: keras.Model, parts: Parts) -> list[list[keras.layers.Layer]]:
    """Returns the blocks of `find_blocks` with what of them is in the tail and is trained."""
    inside = {id(v) for v in parts.tail.variables}
    trained = {id(v) for v in parts.tail.trainable_variables}
    of = [[x for x in block if _any(x.variables, inside)] for block in find_blocks(model)]
    return [block for block in of if any(_any(x.trainable_variables, trained) for x in block)]


def _any(variables: Sequence[keras.Variable], of: set[int]) -> bool:
    return any(id(variable) in of for variable in variables)
