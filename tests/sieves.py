"""What the tests of the data sieve share."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import strip_ids

STATE = ("member", "iteration", "forgets", "was_correct", "learned", "queue", "retrieved")


def make_sieve(total=8, **kwargs):
    return DataSieve((np.arange(total, dtype="float32")[:, None], np.arange(total) % 2), **kwargs)


def state(sieve):
    return {name: getattr(sieve, name).numpy().tolist() for name in STATE}


def ids_of(dataset):
    return [x.sample_id.numpy().tolist() for x, *_ in dataset]


def visit(sieve, ids, correct):
    """One visit of the samples `ids`, classified correctly or not."""
    ids, correct = np.asarray(ids), np.asarray(correct, bool)
    y = np.zeros(len(ids), int)
    sieve.record(ids, y, tf.one_hot(np.where(correct, 0, 1), 2))


class Classifier(keras.Model):
    """Reports its training predictions to the sieve, in the compiled train step."""

    sieve = None
    visits = None

    def __call__(self, inputs, *args, **kwargs):
        return super().__call__(strip_ids(inputs), *args, **kwargs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.sieve.record(x.sample_id, y, y_pred)
        ones = tf.ones_like(x.sample_id)
        self.visits.scatter_add(tf.IndexedSlices(ones, x.sample_id))
        return super().compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def make_model(sieve, weight=1.0, **kwargs):
    """Scores (-w x, w x) of classes 0 and 1: class 1 where w x > 0; w does not train."""
    inputs = keras.Input((1,))
    model = Classifier(inputs, keras.layers.Dense(2, use_bias=False)(inputs))
    model.sieve = sieve
    model.visits = tf.Variable(tf.zeros(sieve.total, tf.int64))
    set_weight(model, weight)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, **kwargs)
    return model


def set_weight(model, weight):
    model.layers[1].kernel.assign([[-weight, weight]])


class Updates(keras.callbacks.Callback):
    """Updates the sieve after each epoch; notes members and visits of the epoch before that."""

    def __init__(self, sieve, epochs):
        super().__init__()
        self.sieve, self.epochs = sieve, epochs
        self.members, self.visits = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.members.append(self.sieve.member.numpy().astype(int).tolist())
        self.visits.append(self.model.visits.numpy().tolist())
        self.model.visits.assign(tf.zeros(self.sieve.total, tf.int64))
        self.sieve.update(epoch + 1, (epoch + 1) / self.epochs)


def fit(model, batches, callbacks, epochs, **kwargs):
    """Trains; any warning of Keras is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kwargs = {"verbose": 0, "shuffle": False, "epochs": epochs, **kwargs}
        return model.fit(batches, callbacks=callbacks, **kwargs)
