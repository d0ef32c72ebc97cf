"""The installer of the mobile kit, without what it installs."""

import importlib.util
import json
import pathlib
import sys

import pytest

KIT = pathlib.Path(__file__).parents[2] / "tflite" / "kit"
# The runner of a runtime that needs nothing.
EMPTY = """
import pathlib, sys
pathlib.Path(sys.argv[1], "result.json").write_text('{"seconds": [], "outputs": []}')
"""


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("kit_install_cli", KIT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kit(tmp_path, monkeypatch):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path / "kit"))
    return tmp_path / "kit"


@pytest.fixture
def runtimes(cli, monkeypatch):
    """Runtimes that start, do not start, and cannot be installed."""

    def missing(kit):
        raise cli.Missing("there is no node: install it")

    def starts(kit):
        (kit / "empty.py").write_text(EMPTY)
        return ["{python}", "{kit}/empty.py"]

    found = {
        "missing": missing,
        "starts": starts,
        "dies": lambda kit: ["{python}", "-c", "raise SystemExit('no processor')"],
    }
    monkeypatch.setattr(cli, "RUNTIMES", found)
    return found


def test_what_starts_is_registered_and_the_rest_is_explained(cli, kit, runtimes, capsys):
    assert cli.main([]) == 0
    assert list(json.loads((kit / "kit.json").read_text())) == ["starts"]
    assert (kit / ".gitignore").read_text() == "*\n"
    printed = capsys.readouterr().out
    assert "missing: NOT installed: there is no node: install it\n" in printed
    assert "starts: ready\n" in printed
    assert "dies: NOT installed: it is installed but does not start: " in printed
    assert "code 1: no processor\n" in printed


def test_what_is_not_named_stays_as_it_is(cli, kit, runtimes, monkeypatch):
    assert cli.main(["starts"]) == 0
    before = (kit / "kit.json").read_text()
    assert cli.main(["missing"]) == 1
    assert (kit / "kit.json").read_text() == before
    # Named, and gone since.
    monkeypatch.setitem(runtimes, "starts", runtimes["missing"])
    assert cli.main(["starts"]) == 1
    assert json.loads((kit / "kit.json").read_text()) == {}


def test_unknown_runtimes_are_refused_before_anything_is_written(cli, kit, capsys):
    assert cli.main(["phone"]) == 2
    assert "Runtimes are wasm, x86-64, arm64. Received: phone" in capsys.readouterr().err
    assert not kit.exists()


def test_a_folder_is_made_once_for_the_same_contents_and_whole(cli, tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text(str(len(made)))
        if len(made) == 3:
            raise cli.Missing("interrupted")

    folder = tmp_path / "part"
    cli.once(folder, "1.0", make)
    cli.once(folder, "1.0", make)
    assert ((folder / "file").read_text(), len(made)) == ("1", 1)
    cli.once(folder, "2.0", make)
    assert (folder / "file").read_text() == "2"
    with pytest.raises(cli.Missing):
        cli.once(folder, "3.0", make)
    assert (folder / "file").read_text() == "2"
    assert list(tmp_path.iterdir()) == [folder]


def test_programs_that_are_missing_or_fail_name_the_remedy(cli):
    with pytest.raises(cli.Missing, match="^there is no no-such-program: install it$"):
        cli.run(["no-such-program"], "install it")
    fails = [sys.executable, "-c", "import sys; sys.exit('first\\nlast words')"]
    with pytest.raises(cli.Missing, match=": last words; install it$"):
        cli.run(fails, "install it")


def test_addresses_come_from_the_machines_own_sources(cli, monkeypatch):
    indices = (
        "'http://mirror/debian/dists/stable/InRelease' mirror_InRelease 0 \n"
        "'http://mirror/debian/dists/stable/main/binary-amd64/Packages.xz' mirror_Packages 0 \n"
        "'https://other/dists/x/InRelease' other_InRelease 0 \n"
    )
    monkeypatch.setattr(cli, "run", lambda command, remedy: indices)
    assert cli.debian_sites() == ["http://mirror/debian", "https://other"]


def test_the_lock_file_pins_what_is_asked_for_and_names_no_host():
    lock = json.loads((KIT / "package-lock.json").read_text())
    asked = json.loads((KIT / "package.json").read_text())["dependencies"]
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    for name, version in asked.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "://" not in json.dumps(lock)
