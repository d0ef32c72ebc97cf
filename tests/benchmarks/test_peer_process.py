"""Both ends of the pipe, with processes that train nothing and begin in no time."""

import sys
from pathlib import Path

import pytest

from benchmarks.peer_process import LeftOut, Peer, last_word, lines

ROOT = Path(__file__).resolve().parents[2]
_SERVES = """
import sys, time
sys.path.insert(0, sys.argv[1])
from benchmarks.peer_process import Trainer, serve

class Falling:
    loss = 8.0
    held = []

    def step(self):
        print("libraries print")
        time.sleep(0.01)
        self.held.append(b"x" * 2**24)
        self.loss -= 1
        return self.loss
"""


@pytest.fixture
def process(tmp_path):
    """Starts a process with code behind `_SERVES`."""
    peers = []

    def start(code):
        script = tmp_path / "peer.py"
        script.write_text(_SERVES + code)
        peers.append(Peer([sys.executable, str(script), str(ROOT)]))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def test_a_peer_answers_with_what_its_steps_took(process):
    peer = process("serve(lambda: Trainer(Falling().step, {'weights': 3}))")
    assert peer.facts == {"weights": 3}
    first, second = peer.train(2), peer.train(3)
    assert first["loss"] == 6.5  # 7 and 6
    assert second["loss"] == 4.0  # 5, 4 and 3
    assert first["seconds"] >= 0.01 and second["seconds"] >= 0.01
    assert 2**25 <= first["added_bytes"] < second["added_bytes"] < 2**28


def test_memory_is_that_above_the_imports(process):
    peer = process("x = b'x' * 2**27\nserve(lambda: Trainer(Falling().step, {}))")
    assert peer.train(1)["added_bytes"] < 2**26


def test_the_process_ends_with_the_pipe(process):
    peer = process("serve(lambda: Trainer(Falling().step, {}))")
    peer._process.stdin.close()
    assert peer._process.wait(timeout=10) == 0
    peer._process.stdin = None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("serve(lambda: 1 / 0)", "^ZeroDivisionError: division by zero$"),
        ("import no_such_module", "it ended with status 1: ModuleNotFoundError: No module named"),
        ("sys.exit(3)", "^it ended with status 3: nothing was said$"),
    ],
)
def test_what_cannot_train_says_why(process, code, reason):
    with pytest.raises(LeftOut, match=reason):
        process(code)


def test_a_process_that_dies_later_says_why(process):
    peer = process("serve(lambda: Trainer(lambda: sys.exit('error: no memory'), {}))")
    with pytest.raises(LeftOut, match="^it ended with status 1: error: no memory$"):
        peer.train(1)


def test_the_last_word_is_the_error():
    assert last_word("ERROR: a\nerror: b\nnote: c\n\n") == "error: b"
    assert last_word("a\nb\n") == "b"
    assert last_word("\n") == "nothing was said"


def test_lines_are_those_that_a_user_adds():
    def changed(model):
        """Not counted."""
        import math

        # Not counted either.
        model = math.sqrt(
            # Nor this.
            model,
        )
        return model

    def returned(model):
        return model + 1

    assert lines(changed) == 4
    assert lines(returned) == 1
    assert lines(changed, returned) == 5
    assert lines() == 0
