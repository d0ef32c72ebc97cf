"""Short runs of `spfde train`, in this process."""

import spfde_keras
from apps import training
from apps.config import RunConfig

# One shape for all: two intervals, freezing, sieving, a partial last batch.
SHORT = {"epochs": 4, "interval": 1, "train_samples": 100, "batch_size": 32}
SHORT |= {"model": "mlp", "width": 0.25}


def run(**options):
    return training.train(training.prepare(RunConfig(**(SHORT | options))))


class Killed(Exception):
    pass


def kill(monkeypatch, epoch):
    """Has the next run die after an epoch, when history has its row but no state is kept."""
    on_epoch_end = spfde_keras.Resume.on_epoch_end

    def die(self, at, logs=None):
        if at == epoch:
            raise Killed
        on_epoch_end(self, at, logs)

    monkeypatch.setattr(spfde_keras.Resume, "on_epoch_end", die)
