"""What the pages of tflite/web have in common: LiteRT.js, and folders that are whole or not there.

Pages need no network: LiteRT.js, the npm package @litertjs/core, is copied into their folders from
the mobile kit (make mobile-kit).
"""

import contextlib
import hashlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from spfde_keras.export.sparse_mode import kit_folder

LITERT = "@litertjs/core"
NODE_MODULES = str(kit_folder() / "wasm" / "node_modules")
# What a page loads of LiteRT.js: without threads, which need special HTTP headers, and "compat"
# for browsers without relaxed SIMD.
LITERT_FILES = (
    "core/dist/index.js",
    "core/wasm/litert_wasm_internal.js",
    "core/wasm/litert_wasm_internal.wasm",
    "core/wasm/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm",
    "wasm-utils/dist/index.js",
)


@contextlib.contextmanager
def replacing(out: str, node_modules: str, mark: str) -> Iterator[pathlib.Path]:
    """A folder with LiteRT.js to fill, which replaces an earlier page once it is whole.

    Args:
        out: the folder of the page.
        node_modules: folder in which npm has installed LiteRT.js.
        mark: a file that pages of this kind have, and other folders have not.

    Raises:
        ValueError: LiteRT.js is missing, or `out` is another folder, or nowhere.
    """
    litert = pathlib.Path(node_modules, LITERT).parent
    for name in LITERT_FILES:
        if not (litert / name).is_file():
            raise ValueError(
                f"`node_modules` must hold {LITERT}: run `make mobile-kit`. "
                f"Received: {node_modules}, without {name}"
            )
    target = pathlib.Path(out).absolute()
    if target.exists() and not (target / mark).is_file():
        raise ValueError(f"`out` must be new, or the folder of an earlier page. Received: {out}")
    if not target.parent.is_dir():
        raise ValueError(f"`out` must be in an existing folder. Received: {out}")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".page-") as folder:
        page = pathlib.Path(folder, "page")
        for name in LITERT_FILES:
            copy = page / "litert" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(litert / name, copy)
        yield page
        if target.exists():
            target.rename(pathlib.Path(folder, "earlier"))
        page.rename(target)


def fresh(name: str, content: bytes) -> str:
    """Returns a file's address, which no browser shows an earlier file for, from its cache."""
    return f"{name}?{hashlib.sha256(content).hexdigest()[:8]}"
