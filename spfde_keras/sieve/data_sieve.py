"""Data sieving: train on the samples that are still hard, and leave the others out."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.randomness import generator
from spfde_keras.sieve import correctness, labels, mapping, policies
from spfde_keras.sieve.directory import image_files
from spfde_keras.sieve.inputs import Samples, as_tensors
from spfde_keras.sieve.policies import SievePolicy
from spfde_keras.sieve.sources import Arrays, Order, Source, as_source
from spfde_keras.state import SavedState


class DataSieve(SavedState):
    """Chooses the samples to train on by how often the model forgets them.

    A forgetting event is a sample classified correctly at one visit and wrongly at the next.
    At each update the samples with the fewest events are exchanged for removed ones; a
    sample that was never classified correctly is not easy and stays. Ties break at random.

    Its state is saved and restored with the model it is attached to.

    Args:
        samples: the training data: a `tf.data.Dataset` of (x, y) or (x, y, sample_weight),
            not batched and not shuffled, in the same order at each reading; or a tuple of such
            arrays; or a function that returns a new iterator of such samples. `x` may be
            nested: a list of arrays is one of several inputs, None an optional input that is
            left out. A sample's position is its id. In a dataset shuffled before, each sample
            must bring its own id: see `spfde_keras.sieve.with_ids`. For images in folders see
            `from_directory`, for files of records `spfde_keras.sieve.tfrecord_files` and
            `tfds_split`.
        fraction: float in [0, 1), the share of the samples that is removed.
        policy: a `SievePolicy`, or its name: "circular" (SpFDE) or "one_time" (MEST).
        seed: int >= 0, seed of the first removal, the order of samples, and ties.
        correct: None, where the model's loss says what is right: under a categorical loss, or
            a loss of your own with several outputs, the largest output must be that of the
            label's class; under a binary crossentropy or hinge each output must be on its
            label's side of the threshold. Otherwise (regression, several outputs, labels of
            other kinds) a function (y, y_pred) -> bool tensor (batch,). It is compiled. What
            is missing is said before the first step.
        size: None, or int, the number of samples of a function or of a dataset of unknown
            cardinality, such as `dataset.unbatch()`. An epoch that reads more or fewer fails.

    Raises:
        ValueError: on arguments out of range, or data of another form.

    Example:

    >>> sieve = DataSieve((np.zeros((10, 2)), np.arange(10) % 2), fraction=0.2)
    >>> sieve.active, sieve.total, sieve.steps(batch_size=3)
    (8, 10, 3)
    >>> x, y = next(iter(sieve.batches(batch_size=3)))
    >>> tuple(x.inputs.shape), tuple(x.sample_id.shape), tuple(y.shape)
    ((3, 2), (3,), (3,))

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.3; forgetting events: Toneva et al.,
    ICLR 2019.
    """

    def __init__(
        self,
        samples: Samples | Source,
        fraction: float = 0.2,
        policy: str | SievePolicy = "circular",
        seed: int = 0,
        correct: Callable[[Any, Any], Any] | None = None,
        size: int | None = None,
    ):
        super().__init__(dtype="float32")
        fraction = checks.number("fraction", fraction, least=0, below=1)
        correct = checks.optional(checks.function, "correct", correct)
        self.policy = policies.get(policy)
        self.seed = checks.seed(seed)
        self._correct = correct
        self._source = samples if isinstance(samples, Source) else as_source(samples, size)
        with self.naming_damage():
            self._labels = None if correct else labels.look_at(self._source.in_order())
        self.total = self._source.total
        self._batching: tuple[int, bool] | None = None
        self._preprocessed = False  # if so, labels may be others than those of the samples
        self._create_state(round(fraction * self.total))

    @classmethod
    def from_directory(
        cls,
        directory: str | pathlib.Path,
        image_size: tuple[int, int] | None = (256, 256),
        label_mode: str = "int",
        color_mode: str = "rgb",
        class_names: Sequence[str] | None = None,
        interpolation: str = "bilinear",
        **options: Any,
    ) -> "DataSieve":
        """Returns a sieve of the images in a directory, labelled by the names of their folders.

        Labels and pixels are those of `keras.utils.image_dataset_from_directory`. Only images
        in training are read; `preprocess` gets them decoded and resized.

        Args:
            directory: folder with a folder of images per class.
            image_size: (height, width) in pixels, to which images are resized; None leaves
                them as they are, for a `preprocess` that crops them.
            label_mode: "int" for class numbers, "categorical" for one-hot, "binary" for 0 and 1.
            color_mode: "grayscale", "rgb" or "rgba".
            class_names: None for the folders in alphabetical order, or their names in order.
            interpolation: str, method of `tf.image.resize`.
            **options: arguments of `DataSieve`: `fraction`, `policy`, `seed`, `correct`.

        Raises:
            ValueError: if there are no images, or on arguments out of range.

        Example:

        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cats", "dogs"):
        ...     (folder / name).mkdir()
        ...     keras.utils.save_img(folder / name / "0.png", np.zeros((4, 4, 3)))
        >>> sieve = DataSieve.from_directory(folder, image_size=(8, 8), fraction=0.5)
        >>> sieve.active, sieve.total
        (1, 2)
        """
        files, read = image_files(
            directory, image_size, label_mode, color_mode, class_names, interpolation
        )
        return cls(Arrays(as_tensors(files), read), **options)

    def _create_state(self, removed: int) -> None:
        if removed == self.total:
            raise ValueError(
                f"`fraction` must leave at least one sample. Received: {removed} of {self.total}"
            )
        # Read by tf.data, which runs on the CPU.
        with tf.device("CPU:0"):
            self.member = self.variable("member", (self.total,), "bool")
            self.iteration = self.variable("iteration", (), "int64")
        # Written by the train step; int64, as TensorFlow has no int32 counters on GPUs.
        self.forgets = self.variable("forgets", (self.total,), "int64")
        self.was_correct = self.variable("was_correct", (self.total,), "bool")
        self.learned = self.variable("learned", (self.total,), "bool")
        self.visited = self.variable("visited", (self.total,), "bool")
        self.queue = self.variable("queue", (removed,), "int64")
        self.retrieved = self.variable("retrieved", (), "int64")
        drawn = generator(self.seed, 0, "sieve/start").permutation(self.total)[:removed]
        self.queue.assign(self.policy.start(drawn))
        self.member.assign(policies.outside(self.queue.numpy(), self.total))

    def naming_damage(self) -> contextlib.AbstractContextManager:
        """Returns a context in which errors of reading samples name the file."""
        return self._source.naming_damage()

    @property
    def active(self) -> int:
        """Number of samples in training."""
        return int(np.count_nonzero(self.member.numpy()))

    @property
    def fixed_size(self) -> bool:
        """Whether the number of samples in training stays the same in all epochs."""
        return self.policy.fixed_size or self.queue.shape == (0,)

    @property
    def epoch_steps(self) -> int:
        """Current number of batches in an epoch of the dataset that `batches` last made."""
        if self._batching is None:
            raise ValueError("`DataSieve.batches` must be called before `epoch_steps` is known.")
        return self.steps(*self._batching)

    def epoch_steps_of(self, most: int | None) -> int:
        """Returns `epoch_steps`, or `most` where that is less."""
        return self.epoch_steps if most is None else min(self.epoch_steps, most)

    @property
    def batch_sizes(self) -> set[int]:
        """Sizes of the batches that `batches` last made, now and with all removals done."""
        batch_size, drop_remainder = self._batching or (1, True)
        counts = (self.active, self.total - self.queue.shape[0])
        rests = {count % batch_size for count in counts} - {0}
        return {batch_size} | (set() if drop_remainder else rests)

    def steps(self, batch_size: int, drop_remainder: bool = False) -> int:
        """Returns the current number of batches in an epoch.

        Args:
            batch_size: int, samples per batch.
            drop_remainder: bool, whether an incomplete last batch is left out.
        """
        whole, rest = divmod(self.active, batch_size)
        return whole + bool(rest and not drop_remainder)

    def most(self, steps: int | None) -> int:
        """Returns the samples of an epoch without sieving, of at most so many steps."""
        return self.taken(self.total, steps)

    def taken(self, active: int, most_steps: int | None) -> int:
        """Returns the samples of an epoch with `active` in training, of at most so many steps."""
        if self._batching is None:
            return active
        batch_size, drop_remainder = self._batching
        whole = active - active % batch_size if drop_remainder else active
        return whole if most_steps is None else min(whole, most_steps * batch_size)

    def batches(
        self,
        batch_size: int,
        preprocess: Callable | None = None,
        shuffle: bool | int = True,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Returns the training data, batched, for `fit`; made once, it follows all updates.

        Each iteration yields the samples in training at its start, in an order that depends on
        `seed` and the number of the iteration alone (see `start_epoch`). `steps_per_epoch` of a
        `fit` with `SpFDE` is the most steps of an epoch. A `.map` right behind it takes functions
        of (x, y) or (x, y, sample_weight), batched; ids are carried past them.

        Args:
            batch_size: int >= 1, samples per batch.
            preprocess: None, or a function from a sample's (x, y) or (x, y, sample_weight) to
                one of those: decoding, augmentation. Only samples in training reach it. For
                exact resuming its randomness must not depend on earlier calls: a parameter
                named `seed` is given an int64 tensor (2,) that differs from sample to sample
                and from epoch to epoch, for `tf.image.stateless_random_...`.
            shuffle: bool, or int, the size of the shuffle buffer. By default samples in arrays
                are shuffled as a whole; of others a buffer, before `preprocess`, holds at most
                50 000 samples and 256 MiB.
            drop_remainder: bool, whether an incomplete last batch is left out.

        Returns:
            A dataset of (Identified(x, sample_id), y) or with sample_weight as third; sample_id
            is int64 (batch,). Its cardinality is known if `fixed_size`; otherwise use
            `SieveEpochs` (or `SpFDE`, which does) in `fit`.

        Raises:
            ValueError: on arguments out of range.
        """
        batch_size = checks.whole("batch_size", batch_size)
        preprocess = checks.optional(checks.function, "preprocess", preprocess)
        if isinstance(shuffle, bool | np.bool_):
            shuffle = checks.switch("shuffle", shuffle)
        else:
            shuffle = checks.whole("shuffle", shuffle)
        drop_remainder = checks.switch("drop_remainder", drop_remainder)
        steps = self.steps(batch_size, drop_remainder)
        if steps == 0:
            raise ValueError(
                f"`batch_size` must be at most {self.active}, the number of samples in training, "
                f"with drop_remainder=True. Received: {batch_size}"
            )
        chosen = functools.partial(self._feeds, batch_size, drop_remainder)
        chosen()
        self._preprocessed = preprocess is not None
        functions = [each for each in (self._source.read, preprocess) if each is not None]

        def finished(dataset: tf.data.Dataset) -> tf.data.Dataset:
            dataset = dataset.map(mapping.identified)
            if self.fixed_size:
                dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
            return dataset.prefetch(tf.data.AUTOTUNE)

        def share(worker: int, workers: int) -> tf.data.Dataset | None:
            if not functions or batch_size % workers:
                return None  # nothing is dear enough, or parts would differ in size
            return finished(self._made(functions, shuffle, worker, workers))

        if functions:
            dataset = self._made(functions, shuffle)
        else:
            batched = functools.partial(
                self._source.batched, batch_size=batch_size, drop_remainder=drop_remainder
            )
            dataset = self._epochs(batched, shuffle)
        return mapping.past_ids(finished(dataset), self._is_mapped, share, chosen)

    def _feeds(self, batch_size: int, drop_remainder: bool) -> "DataSieve":
        """Has epochs be those of such batches; returns itself."""
        self._batching = (batch_size, drop_remainder)
        return self

    def _made(
        self, functions: Sequence[Callable], shuffle: bool | int, worker: int = 0, workers: int = 1
    ) -> tf.data.Dataset:
        """Batches of samples that functions make, or a worker's part of each of them."""
        assert self._batching is not None
        batch_size, drop_remainder = self._batching

        def chosen(member: tf.Tensor, order: Order) -> tf.data.Dataset:
            dataset = self._source.chosen(member, order)
            if drop_remainder:
                count = tf.math.count_nonzero(member)
                dataset = dataset.take(count // batch_size * batch_size)
            # Of each batch as many as of the next, and before they are read.
            return dataset.shard(workers, worker)

        dataset = self._epochs(chosen, shuffle)
        for function in functions:
            dataset = dataset.map(
                functools.partial(mapping.preprocessed, function, self._sample_seed),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        return dataset.batch(batch_size // workers, drop_remainder=drop_remainder)

    def _is_mapped(self) -> None:
        self._preprocessed = True

    def _sample_seed(self, sample_id: tf.Tensor) -> tf.Tensor:
        """Returns two numbers that no other sample, and no other epoch, has."""
        # It was counted up when the iteration began.
        epoch = self.iteration.value.read_value() - 1
        return tf.stack([epoch + self.seed * 2**32 % 2**63, sample_id])

    def _epochs(self, read: Callable, shuffle: bool | int) -> tf.data.Dataset:
        def epoch(_: tf.Tensor) -> tf.data.Dataset:
            iteration = self.iteration.value.read_value()
            with tf.control_dependencies([iteration]):
                self.iteration.value.assign_add(1)
            member = self.member.value.read_value()
            return read(member, Order(self.seed, iteration, shuffle))

        # Runs when an iteration's first element is read: Keras makes iterators it never reads.
        return tf.data.Dataset.from_tensors(0).flat_map(epoch)

    def start_epoch(self, epoch: int) -> None:
        """Gives the next iteration over `batches` the order of samples of this epoch.

        Without it, each iteration takes the next order.

        Args:
            epoch: int >= 0, number of the epoch.
        """
        self.iteration.assign(epoch)

    def record(self, sample_id: tf.Tensor, y: Any, y_pred: Any, from_logits: bool = False) -> None:
        """Counts forgetting events of a batch; called in the train step, compiled with it.

        Args:
            sample_id: integer tensor (batch,), ids without repetition.
            y: labels: class numbers (batch,) or (batch, 1), or one-hot (batch, classes).
            y_pred: predictions: (batch, classes), or, binary, (batch,) or (batch, 1).
            from_logits: bool, whether predictions are logits; decides the binary threshold.

        Raises:
            ValueError: if correctness is not defined for labels and predictions of such shapes.
        """
        if self._correct is None:
            self.count(sample_id, correctness.correctly_classified(y, y_pred, from_logits))
        else:
            self.count(sample_id, self._judged_by_user(y, y_pred))

    def judge(self, loss: Any, outputs: Sequence[Any]) -> correctness.Judge:
        """Returns the function (y, y_pred) -> bool (batch,) that says which samples are right.

        Args:
            loss: what the model was compiled with.
            outputs: the model's outputs.

        Raises:
            ValueError: if `correct` is None, and loss, outputs and labels do not tell.
        """
        if self._correct is not None:
            return self._judged_by_user
        return correctness.judge(loss, outputs, None if self._preprocessed else self._labels)

    def _judged_by_user(self, y: Any, y_pred: Any) -> tf.Tensor:
        assert self._correct is not None
        correct = tf.cast(self._correct(y, y_pred), tf.bool)
        if correct.shape.rank != 1:
            raise ValueError(
                f"`correct` must return a tensor of shape (batch,). Received: {correct.shape}"
            )
        return correct

    def count(self, sample_id: tf.Tensor, correct: tf.Tensor) -> None:
        """Counts forgetting events of a batch that has been judged.

        Args:
            sample_id: integer tensor (batch,), ids without repetition.
            correct: bool tensor (batch,), which samples were right.
        """
        ids = tf.cast(sample_id, tf.int64)
        forgotten = tf.gather(self.was_correct.value, ids) & ~correct
        learned = tf.gather(self.learned.value, ids) | correct
        self.forgets.value.scatter_add(tf.IndexedSlices(tf.cast(forgotten, tf.int64), ids))
        self.learned.value.scatter_update(tf.IndexedSlices(learned, ids))
        self.was_correct.value.scatter_update(tf.IndexedSlices(correct, ids))
        self.visited.value.scatter_update(tf.IndexedSlices(tf.ones_like(correct), ids))

    def update(self, event: int, t: float) -> bool:
        """Exchanges samples by the policy; takes effect with the next iteration.

        Args:
            event: int >= 0, number of the update, which seeds ties and reshuffling.
            t: float in [0, 1], fraction of training done.

        Returns:
            Whether the samples in training have changed.
        """
        rng = generator(self.seed, event, "sieve/update")
        member, queue = self.member.numpy(), self.queue.numpy()
        # Samples never learned are hardest; a stable sort of shuffled ids breaks ties at random.
        hardness = np.where(self.learned.numpy(), self.forgets.numpy(), np.iinfo(np.int64).max)
        ids = rng.permutation(np.flatnonzero(member))
        easiest = ids[np.argsort(hardness[ids], kind="stable")]
        queue = self.policy.exchange(queue, easiest, int(self.retrieved.numpy()), t, rng)
        chosen = policies.outside(queue, self.total)
        self.queue.assign(queue)
        self.member.assign(chosen)
        self.retrieved.assign_add(np.count_nonzero(chosen & ~member))
        self.was_correct.assign(self.was_correct.numpy() & member & chosen)
        if self.policy.restarts:
            self.forgets.assign(np.zeros_like(self.forgets))
            self.learned.assign(np.zeros_like(self.learned))
        return bool((chosen != member).any())
