"""Sub-nets of finished runs, side by side: trained in turn (AST), jointly, or each alone.

    spfde compare_subnets FOLDER... [--picture=FILE] [--json=FILE]

The folders are those of runs of `spfde train` with --method=ast or joint, of several sub-nets, or
of one sparsity each: those are the nets trained alone.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from . import finished, program
from .config import ALTERNATING, NOT_OF_TRAINING

_METHODS = ("AST", "AST, uncorrected", "joint", "separate")

# Options in which the runs compared may differ.
_FREE = (
    "method",
    "sparsity",
    "scheme",
    "gradient_correction",
    "seed",
    *NOT_OF_TRAINING,
)


@dataclasses.dataclass(frozen=True)
class Options(finished.Finished):
    """The options of the program."""

    picture: str | None = program.option(None, "PNG file to draw accuracies to", written=True)
    json: str | None = program.option(None, "file to write the table to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_print_comparison, Options, __doc__, arguments)


def _print_comparison(options: Options) -> None:
    if options.picture:
        from spfde_keras.files import replacing  # with TensorFlow, which no table needs

        from . import plots
    table = compare(options.folders)
    print(render(table))
    if options.json:
        program.write_json(options.json, table)
    if options.picture:
        config = table["config"]
        title = f"{config['dataset']}, {config['model']}: mean and range over seeds"
        with replacing(options.picture) as beside:
            plots.plot_subnets(table["methods"], beside, title)


def compare(folders: Sequence[str | os.PathLike]) -> dict:
    """Returns how accurate sub-nets are and what they cost, for each way of training them.

    Args:
        folders: those of finished runs of methods "ast" and "joint", of any seeds. A run with
            one sub-net counts as one of those that are trained separately.

    Returns:
        A dictionary: "config" (the options all runs share), and "methods", each with "method"
        ("AST", "AST, uncorrected", "joint" or "separate"); "training_flops" and
        "training_time_s" of all sub-nets together, for "separate" the sum over the runs of each
        alone, averaged over seeds (None for the time of runs on several machines); and "subnets",
        from the densest to the sparsest, each with "name", "scheme", "sparsity", "seeds" (sorted),
        "test_accuracies" (one a seed) and their mean, "test_accuracy".

    Raises:
        ValueError: a folder without results of such a run, runs that differ in other options
            or train other sub-nets, or a sub-net with two runs of the same seed.

    Source: AST (Yang et al., NeurIPS 2022), section 4.
    """
    if not folders:
        raise ValueError("At least one folder of a finished run is needed. Received: none")
    runs = {str(folder): _read(folder) for folder in folders}
    _check_options(runs)
    finished.check_same_data(runs)
    _check_subnets(runs)
    config = next(iter(runs.values()))["config"]
    grouped = {name: [r for r in runs.values() if _method(r) == name] for name in _METHODS}
    return {
        "config": {name: value for name, value in config.items() if name not in _FREE},
        "methods": [_summary(name, group) for name, group in grouped.items() if group],
    }


def render(table: Mapping) -> str:
    """Returns the result of `compare` as text."""
    config = table["config"]
    lines = [
        f"{config['dataset']}, {config['model']}, {config['epochs']} epochs: mean test accuracy "
        "(lowest to highest seed); FLOPs and time of training all sub-nets",
        "",
        f"{'method':<18}{'sub-net':<12}{'scheme':<14}{'sparsity':>8}{'accuracy':>10}"
        f"{'(range)':>18}{'seeds':>7}{'training FLOPs':>16}{'time':>18}",
    ]
    for method in table["methods"]:
        name = method["method"]
        cost = (
            f"{method['training_flops']:>16.3g}{finished.duration(method['training_time_s']):>18}"
        )
        for subnet in method["subnets"]:
            found = subnet["test_accuracies"]
            spread = f"({min(found):.4f}-{max(found):.4f})"
            lines.append(
                f"{name:<18}{subnet['name']:<12}{subnet['scheme']:<14}{subnet['sparsity']:>8.4f}"
                f"{subnet['test_accuracy']:>10.4f}{spread:>18}{len(found):>7}{cost}"
            )
            name = cost = ""
    return "\n".join(lines)


def _read(folder: str | os.PathLike) -> dict:
    found = finished.read(folder)
    method = found["config"]["method"]
    if method not in ALTERNATING:
        raise ValueError(
            f"Runs must be of method {' or '.join(ALTERNATING)}. Received: {method} in {folder}"
        )
    return found


def _method(run: Mapping) -> str:
    config = run["config"]
    if len(run["subnets"]) == 1:
        return "separate"
    if config["method"] == "joint":
        return "joint"
    return "AST" if config["gradient_correction"] else "AST, uncorrected"


def _subnets(run: Mapping) -> dict[tuple[str, str], dict]:
    """The results of the sub-nets of a run by name and scheme."""
    schemes, subnets = run["config"]["scheme"], run["subnets"]
    schemes = schemes if len(schemes) == len(subnets) else schemes * len(subnets)
    return {(s["name"], scheme): s for s, scheme in zip(subnets, schemes, strict=True)}


def _check_options(runs: Mapping[str, Mapping]) -> None:
    (first, run), *others = runs.items()
    for folder, other in others:
        ours, theirs = run["config"], other["config"]
        differing = [
            f"--{name} is {ours.get(name)} in {first}, {theirs.get(name)} in {folder}"
            for name in ours | theirs
            if name not in _FREE and ours.get(name) != theirs.get(name)
        ]
        if differing:
            raise ValueError(
                "Runs must differ in nothing but method, sub-nets, gradient correction and seed. "
                f"Received: {'; '.join(differing)}"
            )


def _check_subnets(runs: Mapping[str, Mapping]) -> None:
    trained: dict[tuple, str] = {}
    by_method: dict[str, set] = {}
    exact: dict[tuple, float | None] = {}
    for folder, run in runs.items():
        method, seed = _method(run), run["config"]["seed"]
        trains = _subnets(run)
        for subnet, sparsity in zip(trains, run["config"]["sparsity"] or (), strict=False):
            if exact.setdefault(subnet, sparsity) != sparsity:
                raise ValueError(
                    "Sub-nets of one name must have one sparsity. Received: "
                    f"{exact[subnet]} and {sparsity} ({folder})"
                )
        for subnet in trains:
            twin = trained.setdefault((method, subnet, seed), folder)
            if twin != folder:
                raise ValueError(
                    f"A sub-net must have one run for each method and seed. Received: {method}, "
                    f"{' '.join(subnet)}, seed {seed} in {twin} and {folder}"
                )
        # Only all separate runs together train all sub-nets.
        source = method if method == "separate" else folder
        by_method.setdefault(source, set()).update(_subnets(run))
    everything = set().union(*by_method.values())
    for source, subnets in by_method.items():
        if subnets != everything:
            missing = ", ".join(" ".join(subnet) for subnet in sorted(everything - subnets))
            raise ValueError(
                f"All methods must train the same sub-nets. Received: {source} without {missing}"
            )


def _summary(method: str, runs: Sequence[Mapping]) -> dict:
    rows = []
    for name, scheme in {subnet: None for run in runs for subnet in _subnets(run)}:
        found = {
            run["config"]["seed"]: _subnets(run)[name, scheme]
            for run in runs
            if (name, scheme) in _subnets(run)
        }
        accuracies = [subnet["test_accuracy"] for _, subnet in sorted(found.items())]
        rows.append(
            {
                "name": name,
                "scheme": scheme,
                "sparsity": float(np.mean([subnet["sparsity"] for subnet in found.values()])),
                "seeds": sorted(found),
                "test_accuracy": float(np.mean(accuracies)),
                "test_accuracies": accuracies,
            }
        )
    one_machine = len(finished.machines(runs)) == 1
    return {
        "method": method,
        "training_flops": _total(runs, "training_flops"),
        "training_time_s": _total(runs, "training_time_s") if one_machine else None,
        "subnets": sorted(rows, key=lambda row: row["sparsity"]),
    }


def _total(runs: Sequence[Mapping], quantity: str) -> float:
    """The sum over the runs that together train all sub-nets, each averaged over seeds."""
    groups: dict[frozenset, list[float]] = {}
    for run in runs:
        groups.setdefault(frozenset(_subnets(run)), []).append(run[quantity])
    return float(sum(np.mean(values) for values in groups.values()))


if __name__ == "__main__":
    sys.exit(main())
