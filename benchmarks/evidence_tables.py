"""What described runs found, as tables: a row for each file of flags, over its seeds."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from apps import finished, finished_analyses
from benchmarks import report
from benchmarks.evidence import FLAGS, RESULTS, ROOT, Row

TIMED = "10_dense-seed0"
"""The run on whose kind of machine others must have been, for their seconds to count."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What the runs of one file of flags found, those of all seeds.

    Args:
        runs: those.
        machine: that on which seconds count, in words.
    """

    runs: Sequence[finished.Run]
    machine: str

    @property
    def accuracies(self) -> np.ndarray:
        """Test accuracy in per cent, one row a run, a column for each sub-net."""
        subnets = [run.results["subnets"] for run in self.runs]
        return 100 * np.array([[one["test_accuracy"] for one in found] for found in subnets])

    @property
    def flops(self) -> float:
        """Training FLOPs, the mean of the runs."""
        return float(np.mean([run.results["training_flops"] for run in self.runs]))

    @property
    def memory(self) -> tuple[float, float]:
        """MiB that training takes as the plan counts them: on average, and at least."""
        of = self.runs[0].results
        return of["memory_average_bytes"] / 2**20, of["memory_minimum_bytes"] / 2**20

    def column(self, name: str) -> np.ndarray:
        """A column of the histories, a row for each run."""
        return np.array([[row[name] for row in run.history] for run in self.runs])

    @property
    def epoch_seconds(self) -> np.ndarray:
        """Seconds of each epoch: what the quickest tenth of its kind took, in all runs.

        A kind are epochs with as many blocks frozen, as many samples and the same density. Runs
        on other machines are left out; there must be another one (`is_timed`).
        """
        timed = self._timed
        of = ("frozen_blocks", "active_samples", "sparsity")
        kinds = np.stack([self.column(name).round(3) for name in of], axis=-1)[timed]
        _, kind = np.unique(kinds.reshape(-1, len(of)), axis=0, return_inverse=True)
        kind, seconds = kind.reshape(-1), self.column("seconds")[timed]
        quick = [np.percentile(seconds.reshape(-1)[kind == k], 10) for k in range(kind.max() + 1)]
        return np.array(quick)[kind].reshape(seconds.shape).mean(axis=0)

    @property
    def _timed(self) -> np.ndarray:
        return np.array([finished.machines([run.results]) == [self.machine] for run in self.runs])

    @property
    def is_timed(self) -> bool:
        """Whether the seconds of a run can stand beside those of others."""
        return bool(self._timed.any())

    @property
    def seconds(self) -> float:
        """Seconds of training, the sum of `epoch_seconds`."""
        return float(self.epoch_seconds.sum())


def read() -> dict[str, Found]:
    """Returns what was found, by the name of the file of flags.

    Raises:
        ValueError: a result is of other flags than its file has now, or than another seed had.
    """
    runs: dict[str, list[finished.Run]] = {}
    for path in sorted((ROOT / RESULTS).glob("*.json")):
        name, seed = path.stem.rsplit("-seed", 1)
        if not Row(FLAGS / f"{name}.flags", int(seed)).is_done():
            raise ValueError(f"{path.name} is of other flags than {name}.flags: train it again")
        runs.setdefault(name, []).append(finished.load(path))
    (machine,) = finished.machines([finished.read(ROOT / RESULTS / f"{TIMED}.json")])
    return {name: Found(found, machine) for name, found in runs.items()}


METHODS = {
    "static": "20_static",
    "SET": "20_set",
    "RigL": "20_rigl",
    "MEST EM": "20_mest_em",
    "MEST EM&S": "10_ems",
    "magnitude": "30_magnitude",
    "global magnitude": "30_global_magnitude",
    "ITOP": "30_itop",
    "DSR": "30_dsr",
    "GraNet": "30_granet",
    "AC/DC": "30_ac_dc",
    "SNIP": "30_snip",
    "GraSP": "30_grasp",
}
"""The methods, and the files of their runs at 90 %: numbers at 95 and 98 % are 1 and 2 more."""

EQUAL = [
    ("dense", "10_dense"),
    ("MEST EM&S", "10_ems_90"),
    ("SpFDE 15+15", "40_spfde_15_15_90"),
    ("EM&S, fewer epochs, FLOPs of 15+15", "40_ems_90_equal_flops_15_15"),
    ("SpFDE 20+20", "10_spfde_20_20_90"),
    ("EM&S, fewer epochs, FLOPs of 20+20", "10_ems_90_equal_flops"),
    ("SpFDE 25+25", "40_spfde_25_25_90"),
    ("EM&S, fewer epochs, FLOPs of 25+25", "40_ems_90_equal_flops_25_25"),
    ("SpFDE 20+20, seconds of dense", "45_spfde_20_20_90_dense_time"),
    ("SpFDE 20+20, 240 epochs", "60_spfde_20_20_90_240"),
    ("EM&S, seconds of dense", "45_ems_90_dense_time"),
]

PARTS = [
    ("MEST EM&S", "10_ems_90"),
    ("freezing 10 %", "41_freezing_10_90"),
    ("freezing 20 %", "41_freezing_20_90"),
    ("freezing 30 %", "41_freezing_30_90"),
    ("sieve 10 %", "41_sieve_10_90"),
    ("sieve 20 %", "41_sieve_20_90"),
    ("sieve 30 %", "41_sieve_30_90"),
    ("random sieve 20 %", "42_random_sieve_20_90"),
    ("random sieve 30 %", "42_random_sieve_30_90"),
    ("24 % removed once", "42_one_time_24_90"),
    ("freezing 20 %, single_shot_resume", "43_freezing_20_single_shot_resume_90"),
    ("freezing 20 %, periodic", "43_freezing_20_periodic_90"),
    ("freezing 20 %, delayed_periodic", "43_freezing_20_delayed_periodic_90"),
    ("λ = 0", "44_lam_0_90"),
    ("λ = 1", "44_lam_1_90"),
    ("bound 2 / 1 / 0 %", "44_bound_readme_90"),
    ("interval 1", "44_interval_1_90"),
    ("interval 6", "44_interval_6_90"),
    ("block", "46_ems_block_90"),
    ("pattern", "46_ems_pattern_90"),
    ("channel", "46_ems_channel_90"),
    ("ERK", "46_ems_erk_90"),
    ("ERK, 95 %", "46_ems_erk_95"),
    ("weight decay 1e-4", "47_ems_90_decay_1e-4"),
    ("weight decay 5e-3", "47_ems_90_decay_5e-3"),
]

ANALYSED = [
    ("dense", "70_analysed_dense"),
    *((f"static, {s} %", f"70_analysed_static_{s}") for s in (90, 95, 98)),
    *((f"SET, {s} %", f"70_analysed_set_{s}") for s in (90, 95, 98)),
    *((f"MEST EM&S, {s} %", f"70_analysed_ems_{s}") for s in (90, 95, 98)),
    ("MEST EM&S, 90 %, block", "70_analysed_ems_block_90"),
    ("MEST EM&S, 90 %, pattern", "70_analysed_ems_pattern_90"),
    ("SpFDE 20+20, 90 %", "70_analysed_spfde_20_20_90"),
]

SUBNETS = [
    ("AST", "50_ast_90_95_98"),
    ("joint", "50_joint_90_95_98"),
    ("AST, uncorrected", "51_ast_uncorrected_90_95_98"),
    ("AST, all weights at first", "51_ast_dense_start_90_95_98"),
    ("AST, pruned by GraNet", "51_ast_granet_90_95_98"),
    ("AST, weight decay 1e-4", "51_ast_weak_decay_90_95_98"),
    ("AST, 180 epochs", "52_ast_90_95_98_180"),
]


def methods(found: Mapping[str, Found]) -> str:
    """The table of methods: accuracy at three sparsities, cost at 90 %."""
    rows = []
    for label, first in METHODS.items():
        number, name = first.split("_", 1)
        names = [f"{int(number) + more}_{name}_{90 + extra}" for more, extra in _LEVELS]
        if number == "10":
            names[1:] = ["21_ems_95", "22_ems_98"]
        at = [found.get(one) for one in names]
        cost = [_flops(at[0]), _seconds(at[0])]
        rows.append([label, *map(_accuracy, at), *cost])
    return _table(["", "90 %", "95 %", "98 %", "FLOPs at 90 %", "seconds at 90 %"], rows)


_LEVELS = ((0, 0), (1, 5), (2, 8))


def listed(runs: Sequence[tuple[str, str]]) -> Callable[[Mapping[str, Found]], str]:
    """Returns what makes a table of some runs, a row each."""

    def table(found: Mapping[str, Found]) -> str:
        kept = [(label, found.get(name)) for label, name in runs]
        rows = [
            [label, _accuracy(one), _flops(one), _seconds(one), _memory(one)] for label, one in kept
        ]
        headings = ["", "test accuracy", "training FLOPs", "seconds", "MiB, average and least"]
        return _table(headings, rows)

    return table


def epochs(found: Mapping[str, Found]) -> str:
    """The table of epochs: FLOPs and time by the number of frozen blocks, SpFDE 20+20."""
    one = found.get("10_spfde_20_20_90")
    if one is None or not one.is_timed:
        return _table(["frozen blocks", "epochs", "FLOPs", "seconds"], [])
    frozen = one.column("frozen_blocks")[0]
    flops = np.diff(one.column("flops_share")[0] * np.arange(1, len(frozen) + 1), prepend=0)
    rows = []
    for count in np.unique(frozen):
        of = frozen == count
        rows.append((count, of.sum(), np.median(flops[of]), np.median(one.epoch_seconds[of])))
    (_, _, *first), *_ = rows
    shown = [
        [f"{count:.0f}", str(number), f"{f / first[0]:.2f}", f"{s / first[1]:.2f} ({s:.2f} s)"]
        for count, number, f, s in rows
    ]
    return _table(["frozen blocks", "epochs", "FLOPs", "seconds"], shown)


def forgetting(found: Mapping[str, Found]) -> str:
    """The table of samples: how many are never forgotten, never learned."""
    rows = []
    for label, name in ANALYSED:
        if name in found:
            counts = [analyses.forgetting for analyses in _analyses(found[name])]
            never = [[of.never_forgotten[-1], of.never_learned[-1]] for of in counts if of]
            rows.append([label, *(f"{mean:.0f}" for mean in np.mean(never, axis=0))])
    return _table(["", "never forgotten", "never learned"], rows)


_LAYERS = ("70_analysed_dense", "70_analysed_ems_90", "70_analysed_spfde_20_20_90")


def layers(found: Mapping[str, Found]) -> str:
    """The table of layers: how like their final form they are, from one run of each kind."""
    rows, headings = [], ["", "epochs"]
    for label, name in ANALYSED:
        if name not in _LAYERS or name not in found:
            continue
        analyses = _analyses(found[name])[0]
        (subnet,) = analyses.subnets.values()
        headings = ["", "epochs", *analyses.layers]
        for epoch in (12, 24, 36):
            record = analyses.epochs.tolist().index(epoch)
            pairs = zip(subnet["similarity"][record], subnet["cka"][record], strict=True)
            rows.append([label, str(epoch), *(f"{s:.2f}, {c:.2f}" for s, c in pairs)])
    return _table(headings, rows)


def _analyses(found: Found) -> list[finished_analyses.Analyses]:
    read = (finished_analyses.read(run.source) for run in found.runs)
    return [analyses for analyses in read if analyses is not None]


def subnets(found: Mapping[str, Found]) -> str:
    """The table of sub-nets: trained in turn, jointly, and each alone."""
    rows = []
    for label, name in SUBNETS:
        one = found.get(name)
        accuracies = [_accuracy(one, column) for column in range(3)]
        rows.append([label, *accuracies, _flops(one), _seconds(one)])
    alone = [found.get(f"50_alone_{sparsity}") for sparsity in (90, 95, 98)]
    known = [one for one in alone if one is not None]
    whole = len(known) == 3
    flops = f"{sum(one.flops for one in known):.3g}" if whole else _NOT_RUN
    timed = whole and all(one.is_timed for one in known)
    seconds = f"{sum(one.seconds for one in known):.0f}" if timed else _NOT_TIMED
    rows.append(["each alone", *map(_accuracy, alone), flops, seconds])
    return _table(["", "90 %", "95 %", "98 %", "FLOPs, all three", "seconds"], rows)


def lengths(found: Mapping[str, Found]) -> str:
    """The table of lengths: how the answer changes with the epochs."""
    names = {
        "static": "60_static_90_{}",
        "MEST EM&S": "60_ems_90_{}",
        "SpFDE 20+20": "60_spfde_20_20_90_{}",
        "EM&S, fewer epochs, FLOPs of 20+20": "60_ems_90_{}_equal_flops",
    }
    epochs = (12, 36, 100)
    rows = [
        [label, *(_accuracy(found.get(name.format(length))) for length in epochs)]
        for label, name in names.items()
    ]
    return _table(["", *(f"{length} epochs" for length in epochs)], rows)


DIGITS = [
    ("`tiny_cnn`, dense", "80_digits_dense"),
    *((f"`tiny_cnn`, {s} %", f"80_digits_spfde_{s}") for s in (80, 90, 95, 98)),
    ("`small_cnn`, 90 %", "81_digits_small_cnn"),
    ("`mobilenet_sparse` x0.5, 90 %", "82_digits_mobilenet_sparse"),
    ("`mobilenetv2_sparse` x0.5, 90 %", "82_digits_mobilenetv2_sparse"),
]


def digits(found: Mapping[str, Found]) -> str:
    """The table of runs on the digits: accuracy, loss, FLOPs and the file."""
    rows = []
    for label, name in DIGITS:
        one = found.get(name)
        rows.append([label, _accuracy(one), *(_mean(one, key) for key in _DIGITS)])
    headings = ["", "test accuracy", "test loss", "FLOPs of dense", "seconds", "bytes of the file"]
    return _table(headings, rows)


_DIGITS = {
    "test_loss": "{:.3f}",
    "flops_share": "{:.3f}",
    "training_time_s": "{:.0f}",
    "tflite_bytes": "{:,.0f}",
}
"""What is shown of results, and how."""


def _mean(found: Found | None, key: str) -> str:
    if found is None:
        return _NOT_RUN
    if key == "training_time_s" and not found.is_timed:
        return _NOT_TIMED
    return _DIGITS[key].format(np.mean([run.results[key] for run in found.runs]))


TABLES: dict[str, Callable[[Mapping[str, Found]], str]] = {
    "methods": methods,
    "equal": listed(EQUAL),
    "parts": listed(PARTS),
    "epochs": epochs,
    "forgetting": forgetting,
    "layers": layers,
    "subnets": subnets,
    "lengths": lengths,
    "digits": digits,
}

_NOT_RUN, _NOT_TIMED = "not run", "not timed"


def _accuracy(found: Found | None, column: int = 0) -> str:
    """Mean and standard deviation over seeds; one seed is marked as such."""
    if found is None:
        return _NOT_RUN
    values = found.accuracies[:, column]
    if len(values) == 1:
        return f"{values[0]:.2f} (one seed)"
    seeds = "" if len(values) == 3 else f" ({len(values)} seeds)"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}{seeds}"


def _flops(found: Found | None) -> str:
    return _NOT_RUN if found is None else f"{found.flops:.3g}"


def _seconds(found: Found | None) -> str:
    if found is None:
        return _NOT_RUN
    return f"{found.seconds:.0f}" if found.is_timed else _NOT_TIMED


def _memory(found: Found | None) -> str:
    return _NOT_RUN if found is None else "{:.0f}, {:.0f}".format(*found.memory)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # What no seed has been trained for is left out.
    kept = [row for row in rows if any(cell != _NOT_RUN for cell in row[1:])]
    return report.Table(headings, kept).markdown()
