"""Every code block of README and docs runs as it stands; links and the API page are whole."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import keras
import pytest

import spfde_keras
from benchmarks import evidence, evidence_tables, pages, personalization
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


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


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
    """The object at a dotted path: a name in a module."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def documented() -> list[str]:
    pages = (page.read_text() for page in (DOCS / "api").glob("*.md"))
    return [path for page in pages for path in re.findall(r"^::: (\S+)", page, re.M)]


def test_every_public_name_is_on_an_api_page():
    known = set()
    for value in map(resolve, documented()):
        methods = vars(value).values() if inspect.isclass(value) else ()
        known |= {id(value), *map(id, methods)}
    # `get`, `names` and `register` of a family are methods of its registry.
    missing = [
        name
        for name, value in public_names().items()
        if id(getattr(value, "__func__", value)) not in known
    ]
    assert not missing


def test_tables_of_pages_are_those_of_the_results():
    """If not: `python benchmarks/pages.py`."""
    found = evidence_tables.read()
    texts = [page.read_text() for page in pages.PAGES]
    assert texts == [pages.filled(text, found) for text in texts]
    shown = re.findall(r"<!-- (table|measured|counted): (\w+)", "".join(texts))
    assert {name for kind, name in shown if kind == "table"} == set(evidence_tables.TABLES)
    measured = {path.stem for path in pages.RESULTS.glob("*.json")}
    assert {name for kind, name in shown if kind != "table"} == measured


def test_readme_shows_what_was_measured():
    """Its figures are those of the files in benchmarks/results."""
    page = (ROOT / "README.md").read_text()
    read = {p.stem: json.loads(p.read_text()) for p in pages.RESULTS.glob("*.json")}
    steps = {name: one["median_s"] for name, one in read["step_time"]["variants"].items()}
    assert f"| {steps['dense']:.3f} s | {steps['sparse']:.3f} s |" in page
    dense, sparse = read["mobile_mobilenet_sparse"]["files"].values()
    assert f"| {dense['bytes'] / 1e6:.2f} MB | {sparse['bytes'] / 1e6:.2f} MB |" in page
    assert f"| 1 | {sparse['wasm_to_dense']:.2f} |" in page
    dense, sparse, _ = read["training"]["variants"].values()
    assert f"| {dense['seconds']:.0f} s | {sparse['seconds']:.0f} s |" in page
    shares = [f"{100 * v['test_accuracy']:.2f} %, {v['flops_share']:.3f}" for v in (dense, sparse)]
    assert f"| {' | '.join(shares)} |" in page
    ways = {row[0]: row for row in personalization.tables(read["personalization"])["ways"].rows}
    for name in ("dense", "SpFDE"):
        *_, every, _, _, state, _ = ways[name]
        assert f"{every.split()[0]} %" in page and f"{state} KiB" in page


def test_runs_that_tables_name_have_files_of_flags():
    known = {row.flags.stem for row in evidence.rows(seeds=1)}
    listed = {
        name
        for rows in (
            *(evidence_tables.EQUAL, evidence_tables.PARTS),
            *(evidence_tables.ANALYSED, evidence_tables.DIGITS),
        )
        for _, name in rows
    }
    listed |= {name for _, name in evidence_tables.SUBNETS}
    listed |= {f"{name}_90" for name in evidence_tables.METHODS.values()}
    assert listed <= known


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    mkdocs = pytest.importorskip("mkdocs.commands.build", reason="needs the extra `docs`")
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    mkdocs.build(config)
    api = "".join(page.read_text() for page in (tmp_path / "api").rglob("index.html"))
    assert all(f'id="{path}"' in api for path in documented())
