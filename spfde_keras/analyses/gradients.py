"""How large gradients are."""

from typing import Any

import numpy as np

from spfde_keras.analyses.measure import Measure, enter
from spfde_keras.analyses.subject import Subject
from spfde_keras.kernel_gradients import kernel_gradients, variable_gradients


class GradientNorms(Measure):
    """The norm of the gradient of each kernel's kept weights, on the last full batch.

    It is taken before a boundary changes masks; of several sub-nets it is the mean. Kernels that
    are frozen have none.
    """

    def __init__(self, subject: Subject, records: int):
        super().__init__("gradient_norms", subject, records)
        self.norms = self.per_record("norms", (len(subject.kernels),), "float64")

    def before(self, record: int) -> None:
        monitor = self.subject.model.monitor
        if monitor is None:  # training has ended between two boundaries
            return
        trained = [k for k, kernel in enumerate(self.subject.kernels) if kernel.variable.trainable]
        norms = np.full(len(self.subject.kernels), np.nan)
        norms[trained] = self._norms(trained, monitor.last_batch.read)
        enter(self.norms, record, norms)

    def _norms(self, trained: list[int], read_batch: Any) -> np.ndarray:
        model, kernels = self.subject.model, [self.subject.kernels[k] for k in trained]
        if not self.subject.masked:
            variables = [kernel.variable for kernel in kernels]
            return norms(variable_gradients(model, read_batch, variables))
        masks = [kernel.mask for kernel in kernels if kernel.mask is not None]
        subnets, _ = self.subject.shape
        each = [kernel_gradients(model, read_batch, masks, subnet=k) for k in range(subnets)]
        return np.mean([norms(list(found.values())) for found in each], axis=0)

    def of_run(self, records: int) -> dict[str, Any]:
        return {"gradient_norms": self.norms.numpy()[:records]}


def norms(gradients: list[np.ndarray]) -> np.ndarray:
    """Returns the L2 norms of arrays, in double precision; NaN where one is not finite."""
    found = [np.linalg.norm(each.astype("float64").reshape(-1)) for each in gradients]
    return np.where(np.isfinite(found), found, np.nan)
