"""The names of methods: of the registries, and read in the source where those are not imported."""

import subprocess
import sys

import pytest

from apps import config, families
from spfde_keras import distributions, schemes, updaters
from spfde_keras.freezing import schemes as freezing_schemes
from spfde_keras.sieve import policies
from tests.registries import left_as_they_were

FAMILIES = {
    "updaters": updaters,
    "schemes": schemes,
    "distributions": distributions,
    "freezing.schemes": freezing_schemes,
    "sieve.policies": policies,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_is_what_is_registered(family, monkeypatch):
    registered = FAMILIES[family].names()
    monkeypatch.delitem(sys.modules, f"spfde_keras.{family}")
    assert families.names(family) == registered


@pytest.mark.parametrize("family", FAMILIES)
def test_what_methods_are_made_with_is_read_too(family, monkeypatch):
    names = FAMILIES[family].names()
    known = {name: families.parameters(family, name) for name in names}
    monkeypatch.delitem(sys.modules, f"spfde_keras.{family}")
    assert {name: families.parameters(family, name) for name in names} == known


def test_what_users_register_is_known():
    with left_as_they_were():
        updaters.register("own")(type("Own", (updaters.SET,), {}))
        assert "own" in families.names("updaters")
        assert "own" in config.methods()


def test_help_and_wrong_options_do_not_wait_for_tensorflow():
    code = (
        "import sys, apps.train as train\n"
        "train.main(['--help'])\n"
        "train.main(['--model=vgg'])\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'spfde_keras'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mest_ems" in done.stdout and done.stderr.startswith("error: `model` must be one of ")
