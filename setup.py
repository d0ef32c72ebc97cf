"""Builds the package with the CPU kernels, or without them; see BUILD.md."""

import importlib.util
import os
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

_KERNELS = Path(__file__).resolve().parent / "spfde_keras" / "kernels"
# "yes": a build without them fails; "no": they are left out; otherwise they are built if possible.
_WANTED = os.environ.get("SPFDE_BUILD_KERNELS", "")


def _compilation():
    # By its path: importing the package would import TensorFlow, which an isolated build lacks.
    spec = importlib.util.spec_from_file_location("compilation", _KERNELS / "compilation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithKernels(build_py):
    """Puts the kernels where the package goes, or says why not: all works without them."""

    def run(self):
        super().run()
        # An editable package is used where it lies.
        folder = _KERNELS if self.editable_mode else Path(self.build_lib, "spfde_keras", "kernels")
        if not self.editable_mode:
            for of_an_earlier_build in folder.glob("*.so"):
                of_an_earlier_build.unlink()
        if _WANTED == "no":
            return
        try:
            print(f"Built {compilation.build(folder)}")
        except compilation.CannotBuild as error:
            reason = f"The CPU kernels for sparse training are not built: {error}."
            if _WANTED == "yes":
                raise SystemExit(reason) from None
            print(
                f"{reason} All works without them; `python -m spfde_keras.kernels.build` builds "
                "them later."
            )


class HonestWheel(bdist_wheel):
    """Names the platform if there are kernels in it, and no Python: they do not depend on it."""

    def get_tag(self):
        libraries = [*Path(self.bdist_dir).rglob("*.so")]
        if not libraries:
            return "py3", "none", "any"
        self.root_is_pure = False
        *_, platform = super().get_tag()
        # Where the C library is older than what they were linked with, they cannot be loaded.
        needed = (re.findall(rb"\bGLIBC_2\.(\d+)\b", file.read_bytes()) for file in libraries)
        newest = max(int(minor) for minors in needed for minor in minors)
        return "py3", "none", platform.replace("linux", f"manylinux_2_{newest}")


compilation = _compilation()
setup(
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": HonestWheel},
    packages=[*find_packages(include=["spfde_keras", "spfde_keras.*"]), "spfde_apps"],
    # Only in the repository are the programs called `apps`, a name that others have, too.
    package_dir={"spfde_apps": "apps"},
    package_data={
        "spfde_keras": ["py.typed"],
        "spfde_keras.kernels": [
            str(file.relative_to(_KERNELS)) for file in compilation.source_files()
        ],
    },
)
