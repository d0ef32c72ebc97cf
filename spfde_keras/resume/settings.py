"""What a run is made of beside its model: it must be the same where the run is resumed."""

import re
from collections.abc import Mapping
from typing import Any

import keras


def settings(model: keras.Model) -> dict[str, str]:
    """Returns the settings of the sparse training that a model is in, by name; {} in none."""
    monitor = getattr(model, "monitor", None)
    callback = getattr(monitor, "callback", None)
    if callback is None:
        return {}
    found = {
        "callback": type(callback).__name__,
        "epochs": callback.epochs,
        "interval": callback.interval,
        "updater": callback.updater,
        "seed": callback.seed,
        "data_stop": callback.timeline.data_stop,
    }
    if callback.freezing is not None:
        found |= {f"freeze.{name}": value for name, value in vars(callback.freezing).items()}
    if callback.sieve is not None:
        found |= {"sieve.policy": callback.sieve.policy, "sieve.seed": callback.sieve.seed}
    return {name: _text(value) for name, value in found.items()}


def check_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises `ValueError` naming the settings in which a run differs from the one before.

    >>> check_same({"epochs": "6", "seed": "0"}, {"epochs": "7", "seed": "0"})
    Traceback (most recent call last):
    ValueError: A run must be resumed with the same settings. Received: epochs was 6, is 7
    """
    changed = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ValueError(
            f"A run must be resumed with the same settings. Received: {'; '.join(changed)}"
        )


def _text(value: Any) -> str:
    # Addresses differ from process to process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
