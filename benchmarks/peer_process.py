"""Both ends of the pipe to a peer: a process that trains n steps whenever it is told to.

Lines of JSON. The process first says what it is, then answers each number of steps with what these
took. It imports nothing but Python's own, so that it runs in any environment.
"""

import ast
import contextlib
import dataclasses
import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import memory


class LeftOut(Exception):
    """A peer that cannot be measured; the text says why, on one line."""


@dataclasses.dataclass
class Trainer:
    """What a peer's process trains.

    Args:
        step: trains one step on the batch, and returns its loss.
        facts: what is to be known of the peer, as JSON has it.
    """

    step: Callable[[], float]
    facts: dict[str, Any]


def serve(build: Callable[[], Trainer]) -> None:
    """Builds a trainer and answers from now on, until the other end closes the pipe.

    Memory counts from here: import what the peer needs before.
    """
    imported = memory.status("VmRSS")
    with _answers() as answer:
        try:
            trainer = build()
        except Exception as error:
            answer({"error": _line(f"{type(error).__name__}: {error}")})
            return
        answer(trainer.facts)
        for line in sys.stdin:
            steps = int(line)
            start = time.perf_counter()
            losses = [trainer.step() for _ in range(steps)]
            seconds = (time.perf_counter() - start) / steps
            added = memory.status("VmHWM") - imported
            answer({"seconds": seconds, "loss": sum(losses) / steps, "added_bytes": added})


@contextlib.contextmanager
def _answers() -> Any:
    """A function that sends an answer. What libraries print goes to stderr instead."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as pipe:
        os.dup2(2, 1)
        yield lambda value: print(json.dumps(value), file=pipe, flush=True)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def lines(*functions: Callable) -> int:
    """How many lines the bodies of functions have, without docstrings and comments.

    A `return` of a mere name counts nothing: a script goes on with that name.

    Example:

    >>> def double(x):
    ...     y = 2 * x
    ...     return y
    >>> lines(double)
    1
    """
    counted = 0
    for function in functions:
        source = textwrap.dedent(inspect.getsource(function))
        definition = ast.parse(source).body[0]
        assert isinstance(definition, ast.FunctionDef)
        code = [line.strip() for line in source.splitlines()]
        for statement in definition.body:
            docstring = isinstance(statement, ast.Expr) and isinstance(
                statement.value, ast.Constant
            )
            handed_back = isinstance(statement, ast.Return) and isinstance(
                statement.value, ast.Name
            )
            if not (docstring or handed_back):
                body = code[statement.lineno - 1 : statement.end_lineno]
                counted += sum(bool(line) and not line.startswith("#") for line in body)
    return counted


class Peer:
    """This end: starts a peer's process and waits until it can train.

    Args:
        command: of the process.
        environment: variables to set for it.

    Attributes:
        facts: what the process says of itself.

    Raises:
        LeftOut: it cannot train.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None):
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | (environment or {}),
            text=True,
        )
        try:
            self.facts = self._answer()
        except BaseException:
            self.close()
            raise

    def train(self, steps: int) -> dict[str, Any]:
        """Trains so many steps.

        Returns:
            "seconds" of a step, the mean "loss" of the steps, and "added_bytes": by how much the
            process has been larger than after its imports, at most.

        Raises:
            LeftOut: the process has ended, or has failed.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that fails to come says more
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            raise LeftOut(f"it ended with status {status}: {last_word(self._log.read())}")
        answer = json.loads(line)
        if "error" in answer:
            raise LeftOut(answer["error"])
        return answer


def last_word(log: str) -> str:
    """The line of a log that says what went wrong: the last error, or the last line.

    Example:

    >>> last_word("ERROR: no compiler\\nnote: ask its authors\\n")
    'ERROR: no compiler'
    """
    said = [line for line in log.splitlines() if line.strip()] or ["nothing was said"]
    errors = [line for line in said if "error" in line.lower()]
    return _line((errors or said)[-1])
