"""Every code block of README and docs runs as it stands; links and the API page are whole."""

import functools
import importlib
import json
import pkgutil
import re
import types
from pathlib import Path

import keras
import pytest

import spfde_keras
from spfde_keras.layers import base
from tests.registries import left_as_they_were

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Its two scripts are run by tests/test_existing_script.py.
RUN_ELSEWHERE = {DOCS / "existing_script.md"}


def code_blocks(page: Path) -> list[str]:
    """The Python of a page, in order; of a diff what was before and what is after."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    blocks = []
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S):
        if language == "python":
            blocks.append(code)
        elif language == "diff":
            blocks += [version(code, "-"), version(code, "+")]
    return blocks


def version(diff: str, sign: str) -> str:
    """One side of a diff: the lines that both have, and those with its sign."""
    lines = diff.splitlines()
    return "\n".join(line[1:] for line in lines if line[:1] in ("", " ", sign)) + "\n"


RUNNING = [
    page
    for page in [*PAGES, *DOCS.rglob("*.ipynb")]
    if page not in RUN_ELSEWHERE and code_blocks(page)
]


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(base, "_MASKED", dict(base._MASKED))
    keras.utils.set_random_seed(0)
    names: dict = {"__name__": "page"}
    with left_as_they_were():
        for number, code in enumerate(code_blocks(page)):
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(page):
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def public_names() -> dict[str, object]:
    """Everything in the `__all__` of the package and of its public subpackages."""
    packages = [spfde_keras]
    for module in pkgutil.walk_packages(spfde_keras.__path__, "spfde_keras."):
        if module.ispkg:
            packages.append(importlib.import_module(module.name))
    return {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in packages
        for name in getattr(package, "__all__", [])
    }


def resolve(path: str) -> object:
    """The object at a dotted path."""
    parent, _, name = path.rpartition(".")
    try:
        return getattr(resolve(parent), name) if parent else importlib.import_module(path)
    except AttributeError:
        return importlib.import_module(path)


def documented() -> list[str]:
    pages = (page.read_text() for page in (DOCS / "api").glob("*.md"))
    return [path for page in pages for path in re.findall(r"^::: (\S+)", page, re.M)]


def test_every_public_name_is_on_an_api_page():
    shown = [resolve(path) for path in documented()]
    known = {id(value) for value in shown}
    for module in filter(functools.partial(isinstance_of, types.ModuleType), shown):
        known |= {id(value) for name, value in vars(module).items() if not name.startswith("_")}
    assert [name for name, value in public_names().items() if id(value) not in known] == []


def isinstance_of(kind: type, value: object) -> bool:
    return isinstance(value, kind)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="needs the extra `docs`")
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    mkdocs.build(config)
    api = "".join(page.read_text() for page in (tmp_path / "api").rglob("index.html"))
    assert all(f'id="{path}"' in api for path in documented())
