"""Several replicas and workers reach what one device does: method by strategy."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
QUICK = ["set", "rigl", "mest_ems", "ast", "evaluated", "resumed_rigl", "resumed_ast"]
SLOW = ["static", "mest_em", "magnitude", "prune_and_regrow", "dense", "joint"]
SLOW += ["dsr", "global_magnitude", "granet", "ac_dc"]
STRATEGIES = ["mirrored", "multiworker"]


def start(folder, strategy, cases, **environment):
    log = (folder / f"{strategy}-{len(list(folder.glob('*.log')))}.log").open("w")
    command = [sys.executable, HERE / "runs.py", folder, strategy, *cases]
    return subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | environment, cwd=HERE.parents[1]
    )


def start_workers(folder, cases, count=2):
    holds = [socket.create_server(("localhost", 0)) for _ in range(count)]
    workers = [f"localhost:{hold.getsockname()[1]}" for hold in holds]
    for hold in holds:
        hold.close()
    for index in range(count):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        yield start(folder, "multiworker", cases, TF_CONFIG=json.dumps(task))


def run_all(folder, cases):
    for group in (
        [start(folder, "none", cases)],
        [start(folder, "mirrored", [*cases, "refused"])],
        start_workers(folder, cases),
    ):
        processes = list(group)
        try:
            codes = [process.wait(timeout=600) for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            pytest.fail("\n".join(log.read_text()[-1500:] for log in folder.glob("*.log")), False)
    return folder


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("slow"), SLOW)


def compare(folder, case, strategy):
    """Masks, samples and counts must be the same, and all numbers but for their last digits."""
    expected = np.load(folder / f"{case}-none-0.npz")
    assert case == "dense" or "mask_1" in expected
    for worker in range(2 if strategy == "multiworker" else 1):
        found = np.load(folder / f"{case}-{strategy}-{worker}.npz")
        assert set(found) == set(expected)
        for name in expected:
            if expected[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name], expected[name], atol=2e-4, err_msg=name)
            else:
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", QUICK)
def test_they_reach_what_one_device_does(quick, case, strategy):
    compare(quick, case, strategy)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("case", SLOW)
def test_so_do_all_methods(slow, case, strategy):
    compare(slow, case, strategy)


@pytest.mark.parametrize("case", ["rigl", "ast"])
@pytest.mark.parametrize("strategy", ["none", *STRATEGIES])
def test_a_resumed_run_is_an_uninterrupted_one(quick, case, strategy):
    for worker in range(2 if strategy == "multiworker" else 1):
        whole = np.load(quick / f"{case}-{strategy}-{worker}.npz")
        resumed = np.load(quick / f"resumed_{case}-{strategy}-{worker}.npz")
        for name in whole:
            if not name.startswith("log_"):
                np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("remainder", "ValueError: Each batch must have a sample for each of the 2 devices"),
        ("remainder_of_dataset", "ValueError: Each batch must have a sample for each of the 2"),
        ("remainder_of_sieve", "ValueError: Each batch must have a sample for each of the 2"),
        ("remainder_found", "ValueError: Each batch must have a sample for each of the 2"),
        ("optimizer", "ValueError: The optimizer must be made in `with strategy.scope"),
        ("model", "ValueError: The model must be made (`sparsify` or `wrap`, and `compile`) in"),
        ("reduction", "ValueError: On several devices, losses must be means over samples"),
        ("accumulation", "ValueError: On several devices, Keras does not accumulate gradients"),
        ("steps", "ValueError: On several devices, Keras takes one step at a time"),
        ("dataset", "ValueError: `fit` spreads batches over devices by itself"),
    ],
)
def test_what_cannot_be_is_refused_before_it_starts(quick, name, message):
    found = json.loads((quick / "refused-mirrored.json").read_text())
    assert found.get(name, "").startswith(message), found.get(name)
