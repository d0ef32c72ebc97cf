"""The names of the library's methods, for options that choose one."""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path


def names(family: str) -> list[str]:
    """Returns the names in a family of methods, in alphabetical order.

    Where the library is imported its registry is asked, which knows what users have registered.
    Where it is not, they are read in its source: `--help` need not wait for TensorFlow.

    Args:
        family: the module in `spfde_keras` that has `register`, `names` and `get`.

    Example:

    >>> names("sieve.policies")
    ['circular', 'one_time']
    """
    module = sys.modules.get(f"spfde_keras.{family}")
    return sorted(_registered(family)) if module is None else module.names()


def parameters(family: str, name: str) -> list[str]:
    """Returns the names of the arguments that a method of a family is made with.

    As `names`, it reads them in the source where the library is not imported.

    Args:
        family: the module in `spfde_keras`.
        name: one of `names(family)`.

    Example:

    >>> parameters("sieve.policies", "circular")
    ['exchange']
    """
    module = sys.modules.get(f"spfde_keras.{family}")
    if module is not None:
        return list(inspect.signature(type(module.get(name))).parameters)
    classes = {node.name: node for node in _classes(family)}
    node = next((node for node in classes.values() if name in _names_of(node)), None)
    while node is not None:
        if made := _constructor(node):
            return [argument.arg for argument in made.args.args[1:]]
        bases = (base.id for base in node.bases if isinstance(base, ast.Name))
        node = next((classes[base] for base in bases if base in classes), None)
    return []


def source(*parts: str) -> Path:
    """Returns where a file of the library is, without importing anything of it."""
    library = importlib.util.find_spec("spfde_keras")
    if library is None or library.origin is None:
        raise ModuleNotFoundError("spfde_keras is not installed", name="spfde_keras")
    return Path(library.origin).parent.joinpath(*parts)


def _registered(family: str) -> Iterator[str]:
    """The names by which classes are registered that can be made without arguments."""
    for node in _classes(family):
        if not _needs_arguments(node):
            yield from _names_of(node)


def _classes(family: str) -> Iterator[ast.ClassDef]:
    path = source(*family.split("."))
    for file in sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                yield node


def _names_of(node: ast.ClassDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name("register"), args=[ast.Constant(str(name))]):
                yield name


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    made = (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
    return next(made, None)


def _needs_arguments(node: ast.ClassDef) -> bool:
    made = _constructor(node)
    return made is not None and len(made.args.args) - 1 > len(made.args.defaults)
