"""Numbers as results show them."""

from typing import Any


def rounded(value: Any) -> Any:
    """Returns a value, or all those in dictionaries and lists, with 6 significant digits.

    Args:
        value: what JSON can write.

    Example:

    >>> rounded({"a": [1 / 3, 2], "b": None})
    {'a': [0.333333, 2], 'b': None}
    """
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
