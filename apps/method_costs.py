"""What training a model costs with each method, by the rules of `spfde_keras.cost`."""

from collections.abc import Iterator, Sequence

from spfde_keras import checks
from spfde_keras.cost.model import ModelCost, profile
from spfde_keras.cost.plan import PlanCost, TrainingPlan
from spfde_keras.freezing.plan import Freezing
from spfde_keras.masking import find_masks
from spfde_keras.schedules import Step
from spfde_keras.sparsify import sparsify
from spfde_keras.timeline import usual_interval
from spfde_keras.updaters import MESTEM, MESTEMS, SET, RigL

from . import models, schedule_flags

_SPFDE = (0.15, 0.2, 0.25)
_BOUNDARIES = (90 / 160, 120 / 160)
_README_BOUND = (0.02, 0.01, 0.0)

_PLAN_RULES = (
    "EM&S: a soft bound of +2/+1/+0 % density, switching at 90/160 and 120/160 of training "
    "(MEST's README); EM&S of train, and SpFDE, have that of `--bound`, by default +5/+2.5/+0 % "
    "(MEST's script). A bound is at most the density itself.",
    "SpFDE x+y: freezing saves x % of the training FLOPs of the same run without freezing "
    "(single shot, at most 2/3 of the kernels), data sieving leaves y % of the samples out of "
    "every epoch. A kernel in a frozen block has its final density.",
    "RigL and MEST: each mask update takes its gradient from one extra pass over a batch, for RigL "
    "with the weight gradient of the dense model.",
    "Memory: over the epochs of training; both columns compare with static and SET, the least that "
    "dynamic sparse training needs.",
)


def costs(
    model: str,
    width: float = 1.0,
    classes: int = 10,
    epochs: int = 160,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    samples: int = 50_000,
    batch_size: int = 64,
    interval: int | None = None,
    sparsities: Sequence[float] = (0.9, 0.95, 0.98),
    bound: str | float | None = None,
) -> dict:
    """Returns what training a model costs with each method, without training it.

    Args:
        model: name of a model in `models`.
        width: float, factor on its channel counts.
        classes: int.
        epochs: int, length of training.
        input_shape: (height, width, channels).
        samples: int, number of training samples.
        batch_size: int.
        interval: int, epochs between mask updates; None for one that follows the epochs, as
            in `SpFDE`.
        sparsities: floats in (0, 1), uniform over all kernels but those that
            `models.dense_layers` leaves dense.
        bound: None, or the soft bound of SpFDE, and of EM&S beside that of MEST's README: a
            number, or text as of `schedule_flags.parse`.

    Returns:
        A dictionary: "config" (the arguments), "left_dense" (names of layers), "rules" (strings),
        and "rows", each with "sparsity", "method", "training_flops", "share_of_dense",
        "memory_average" and "memory_minimum" (bytes), the last two also relative to SET as
        "memory_average_vs_set" and "memory_minimum_vs_set", and "note". A plan that is out of
        reach has None for numbers and the reason in "note".

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> table = costs("mlp", input_shape=(8, 8, 1), epochs=10, sparsities=[0.9])
    >>> [row["method"] for row in table["rows"]][:3]
    ['dense', 'static, SET', 'RigL']

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 4; MEST (Yuan et al., NeurIPS 2021).
    """
    interval = usual_interval(epochs) if interval is None else interval
    config = {name: value for name, value in locals().items()}
    for name in ("epochs", "samples", "batch_size", "interval"):
        checks.whole(name, config[name])
    ems = MESTEMS() if bound is None else MESTEMS(schedule_flags.schedule("bound", bound))
    rule = "a list of numbers in (0, 1)"
    sparsities = checks.each(checks.number, "sparsities", sparsities, rule, above=0, below=1)

    dense_model = models.build(model, input_shape, classes, width)
    sparse_model = sparsify(dense_model, 0.9, dense=models.dense_layers(model))
    cost = profile(sparse_model)
    run = {"epochs": epochs, "interval": interval, "samples": samples, "batch_size": batch_size}
    dense = TrainingPlan(cost, {}, None, **run).cost()
    rows = [_row(None, "dense", dense, dense, None)]
    for sparsity in sparsities:
        densities = {mask.kernel_path: 1 - sparsity for mask in find_masks(sparse_model)}
        least = TrainingPlan(cost, densities, SET(), **run).cost()
        rows += [
            _row(sparsity, method, plan, dense, least, note)
            for method, plan, note in _plans(cost, densities, run, ems)
        ]
    return {
        "config": config,
        "left_dense": list(sparse_model.left_dense),
        "rules": [*cost.rules, *_PLAN_RULES],
        "rows": rows,
    }


def _plans(
    cost: ModelCost, densities: dict[str, float], run: dict, ems: MESTEMS
) -> Iterator[tuple[str, PlanCost | None, str]]:
    for method, updater in (
        ("static, SET", SET()),
        ("RigL", RigL()),
        ("MEST EM", MESTEM()),
        ("MEST EM&S", MESTEMS(Step(_README_BOUND, _BOUNDARIES))),
        ("EM&S of train", ems),
    ):
        yield method, TrainingPlan(cost, densities, updater, **run).cost(), ""
    for share in _SPFDE:
        sieved = run | {"samples": round(run["samples"] * (1 - share))}
        plan = TrainingPlan(cost, densities, ems, **sieved)
        method = f"SpFDE {share:.0%}+{share:.0%}"
        try:
            freeze = plan.solve(Freezing(share))
        except ValueError as error:
            yield method, None, str(error)
            continue
        note = (
            f"{freeze.frozen.max()} of {cost.blocks} blocks frozen, one per interval, from "
            f"epoch {(freeze.frozen > 0).argmax()} on"
        )
        yield method, plan.cost(freeze), note


def _row(
    sparsity: float | None,
    method: str,
    plan: PlanCost | None,
    dense: PlanCost,
    least: PlanCost | None,
    note: str = "",
) -> dict:
    numbers = dict.fromkeys(
        (
            "training_flops",
            "share_of_dense",
            "memory_average",
            "memory_minimum",
            "memory_average_vs_set",
            "memory_minimum_vs_set",
        )
    )
    if plan is not None:
        average, minimum = float(plan.memory.mean()), float(plan.memory.min())
        numbers |= {
            "training_flops": plan.total,
            "share_of_dense": plan.total / dense.total,
            "memory_average": average,
            "memory_minimum": minimum,
        }
        if least is not None:
            numbers |= {
                "memory_average_vs_set": average / least.memory.mean() - 1,
                "memory_minimum_vs_set": minimum / least.memory.mean() - 1,
            }
    return {"sparsity": sparsity, "method": method, **numbers, "note": note}


def render(table: dict) -> str:
    """Returns the result of `costs` as text: the table, and the rules it was computed by."""
    config = table["config"]
    size = "x".join(map(str, config["input_shape"]))
    lines = [
        f"{config['model']}, width {config['width']:g}, {config['classes']} classes, "
        f"input {size}: {config['epochs']} epochs of {config['samples']} samples, "
        f"batch {config['batch_size']}, mask updates every {config['interval']} epochs",
        "",
        f"{'sparsity':>8}  {'method':<14}{'training FLOPs':>15}{'of dense':>10}"
        f"{'memory average':>24}{'memory minimum':>24}  freezing",
    ]
    previous = None
    for row in table["rows"]:
        if row["sparsity"] != previous:
            previous = row["sparsity"]
            lines.append("")
        shown = "" if row["sparsity"] is None else f"{100 * row['sparsity']:g}%"
        lines.append(f"{shown:>8}  {row['method']:<14}{_cells(row)}  {row['note']}".rstrip())
    lines += ["", f"Left dense: {', '.join(table['left_dense'])}.", "", "How this is counted:"]
    return "\n".join([*lines, *(f"- {rule}" for rule in table["rules"])])


def _cells(row: dict) -> str:
    if row["training_flops"] is None:
        return f"{'out of reach':>15}{'':>58}"
    cells = f"{row['training_flops']:>15.3e}{row['share_of_dense']:>10.2%}"
    for column in ("memory_average", "memory_minimum"):
        against = row[f"{column}_vs_set"]
        relative = "" if against is None else f"({against:+.1%})"
        cells += f"{row[column] / 2**20:>11.1f} MiB {relative:<8}"
    return cells
