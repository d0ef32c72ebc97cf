"""The files of the repository's root as pages of the site, and links that hold in both places."""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

PAGES = {
    "README.md": "index.md",
    "BUILD.md": "building.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages of the site by files of the repository."""

_FILES = {page: file for file, page in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#]+)")


def on_files(files, config):
    """Adds the pages; nothing is copied into docs/."""
    root = Path(config.config_file_path).parent
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(root / file).read_text()))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links between files of the repository into links between pages."""
    uri = page.file.src_uri
    here = posixpath.dirname(_FILES.get(uri, f"docs/{uri}"))

    def on_site(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(here, link[1]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(uri) or ".")

    return _LINK.sub(on_site, markdown)
