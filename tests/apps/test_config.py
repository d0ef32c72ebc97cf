"""Options from flags, files and code."""

import json

import pytest

from apps import train
from apps.config import RunConfig
from apps.program import parse


def test_flags_come_from_a_file_too(tmp_path):
    flags = tmp_path / "run.cfg"
    flags.write_text("# a run\n--method=set\n--noaugment\n--sparsity=0.8\n")
    config = parse(RunConfig, [f"--flagfile={flags}", "--sparsity=0.7"])
    assert (config.method, config.augment, config.sparsity) == ("set", False, (0.7,))


@pytest.mark.parametrize("given", [0.9, "0.9", [0.9], (0.9,)])
def test_one_sparsity_can_be_given_in_many_ways(given):
    assert RunConfig(sparsity=given).sparsity == (0.9,)


def test_flags_of_several_values_take_one_or_several():
    config = parse(RunConfig, ["--method=joint", "--sparsity=0.9, 0.95", "--scheme=2:4,1:4"])
    assert (config.sparsity, config.scheme) == ((0.9, 0.95), ("2:4", "1:4"))
    config = parse(RunConfig, [])
    assert (config.sparsity, config.scheme) == (None, ("unstructured",))


def test_options_survive_their_file():
    config = RunConfig(method="ast", sparsity="0.9,0.95", scheme=["block"])
    earlier = json.loads(config.to_json())
    config.check_resumes(earlier)
    other = RunConfig(method="ast", sparsity="0.9,0.98", scheme=["block"])
    with pytest.raises(ValueError, match="--sparsity was 0.9,0.95, is 0.9,0.98$"):
        other.check_resumes(earlier)


def test_options_that_an_earlier_version_did_not_have_had_their_defaults():
    config = RunConfig(epochs=80, method="ast", sparsity="0.9,0.95")
    earlier = json.loads(config.to_json())
    for name in ("data_stop", "scheme", "warmup_epochs", "weight_decay"):
        del earlier[name]
    config.check_resumes(earlier)
    with pytest.raises(ValueError, match="--weight_decay was 0.001, is 0.1$"):
        RunConfig(epochs=80, method="ast", sparsity="0.9,0.95", weight_decay=0.1).check_resumes(
            earlier
        )


def test_help_lists_every_flag(capsys):
    assert train.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name in RunConfig.__dataclass_fields__:
        assert name in printed
