"""Comparing finished runs: hand-worked means and sums, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from apps import compare_subnets, plots, results, training
from apps.config import RunConfig


def write(folder, accuracies, flops=0.0, seconds=1.0, machine=None, **options):
    """Results as `apps.train` writes them; `accuracies` by sparsity."""
    scheme = options.pop("scheme", "unstructured")
    config = RunConfig(**({"method": "ast", "scheme": scheme} | options))
    subnets = [
        {"name": f"subnet_{round(100 * sparsity)}", "sparsity": sparsity, "test_accuracy": accuracy}
        for sparsity, accuracy in accuracies.items()
    ]
    folder.mkdir()
    found = {
        "subnets": subnets,
        "training_flops": flops,
        "training_time_s": seconds,
        "train_samples": 100,
        "test_samples": 50,
        "machine": machine,
        "config": json.loads(config.to_json()),
    }
    (folder / "results.json").write_text(json.dumps(found))
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    """Two ways of two sub-nets, one with two seeds, and each alone; in no order."""
    return [
        write(tmp_path / "alone_90", {0.9: 0.96}, 7.0, 3.0),
        write(tmp_path / "ast_1", {0.5: 0.97, 0.9: 0.95}, 12.0, 5.0, seed=1),
        write(tmp_path / "joint", {0.5: 0.9, 0.9: 0.8}, 20.0, 9.0, method="joint"),
        write(tmp_path / "alone_50_1", {0.5: 0.92}, 10.0, 4.0, seed=1),
        write(tmp_path / "ast_0", {0.5: 0.99, 0.9: 0.91}, 14.0, 6.0, seed=0),
        write(tmp_path / "alone_50_0", {0.5: 0.94}, 8.0, 2.0, gradient_correction=False),
    ]


def test_means_over_seeds_and_sums_over_nets(folders):
    table = compare_subnets.compare(folders)
    ast, joint, separate = table["methods"]
    assert [m["method"] for m in table["methods"]] == ["AST", "joint", "separate"]
    assert (ast["training_flops"], ast["training_time_s"]) == (13.0, 5.5)
    assert (joint["training_flops"], joint["training_time_s"]) == (20.0, 9.0)
    # (10 + 8) / 2 for the one, 7 for the other
    assert (separate["training_flops"], separate["training_time_s"]) == (16.0, 6.0)
    assert [s["name"] for s in ast["subnets"]] == ["subnet_50", "subnet_90"]
    assert [s["test_accuracy"] for s in ast["subnets"]] == pytest.approx([0.98, 0.93])
    assert ast["subnets"][0]["test_accuracies"] == [0.99, 0.97]
    assert ast["subnets"][0]["seeds"] == [0, 1]
    assert [s["seeds"] for s in separate["subnets"]] == [[0, 1], [0]]
    assert [s["test_accuracy"] for s in separate["subnets"]] == pytest.approx([0.93, 0.96])
    assert table["config"]["epochs"] == 60
    assert not {"seed", "sparsity", "method", "output_dir"} & table["config"].keys()


def test_times_on_several_machines_have_no_sum(tmp_path):
    machines = [{"processor": name, "cores": 2} for name in "ab"]
    folders = [
        write(tmp_path / f"{seed}", {0.5: 0.9, 0.9: 0.8}, 1.0, machine=one, seed=seed)
        for seed, one in enumerate(machines)
    ]
    table = compare_subnets.compare(folders)
    assert table["methods"][0]["training_time_s"] is None
    assert compare_subnets.render(table).splitlines()[3].endswith("several machines")


def test_runs_without_gradient_correction_are_a_group(folders, tmp_path):
    options = {"gradient_correction": False, "seed": 0}
    folders.append(write(tmp_path / "not", {0.5: 0.6, 0.9: 0.5}, 1.0, **options))
    methods = {m["method"]: m for m in compare_subnets.compare(folders)["methods"]}
    assert list(methods) == ["AST", "AST, uncorrected", "joint", "separate"]
    assert methods["AST"]["subnets"][0]["test_accuracy"] == pytest.approx(0.98)
    assert methods["AST, uncorrected"]["subnets"][0]["test_accuracy"] == 0.6


def test_schemes_tell_sub_nets_apart(tmp_path):
    both = write(tmp_path / "both", {0.5: 0.9, 0.75: 0.8}, scheme="2:4,1:4")
    one = write(tmp_path / "one", {0.5: 0.9}, scheme="2:4")
    other = write(tmp_path / "other", {0.75: 0.8}, scheme="1:4")
    unstructured = write(tmp_path / "unstructured", {0.75: 0.8})
    methods = compare_subnets.compare([both, one, other])["methods"]
    assert [[s["scheme"] for s in m["subnets"]] for m in methods] == [["2:4", "1:4"]] * 2
    with pytest.raises(ValueError, match="Received: .*both without subnet_75 unstructured$"):
        compare_subnets.compare([both, one, unstructured])


def test_the_table_has_a_line_for_each_sub_net(folders):
    lines = compare_subnets.render(compare_subnets.compare(folders)).splitlines()
    assert lines[0].startswith("digits, tiny_cnn, 60 epochs")
    assert len(lines) == 3 + 3 * 2
    words = lines[3].split()
    assert words == [
        *("AST", "subnet_50", "unstructured", "0.5000", "0.9800", "(0.9700-0.9900)", "2"),
        *("13", "6", "s"),
    ]
    assert lines[4].split() == [
        *("subnet_90", "unstructured", "0.9000", "0.9300", "(0.9100-0.9500)", "2")
    ]
    assert len({len(line) for line in [lines[2], *lines[3::2]]}) == 1


def test_other_options_must_agree(folders, tmp_path):
    folders.append(write(tmp_path / "short", {0.5: 0.9}, epochs=3, batch_size=8, seed=7))
    message = r"--epochs is 60 in .*alone_90, 3 in .*short; --batch_size is 32 in"
    with pytest.raises(ValueError, match=message):
        compare_subnets.compare(folders)


def test_all_must_train_the_same_sub_nets(folders):
    with pytest.raises(ValueError, match="same sub-nets. Received: separate without subnet_90"):
        compare_subnets.compare(folders[1:])


def test_each_run_of_several_must_train_them_all(folders, tmp_path):
    folders.append(write(tmp_path / "three", {0.5: 0.9, 0.9: 0.9, 0.95: 0.9}, seed=5))
    with pytest.raises(ValueError, match="without subnet_95 unstructured$"):
        compare_subnets.compare(folders)


def test_a_seed_must_not_count_twice(folders, tmp_path):
    folders.append(write(tmp_path / "again", {0.9: 0.9}))
    message = "Received: separate, subnet_90 unstructured, seed 0 in .*alone_90 and .*again"
    with pytest.raises(ValueError, match=message):
        compare_subnets.compare(folders)


def test_names_that_are_rounded_do_not_mix_sparsities(tmp_path):
    near = write(tmp_path / "near", {0.9: 0.9}, sparsity=0.9004, seed=7)
    same = write(tmp_path / "same", {0.9: 0.9}, sparsity=0.9, seed=8)
    with pytest.raises(ValueError, match="must have one sparsity. Received: 0.9004 and 0.9 "):
        compare_subnets.compare([near, same])


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"config": {}}'])
def test_folders_must_have_results(folders, tmp_path, text):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="must hold results.json of a finished run. Received: /"):
        compare_subnets.compare([*folders, str(tmp_path)])


def test_runs_must_be_of_the_methods_compared(folders, tmp_path):
    folders.append(write(tmp_path / "set", {0.9: 0.9}, method="set"))
    with pytest.raises(ValueError, match="must be of method ast or joint. Received: set in"):
        compare_subnets.compare(folders)


def test_at_least_one_folder_is_needed():
    with pytest.raises(ValueError, match="At least one folder"):
        compare_subnets.compare([])


def test_the_picture_shows_mean_and_range_against_density(folders, tmp_path, monkeypatch):
    folders.append(write(tmp_path / "ast_2", {0.5: 0.98, 0.9: 0.96}, seed=2))
    drawn = []
    canvas = plots.FigureCanvasAgg
    monkeypatch.setattr(
        plots, "FigureCanvasAgg", lambda figure: drawn.append(figure) or canvas(figure)
    )
    plots.plot_subnets(
        compare_subnets.compare(folders)["methods"], tmp_path / "subnets.png", "title"
    )
    assert (tmp_path / "subnets.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().texts] == ["AST", "joint", "separate"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "0.5"]
    bars = [item for item in axes.containers if isinstance(item, ErrorbarContainer)]
    line, _, (segments,) = bars[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 0.98], [0.1, 0.94]])
    np.testing.assert_allclose(segments.get_segments()[0], [[0.5, 0.97], [0.5, 0.99]])
    np.testing.assert_allclose(segments.get_segments()[1], [[0.1, 0.91], [0.1, 0.96]])


def test_command_prints_writes_and_draws(folders, tmp_path):
    target, picture = tmp_path / "subnets.json", tmp_path / "subnets.png"
    command = [sys.executable, "-m", "apps.compare_subnets", *folders]
    command += [f"--json={target}", f"--picture={picture}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == compare_subnets.render(compare_subnets.compare(folders))
    assert json.loads(target.read_text()) == compare_subnets.compare(folders)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_command_refuses_wrong_input_in_one_line(folders, tmp_path, capsys):
    picture = tmp_path / "missing" / "subnets.png"
    assert compare_subnets.main([*folders, f"--picture={picture}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: `picture` must be a file in a folder that can be written")


def test_runs_of_the_program_can_be_compared(tmp_path, no_export):
    short = {"epochs": 1, "interval": 1, "train_samples": 64, "model": "mlp", "width": 0.25}
    runs = {"ast": ("ast", (0.5, 0.9)), "dense": ("ast", 0.5), "sparse": ("ast", 0.9)}
    found = {}
    for name, (method, sparsity) in runs.items():
        options = {"method": method, "sparsity": sparsity, "freeze_reduction": 0}
        config = RunConfig(output_dir=str(tmp_path / name), **(short | options))
        found[name] = training.train(training.prepare(config))
    ast, separate = compare_subnets.compare([tmp_path / name for name in runs])["methods"]
    assert ast["training_flops"] == found["ast"]["training_flops"]
    assert separate["training_flops"] == sum(
        found[n]["training_flops"] for n in ("dense", "sparse")
    )
    assert [s["name"] for s in separate["subnets"]] == ["subnet_50", "subnet_90"]
    assert set(results.FILES) <= {path.name for path in (tmp_path / "ast").iterdir()}
