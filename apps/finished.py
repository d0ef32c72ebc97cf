"""Finished runs: which to read, what they found, and that as a table. TensorFlow is not needed."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

from .program import Options, option


@dataclasses.dataclass(frozen=True)
class Finished(Options):
    """The options of programs that read finished runs."""

    folders: tuple[str, ...] = option((), "folders of finished runs", several=str, positional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folders:
            raise ValueError("At least one folder of a finished run is needed. Received: none")


def read(folder: str | os.PathLike) -> dict:
    """Returns what `results.json` in the folder of a finished run holds.

    Raises:
        ValueError: there is none, or it is not of a run.
    """
    path = pathlib.Path(folder)
    try:
        found = json.loads((path / "results.json").read_text())
        found["config"]["method"]
    except (OSError, ValueError, LookupError, TypeError):
        inside = next(path.glob("*/results.json"), None)
        raise ValueError(
            f"A folder must hold results.json of a finished run. Received: {folder}"
            + (f"; folders in it do: give them, as {path}/*" if inside else "")
        ) from None
    return found


def table(results: Mapping) -> str:
    """Returns the results as a short table to print."""
    accuracy = [
        ("test accuracy", "{test_accuracy:.4f}" + _of_paper(results, "accuracy", ".4f")),
        ("test accuracy, .tflite", "{tflite_test_accuracy:.4f}"),
    ]
    sparse_mode = "{sparse_mode_test_accuracy:.4f}"
    measured = results["sparse_mode_test_samples"] > 0
    if measured:
        text = f"{sparse_mode}, on {{sparse_mode_test_samples}} samples"
        accuracy.append(("in sparse mode", text))
    if len(results["subnets"]) > 1:
        text = "test accuracy {test_accuracy:.4f}, .tflite {tflite_test_accuracy:.4f}"
        text += f", in sparse mode {sparse_mode}" if measured else ""
        accuracy = [(s["name"], text.format(**s)) for s in results["subnets"]]
    lines = [
        *accuracy,
        ("sparsity", "{sparsity:.4f}"),
        (
            "training FLOPs",
            "{training_flops:.3g}, {flops_share:.3f} of dense" + _of_paper(results, "flops", ".3g"),
        ),
        ("samples in use", "{active_samples} of {train_samples}"),
        ("frozen blocks", "{frozen_blocks} of {blocks}"),
        (".tflite", "{tflite_bytes:,} bytes, {tflite_share:.3f} of dense"),
        ("on phones", _ON_PHONES[results["tflite_runs_sparse"]]),
        ("time", "{wall_time_s:.0f} s"),
    ]
    return "\n".join(f"{name:<24}{text.format(**results)}" for name, text in lines)


def _of_paper(results: Mapping, what: str, form: str) -> str:
    """What a paper reports, in words to stand behind what was found."""
    found = results["config"].get(f"paper_{what}")
    return "" if found is None else f"; the paper {found:{form}}"


_ON_PHONES = {
    True: "runs sparse, on ARM64, ARM and WebAssembly",
    False: "does not run sparse: `spfde inspect` with the file says why",
}
