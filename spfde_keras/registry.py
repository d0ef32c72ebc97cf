"""Families of small objects known by name: updaters, schemes, schedules and their like."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import keras

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """One family of classes: made by name, from a configuration, or taken as they are.

    Args:
        argument: the name of the argument by which users choose one, for messages.
        kind: the base class of the family.
        default: the name that None stands for; without it None is refused.
        parse: function from an identifier that is neither a name nor a configuration to an object
            or None: another way to write members of the family, such as "2:4".
        also: that way in words, for messages, such as "N:M such as '2:4'".

    Example:

    >>> from spfde_keras.configurable import Configurable
    >>> class Greeting(Configurable):
    ...     pass
    >>> greetings = Registry("greeting", Greeting)
    >>> @greetings.register("hello")
    ... class Hello(Greeting):
    ...     pass
    >>> greetings.names(), type(greetings.get("hello")).__name__
    (['hello'], 'Hello')
    """

    def __init__(
        self,
        argument: str,
        kind: type[T],
        default: str | None = None,
        parse: Callable[[Any], T | None] | None = None,
        also: str = "",
    ):
        self.argument, self.kind, self.default = argument, kind, default
        self._parse, self._also = parse, also
        self._classes: dict[str, type[T]] = {}
        self._patterns: dict[str, type[T]] = {}

    def register(self, name: str, pattern: str | None = None) -> Callable[[C], C]:
        """Returns a decorator that makes a class known by `name`, also to saved models.

        Keras knows the class under its own top-level package, unless it was registered with
        `keras.saving.register_keras_serializable` before.

        Args:
            name: str, in lower case with underscores.
            pattern: regular expression of how the class is written with arguments, whose groups
                are these, as integers: r"block:([0-9]+)".

        Raises:
            ValueError: if another class has the name, or a class is not of the family.
        """

        def add(cls: Any) -> Any:
            if not (isinstance(cls, type) and issubclass(cls, self.kind)):
                raise ValueError(
                    f"What is registered as {name!r} must be a subclass of {self.kind.__name__}. "
                    f"Received: {cls!r}"
                )
            known = self._classes.get(name, cls)
            # A cell of a notebook that is run again defines the same class again.
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(
                    f"`name` must not be that of another {self.kind.__name__}. Received: {name!r}, "
                    f"which is {known.__module__}.{known.__qualname__}"
                )
            self._classes[name] = cls
            if pattern is not None:
                self._patterns[pattern] = cls
            return make_serializable(cls)

        return add

    def names(self) -> list[str]:
        """Returns the names that `get` takes as they are, in alphabetical order."""
        return sorted(name for name, cls in self._classes.items() if not _needs_arguments(cls))

    def get(self, identifier: Any, argument: str | None = None) -> T:
        """Returns what `identifier` stands for.

        Args:
            identifier: an object of the family, a name, or a configuration as
                `keras.saving.serialize_keras_object` writes it.
            argument: the argument's name in messages, where it is not the family's own.

        Raises:
            ValueError: if it stands for nothing.
        """
        if identifier is None and self.default is not None:
            identifier = self.default
        found = self._find(identifier)
        if not isinstance(found, self.kind):
            raise ValueError(
                f"`{argument or self.argument}` must be {self._choices()}. Received: {identifier!r}"
            )
        return found

    def name_of(self, member: T) -> str | None:
        """Returns the name of an object's class, None if it is known by none."""
        return next((name for name, cls in self._classes.items() if cls is type(member)), None)

    def _find(self, identifier: Any) -> Any:
        if isinstance(identifier, dict) and "class_name" in identifier:
            try:
                return keras.saving.deserialize_keras_object(identifier)
            except TypeError:
                return None  # a configuration of something unknown
        if isinstance(identifier, str):
            if identifier in self.names():
                return self._classes[identifier]()
            for pattern, cls in self._patterns.items():
                if match := re.fullmatch(pattern, identifier):
                    return cls(*map(int, match.groups()))
        found = None if self._parse is None else self._parse(identifier)
        return identifier if found is None else found

    def _choices(self) -> str:
        kind = self.kind.__name__
        article = "an" if kind[0] in "AEIOU" else "a"
        ways = [f"{article} {kind}", "its configuration", *map(repr, self.names())]
        *first, last = [*ways, *filter(None, [self._also])]
        return f"{', '.join(first)} or {last}"


def _needs_arguments(cls: type) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in optional for p in parameters)


def make_serializable(cls: Any) -> Any:
    """Returns a class after making it known to Keras, so that saved models can name it.

    Keras knows it under its own top-level package, unless it was registered with
    `keras.saving.register_keras_serializable` before.
    """
    if keras.saving.get_registered_name(cls) == cls.__name__:
        package = cls.__module__.partition(".")[0]
        keras.saving.register_keras_serializable(package)(cls)
    return cls


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports each module of a package, so that the classes in them are registered.

    Args:
        package: the package's `__name__`.
        path: its `__path__`.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
