"""How much each layer keeps."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from spfde_keras import checks
from spfde_keras.budget import divide
from spfde_keras.configurable import Configurable
from spfde_keras.layout import KernelLayout
from spfde_keras.registry import Registry
from spfde_keras.scores import Scores, check_scores, scores_of


class Distribution(Configurable):
    """Divides a sparsity among kernels: `distribution(layouts, sparsity)`.

    Called with a dictionary from kernel path to `KernelLayout` and the sparsity of all
    together, it returns a dictionary from kernel path to sparsity.
    """

    def __call__(self, layouts: dict[str, KernelLayout], sparsity: float) -> dict[str, float]:
        raise NotImplementedError


def _per_layer(identifier: Any) -> Distribution | None:
    if not isinstance(identifier, Mapping):
        return None
    return PerLayer(_checked("distribution", identifier))


REGISTRY = Registry(
    "distribution",
    Distribution,
    parse=_per_layer,
    also="a dictionary from regular expressions to sparsities",
)
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


@register("uniform")
class Uniform(Distribution):
    """The same sparsity for each kernel.

    Example:

    >>> Uniform()({"a": None, "b": None}, 0.9)
    {'a': 0.9, 'b': 0.9}
    """

    def __call__(self, layouts: dict[str, KernelLayout], sparsity: float) -> dict[str, float]:
        return dict.fromkeys(layouts, sparsity)


@register("erk")
class ERK(Distribution):
    """Erdős-Rényi-Kernel: small kernels keep more.

    A kernel's density is proportional to the sum over the product of its dimensions, at
    most 1, and at least one weight for each output, so that no layer is left without a path.

    Example:

    >>> layout = KernelLayout((3, 3, 16, 16), (0, 1), (2,), (3,))
    >>> round(ERK()({"only": layout}, 0.8)["only"], 3)
    0.8

    Source: RigL (Evci et al., ICML 2020), section 3.
    """

    def __call__(self, layouts: dict[str, KernelLayout], sparsity: float) -> dict[str, float]:
        sizes = np.array([layout.size for layout in layouts.values()], float)
        sums = np.array([sum(layout.shape) for layout in layouts.values()], float)
        least = np.array([layout.canonical_shape[2] for layout in layouts.values()], float)

        def kept(scale: float) -> np.ndarray:
            return np.clip(scale * sums, least, sizes)

        # Their total is piecewise linear in the scale, with a knot wherever a kernel is clipped.
        knots = np.sort(np.concatenate([least / sums, sizes / sums]))
        totals = [kept(knot).sum() for knot in knots]
        found = kept(np.interp((1 - sparsity) * sizes.sum(), totals, knots))
        _warn_of_least(found, sizes, sparsity)
        return dict(zip(layouts, (1 - found / sizes).tolist(), strict=True))


@register("per_layer")
class PerLayer(Distribution):
    """Sparsities by regular expression; kernels that none matches take the common sparsity.

    Args:
        sparsities: dictionary from regular expressions, searched in kernel paths, to floats
            in [0, 1). The first that matches counts.

    Raises:
        ValueError: if a sparsity is out of range, or, when called, a pattern matches nothing.

    Example:

    >>> PerLayer({"stage1": 0.5})({"stage1_conv/kernel": None, "b/kernel": None}, 0.9)
    {'stage1_conv/kernel': 0.5, 'b/kernel': 0.9}
    """

    def __init__(self, sparsities: dict[str, float]):
        self.sparsities = _checked("sparsities", sparsities)

    def __call__(self, layouts: dict[str, KernelLayout], sparsity: float) -> dict[str, float]:
        for pattern in self.sparsities:
            if not any(re.search(pattern, path) for path in layouts):
                raise ValueError(
                    f"`distribution` must match masked kernels. Received: {pattern!r}; the "
                    f"kernels are {list(layouts)}"
                )
        return {
            path: next(
                (share for pattern, share in self.sparsities.items() if re.search(pattern, path)),
                sparsity,
            )
            for path in layouts
        }

    def get_config(self) -> dict:
        return {"sparsities": dict(self.sparsities)}


class ByScores(Distribution):
    """Each kernel keeps what it has of the best scores of all kernels.

    Args:
        scores: from kernel paths to arrays, as `saliency.snip` or `saliency.grasp` return them.

    Raises:
        ValueError: if it is no dictionary, or, when called, a kernel is missing.

    Example:

    >>> layouts = {name: KernelLayout((4, 2), (), (0,), (1,)) for name in ("a", "b")}
    >>> ByScores({"a": np.full((4, 2), 2.0), "b": np.eye(4, 2)})(layouts, 0.5)
    {'a': 0.25, 'b': 0.75}
    """

    def __init__(self, scores: Scores):
        self.scores = check_scores("scores", scores)

    def __call__(self, layouts: dict[str, KernelLayout], sparsity: float) -> dict[str, float]:
        found = [scores_of(self.scores, "scores", path, layouts[path]) for path in layouts]
        sizes = np.array([layout.size for layout in layouts.values()], float)
        # At least one weight for each output, so that no layer is left without a path.
        least = [layout.canonical_shape[2] for layout in layouts.values()]
        kept = np.asarray(divide(found, (1 - sparsity) * sizes.sum(), least))
        _warn_of_least(kept, sizes, sparsity)
        return dict(zip(layouts, (1 - kept / sizes).tolist(), strict=True))


def _warn_of_least(kept: np.ndarray, sizes: np.ndarray, sparsity: float) -> None:
    """Warns where a weight for each output is more than there should be."""
    found = 1 - kept.sum() / sizes.sum()
    if found < sparsity - 0.002:
        warnings.warn(
            "With a distribution that is not uniform, kernels keep at least a weight for each "
            f"output: {found:.4g} of the weights can go, not {sparsity:g}.",
            stacklevel=4,
        )


def _checked(name: str, sparsities: Any) -> dict[str, float]:
    rule = "a dictionary from regular expressions to sparsities"
    for pattern in checks.instance(name, sparsities, Mapping, rule):
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            checks.refuse(name, rule, pattern, f" ({error})")
    return {
        pattern: checks.number(name, share, least=0, below=1)
        for pattern, share in sparsities.items()
    }
