"""Runs that are analysed: what they leave, also when they are resumed."""

import json

import numpy as np
import pytest

from apps import analyses, finished_analyses, plots, results, training
from apps.config import RunConfig

SHORT = {"epochs": 4, "interval": 2, "train_samples": 100, "batch_size": 32}
SHORT |= {"model": "mlp", "width": 0.25}


class Killed(BaseException):
    pass


def run(folder, **options):
    config = RunConfig(**SHORT | options, output_dir=str(folder))
    return training.train(training.prepare(config))


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_resumed_run_leaves_what_a_whole_one_does(tmp_path, no_export, monkeypatch):
    run(tmp_path / "whole", analyse=True)
    assert names(tmp_path / "whole") == set(results.FILES + results.ANALYSES)
    found = json.loads((tmp_path / "whole" / "analyses.json").read_text())
    assert found["epochs"] == [2, 4] and len(found["subnets"]["subnet_90"]["cka"]) == 2
    assert all(sum(row) == 80 for row in found["forgetting"]["histogram"])
    read = finished_analyses.read(tmp_path / "whole")
    assert read.layers == tuple(found["layers"]) and len(read.pictures) == 2

    def dying(self, epoch, logs=None):
        if epoch == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(results.Recorder, "on_epoch_begin", dying)
        with pytest.raises(Killed):
            run(tmp_path / "killed", analyse=True)
    run(tmp_path / "killed", analyse=True, resume=True)
    for name in results.ANALYSES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_without_leaves_none_of_an_earlier_one(tmp_path, no_export):
    config = RunConfig(**SHORT, output_dir=str(tmp_path))
    earlier = json.dumps({"config": json.loads(config.to_json())})
    for name in results.FILES + results.ANALYSES:
        (tmp_path / name).write_text(earlier)
    run(tmp_path)
    assert names(tmp_path) == set(results.FILES)


@pytest.mark.parametrize("moved", range(len(results.FILES + results.ANALYSES)))
def test_analyses_are_published_however_often_it_was_begun(tmp_path, monkeypatch, moved):
    folder = results.RunFolder(RunConfig(**SHORT, output_dir=str(tmp_path)))
    folder.open()
    for name in results.FILES + results.ANALYSES:
        (folder.unfinished / name).write_text("new")
    replace, left = results.os.replace, [moved]

    def dying(*paths):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(results.os, "replace", dying)
        with pytest.raises(Killed):
            folder.publish()
    assert not (tmp_path / "results.json").exists()
    folder._move()
    assert names(tmp_path) == set(results.FILES + results.ANALYSES)


def test_images_that_stay_in_their_files_have_no_pictures(tmp_path, monkeypatch, capsys):
    class Recorded:
        def save(self, path):
            path.write_text("{}")

        def result(self):
            return {"forgetting": {"easiest": [1], "hardest": [2]}}

    class Files:
        name = "toy"

        def pictures(self, ids):
            return None

    monkeypatch.setattr(plots, "plot_pictures", None)
    analyses.write(Recorded(), Files(), tmp_path)
    assert names(tmp_path) == {"analyses.json"}
    assert "no easiest.png: the images of toy stay in their files" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_pictures_are_drawn_of_any_channels(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 6, channels)).astype("uint8")
    plots.plot_pictures(images, np.arange(5), tmp_path / "sheet.png", "five")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
