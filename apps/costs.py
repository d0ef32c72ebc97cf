"""What training a model would cost with each method.

    spfde costs --model=resnet32 --width=2 --classes=100 --epochs=160 [--json=FILE]

Prints training FLOPs and memory of the methods in the papers' settings.
"""

import dataclasses
import sys
from collections.abc import Sequence

from . import models, program


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the program; those of `costs`, and where to write its table."""

    model: str = program.option("resnet32", "the model", choices=models.names())
    width: float = program.option(1.0, "factor on the model's channels", above=0)
    classes: int = program.option(10, "number of classes", least=2)
    epochs: int = program.option(160, "length of training", least=1)
    input_shape: tuple[int, ...] = program.option(
        (32, 32, 3), "height, width and channels of an image", several=int
    )
    samples: int = program.option(50_000, "training samples", least=1)
    batch_size: int = program.option(64, "samples in a batch", least=1)
    interval: int | None = program.option(
        None,
        "epochs between two updates of masks; if unset it follows the epochs: 5 of 160",
        least=1,
    )
    sparsities: tuple[float, ...] = program.option(
        (0.9, 0.95, 0.98), "sparsities to compare", several=float, least=0, below=1
    )
    bound: str | None = program.option(
        None,
        "soft bound of SpFDE and EM&S, as of `spfde train`; if unset 0.05,0.025,0@0.5625,0.75",
    )
    json: str | None = program.option(None, "file to write the table to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_print_costs, Options, __doc__, arguments)


def _print_costs(options: Options) -> None:
    from .method_costs import costs, render  # with TensorFlow, for which `--help` need not wait

    arguments = dataclasses.asdict(options)
    del arguments["json"]
    table = costs(**arguments)
    print(render(table))
    if options.json:
        program.write_json(options.json, table)


if __name__ == "__main__":
    sys.exit(main())
