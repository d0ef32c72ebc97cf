"""Finished runs, made up: folders as `spfde train` leaves them, files as `make evidence` does."""

import copy
import json
import pathlib

EPOCHS = 4

RESULTS = {
    "test_accuracy": 0.875,
    "tflite_test_accuracy": 0.87,
    "sparse_mode_test_accuracy": None,
    "sparse_mode_test_samples": 0,
    "sparsity": 0.9,
    "training_flops": 2e11,
    "dense_training_flops": 1e12,
    "flops_share": 0.2,
    "planned_training_flops": 2.5e11,
    "memory_average_bytes": 2e6,
    "memory_minimum_bytes": 1e6,
    "block_flops_per_sample": {"forward": [10.0, 20.0], "weight_gradient": [30.0, 40.0]},
    "active_samples": 80,
    "train_samples": 100,
    "test_samples": 50,
    "frozen_blocks": 1,
    "blocks": 2,
    "steps": 9,
    "wall_time_s": 12.0,
    "training_time_s": 8.0,
    "tflite_bytes": 1234,
    "tflite_dense_bytes": 4936,
    "tflite_share": 0.25,
    "tflite_runs_sparse": False,
    "versions": {"keras": "3.15.1"},
    "commit": "0123abcd",
    "date": "2026-11-29T20:33:13+00:00",
}

CONFIG = {
    "dataset": "digits",
    "model": "mlp",
    "method": "set",
    "sparsity": [0.9],
    "epochs": EPOCHS,
    "seed": 0,
}

PNG = b"\x89PNG\r\n\x1a\nrest"


def results(accuracy=0.875, subnets=("subnet_90",), **options) -> dict:
    """What results.json holds; each further sub-net is 0.1 less accurate."""
    ones = [
        {
            "name": name,
            "sparsity": 0.9,
            "test_accuracy": accuracy - 0.1 * index,
            "tflite_test_accuracy": accuracy - 0.1 * index,
            "sparse_mode_test_accuracy": None,
            "sparse_mode_test_samples": 0,
        }
        for index, name in enumerate(subnets)
    ]
    found = {"test_accuracy": accuracy, "subnets": ones, "config": CONFIG | options}
    return copy.deepcopy(RESULTS | found)


def history(accuracy=0.875, subnets=("subnet_90",)) -> list[str]:
    """The lines of history.csv: half of the accuracy at first, all of it at the end."""
    tests = [f"val_accuracy/{name}" for name in subnets] if len(subnets) > 1 else ["val_accuracy"]
    columns = "epoch,loss,accuracy,val_loss,sparsity,frozen_blocks,active_samples,flops_share"
    lines = [",".join([columns, "seconds", *tests])]
    for epoch in range(1, EPOCHS + 1):
        share = 0.5 + 0.5 * (epoch - 1) / (EPOCHS - 1)
        row = [epoch, 1 / epoch, share, 1.5 / epoch, 0.9, epoch // 3, 80, 0.2, 2.0]
        row += [share * (accuracy - 0.1 * index) for index in range(len(tests))]
        lines.append(",".join(map(str, row)))
    return lines


def folder(path: pathlib.Path, accuracy=0.875, subnets=("subnet_90",), **options) -> str:
    """Makes the folder of a run, of other options than `CONFIG` where these are given."""
    path.mkdir(parents=True)
    found = results(accuracy, subnets, **options)
    (path / "results.json").write_text(json.dumps(found))
    (path / "history.csv").write_text("\n".join(history(accuracy, subnets)) + "\n")
    return str(path)


def evidence(path: pathlib.Path, accuracy=0.875, **options) -> str:
    """Makes the file of a run of `make evidence`."""
    about = {
        "command": f"spfde train --flagfile={path.stem}.flags",
        "machine": {"processor": "Fast", "cores": 2},
        "results": results(accuracy, **options),
        "history": history(accuracy),
    }
    path.write_text(json.dumps(about))
    return str(path)


def analyses(subnets=("subnet_90",)) -> dict:
    """What analyses.json holds, of two layers at two records."""
    table = [[0.5, 0.25], [0.125, None]]
    measures = ("density", "similarity", "explored", "cka")
    of_subnet = {name: table for name in measures} | {"overlap": [[None, None], [0.75, 1.0]]}
    return {
        "version": 1,
        "epochs": [2, 4],
        "layers": ["conv2d_1", "dense<b>"],
        "blocks": [[0], [1]],
        "subnets": {name: of_subnet for name in subnets},
        "gradient_norms": table,
        "forgetting": {
            "histogram": [[90, 6, 4], [95, 5, 0]],
            "never_forgotten": [70, 60],
            "never_learned": [8, 3],
            "easiest": [11, 12],
            "hardest": [98, 99],
        },
    }
