"""The names of the library's methods, for options that choose one."""

import ast
import importlib.util
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


def source(*parts: str) -> Path:
    """Returns where a file of the library is, without importing anything of it."""
    library = importlib.util.find_spec("spfde_keras")
    if library is None or library.origin is None:
        raise ModuleNotFoundError("spfde_keras is not installed", name="spfde_keras")
    return Path(library.origin).parent.joinpath(*parts)


def _registered(family: str) -> Iterator[str]:
    """The names by which classes are registered that can be made without arguments."""
    path = source(*family.split("."))
    for file in sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not _needs_arguments(node):
                for decorator in node.decorator_list:
                    match decorator:
                        case ast.Call(func=ast.Name("register"), args=[ast.Constant(str(name))]):
                            yield name


def _needs_arguments(node: ast.ClassDef) -> bool:
    made = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    return any(len(f.args.args) - 1 > len(f.args.defaults) for f in made)
