"""LiteRT's interpreter, in this process or in one of its own, which a damaged file may end."""

# As a program it imports no TensorFlow, which takes seconds.
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

THREADS = 2

Arrays = Mapping[str, np.ndarray]
Takes = Mapping[str, tuple[list[int], str]]
"""The shape and the dtype of each input of a signature."""


class Interpreted:
    """A file that LiteRT has loaded.

    Args:
        path: the .tflite file.

    Raises:
        ValueError: if LiteRT cannot load it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=THREADS)
        self._interpreter.allocate_tensors()
        names = list(self._interpreter.get_signature_list())
        self.signatures: dict[str, Takes] = {name: self._takes(name) for name in names}

    def close(self) -> None:
        """Does nothing."""

    def run(self, signature: str, inputs: Arrays) -> dict[str, np.ndarray]:
        """Returns the outputs for samples, which are run one after the other."""
        runner = self._runner(signature)
        results = [runner(**one) for one in each_sample(inputs)]
        return {name: np.concatenate([one[name] for one in results]) for name in results[0]}

    def _takes(self, signature: str) -> Takes:
        details = self._runner(signature).get_input_details()
        return {
            k: (one["shape"].tolist(), np.dtype(one["dtype"]).name) for k, one in details.items()
        }

    def _runner(self, signature: str) -> Any:
        return self._interpreter.get_signature_runner(signature)


class InterpretedApart:
    """The same of a file that another process has loaded, until it is closed.

    Args:
        path: the .tflite file.

    Raises:
        ValueError: if LiteRT cannot load it.
        RuntimeError: if that has ended the process.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, os.fspath(path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        try:
            self.signatures = self._answer()[0]
        except BaseException:
            self.close()
            raise

    def run(self, signature: str, inputs: Arrays) -> dict[str, np.ndarray]:
        # A process that has ended is told by its missing answer.
        with contextlib.suppress(BrokenPipeError):
            _send(self._to, signature, inputs)
        return self._answer()[1]

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> tuple[Any, dict[str, np.ndarray]]:
        answer = _receive(self._from)
        if answer is None:
            raise RuntimeError(f"it ended the process (status {self._process.wait()})")
        said, arrays = answer
        if isinstance(said, str):
            raise ValueError(said)
        return said, arrays


def each_sample(inputs: Arrays) -> Iterator[dict[str, np.ndarray]]:
    """Gives batches of one sample.

    Args:
        inputs: arrays (samples, *input shape) by name.
    """
    for i in range(len(next(iter(inputs.values())))):
        yield {name: array[i : i + 1] for name, array in inputs.items()}


def _send(stream: IO[bytes], said: Any, arrays: Arrays) -> None:
    content = io.BytesIO()
    np.savez(content, *arrays.values())
    about = json.dumps([said, list(arrays), content.tell()])
    stream.write(about.encode() + b"\n" + content.getvalue())
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[Any, dict[str, np.ndarray]] | None:
    """What was said, and the arrays with it; None if the other end is closed."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    said, names, size = json.loads(line)
    content = stream.read(size)
    if len(content) < size:
        return None
    with np.load(io.BytesIO(content)) as stored:  # nothing is unpickled
        return said, {name: stored[f"arr_{i}"] for i, name in enumerate(names)}


def _serve(path: str) -> None:
    # LiteRT may print, and the pipe is for answers alone.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        file = Interpreted(path)
        _send(pipe, file.signatures, {})
        while (asked := _receive(sys.stdin.buffer)) is not None:
            _send(pipe, {}, file.run(*asked))
    except Exception as error:
        _send(pipe, str(error) or type(error).__name__, {})


if __name__ == "__main__":
    _serve(sys.argv[1])
