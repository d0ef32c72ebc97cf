"""Whether a file with sparse weights is fit for phones; `export_tflite` publishes no other."""

import os
from collections.abc import Iterable, Mapping

import numpy as np

from spfde_keras.export.inspection import InspectReport, Problem
from spfde_keras.export.inspection.printing import reasons
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode

# Ways in which the converter itself writes sparse weights wrong, in any graph.
_MISWRITTEN = ("sparse_blocks", "sparse_reader")


class NotAccepted(RuntimeError):
    """A file is not fit for phones; the message names the ways out."""


def is_stored_sparse(inspected: InspectReport) -> bool:
    """Returns whether a file holds any weights stored sparse.

    Args:
        inspected: the inspector's report on it.
    """
    return any(weights.stored != "dense" for graph in inspected.graphs for weights in graph.weights)


def miswritten(inspected: InspectReport) -> str:
    """Returns why weights must be stored dense to be correct; "" if sparse ones are correct.

    Args:
        inspected: the inspector's report on the file with sparse weights.
    """
    return next((p.why for p in inspected.problems if p.rule in _MISWRITTEN), "")


def accept(inspected: InspectReport, mobile: bool) -> None:
    """Refuses a file that phones cannot load or would run wrong or, on request, not sparse.

    Args:
        inspected: the inspector's report on it.
        mobile: bool, whether it must run sparse there.

    Raises:
        NotAccepted: the message names each reason and the ways out.
    """
    if mobile and not inspected.sparse_on_arm64:
        raise NotAccepted(
            "`model` cannot run sparse on phones without changing what it computes. No file was "
            f"written.\n{_listed(inspected.problems)}"
        )
    if not inspected.safe_on_arm64:
        rewriting = ", or mobile=True, which rewrites layers that have an exact equivalent"
        raise NotAccepted(
            "On phones this file would give wrong results, or not load. No file was written. "
            f"Change the model{'' if miswritten(inspected) else rewriting}, or use sparse=False.\n"
            f"{_listed(problem for problem in inspected.problems if problem.hazard)}"
        )


def obstacle(inspected: InspectReport) -> str:
    """Returns why a file does not run sparse on phones, the first reason; "" if it does.

    Args:
        inspected: the inspector's report on it.
    """
    if inspected.sparse_on_arm64:
        return ""
    slow = {graph.name for graph in inspected.graphs if not graph.sparse_on_arm64}
    found = [p for graph in inspected.graphs if graph.name in slow for p in graph.problems]
    first, *others = [why for why, _ in reasons(found)] or ["no weights"]
    return f"{first}; and {len(others)} more" if others else first


def run_in_sparse_mode(
    path: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, Mapping[str, np.ndarray]],
    tolerance: float,
) -> tuple[str, float] | tuple[None, None]:
    """Compares a file with its model in the first of the installed sparse-mode runtimes.

    Args:
        path: the .tflite file.
        inputs: arrays (samples, *input shape) by the names of the inputs in the file.
        expected: for each signature the outputs of the Keras model, by name.
        tolerance: float, the largest error accepted, as a share of the output's scale.

    Returns:
        (runtime, largest error of any signature); twice None if there is no runtime.

    Raises:
        RuntimeError: if it cannot run the file, or an error is above `tolerance`.
    """
    runtimes = available_runtimes()
    if not runtimes:
        return None, None
    errors = [
        check_sparse_mode(path, inputs, outputs, tolerance, signature, runtimes[0])
        for signature, outputs in expected.items()
    ]
    return runtimes[0], max(errors)


def _listed(problems: Iterable[Problem]) -> str:
    """A line for each kind of operator and rule."""
    return "\n".join(f"- {why}. Fix: {fix}." for why, fix in reasons(list(problems)))
