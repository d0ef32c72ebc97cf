"""A valid call of each public callable that callers give values to, and what else it may take."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

import spfde_keras
from spfde_keras import (
    alternating,
    cost,
    device,
    distributions,
    export,
    kernels,
    layers,
    masking,
    saliency,
    schedules,
    schemes,
    sieve,
    updaters,
)
from spfde_keras.device.contents import contents_of
from spfde_keras.device.cutting import parts_of
from spfde_keras.device.state import State
from spfde_keras.sieve import policies
from tests.bad_values import (
    A_FEW,
    VALUES,
    Case,
    among,
    anything,
    either,
    empty,
    folder,
    never,
    nothing,
    number,
    text,
    true_or_false,
    whole,
    within,
)

SEED = (0, whole(0))
FRACTION = within(0, 1, "(]")
SPARSITY = within(0, 1, "[)")


def cases(path: pathlib.Path) -> dict[str, Case]:
    """Returns a case for each public callable that callers give values to.

    Args:
        path: a folder for files that some of them read.
    """
    mlp = keras.Sequential(
        [keras.Input((8,)), *(keras.layers.Dense(n, name=f"d{n}") for n in (16, 12, 2))], name="mlp"
    )
    sparse = spfde_keras.sparsify(mlp, 0.5)
    several = spfde_keras.sparsify(mlp, [0.5, 0.75])
    samples = np.zeros((8, 8), "float32"), np.zeros(8, "int64")
    scored = {
        "model": (mlp, never),
        "batches": ([(samples[0], np.zeros((8, 2)))], never),
        "loss": ("mse", callable),
    }
    pruning = {"begin": (0.0, within(0, 0.75, "[)")), "stop": (0.75, FRACTION)}
    dataset = tf.data.Dataset.from_tensor_slices(samples)
    tflite = path / "model.tflite"
    spfde_keras.export_tflite(sparse, tflite)
    contents = contents_of(sparse, parts_of(spfde_keras.densify(sparse), None))
    device_state = State(contents.initial, contents.about, {}, None).save()["state"].numpy()
    trains, trained = path / "trains.tflite", spfde_keras.wrap(sparse)
    trained.compile("sgd", "mse")
    spfde_keras.export_trainable_tflite(trained, trains, "sgd", "mse", 4)
    sparse.save(path / "model.keras")
    records = path / "samples.tfrecord"
    with tf.io.TFRecordWriter(str(records)) as writer:
        writer.write(b"0")
    x = samples[0]
    the_mask = masking.find_masks(sparse)[0]
    data = sieve.DataSieve(samples)
    costs = cost.profile(sparse)

    ramp = {
        "initial": (1.0, number),
        "final": (0.0, number),
        "begin": (0.0, lambda v: number(v) and v < 1),
        "end": (1.0, lambda v: number(v) and v > 0),
    }
    training = {
        "epochs": (4, either(nothing, whole(1))),
        "updater": ("set", nothing),
        "interval": (1, either(nothing, whole(1))),
        "freeze": (None, either(nothing, true_or_false, within(0, 1, "()"))),
        "sieve": (None, nothing),
        "log_dir": (None, either(nothing, folder)),
        "seed": SEED,
        "data_stop": (None, either(nothing, within(0, 1))),
        "update_steps": (None, either(nothing, whole(1))),
    }
    mask = {
        "scheme": ("unstructured", either(nothing, among([None]))),
        "sparsity": (0.5, either(SPARSITY, among({}))),
    }
    share = (0.3, either(nothing, within(0, 1)))
    regrowing = {
        "initial_density": (0.5, FRACTION),
        "fraction": share,
        "end": (0.5, FRACTION),
        "stop": (1.0, within(0.5, 1)),
    }
    file = (tflite, never)
    signature = (None, nothing)
    images = np.zeros((2, 4, 4, 3), "float32")
    kernel = np.zeros((3, 3, 3, 4), "float32")
    matrix = np.zeros((8, 4), "float32")
    # What TensorFlow itself says of a tensor that is none is left to it.
    tensor = anything
    sizes = (2, 4, 4)
    found = {
        "spfde_keras.SpFDE": Case(spfde_keras.SpFDE, training),
        "spfde_keras.AlternatingSparseTraining": Case(
            spfde_keras.AlternatingSparseTraining,
            training | {"gradient_correction": (True, true_or_false)},
        ),
        "spfde_keras.alternating.JointSparseTraining": Case(
            alternating.JointSparseTraining, training
        ),
        "spfde_keras.DataSieve": Case(
            spfde_keras.DataSieve,
            {
                "samples": (samples, never),
                "fraction": (0.2, SPARSITY),
                "policy": ("circular", never),
                "seed": SEED,
                "correct": (None, either(nothing, callable)),
                "size": (None, either(nothing, never)),
            },
        ),
        "DataSieve.batches": Case(
            data.batches,
            {
                "batch_size": (4, whole(1)),
                "preprocess": (None, either(nothing, callable)),
                "shuffle": (True, either(true_or_false, whole(1))),
                "drop_remainder": (False, true_or_false),
            },
        ),
        "spfde_keras.Freezing": Case(
            spfde_keras.Freezing,
            {
                "reduction": ("auto", within(0, 1, "()")),
                "scheme": ("single_shot", never),
                "blocks": (None, either(nothing, among(["x"]))),
                "share": (0.5, within(0, 1, "()")),
                "input_shape": (None, either(nothing, among([1], (), [None], {}, []))),
            },
        ),
        "spfde_keras.FreezePlan": Case(
            spfde_keras.FreezePlan,
            {
                "frozen": ([0, 1], either(empty, among([1]))),
                "blocks": (2, whole(1)),
            },
        ),
        "spfde_keras.Resume": Case(spfde_keras.Resume, {"folder": (path / "states", folder)}),
        "spfde_keras.Analyses": Case(
            spfde_keras.Analyses,
            {
                "training": (spfde_keras.SpFDE(), never),
                "probe": (None, either(nothing, lambda v: getattr(v, "ndim", 0) > 0)),
            },
        ),
        "spfde_keras.densify": Case(
            spfde_keras.densify,
            {"model": (sparse, never), "subnet": (None, either(nothing, among(0)))},
        ),
        "spfde_keras.export_tflite": Case(
            spfde_keras.export_tflite,
            {
                "model": (mlp, never),
                "path": (path / "new.tflite", never),
                "precision": ("float32", never),
                "sparse": (None, either(nothing, true_or_false)),
                "representative_data": (x, nothing),
                "tolerance": (None, either(nothing, lambda v: number(v) and v > 0)),
                "mobile": (False, true_or_false),
            },
        ),
        "spfde_keras.export_trainable_tflite": Case(
            spfde_keras.export_trainable_tflite,
            {
                "model": (mlp, never),
                "path": (path / "new.tflite", never),
                "optimizer": ("sgd", never),
                "loss": ("mse", callable),
                "batch_size": (4, whole(1)),
                "cut": (None, nothing),
                "stages": (0, whole(0)),
                "updater": (None, nothing),
                "samples": (0, whole(0)),
                "sieve": (0.0, within(0, 1, "[)")),
                "exchange": (1.0, FRACTION),
                "seed": SEED,
                "tolerance": (1e-5, lambda v: number(v) and v > 0),
            },
        ),
        "spfde_keras.device.Trainer": Case(
            device.Trainer,
            {
                "path": (trains, never),
                "model": (trained, never),
                "callback": (spfde_keras.SpFDE(2, "static", 1), never),
                "cut": (None, nothing),
            },
        ),
        "spfde_keras.device.settings_for": Case(
            device.settings_for,
            {"model": (trained, never), "callback": (spfde_keras.SpFDE(2, "static", 1), never)},
        ),
        "spfde_keras.load_device_state": Case(
            spfde_keras.load_device_state,
            {
                "model": (sparse, never),
                "state": (device_state, never),
                "cut": (None, nothing),
                "updater": (None, nothing),
            },
        ),
        "spfde_keras.find_blocks": Case(
            spfde_keras.find_blocks, {"model": (mlp, never), "blocks": (None, nothing)}
        ),
        "spfde_keras.load_model": Case(
            spfde_keras.load_model,
            {
                "filepath": (path / "model.keras", never),
                "custom_objects": (None, either(nothing, lambda v: isinstance(v, dict))),
                "compile": (True, true_or_false),
                "safe_mode": (True, true_or_false),
            },
        ),
        "spfde_keras.make_mobile_ready": Case(
            spfde_keras.make_mobile_ready, {"model": (mlp, never)}
        ),
        "spfde_keras.register_masked": Case(
            spfde_keras.register_masked, {"layer_class": (keras.layers.Dense, never)}
        ),
        "spfde_keras.settle": Case(spfde_keras.settle, {"model": (sparse, never)}),
        "spfde_keras.sparsify": Case(
            spfde_keras.sparsify,
            {
                "model": (mlp, never),
                "sparsity": (0.5, either(nothing, SPARSITY)),
                "scheme": ("unstructured", either(nothing, among([None]))),
                "distribution": ("uniform", among({})),
                "dense": (("last",), either(empty, callable)),
                "initial": ("random", nothing),
                "seed": SEED,
                "strict": (False, true_or_false),
            },
        ),
        "spfde_keras.summary": Case(
            spfde_keras.summary,
            {"model": (sparse, never), "print_fn": (lambda line: None, callable)},
        ),
        "spfde_keras.wrap": Case(spfde_keras.wrap, {"model": (mlp, never)}),
        "SparseModel.activate": Case(
            several.activate, {"subnet": (0, lambda v: whole(0)(v) and v < 2)}
        ),
        "spfde_keras.alternating.Alternation": Case(
            alternating.Alternation,
            {"model": (several, never), "correction": (True, true_or_false)},
        ),
        "spfde_keras.alternating.correct": Case(
            alternating.correct,
            {
                "gradient": (x, tensor),
                "previous": (x, tensor),
                "mask": (x == 0, tensor),
            },
        ),
        "spfde_keras.cost.Ledger": Case(cost.Ledger, {"costs": (costs, never)}),
        "spfde_keras.cost.TrainingPlan": Case(
            cost.TrainingPlan,
            {
                "model": (costs, never),
                "densities": ({}, either(empty, among({"a": 1}))),
                "updater": (None, nothing),
                "epochs": (4, whole(1)),
                "interval": (1, whole(1)),
                "samples": (8, lambda v: number(v) and v >= 0),
                "batch_size": (4, whole(1)),
                "passes": (1, whole(1)),
                "update_steps": (None, either(nothing, whole(1))),
            },
        ),
        "spfde_keras.cost.profile": Case(
            cost.profile,
            {"model": (mlp, never), "blocks": (None, nothing), "input_shape": (None, nothing)},
        ),
        "spfde_keras.export.check_sparse_mode": Case(
            export.check_sparse_mode,
            {
                "path": file,
                "inputs": ({"x": x}, never),
                "expected": ({"y": x}, lambda v: isinstance(v, dict)),
                "tolerance": (0.1, lambda v: number(v) and v > 0),
                "signature": (None, either(nothing, text)),
                "runtime": (None, either(nothing, text)),
            },
        ),
        "spfde_keras.export.run_sparse_mode": Case(
            export.run_sparse_mode,
            {
                "path": file,
                "inputs": ({"x": x}, never),
                "signature": (None, either(nothing, text)),
                "runtime": (None, either(nothing, text)),
            },
        ),
        "spfde_keras.export.evaluate_tflite": Case(
            export.evaluate_tflite,
            {"path": file, "x": (x, never), "y": (samples[1], never), "signature": signature},
        ),
        "spfde_keras.export.inspect_tflite": Case(export.inspect_tflite, {"path": file}),
        "spfde_keras.export.run_tflite": Case(
            export.run_tflite, {"path": file, "x": (x, never), "signature": signature}
        ),
        "spfde_keras.export.verify_tflite": Case(
            export.verify_tflite,
            {
                "path": file,
                "model": (sparse, never),
                "samples": (x, never),
                "tolerance": (1e-3, lambda v: number(v) and v > 0),
                "signature": signature,
            },
        ),
        "spfde_keras.kernels.choose": Case(
            kernels.choose, {"convolution": (kernels.product_of((2,), the_mask), never)}
        ),
        "spfde_keras.kernels.convolution_of": Case(
            kernels.convolution_of,
            {
                "sizes": (sizes, never),
                "mask": (the_mask, never),
                "kernel": ((1, 1), never),
                "stride": (1, whole(1)),
                "padding": ("valid", never),
            },
        ),
        "spfde_keras.kernels.convolution_of_sequences": Case(
            kernels.convolution_of_sequences,
            {
                "sizes": ((2, 4), never),
                "mask": (the_mask, never),
                "kernel": (1, whole(1)),
                "stride": (1, whole(1)),
                "padding": ("valid", never),
                "dilation": (1, whole(1)),
            },
        ),
        "spfde_keras.kernels.product_of": Case(
            kernels.product_of,
            {
                "sizes": ((2,), among([1], [None])),
                "mask": (the_mask, never),
            },
        ),
        "spfde_keras.layers.masked_class": Case(
            layers.masked_class, {"layer": (mlp.layers[0], never)}
        ),
        "spfde_keras.layers.plain_class": Case(
            layers.plain_class, {"layer": (sparse.layers[1], never)}
        ),
        "spfde_keras.sieve.SieveEpochs": Case(
            sieve.SieveEpochs,
            {"sieve": (data, never), "most_steps": (None, either(nothing, whole(1)))},
        ),
        "spfde_keras.sieve.with_ids": Case(sieve.with_ids, {"dataset": (dataset, never)}),
        "spfde_keras.sieve.without_ids": Case(
            sieve.without_ids, {"dataset": (data.batches(4), never)}
        ),
        "spfde_keras.sieve.tfrecord_files": Case(
            sieve.tfrecord_files,
            {
                "files": (str(records), never),
                "read": (lambda record: (0.0, 0), callable),
                "counts": (
                    [1],
                    either(nothing, lambda value: isinstance(value, list) and value == [1]),
                ),
            },
        ),
        "spfde_keras.masking.Mask": Case(masking.Mask, mask | {"sparsity": (0.5, SPARSITY)}),
        "spfde_keras.masking.find_masks": Case(masking.find_masks, {"model": (sparse, never)}),
        "spfde_keras.schemes.NM": Case(schemes.NM, {"n": (1, whole(1, 1)), "m": (2, whole(2))}),
        "spfde_keras.schemes.Block": Case(
            schemes.Block, {"outputs": (4, whole(1)), "inputs": (1, whole(1))}
        ),
        "spfde_keras.updaters.SET": Case(
            updaters.SET, {"fraction": (0.3, within(0, 1)), "stop": (0.75, FRACTION)}
        ),
        "spfde_keras.updaters.RigL": Case(
            updaters.RigL, {"fraction": share, "stop": (0.75, FRACTION)}
        ),
        "spfde_keras.updaters.ITOP": Case(
            updaters.ITOP, {"fraction": share, "stop": (1.0, FRACTION)}
        ),
        "spfde_keras.updaters.DSR": Case(
            updaters.DSR, {"fraction": (0.3, within(0, 1)), "stop": (0.75, FRACTION)}
        ),
        "spfde_keras.updaters.Magnitude": Case(updaters.Magnitude, pruning),
        "spfde_keras.updaters.GlobalMagnitude": Case(updaters.GlobalMagnitude, pruning),
        "spfde_keras.updaters.ACDC": Case(
            updaters.ACDC,
            {
                "warm_up": (0.1, within(0, 0.85, "[)")),
                "phase": (0.05, within(0, 1, "()")),
                "stop": (0.85, within(0.1, 1, "(]")),
            },
        ),
        "spfde_keras.updaters.PruneAndRegrow": Case(updaters.PruneAndRegrow, regrowing),
        "spfde_keras.updaters.GraNet": Case(updaters.GraNet, regrowing),
        "spfde_keras.updaters.MESTEM": Case(
            updaters.MESTEM,
            {
                "mutation": share,
                "lam": (0.01, lambda v: number(v) and v >= 0),
                "stop": (0.75, FRACTION),
            },
        ),
        "spfde_keras.updaters.MESTEMS": Case(
            updaters.MESTEMS,
            {
                "bound": share,
                "lam": (0.01, lambda v: number(v) and v >= 0),
                "stop": (0.75, FRACTION),
            },
        ),
        "spfde_keras.distributions.ByScores": Case(
            distributions.ByScores, {"scores": ({"a": np.ones(3)}, among({}, {"a": 1}))}
        ),
        "spfde_keras.saliency.snip": Case(saliency.snip, scored),
        "spfde_keras.saliency.grasp": Case(saliency.grasp, scored),
        "spfde_keras.distributions.PerLayer": Case(
            distributions.PerLayer, {"sparsities": ({"a": 0.5}, among({}))}
        ),
        "spfde_keras.sieve.policies.Circular": Case(
            policies.Circular, {"exchange": (1.0, FRACTION)}
        ),
        "spfde_keras.sieve.policies.Random": Case(policies.Random, {"exchange": (1.0, FRACTION)}),
        "spfde_keras.sieve.policies.OneTime": Case(policies.OneTime, {"at": (0.5, within(0, 1))}),
        "spfde_keras.schedules.Constant": Case(schedules.Constant, {"value": (0.5, number)}),
        "spfde_keras.schedules.Step": Case(
            schedules.Step,
            {
                "values": ([0.5, 0.2], lambda v: isinstance(v, np.ndarray) and v.ndim == 1),
                "boundaries": ([0.5], among([1])),
            },
        ),
        "spfde_keras.schedules.Polynomial": Case(
            schedules.Polynomial,
            ramp | {"power": (1.0, lambda v: number(v) and v > 0)},
        ),
        "spfde_keras.schedules.Cubic": Case(
            schedules.Cubic,
            ramp,
        ),
        "spfde_keras.schedules.Cosine": Case(
            schedules.Cosine,
            ramp,
        ),
    }
    if kernels.status().library:
        tensors = {
            "images": (images, tensor),
            "kernel": (kernel, tensor),
            "mask": (kernel != 0, tensor),
        }
        step = {"stride": (1, whole(1, 2)), "padding": ("same", never)}
        vector = np.zeros(3, "float32")
        found |= {
            "spfde_keras.kernels.sparse_conv2d": Case(kernels.sparse_conv2d, tensors | step),
            "spfde_keras.kernels.sparse_conv1d": Case(
                kernels.sparse_conv1d,
                {
                    "sequences": (images[0], tensor),
                    "kernel": (kernel[0], tensor),
                    "mask": (kernel[0] != 0, tensor),
                    "dilation": (1, whole(1)),
                    **step,
                },
            ),
            "spfde_keras.kernels.sparse_matmul": Case(
                kernels.sparse_matmul,
                {
                    "inputs": (x, tensor),
                    "kernel": (matrix, tensor),
                    "mask": (matrix != 0, tensor),
                    "axes": (1, whole(1, 1)),
                },
            ),
            "spfde_keras.kernels.gelu": Case(kernels.gelu, {"inputs": (x, tensor)}),
            "spfde_keras.kernels.moments": Case(kernels.moments, {"inputs": (images, tensor)}),
            "spfde_keras.kernels.relu": Case(
                kernels.relu, {"inputs": (images, tensor), "used_once": (False, true_or_false)}
            ),
            "spfde_keras.kernels.normalize": Case(
                kernels.normalize,
                {
                    "inputs": (images, tensor),
                    **{name: (vector, tensor) for name in ("mean", "variance", "gamma", "beta")},
                    "epsilon": (1e-3, lambda v: number(v) and v >= 0),
                    "of_batch": (False, true_or_false),
                },
            ),
        }
    for family, module in {
        "schemes.base": schemes.base,
        "updaters.base": updaters.base,
        "schedules": schedules,
        "distributions": distributions,
    }.items():
        none = nothing if family.endswith(".base") else never
        numbers = number if family == "schedules" else never
        dictionary = among({}) if family == "distributions" else never
        name, valid = module.REGISTRY.argument, next(iter(module.names()), 0.5)
        found[f"spfde_keras.{family.removesuffix('.base')}.get"] = Case(
            lambda module=module, **given: module.get(*given.values()),
            {name: (valid, either(none, numbers, dictionary))},
        )
    one = {"filters": 4, "kernel_size": 1}
    given = {
        "Dense": {"units": 4},
        "EinsumDense": {"equation": "ab,bc->ac", "output_shape": (4,)},
        "MultiHeadAttention": {"num_heads": 1, "key_dim": 4},
    }
    for name in layers.__all__:
        kind = name.removeprefix("Masked")
        if name[0] == "M" and name != "MaskedLayer":
            recurrent = "RNN" in kind or "GRU" in kind or kind.startswith("LSTM")
            options = given.get(kind) or ({"units": 4} if recurrent else one)
            if "Depthwise" in kind:
                options = {"kernel_size": 1}
            cls = getattr(layers, name)
            found[f"spfde_keras.layers.{name}"] = Case(
                lambda cls=cls, options=options, **masked: cls(**options, **masked),
                mask,
                VALUES if kind == "Dense" else A_FEW,
            )
    return found


MADE_BY_THE_LIBRARY = {
    "spfde_keras.MaskedLayer",
    "spfde_keras.freezing.schemes.Horizon",
    "spfde_keras.masking.Subnet",
    "spfde_keras.registry.Registry",
    "spfde_keras.cost.ModelCost",
    "spfde_keras.cost.PlanCost",
    "spfde_keras.device.TrainableReport",
    "spfde_keras.export.ExportReport",
    "spfde_keras.export.InspectReport",
    "spfde_keras.export.inspection.InspectReport",
    "spfde_keras.export.inspection.Problem",
    "spfde_keras.kernels.Choice",
    "spfde_keras.kernels.Convolution",
    "spfde_keras.kernels.Status",
    "spfde_keras.layout.KernelLayout",
    "spfde_keras.resume.OwnFolder",
    "spfde_keras.resume.States",
    "spfde_keras.sieve.Identified",
    "spfde_keras.updaters.Change",
    "spfde_keras.updaters.Moment",
    "spfde_keras.updaters.Mutation",
    "spfde_keras.updaters.carry_out",
    "spfde_keras.SparseModel",
    "spfde_keras.export.rewriting.rewrite_for_phones",
    "spfde_keras.sieve.tfds_split",  # of a prepared data set: tests/sieve/test_records.py
}
"""Values and steps of the library's own, which callers get or extend: nobody types these in."""
