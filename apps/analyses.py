"""Analyses of a run: recorded while it trains, written beside its results."""

import pathlib

from spfde_keras import Analyses
from spfde_keras.sparse_training import SparseTraining

from . import datasets, plots
from .progress import say
from .results import ANALYSES
from .streamed import Streamed

_PROBE_SAMPLES = 128


def callback(training: SparseTraining, dataset: datasets.Dataset | Streamed) -> Analyses:
    """Returns what records them, on the first training images."""
    several = dataset.train_samples > 1
    return Analyses(training, dataset.typical(_PROBE_SAMPLES) if several else None)


def write(analyses: Analyses, dataset: datasets.Dataset | Streamed, folder: pathlib.Path) -> None:
    """Writes what was recorded, and pictures of the easiest and hardest samples.

    Args:
        analyses: what has recorded the run.
        dataset: of the run; images that stay in their files give no pictures.
        folder: where to write.
    """
    record, *sheets = ANALYSES
    analyses.save(folder / record)
    forgetting = analyses.result()["forgetting"]
    for name in sheets:
        kind = name.removesuffix(".png")
        found = dataset.pictures(forgetting[kind])
        if found is None:
            say(f"no {name}: the images of {dataset.name} stay in their files")
        elif forgetting[kind]:
            plots.plot_pictures(*found, folder / name, _TITLES[kind])


_TITLES = {
    "easiest": "learned, and forgotten least often",
    "hardest": "never learned, or forgotten most often",
}
