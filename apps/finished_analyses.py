"""What `spfde train --analyse` leaves in the folder of a run, read and checked."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

FILE = "analyses.json"

KEY = "analyses"
"""Under which a file of benchmarks/results/evidence holds them."""

MEASURES = ("density", "similarity", "overlap", "explored", "cka")
"""What is measured of each layer of a sub-net."""

PICTURES = ("easiest", "hardest")

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Forgetting:
    """How often samples were forgotten.

    Args:
        histogram: array (records, bins), the samples with so many events; the last bin has all
            with more.
        never_forgotten: array (records,), samples once learned and never forgotten.
        never_learned: array (records,), samples.
        easiest: ids of samples.
        hardest: ids of samples.
    """

    histogram: np.ndarray
    never_forgotten: np.ndarray
    never_learned: np.ndarray
    easiest: tuple[int, ...]
    hardest: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Analyses:
    """What was measured of a run at each record, NaN where a measure does not apply.

    Args:
        epochs: array (records,), the epochs that were done.
        layers: names of the masked layers, in the model's order.
        blocks: the freezing block of each layer, None where that is not known.
        subnets: by name of sub-net and of measure an array (records, layers).
        gradient_norms: array (records, layers).
        forgetting: None where nothing was counted.
        pictures: by name the content of a PNG file.
    """

    epochs: np.ndarray
    layers: tuple[str, ...]
    blocks: tuple[int | None, ...]
    subnets: Mapping[str, Mapping[str, np.ndarray]]
    gradient_norms: np.ndarray
    forgetting: Forgetting | None
    pictures: Mapping[str, bytes]


def read(folder: str | os.PathLike) -> Analyses | None:
    """Returns the analyses of a run, None where there are none.

    Args:
        folder: of the run, or its file of benchmarks/results/evidence, which holds the same.

    Raises:
        ValueError: a file is damaged.
    """
    path = pathlib.Path(folder)
    inside = path.is_file()
    path = path if inside else path / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        if not inside:
            return _analyses(found, _pictures(path.parent))
        return _analyses(found[KEY], {}) if KEY in found else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, LookupError) else error
        raise ValueError(
            f"Analyses must be as `spfde train --analyse` writes them. Received: {path} ({reason})"
        ) from None


def _analyses(found: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Analyses:
    epochs = _array("epochs", found["epochs"], (len(found["epochs"]),))
    if not len(epochs):
        raise ValueError("`epochs` has none")
    layers = tuple(map(str, found["layers"]))
    each = len(epochs), len(layers)
    counted = found.get("forgetting")
    blocks: list[int | None] = [None] * len(layers)
    for number, block in enumerate(found.get("blocks") or ()):
        for index in block:
            blocks[index] = number
    return Analyses(
        epochs,
        layers,
        tuple(blocks),
        {
            str(name): {measure: _array(measure, of[measure], each) for measure in MEASURES}
            for name, of in found["subnets"].items()
        },
        _array("gradient_norms", found["gradient_norms"], each),
        None if counted is None else _forgetting(counted, len(epochs)),
        pictures,
    )


def _forgetting(found: Mapping[str, Any], records: int) -> Forgetting:
    bins = len(found["histogram"][0])
    return Forgetting(
        _array("histogram", found["histogram"], (records, bins)),
        _array("never_forgotten", found["never_forgotten"], (records,)),
        _array("never_learned", found["never_learned"], (records,)),
        tuple(map(int, found["easiest"])),
        tuple(map(int, found["hardest"])),
    )


def _array(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values as an array; null, for what does not apply, as NaN, also in place of a whole row."""
    if values is None:
        return np.full(shape, np.nan)
    if len(shape) > 1:
        return np.stack([_array(name, row, shape[1:]) for row in _all(name, values, shape[0])])
    array = np.array(_all(name, values, shape[0]), dtype=float)
    if array.shape != shape:
        raise ValueError(f"`{name}` is not a table of numbers")
    return array


def _all(name: str, values: Any, number: int) -> Any:
    if len(values) != number:
        raise ValueError(f"`{name}` has {len(values)} where there should be {number}")
    return values


def _pictures(folder: pathlib.Path) -> dict[str, bytes]:
    pictures = {}
    for name in PICTURES:
        path = folder / f"{name}.png"
        if path.exists():
            pictures[name] = path.read_bytes()
            if not pictures[name].startswith(_PNG):
                raise ValueError(f"{path.name} is no PNG file")
    return pictures
