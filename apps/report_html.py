"""Parts of a self-contained HTML page: its frame, tables that scroll by themselves, pictures."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

# The hues are told apart with any colour vision (Okabe and Ito, 2008), made lighter for the dark.
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #57606a; --rule: #d0d7de;
  --c0: #0072b2; --c1: #d55e00; --c2: #00805e; --c3: #b0508c; --c4: #1b1f24; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --text: #e6e9ed; --soft: #a3abb5;
  --rule: #3a414a; --c0: #56b4e9; --c1: #f0883e; --c2: #2bc79a; --c3: #e6a0c8; --c4: #e6e9ed; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 72rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1.5rem 0 0.5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.5rem 0; }
.soft, figcaption span { color: var(--soft); }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
.scroll:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { text-align: right; padding: 0.25rem 0.7rem 0.25rem 0; white-space: nowrap;
  border-bottom: 1px solid var(--rule); vertical-align: top; overflow-wrap: normal; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
thead th { vertical-align: bottom; }
tbody th { font-weight: 500; white-space: normal; max-width: min(45vw, 20rem); }
.numbers { width: max-content; }
.words td { white-space: normal; overflow-wrap: anywhere; }
.charts { display: grid; gap: 1rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
figure { margin: 0; max-width: 30rem; }
figcaption { font-weight: 600; font-size: 0.95rem; margin-bottom: 0.3rem; }
figure img { max-width: 100%; height: auto; image-rendering: pixelated; }
.chart { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.chart text, .key text { fill: var(--text); }
.chart .end { text-anchor: end; } .chart .mid { text-anchor: middle; }
.chart path { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke: currentColor; }
.chart .grid { stroke: var(--rule); stroke-width: 0.7; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .level { stroke: var(--soft); stroke-width: 1.3; stroke-dasharray: 5 4; }
.chart .band { fill: currentColor; fill-opacity: 0.15; stroke: none; }
.chart .mark, .key .mark { fill: currentColor; stroke: var(--back); stroke-width: 0.8;
  stroke-dasharray: none; }
.chart .halo { paint-order: stroke; stroke: var(--back); stroke-width: 3px; font-weight: 600; }
.chart text.halo[class*=" c"] { fill: currentColor; stroke-dasharray: none; }
.chart .cell { fill: var(--c0); stroke: var(--rule); stroke-width: 0.5; }
.chart .empty { fill: none; stroke: var(--rule); stroke-width: 0.5; stroke-dasharray: 2 2; }
.key { display: inline-block; width: 1.1em; height: 1.1em; vertical-align: -0.2em; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .grey { color: var(--soft); }
.d1 path { stroke-dasharray: 7 3; } .d2 path { stroke-dasharray: 2 3; }
.d3 path { stroke-dasharray: 8 3 2 3; }
ul.keys { list-style: none; padding: 0; margin: 0.5rem 0 1rem; font-size: 0.9rem;
  columns: 22rem auto; }
ul.keys li { padding-left: 1.6em; text-indent: -1.6em; break-inside: avoid; }
details { margin: 0.75rem 0; } summary { cursor: pointer; font-weight: 500; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.88em; }
pre { white-space: pre-wrap; border-left: 3px solid var(--rule); padding-left: 0.75rem; }
"""


class Markup(str):
    """Text that is HTML already; all other text is escaped where it is put in."""


def html(text: object) -> Markup:
    """Returns a text as HTML.

    >>> html("<a>"), html(Markup("<b>"))
    ('&lt;a&gt;', '<b>')
    """
    return text if isinstance(text, Markup) else Markup(escape(str(text)))


def document(title: str, body: Iterable[str]) -> str:
    """Returns a page that needs nothing else.

    Args:
        title: text.
        body: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join((f"<h1>{html(title)}</h1>", *filter(None, body)))
        + "\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> Markup:
    """Returns a part of the page under a heading; empty where there is nothing in it.

    Args:
        heading: text.
        *parts: HTML.
    """
    shown = list(filter(None, parts))
    if not shown:
        return Markup()
    return Markup("\n".join(("<section>", f"<h2>{html(heading)}</h2>", *shown, "</section>")))


def paragraph(text: object) -> Markup:
    """Returns a remark."""
    return Markup(f'<p class="soft">{html(text)}</p>')


def charts(*figures: str) -> Markup:
    """Returns figures side by side, as many as fit; empty where there are none."""
    shown = list(filter(None, figures))
    return Markup(f'<div class="charts">{"".join(shown)}</div>' if shown else "")


def table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]], words: bool = False
) -> Markup:
    """Returns a table in a box that scrolls, so that the page does not.

    Args:
        caption: what it shows.
        headings: of the columns; the first column has the names of the rows.
        rows: the cells, as many as headings.
        words: whether the cells are words, which may break.
    """
    head = "".join(f'<th scope="col">{html(heading)}</th>' for heading in headings)
    body = "".join(
        f'<tr><th scope="row">{html(name)}</th>'
        + "".join(f"<td>{html(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    kind = "words" if words else "numbers"
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(caption)}">'
        f'<table class="{kind}"><caption>{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: object, *parts: str, shown: bool = False) -> Markup:
    """Returns HTML that is folded up under a line, or not, where it is `shown`."""
    return Markup(
        f"<details{' open' if shown else ''}><summary>{html(summary)}</summary>\n"
        + "\n".join(filter(None, parts))
        + "\n</details>"
    )


def picture(title: str, png: bytes, said: str) -> Markup:
    """Returns a PNG file as an HTML figure.

    Args:
        title: text above it.
        png: the file.
        said: what it shows, for those who cannot see it.
    """
    data = base64.b64encode(png).decode()
    return Markup(
        f"<figure><figcaption>{html(title)}</figcaption>"
        f'<img alt="{html(said)}" src="data:image/png;base64,{data}"></figure>'
    )
