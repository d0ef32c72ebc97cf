"""How many weights each scheme reaches, and why it leaves the others dense.

For each model a table: the share of all kernel weights that get a mask, the number of kernels
that do, and how often `sparsify` gives which reason for those that do not. Nothing is trained.
"""

import collections
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import keras
from keras import layers

import spfde_keras
from benchmarks import report
from spfde_keras import schemes
from spfde_keras.masking import find_masks

DENSE = ("first", "last", "depthwise")
SCHEMES = ("unstructured", "block", "pattern", "channel", "filter", "1:4", "2:4", "4:8")


def vit(depth: int = 12, width: int = 192, heads: int = 3) -> keras.Model:
    """A vision transformer of patches of 16x16 pixels; with these defaults ViT-Tiny."""
    inputs = keras.Input((224, 224, 3))
    x = layers.Conv2D(width, 16, strides=16, name="patches")(inputs)
    x = layers.Reshape((-1, width))(x)
    counted = keras.ops.cumsum(keras.ops.ones_like(x[..., 0], dtype="int32"), axis=1)
    x = x + layers.Embedding(x.shape[1], width, name="positions")(counted - 1)
    for block in range(depth):
        y = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(heads, width // heads, name=f"attention_{block}")
        x = x + attention(y, y)
        y = layers.Dense(4 * width, "gelu", name=f"up_{block}")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width, name=f"down_{block}")(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(1000, name="head")(x), name="vit")


MODELS: Mapping[str, Callable[[], keras.Model]] = {
    "MobileNetV2": lambda: keras.applications.MobileNetV2(weights=None),
    "EfficientNetB0": lambda: keras.applications.EfficientNetB0(weights=None),
    "ResNet50": lambda: keras.applications.ResNet50(weights=None),
    "ViT-Tiny": vit,
}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    models: tuple[str, ...] = program.option(
        tuple(MODELS), "with commas between", choices=tuple(MODELS), several=str
    )
    schemes: tuple[str, ...] = program.option(
        SCHEMES, "with commas between", choices=SCHEMES, several=str
    )
    dense: tuple[str, ...] = program.option(
        DENSE,
        "what stays dense in any case, with commas between",
        choices=DENSE,
        several=str,
    )
    sparsity: float = program.option(0.75, "share of zeros; not used by N:M", least=0, below=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


@dataclasses.dataclass(frozen=True)
class Reach:
    """What one scheme reaches in one model.

    Attributes:
        masked: int, number of kernels with a mask.
        kernels: int, number of kernels.
        share: float, the share of all kernel weights that have a mask.
        reasons: how many layers stay dense, by the reason that `sparsify` gives.
    """

    masked: int
    kernels: int
    share: float
    reasons: dict[str, int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Prints the tables and writes the results."""
    results: dict[str, dict[str, Reach]] = {}
    for name in options.models:
        dense = MODELS[name]()
        results[name] = {one: reach(dense, one, options) for one in options.schemes}
    found = {
        name: {scheme: dataclasses.asdict(one) for scheme, one in row.items()}
        for name, row in results.items()
    }
    report.finish(options, {"reach": found}, tables)


def reach(dense: keras.Model, scheme: str, options: Options) -> Reach:
    """Sparsifies a model and looks at its masks."""
    sparsity = options.sparsity if schemes.get(scheme).density is None else None
    model = spfde_keras.sparsify(dense, sparsity, scheme, dense=options.dense)
    masks = find_masks(model)
    kernels = [w for w in dense.weights if w.name.endswith(("kernel", "embeddings"))]
    sizes = [math.prod(kernel.shape) for kernel in kernels]
    return Reach(
        masked=len(masks),
        kernels=len(sizes),
        share=sum(mask.layout.size for mask in masks) / sum(sizes),
        reasons=dict(collections.Counter(model.left_dense.values()).most_common()),
    )


def tables(found: Mapping) -> dict[str, report.Table]:
    """The tables of shares, and of why layers stay dense."""
    reached, of = found["reach"], found["settings"]
    rows = [[one, *(cell(reached[name][one]) for name in of["models"])] for one in of["schemes"]]
    return {
        "shares": report.Table(["scheme", *of["models"]], rows),
        "reasons": report.Table(
            ["model", "scheme", "layers", "why they stay dense"], reasons(reached)
        ),
    }


def reasons(results: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """Rows of model, schemes, number of layers and reason."""
    schemes_of: dict[tuple[str, str, int], list[str]] = {}
    for name, row in results.items():
        for scheme, found in row.items():
            for reason, count in found["reasons"].items():
                schemes_of.setdefault((name, reason, count), []).append(scheme)
    return [
        [name, "all" if len(given) == len(results[name]) else ", ".join(given), str(count), reason]
        for (name, reason, count), given in schemes_of.items()
    ]


def cell(found: Mapping) -> str:
    """A cell of the table: "93.1% (33 of 53)"."""
    return f"{found['share']:.1%} ({found['masked']} of {found['kernels']})"


if __name__ == "__main__":
    sys.exit(main())
