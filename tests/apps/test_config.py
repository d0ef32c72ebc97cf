"""Options from flags, files and code."""

import json

import pytest

from apps import program, train
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=set", "--gradient_correction"], "`gradient_correction` .*--method=set"),
        (["--method=joint", "--nogradient_correction"], "`gradient_correction` .*--method=joint"),
        (["--method=rigl", "--initial_density=0.5"], "`initial_density` .*--method=rigl"),
        (["--method=dense", "--sparsity=0.9"], "`sparsity` .*--method=dense"),
        (["--method=dense", "--scheme=block"], "`scheme` .*--method=dense"),
        (["--method=dense", "--distribution=erk"], "`distribution` .*--method=dense"),
        (["--freeze_reduction=0", "--freeze_share=0.5"], "`freeze_share` .*freeze_reduction=0"),
        (["--freeze_reduction=0", "--freeze_scheme=periodic"], "`freeze_scheme` .*reduction=0"),
        (["--sieve_fraction=0", "--sieve_policy=one_time"], "`sieve_policy` .*sieve_fraction=0"),
        (["--sieve_fraction=0", "--data_stop=0.5"], "`data_stop` .*--sieve_fraction=0"),
        (
            ["--method=dense", "--freeze_reduction=0", "--sieve_fraction=0", "--interval=2"],
            "`interval` .*--method=dense, --freeze_reduction=0 and --sieve_fraction=0",
        ),
        (["--method=ast", "--updater=static", "--update_steps=5"], "`.*_steps` .*--updater=static"),
        (["--method=ast", "--nogradient_correction"], "`grad.*` .*--method=ast and one sub-net"),
        (
            ["--method=ast", "--sparsity=0.9,0.95", "--paper_accuracy=0.7"],
            "`paper_accuracy` .*several sub-nets",
        ),
        (["--data_dir=x"], "`data_dir` .*--dataset=digits"),
        (["--method=set", "--lam=0.1"], "`lam` .*--method=set"),
        (["--method=mest_em", "--bound=0.1"], "`bound` .*--method=mest_em"),
        (["--method=mest_ems", "--mutation=0.1"], "`mutation` .*--method=mest_ems"),
        (["--method=magnitude", "--mutation=0.1"], "`mutation` .*--method=magnitude"),
        (["--method=static", "--stop=0.5"], "`stop` .*--method=static"),
        (["--method=dense", "--stop=0.5"], "`stop` .*--method=dense"),
        (["--method=dense", "--initial=dense"], "`initial` .*--method=dense"),
        (["--freeze_reduction=0", "--freeze_blocks=a,b"], "`freeze_blocks` .*freeze_reduction=0"),
        (["--sieve_fraction=0", "--exchange=0.5"], "`exchange` .*--sieve_fraction=0"),
        (["--sieve_policy=one_time", "--exchange=0.5"], "`exchange` .*--sieve_policy=one_time"),
    ],
)
def test_no_flag_is_ignored(arguments, message, tmp_path):
    file = tmp_path / "flags"
    file.write_text("\n".join(arguments))
    for given in (arguments, [f"--flagfile={file}"]):
        with pytest.raises(ValueError, match=message + ", which does not use it. Received: "):
            program.parse(RunConfig, given)
    # What nobody has set is no reason to complain.
    program.parse(RunConfig, [a for a in arguments if a.startswith(("--method", "--dataset"))])


def test_training_does_not_start_below_its_end():
    assert RunConfig(method="granet", sparsity="0.95", initial_density=0.05).initial_density == 0.05
    with pytest.raises(ValueError, match="`initial_density` must not be below .*, 0.05. Rec"):
        RunConfig(method="ast", sparsity="0.9,0.95", initial_density=0.04)


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("set", {"mutation", "stop"}),
        ("rigl", {"mutation", "stop"}),
        ("mest_em", {"mutation", "lam", "stop"}),
        ("mest_ems", {"bound", "lam", "stop"}),
        ("magnitude", {"begin", "stop"}),
        ("prune_and_regrow", {"mutation", "stop", "initial_density", "ramp_end"}),
        ("ast", {"mutation", "stop", "initial_density", "ramp_end"}),
        ("ac_dc", {"warm_up", "phase", "stop"}),
        ("static", set()),
        ("dense", set()),
    ],
)
def test_a_method_has_the_flags_that_its_updater_knows(method, flags):
    assert set(RunConfig(method=method).updater_arguments) == flags


@pytest.mark.parametrize("dataset", ["../x", "a/../../x", "/x", "a//b", ""])
def test_the_output_folder_is_not_left_by_a_name(dataset):
    with pytest.raises(ValueError, match="`dataset` must be the name of a data set, .* Received: "):
        RunConfig(dataset=dataset)
    assert RunConfig(dataset="cifar10/plain").folder == "runs/cifar10/plain-tiny_cnn-mest_ems"


@pytest.mark.parametrize(
    "flag",
    ["epochs=1_0", "epochs=٣", "seed=4294967296", "batch_size=-1", "interval=0", "epochs=1e1"]
    + ["width=nan", "width=0", "learning_rate=inf", "weight_decay=inf", "weight_decay=1_0"]
    + ["sparsity=٠.9", "sparsity=nan", "sparsity=0_1", "initial_density=nan", "data_stop=2"]
    + ["lam=-1", "stop=0", "exchange=0", "mutation=nan", "mutation=2", "mutation=0.2,0.1"]
    + ["mutation=0.2,0.1@0.5,0.7", "mutation=3,2,1@0.7,0.5", "mutation=0_1", "mutation=0.2@"]
    + ["initial=first", "coupled_weight_decay=nan", "bound=x"]
    + ["freeze_share=nan", "freeze_reduction=inf", "sieve_fraction=nan", "warmup_epochs=-1"],
)
def test_bad_numbers_are_refused_by_the_flags_name(flag):
    name = flag.partition("=")[0]
    with pytest.raises(ValueError, match=f"`{name}` must be |flag --{flag}"):
        program.parse(RunConfig, ["--method=ast", f"--{flag}"])
