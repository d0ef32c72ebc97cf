"""Compiles the CPU kernels while the package is built, where that is possible; see BUILD.md."""

import importlib.util
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_KERNELS = Path(__file__).resolve().parent / "spfde_keras" / "kernels"


def _builder():
    # By its path: importing the package would import TensorFlow, which an isolated build lacks.
    spec = importlib.util.spec_from_file_location("build_kernels", _KERNELS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithKernels(build_py):
    """Puts the kernels where the package goes, or says why not: all works without them."""

    def run(self):
        # An editable package is used where it lies.
        folder = _KERNELS if self.editable_mode else Path(self.build_lib, "spfde_keras", "kernels")
        super().run()
        try:
            print(f"Built {builder.build(folder)}")
        except builder.CannotBuild as error:
            print(
                f"The CPU kernels for sparse training are not built: {error}. All works without "
                "them; `python -m spfde_keras.kernels.build` builds them later."
            )


builder = _builder()
setup(
    cmdclass={"build_py": BuildWithKernels},
    package_data={
        "spfde_keras": ["py.typed"],
        "spfde_keras.kernels": [
            "*.so",
            *(str(file.relative_to(_KERNELS)) for file in builder.source_files()),
        ],
    },
)
