"""Analyses of training as a Keras callback."""

import json
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.analyses.records import Records
from spfde_keras.analyses.subject import Subject
from spfde_keras.files import replacing
from spfde_keras.sparse_training import SparseTraining


class Analyses(keras.callbacks.Callback):
    """Records what training does to masks, weights, layers and samples: at each boundary, and last.

    Give it to `fit` beside the callback that trains. Training is the same with it, and nothing is
    done within a step. A record takes a call of the model on the probe samples, and a gradient of
    the last full batch, for each sub-net. Of each kernel it holds

    - `density`: the share of weights kept;
    - `similarity`: structural similarity, the share of common positions among the larger half of
      the non-zero weights, then and at the last record;
    - `overlap`: the weights that the mask and that of the record before have in common, as a share
      of those in either;
    - `explored`: the share of positions that have ever been active;
    - `cka`: linear CKA of the layer's outputs on the probe samples, then and at the last record;
    - `gradient_norms`: the norm of the gradient of the kept weights, before masks change; of
      several sub-nets the mean, of frozen kernels none;

    and with a sieve, over the whole training, the forgetting events of samples.

    `Resume` keeps what is recorded, so that a resumed run ends with the same. It takes a bit for
    each weight of a masked kernel and, of n probe samples, 2 n (n + 1) bytes for each kernel, for
    each record and sub-net; and 18 bytes for each sample of a sieve. Of a training that ends early,
    the last record is of the masks before they settle.

    Args:
        training: the `SpFDE` or `AlternatingSparseTraining` callback of the same `fit`.
        probe: None, or samples as the model takes them: an array (samples, ...), or several in the
            model's structure. Without them there is no CKA.

    Raises:
        ValueError: on arguments out of range, or, when `fit` starts, if `training` does not come
            before it, or the model does not take `probe`; if the run is resumed with other probe
            samples, or in another way than by `Resume`.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="hidden"),
    ...                         keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=0.75)
    >>> model.compile("sgd", "mse")
    >>> x, y = np.random.default_rng(0).random((32, 8)), np.zeros((32, 2))
    >>> training = SpFDE(updater="set", interval=1)
    >>> analyses = Analyses(training, probe=x[:16])
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[training, analyses])
    >>> found = analyses.result()
    >>> found["epochs"], found["layers"], found["subnets"]["subnet_75"]["cka"][-1]
    ([1, 2, 3], ['hidden'], [1.0])

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 2; MEST (Yuan et al., NeurIPS 2021), section
    3; ITOP (Liu et al., ICML 2021).
    """

    def __init__(self, training: SparseTraining, probe: Any = None):
        super().__init__()
        rule = "the callback that trains: SpFDE or AlternatingSparseTraining"
        self.training = checks.instance("training", training, SparseTraining, rule)
        self._probe = None if probe is None else _samples(probe)
        self._records: Records | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        model = self.model
        monitor = getattr(model, "monitor", None)
        if monitor is None or monitor.callback is not self.training:
            raise ValueError(
                "`training` must be among the callbacks of the same `fit`, in front of Analyses. "
                f"Received: {type(self.training).__name__}, which is not"
            )
        monitor.keep_batch()
        self._records = self._begun(int(monitor.completed.numpy()))
        model.attach(monitor, model.sieve, model.alternation, self._records)

    def _begun(self, completed: int) -> Records:
        """What an earlier `fit` has recorded, or nothing yet, with room for this one."""
        earlier, timeline = self._records, self.training.timeline
        if earlier is not None and earlier.subject.model is not self.model:
            earlier = None
        made = 0 if earlier is None else int(earlier.made.numpy())
        ends = [*timeline.boundaries, timeline.epochs]
        room = max(len(ends), made + sum(done > completed for done in ends))
        if earlier is not None and earlier.room >= room:
            return earlier
        subject = Subject(self.training)
        if not subject.kernels:
            raise ValueError(
                "Analyses need a model with kernels that have masks, or can have some. Received: "
                f"{self.model.name!r}, which has none"
            )
        records = Records(subject, room, self._probe)
        if earlier is not None:
            records.take_over(earlier)
        return records

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        records = self._of_fit
        if epoch == 0:
            records.start()
            return
        completed = int(records.completed.numpy())
        if completed != epoch:
            raise ValueError(
                f"Epoch {epoch} cannot follow {completed} epochs that were analysed. To go on, fit "
                "the same model with the same callbacks; to resume in a new process, use "
                "spfde_keras.Resume, with Analyses from the beginning."
            )
        if not records.has_own_probe:
            raise ValueError(
                "A run must be resumed with the same probe samples. Received: others in `probe`"
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        records, done = self._of_fit, epoch + 1
        if self.training.timeline.is_boundary(done):
            records.after(done)
        records.completed.assign(done)

    def on_train_end(self, logs: dict | None = None) -> None:
        records = self._of_fit
        done = int(records.completed.numpy())
        if done > records.last:  # stopped between two boundaries
            records.before(done)
            records.after(done)

    @property
    def _of_fit(self) -> Records:
        if self._records is None:
            raise RuntimeError("Nothing has been recorded: give the callback to `fit` first.")
        return self._records

    def result(self) -> dict[str, Any]:
        """Returns what has been recorded so far, all numbers with 6 significant digits.

        Returns:
            A dictionary, as JSON can write it: `version`; `epochs`, those done at each record;
            `layers`, the names of the layers of masked kernels (without masks, of those that can
            have some); `blocks`, their indices by freezing block; `subnets`, by name the measures
            above as lists [record][layer], None where one does not apply; `gradient_norms`, such
            a list; with a sieve `forgetting`: `histogram`, for each record the samples in training
            since the one before that had 0, 1, ... 9, and 10 or more forgetting events since then;
            `never_forgotten`, samples that were learned, and not forgotten since training began;
            `never_learned`, those of the samples trained on so far; `easiest`, 16 ids of those
            learned with the fewest events over the whole training, and `hardest`, 16 of those
            never learned, or with the most events.

        Raises:
            RuntimeError: nothing has been recorded.
        """
        return self._of_fit.result()

    def save(self, path: str | os.PathLike) -> None:
        """Writes `result()` as a JSON file.

        Args:
            path: the file; an older one is replaced as a whole.

        Raises:
            RuntimeError: nothing has been recorded.
        """
        checks.path("path", path)
        text = json.dumps(self.result()) + "\n"
        with replacing(path) as beside:
            beside.write_text(text)


def _samples(probe: Any) -> Any:
    """Samples as arrays; raises ValueError unless there are as many of each input."""
    rule = "an array of at least 2 samples, or several in the model's structure"
    leaves = keras.tree.flatten(probe)
    arrays = [np.asarray(leaf) for leaf in leaves if tf.is_tensor(leaf) or hasattr(leaf, "shape")]
    lengths = {len(array) if array.ndim else 0 for array in arrays}
    if not arrays or len(arrays) != len(leaves) or len(lengths) > 1 or min(lengths) < 2:
        checks.refuse("probe", rule, probe)
    return keras.tree.pack_sequence_as(probe, arrays)
