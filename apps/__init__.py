"""Programs: `python -m apps.train`, `python -m apps.costs` and `python -m apps.compare_subnets`."""

from apps import quiet  # noqa: F401
