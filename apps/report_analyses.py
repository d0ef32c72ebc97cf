"""The part of a report on what was measured of masks, layers and samples while a run trained."""

from collections.abc import Iterator, Sequence

import numpy as np

from .finished_analyses import Analyses, Forgetting
from .report_charts import Line, curves, heatmap, number
from .report_html import Markup, charts, html, paragraph, picture, table

_TITLES = {
    "density": "density",
    "similarity": "structural similarity to the end of training",
    "overlap": "overlap of the mask with the one before",
    "explored": "share of positions that were ever active",
    "cka": "similarity of outputs (linear CKA) to the end",
}


def parts(found: Analyses) -> Iterator[Markup]:
    """Gives the parts, as HTML."""
    gradients = _map("norm of the gradient of kept weights", found.gradient_norms, found)
    several = len(found.subnets) > 1
    for name, measures in found.subnets.items():
        if several:
            yield Markup(f"<h3>{html(name)}</h3>")
        maps = [_map(title, measures[measure], found) for measure, title in _TITLES.items()]
        yield charts(*maps, "" if several else gradients)
        yield _at_the_end(name, found)
    if several:
        yield Markup("<h3>All sub-nets</h3>")
        yield charts(gradients)
    if found.forgetting is not None:
        yield from _samples(found, found.forgetting)


def _map(title: str, values: np.ndarray, found: Analyses) -> str:
    return heatmap(title, values.T.tolist(), found.layers, found.epochs.tolist())


def _at_the_end(subnet: str, found: Analyses) -> Markup:
    """The last record, as a table: also for those who cannot see the maps."""
    has_blocks = any(block is not None for block in found.blocks)
    measures = found.subnets[subnet]
    columns = [[_known(value) for value in measures[name][-1]] for name in _TITLES]
    columns.append([_known(value) for value in found.gradient_norms[-1]])
    if has_blocks:
        columns.insert(0, ["" if block is None else str(block + 1) for block in found.blocks])
    headings = [*(["block"] if has_blocks else []), *_TITLES, "gradient norm"]
    rows = zip(found.layers, *columns, strict=True)
    return table(f"{subnet}: after epoch {found.epochs[-1]:g}", ["layer", *headings], rows)


def _known(value: float) -> str:
    return "" if np.isnan(value) else number(value)


def _samples(found: Analyses, forgetting: Forgetting) -> Iterator[Markup]:
    epochs = found.epochs.tolist()
    bins = [str(events) for events in range(forgetting.histogram.shape[1])]
    bins[-1] += " or more"
    yield Markup("<h3>Samples</h3>")
    yield charts(
        curves(
            "samples never forgotten, and never learned",
            [
                Line("never forgotten", epochs, forgetting.never_forgotten.tolist(), style=0),
                Line("never learned", epochs, forgetting.never_learned.tolist(), style=1),
            ],
            "epoch",
        ),
        heatmap(
            "samples by forgetting events since the last record",
            forgetting.histogram.T.tolist(),
            bins,
            epochs,
        ),
        *(
            picture(f"{name} samples", found.pictures[name], f"{name} samples: {_ids(ids)}")
            for name, ids in (("easiest", forgetting.easiest), ("hardest", forgetting.hardest))
            if name in found.pictures
        ),
    )
    yield paragraph(
        "A forgetting event: a sample judged right at one visit and wrong at the next. Easiest, by "
        f"the fewest events: {_ids(forgetting.easiest)}. Hardest: {_ids(forgetting.hardest)}."
    )


def _ids(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids)) or "none"
