"""The report on an exported file."""

import dataclasses
from collections.abc import Mapping

_ROUNDING = 0.005  # of densities to whole units of a scheme


def _percents(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{share:.1%}" for share in shares)


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote.

    Args:
        path: the file.
        precision: one of `PRECISIONS`.
        sparse: bool, whether any weights are stored sparse.
        bytes: int, size of the file.
        gzip_bytes: int, its size after gzip, as app stores ship it.
        signatures: the names by which the file is run: of the sub-nets, where there are several.
        max_error: float, largest error of any signature against the Keras model, a share of the
            output's scale.
        tolerance: float, the error it was allowed.
        checked_samples: int, samples that both were run on.
        runs_sparse: bool, whether phones run it sparse, according to `inspect_tflite`.
        obstacle: str, the first reason why not and how many there are more, or why weights had
            to be stored dense; "" if there is none.
        sparse_mode: str, the runtime in which it was run with sparse kernels; None if none was
            installed or no weights are stored sparse.
        sparse_mode_error: float, the largest error of any signature there; None if there was no
            such run.
        renamed: names of inputs and nested outputs in the file by those in the model, where they
            differ.
        sparsity: share of the weights of masked kernels that their masks drop, for each
            signature; () for a model without masks.
        model_sparsity: share of all the model's weights, biases included, that are zeros of a
            kernel, counted by their values, for each signature.
        target_sparsity: the shares of zeros that masked kernels are to have when training ends.
        dense_bytes: int, size of the file with all weights stored dense; None where they are.
        flops_share: float, FLOPs of the layers with kernels where they run sparse, of all
            signatures, as a share of what they take with zeros; None if all are stored dense.
    """

    path: str
    precision: str
    sparse: bool
    bytes: int
    gzip_bytes: int
    signatures: tuple[str, ...]
    max_error: float
    tolerance: float
    checked_samples: int
    runs_sparse: bool = False
    obstacle: str = ""
    sparse_mode: str | None = None
    sparse_mode_error: float | None = None
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sparsity: tuple[float, ...] = ()
    model_sparsity: tuple[float, ...] = ()
    target_sparsity: tuple[float, ...] = ()
    dense_bytes: int | None = None
    flops_share: float | None = None

    @property
    def at_target(self) -> bool:
        """Whether no signature keeps more weights than it was to keep."""
        pairs = zip(self.sparsity, self.target_sparsity, strict=False)
        return all(share >= target - _ROUNDING for share, target in pairs)

    def __str__(self) -> str:
        encoding = "sparse" if self.sparse else "dense"
        lines = [
            f"{self.path}: {self.precision}, {encoding}, {self.bytes:,} bytes "
            f"({self.gzip_bytes:,} after gzip{self._dense()}), {', '.join(self.signatures)}: "
            f"largest error {self.max_error:.1e} of the output's scale on "
            f"{self.checked_samples} samples{self._zeros()}"
        ]
        if not self.at_target:
            lines.append(
                f"NOT AT ITS TARGET of {_percents(self.target_sparsity)}: train to the end"
            )
        if self.sparse:
            lines += [self._speed(), self._proof()]
        elif self.obstacle:
            lines.append(f"stored dense: {self.obstacle}")
        if self.renamed:
            listed = ", ".join(f"{was!r} as {name!r}" for was, name in self.renamed.items())
            lines.append(f"called otherwise in the file: {listed}")
        return "\n".join(lines)

    def _zeros(self) -> str:
        masked = f"; masks drop {_percents(self.sparsity)} of their kernels"
        zero = f"; {_percents(self.model_sparsity)} of all weights are zero"
        return masked * any(self.sparsity) + zero * any(self.model_sparsity)

    def _dense(self) -> str:
        return "" if self.dense_bytes is None else f"; stored dense {self.dense_bytes:,}"

    def _speed(self) -> str:
        if self.runs_sparse:
            share = "" if self.flops_share is None else f": {self.flops_share:.1%} of dense FLOPs"
            return f"runs sparse on phones (ARM64, ARM, WebAssembly){share}"
        return (
            f"does not run sparse on phones, where it is only smaller: {self.obstacle} "
            "(`spfde inspect` names all; mobile=True rewrites the model until it does, or refuses)"
        )

    def _proof(self) -> str:
        if self.sparse_mode is None:
            return (
                "not run in sparse mode: that needs the mobile kit (in the repository, "
                "`make mobile-kit`)"
            )
        return (
            f"run in sparse mode ({self.sparse_mode}): largest error {self.sparse_mode_error:.1e}"
        )
