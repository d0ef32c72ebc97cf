"""Sparsity schemes: which weights are kept or dropped together."""

from spfde_keras.schemes.base import Scheme
from spfde_keras.schemes.block import Block
from spfde_keras.schemes.channel import Channel, Filter
from spfde_keras.schemes.n_m import NM
from spfde_keras.schemes.pattern import Pattern
from spfde_keras.schemes.unstructured import Unstructured

_NAMED = {
    "unstructured": Unstructured,
    "block": Block,
    "pattern": Pattern,
    "channel": Channel,
    "filter": Filter,
}


def get(identifier: str | Scheme | None) -> Scheme:
    """Returns the scheme that `identifier` stands for.

    Args:
        identifier: a `Scheme`; one of "unstructured", "block", "pattern", "channel" and
            "filter"; "block:8" for blocks of 8 outputs; "2:4" for 2 of 4 inputs; or None for
            "unstructured".

    Returns:
        A `Scheme`.

    Raises:
        ValueError: if there is no such scheme.

    Example:

    >>> get("block:8"), get("2:4")
    (Block(outputs=8, inputs=1), NM(n=2, m=4))
    """
    if isinstance(identifier, Scheme):
        return identifier
    if identifier is None:
        return Unstructured()
    if isinstance(identifier, str):
        if identifier in _NAMED:
            return _NAMED[identifier]()
        name, _, number = identifier.partition(":")
        if name == "block" and number.isdecimal():
            return Block(outputs=int(number))
        if name.isdecimal() and number.isdecimal():
            return NM(int(name), int(number))
    raise ValueError(
        f"`scheme` must be a Scheme, one of {', '.join(map(repr, _NAMED))}, a block of so many "
        f"outputs such as 'block:8', or N:M such as '2:4'. Received: {identifier!r}"
    )
