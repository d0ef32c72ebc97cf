"""Charts as SVG, which a page holds inline: curves and points, and maps of layers over epochs.

Colours are those of the page: the classes and variables that `report_html.STYLE` has.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

STYLES = 20
"""So many lines look different from each other."""

_WIDTH, _HEIGHT = 360, 250
_LEFT, _TOP, _BOTTOM = 44, 8, 40  # around what is drawn; a label needs more on the right
_LETTER = 7.3  # about as wide as letters are
_LINE = 13  # as high as a label
_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))
_CELL = 18

# What is drawn in here is cut off below and on the left, where the axes are.
_CLIPPED = (
    f'<svg x="{_LEFT}" y="0" width="{_WIDTH - _LEFT}" height="{_HEIGHT - _BOTTOM + 1}" '
    f'viewBox="{_LEFT} 0 {_WIDTH - _LEFT} {_HEIGHT - _BOTTOM + 1}">'
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart, or a single point.

    Args:
        label: what stands at its end; short.
        x: where values are.
        y: the values; NaN where there is none.
        low: the lowest of the values that each is the mean of.
        high: the highest.
        style: number of its colour and dashes; None for grey.
        name: the label at full length.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: int | None = 0
    name: str = ""

    @property
    def points(self) -> list[tuple[float, float]]:
        """Those of its values that there are."""
        return [p for p in zip(self.x, self.y, strict=True) if all(map(math.isfinite, p))]


def number(value: float) -> str:
    """Returns a number as short as an axis wants it.

    >>> number(0.85), number(5000), number(7.12e12)
    ('0.85', '5000', '7.12T')
    """
    if not math.isfinite(value):
        return "not known"
    for unit, letter in _UNITS:
        if abs(value) >= unit:
            scaled = value / (1e3 if letter == "k" else unit)
            return f"{scaled:.3g}{letter}" if abs(scaled) < 1000 else f"{value:.2g}"
    return f"{value:.4g}"


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Takes values from `low` to `high` to coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = (math.log(v) for v in (low, high, max(value, 1e-300)))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, four to eight of them."""
        found = self._logarithmic() if self.log else []
        return found if len(found) > 1 else self._linear()

    def _logarithmic(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if len(powers) < 5 else (1,)
        return [v for p in powers for s in steps if self.low <= (v := s * 10.0**p) <= self.high]

    def _linear(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(n * step, 12) for n in range(first, last + 1)]


def curves(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    *,
    level: tuple[float, str] | None = None,
    floor: float | None = None,
    log_x: bool = False,
    log_y: bool = False,
    counts: bool = False,
) -> str:
    """Returns a chart of lines, and of lines of one point as marks, as an HTML figure.

    Args:
        title: what the values are.
        lines: those to draw; what has no value is left out.
        x_label: what they lie over.
        level: None, or a value to draw a dashed line at, and what that is.
        floor: None, or the value that the chart begins at: what lies below is left out.
        log_x: whether the scale below is logarithmic.
        log_y: whether the one on the left is.
        counts: whether values are whole numbers, which change in steps.

    Returns:
        The HTML, empty where no line has a value.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    longest = max(len(line.label) for line in lines)
    right = _WIDTH - max(14.0, min(longest, 20) * _LETTER + 10)
    least = -math.inf if floor is None else floor
    across = [x for line in lines for x, y in line.points if y >= least]
    up = [v for ln in lines for vs in (ln.y, ln.low, ln.high) for v in vs if math.isfinite(v)]
    up += [level[0]] if level else []
    low = 0.0 if counts else min(up) if floor is None else floor
    x = _scale(min(across), max(across), _LEFT + 4, right, log=log_x, whole=x_label == "epoch")
    y = _scale(low, max(up), _HEIGHT - _BOTTOM, _TOP, log=log_y, whole=counts, room=0.06)
    said = "; ".join(_said(line, x_label) for line in lines)
    if level:
        said += f"; dashed line, {level[1]}: {number(level[0])}"
    drawn = [*_axes(x, y, x_label, right), *_level(level, y, right)]
    drawn.append(_CLIPPED)
    for line in lines:
        title_of = f"<title>{escape(_said(line, x_label))}</title>"
        drawn.append(f'<g class="{_class(line.style)}">{title_of}{_drawn(line, x, y, counts)}</g>')
    drawn.append("</svg>")
    drawn += _labels([(ln, x(ln.points[-1][0]), y(ln.points[-1][1])) for ln in lines])
    return _figure(title, said, drawn, _HEIGHT)


def _scale(
    low: float, high: float, start: float, end: float, room: float = 0.0, **kind: bool
) -> _Scale:
    """A scale with some room, in shares of its range, at the ends."""
    if kind.get("log"):
        if low <= 0 or low == high:
            kind["log"] = False
        else:
            more = (high / low) ** max(room, 0.03)
            return _Scale(low / more, high * more, start, end, **kind)
    if low == high:
        low, high = low - (abs(low) or 1) / 20, high + (abs(high) or 1) / 20
    more = (high - low) * room
    # Counts stand on 0.
    return _Scale(low if low == 0 else low - more, high + more, start, end, **kind)


def _axes(x: _Scale, y: _Scale, x_label: str, right: float) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    for value in y.ticks():
        at = f"{y(value):.1f}"
        yield f'<path class="grid" d="M{_LEFT} {at}H{right:.1f}"/>'
        yield f'<text class="end" x="{_LEFT - 5}" y="{y(value) + 4:.1f}">{number(value)}</text>'
    taken = -math.inf
    for value in x.ticks():
        across, text = x(value), number(value)
        half = len(text) * _LETTER / 2
        if across - half > taken:
            taken = across + half + 4
            yield f'<text class="mid" x="{across:.1f}" y="{bottom + 16}">{text}</text>'
        yield f'<path class="axis" d="M{across:.1f} {bottom}v4"/>'
    yield f'<path class="axis" d="M{_LEFT} {bottom}H{right:.1f}"/>'
    middle = (_LEFT + right) / 2
    yield f'<text class="mid" x="{middle:.1f}" y="{_HEIGHT - 6}">{escape(x_label)}</text>'


def _level(level: tuple[float, str] | None, y: _Scale, right: float) -> Iterator[str]:
    if level:
        at = y(level[0])
        yield f'<path class="level" d="M{_LEFT} {at:.1f}H{right:.1f}"/>'
        beside = at + 14 if at < _TOP + 20 else at - 5
        yield f'<text class="halo" x="{_LEFT + 6}" y="{beside:.1f}">{escape(level[1])}</text>'


def _class(style: int | None) -> str:
    if style is None:
        return "grey"
    return f"c{style % 5} d{style // 5 % 4}"


def _drawn(line: Line, x: _Scale, y: _Scale, steps: bool) -> str:
    if len(line.points) == 1:
        ((at, value),) = line.points
        bar = ""
        if line.low and line.high[0] > line.low[0]:
            bar = f'<path d="M{x(at):.1f} {y(line.low[0]):.1f}V{y(line.high[0]):.1f}"/>'
        return bar + mark(line.style or 0, x(at), y(value))
    drawn = ""
    if line.low:
        around = [*zip(line.x, line.low, strict=True)]
        around += reversed([*zip(line.x, line.high, strict=True)])
        drawn = f'<path class="band" d="{_path(around, x, y, False)}Z"/>'
    for part in _unbroken(zip(line.x, line.y, strict=True)):
        drawn += f'<path d="{_path(part, x, y, steps)}"/>'
    return drawn


def _unbroken(points: Iterable[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line between which values are missing."""
    part: list[tuple[float, float]] = []
    for point in points:
        if all(map(math.isfinite, point)):
            part.append(point)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _path(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale, steps: bool) -> str:
    (first, *rest) = [(x(a), y(b)) for a, b in points if math.isfinite(a) and math.isfinite(b)]
    path = f"M{first[0]:.1f} {first[1]:.1f}"
    form = "H{0:.1f}V{1:.1f}" if steps else "L{0:.1f} {1:.1f}"
    return path + "".join(form.format(*point) for point in rest)


def mark(style: int, x: float, y: float) -> str:
    """Returns a small sign, whose form tells styles of the same colour apart."""
    forms = (
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "m-4 -4h8v8h-8z",
        "m0 -5l5 9h-10z",
        "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z",
    )
    return f'<path class="mark" d="M{x:.1f} {y:.1f}{forms[style // 5 % 4]}"/>'


def _labels(ends: Sequence[tuple[Line, float, float]]) -> Iterator[str]:
    """Labels behind the ends of lines, moved down where they would cover others."""
    taken: list[tuple[float, float, float]] = []
    for line, x, y in sorted(ends, key=lambda end: end[2]):
        left, width = x + 7, len(line.label) * _LETTER
        while line.label and any(
            abs(y - other) < _LINE and left < end and start < left + width
            for start, end, other in taken
        ):
            y += 1
        taken.append((left, left + width, y))
        short = line.label if len(line.label) <= 20 else line.label[:19] + "…"
        kind = f"halo {_class(line.style)}"
        yield f'<text class="{kind}" x="{left:.1f}" y="{y + 4:.1f}">{escape(short)}</text>'


def _said(line: Line, x_label: str) -> str:
    x, y = line.points[-1]
    name = line.name or line.label
    where = f"{number(y)} at {x_label} {number(x)}"
    return f"{name}: {where}" if name else where


def _figure(title: str, said: str, drawn: Iterable[str], height: float) -> str:
    label = escape(f"{title}. {said}")
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {height:g}" aria-label="{label}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def heatmap(
    title: str,
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[float],
    x_label: str = "epoch",
) -> str:
    """Returns a map, the stronger the colour the higher the value, as an HTML figure.

    Args:
        title: what the values are.
        values: those of each row, one a column; NaN, where there is none, is left empty.
        rows: their names.
        columns: where the values lie, in order.
        x_label: what they lie over.

    Returns:
        The HTML, empty where there is no value.
    """
    known = [value for row in values for value in row if math.isfinite(value)]
    if not known:
        return ""
    most = max(known)
    letters = min(14, max(map(len, rows)))
    left = letters * _LETTER + 8
    wide = (_WIDTH - left - 4) / len(columns)
    bottom = _CELL * len(rows) + 2
    drawn = []
    for index, (name, row) in enumerate(zip(rows, values, strict=True)):
        top = _CELL * index + 1
        short = name if len(name) <= letters else "…" + name[-letters + 1 :]
        drawn.append(
            f'<text class="end" x="{left - 5:.1f}" y="{top + 13}"><title>{escape(name)}</title>'
            f"{escape(short)}</text>"
        )
        for at, (column, value) in enumerate(zip(columns, row, strict=True)):
            known_here = math.isfinite(value)
            strong = max(0.0, value / most) if known_here and most else 0.0
            said = number(value) if known_here else "not measured"
            drawn.append(
                f'<rect class="{"cell" if known_here else "empty"}" x="{left + at * wide:.1f}" '
                f'y="{top}" width="{wide:.1f}" height="{_CELL - 1}" fill-opacity="{strong:.3f}">'
                f"<title>{escape(name)}, {x_label} {number(column)}: {said}</title></rect>"
            )
    every = math.ceil(len(columns) / max(1, (_WIDTH - left) // 36))
    for at in range(0, len(columns), every):
        middle = left + (at + 0.5) * wide
        drawn.append(f'<text class="mid" x="{middle:.1f}" y="{bottom + 14}">{columns[at]:g}</text>')
    scale = f"{x_label}; strongest colour: {number(most)}, none: 0"
    drawn.append(f'<text class="end" x="{_WIDTH - 4}" y="{bottom + 31}">{scale}</text>')
    said = f"From {number(min(known))} to {number(most)}, {len(rows)} rows over {x_label}"
    return _figure(title, said, drawn, bottom + 38)
