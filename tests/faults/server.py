"""Runs `spfde train` again and again, each time in a fork that has imported all it needs.

It reads requests from stdin, a line of JSON each, and answers on stdout in the same way. Faults
come from `strike.c`, which must be preloaded.
"""

import ctypes
import json
import os
import signal
import sys
import types
from pathlib import Path

from apps import evaluation, phones, train, training


def _without_export() -> None:
    """Leaves out what takes most of the time of a short run; files are written as before."""

    def export(model, path, **_):
        Path(path).write_bytes(b"file")
        return types.SimpleNamespace(bytes=4, runs_sparse=False)

    def accuracies(model, path, x, y, signatures):
        return [{"sparse_mode_test_accuracy": None, "sparse_mode_test_samples": 0}]

    training.export_tflite = export
    evaluation.evaluate_tflite = lambda *_, signature: 0.5
    phones.sparse_mode_accuracies = accuracies
    training.plots.plot_history = lambda rows, path, *_: Path(path).write_bytes(b"png" * 10)


MODES = ("count", "kill", "term", "full")


def _child(request: dict, report: int) -> None:
    faults = ctypes.CDLL(None)
    faults.strike_seen.restype = ctypes.c_long
    console = os.open(request["console"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(console, stream)
    how, when = MODES.index(request.get("mode", "count")), request.get("at", 0)
    faults.strike_arm(request["folder"].encode(), ctypes.c_long(when), how)
    status = train.main(request["flags"])
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(report, json.dumps({"status": status, "seen": faults.strike_seen()}).encode())
    os._exit(0)


def _run(request: dict) -> dict:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(300)
        try:
            _child(request, writing)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(70)
    os.close(writing)
    with open(reading) as answer:
        told = answer.read()
    _, ended = os.waitpid(child, 0)
    found = json.loads(told) if told else {"status": -os.WTERMSIG(ended) or 70}
    return found | {"console": Path(request["console"]).read_text(errors="replace")}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _without_export()
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), file=answers, flush=True)
