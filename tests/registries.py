"""What one test registers must not reach the next."""

import contextlib

from spfde_keras import distributions, schedules, schemes, updaters
from spfde_keras.freezing import schemes as freezing_schemes
from spfde_keras.sieve import policies

FAMILIES = {
    "updater": updaters,
    "scheme": schemes,
    "distribution": distributions,
    "schedule": schedules,
    "policy": policies,
    "freezing scheme": freezing_schemes,
}
_REGISTRIES = [
    family.REGISTRY
    for family in (
        updaters.base,
        schemes.base,
        distributions,
        schedules,
        policies,
        freezing_schemes,
    )
]


@contextlib.contextmanager
def left_as_they_were():
    before = [dict(registry._classes) for registry in _REGISTRIES]
    try:
        yield
    finally:
        for registry, classes in zip(_REGISTRIES, before, strict=True):
            registry._classes = classes
