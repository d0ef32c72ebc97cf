"""The picture of a run: which panels, curves and lines it has."""

import numpy as np

from apps import plots

TARGETS = {"active_samples": 100, "flops_share": 0.1, "sparsity": 0.9}


def rows(**columns):
    columns = {"accuracy": 0.5, "val_accuracy": 0.4, "loss": 1.0, "val_loss": 2.0} | columns
    columns = {"flops_share": 0.2, "sparsity": 0, "frozen_blocks": 0} | columns
    columns = {"active_samples": 100} | columns
    return [{"epoch": epoch, **columns} for epoch in (1, 2, 3)]


def panels(found, targets=TARGETS):
    figure = plots.history_figure(found, "a run", targets)
    return {axes.get_title(): axes for axes in figure.axes}


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def dashed(axes):
    return [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]


def test_what_is_off_has_no_panel():
    always = ["accuracy", "loss", "training FLOPs so far, of dense"]
    assert list(panels(rows())) == always
    for column, value, title in [
        ("sparsity", 0.9, "sparsity"),
        ("frozen_blocks", 2, "frozen blocks"),
        ("active_samples", 80, "samples in use"),
    ]:
        assert list(panels(rows(**{column: value}))) == [*always, title]
    assert list(panels(rows(flops_share=np.nan))) == always[:2]


def test_targets_are_lines():
    found = panels(rows(sparsity=0.8, active_samples=80))
    assert labels(found["sparsity"]) == ["target"] and dashed(found["sparsity"]) == [0.9]
    flops = found["training FLOPs so far, of dense"]
    assert labels(flops) == ["spent", "planned"] and dashed(flops) == [0.1]
    assert labels(found["samples in use"]) == ["all"] and dashed(found["samples in use"]) == [100]
    assert labels(found["accuracy"]) == ["training", "test"] and not dashed(found["accuracy"])


def test_each_sub_net_has_a_curve_in_its_colour():
    names = ("subnet_90", "subnet_95")
    columns = {f"val_accuracy/{name}": 0.3 for name in names}
    columns |= {f"sparsity/{name}": 0.8 for name in names}
    targets = TARGETS | {"sparsity/subnet_90": 0.9, "sparsity/subnet_95": 0.95}
    found = panels(rows(sparsity=0.8, **columns), targets)
    assert labels(found["accuracy"]) == ["training", "test, subnet_90", "test, subnet_95"]
    assert labels(found["sparsity"]) == list(names)
    assert dashed(found["sparsity"]) == [0.9, 0.95]
    colours = [line.get_color() for line in found["accuracy"].lines[1:]]
    assert [line.get_color() for line in found["sparsity"].lines] == np.repeat(colours, 2).tolist()


def test_it_is_a_png_file(tmp_path):
    plots.plot_history(rows(sparsity=0.9), tmp_path / "training.png", "a run", TARGETS)
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
