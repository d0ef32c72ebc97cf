"""Charts as SVG: where lines run, and what is said of them."""

import math
import re
import xml.etree.ElementTree

import pytest

from apps.report_charts import STYLES, Line, curves, heatmap, number
from apps.report_charts import _Scale as Scale

NAN = math.nan


def svg(figure):
    return xml.etree.ElementTree.fromstring(figure)


def paths(figure, kind):
    """The points of the paths in groups of a class."""
    group = next(g for g in svg(figure).iter("g") if g.get("class") == kind)
    drawn = [path.get("d") for path in group.iter("path") if path.get("class") is None]
    return [[tuple(map(float, p)) for p in re.findall(r"([-\d.]+) ([-\d.]+)", d)] for d in drawn]


def test_a_line_runs_as_its_values():
    figure = curves("accuracy", [Line("a", [1, 2, 3], [0.0, 0.5, 1.0])], "epoch")
    ((first, middle, last),) = paths(figure, "c0 d0")
    assert first[0] < middle[0] < last[0] and first[1] > middle[1] > last[1]
    assert middle[0] == pytest.approx((first[0] + last[0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((first[1] + last[1]) / 2, abs=0.1)


def test_a_logarithmic_scale_has_equal_steps_for_equal_factors():
    line = Line("a", [1, 10, 100], [0.0, 0.5, 1.0])
    ((first, middle, last),) = paths(curves("a", [line], "FLOPs", log_x=True), "c0 d0")
    assert middle[0] - first[0] == pytest.approx(last[0] - middle[0], abs=0.2)


def test_missing_values_break_a_line_and_nothing_is_no_chart():
    broken = Line("a", range(5), [1.0, 2.0, NAN, 3.0, 4.0])
    assert [len(part) for part in paths(curves("a", [broken], "epoch"), "c0 d0")] == [2, 2]
    assert curves("a", [Line("a", [1, 2], [NAN, NAN])], "epoch") == ""
    assert curves("a", [], "epoch") == heatmap("a", [[NAN]], ["row"], [1]) == ""


def test_the_band_reaches_from_the_lowest_to_the_highest():
    line = Line("a", [1, 2], [0.5, 0.5], low=[0.25, 0.5], high=[0.75, 0.5])
    figure = svg(curves("a", [line], "epoch"))
    (band,) = (path.get("d") for path in figure.iter("path") if path.get("class") == "band")
    corners = [tuple(map(float, p)) for p in re.findall(r"([-\d.]+) ([-\d.]+)", band)]
    assert len(corners) == 4 and corners[0][1] > corners[1][1] == corners[2][1] > corners[3][1]


def test_one_value_or_equal_ones_are_drawn_and_nothing_is_infinite():
    for values in ([1.0], [0.0], [2.0, 2.0], [0.0, 0.0]):
        for log in (False, True):
            line = Line("a", [5.0] * len(values), values)
            drawn = curves("a", [line], "epoch", log_x=log, log_y=log)
            assert drawn and not re.search(r"nan|inf\b", drawn)


def test_labels_do_not_cover_each_other():
    lines = [Line(str(i), [1, 2], [0.5, 0.5], style=i) for i in range(6)]
    texts = [t for t in svg(curves("a", lines, "epoch")).iter("text") if "halo" in t.get("class")]
    heights = sorted(float(text.get("y")) for text in texts)
    assert all(b - a >= 12.9 for a, b in zip(heights, heights[1:], strict=False))
    assert [text.text for text in texts] == ["0", "1", "2", "3", "4", "5"]


def test_styles_differ_in_more_than_colour():
    lines = [Line("", [1, 2], [0, 1], style=i) for i in range(STYLES)]
    groups = [g.get("class") for g in svg(curves("a", lines, "epoch")).iter("g")]
    assert len(set(groups)) == STYLES


def test_a_chart_says_what_it_shows():
    line = Line("1", [1, 2], [0.5, 0.75], name="1: <set> & co")
    chart = next(svg(curves("accuracy", [line], "epoch", level=(0.9, "goal"))).iter("svg"))
    assert chart.get("role") == "img"
    assert chart.get("aria-label") == (
        "accuracy. 1: <set> & co: 0.75 at epoch 2; dashed line, goal: 0.9"
    )


def test_a_floor_leaves_out_what_is_below():
    line = Line("a", [1, 2, 3, 4], [0.1, 0.8, 0.9, 0.9])
    ((first, second, *_),) = paths(curves("a", [line], "epoch", floor=0.8), "c0 d0")
    assert first[0] < 44 < second[0]


def test_a_map_is_stronger_where_values_are_higher():
    figure = svg(heatmap("density", [[0.2, 0.4], [NAN, 0.1]], ["a", "b" * 30], [3, 6]))
    cells = {cell.find("title").text: cell for cell in figure.iter("rect")}
    assert float(cells["a, epoch 3: 0.2"].get("fill-opacity")) == 0.5
    assert float(cells["a, epoch 6: 0.4"].get("fill-opacity")) == 1
    assert cells[f"{'b' * 30}, epoch 3: not measured"].get("class") == "empty"
    names = [text for text in figure.iter("text") if text.find("title") is not None]
    assert names[1].find("title").text == "b" * 30 and names[1].find("title").tail[0] == "…"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.85, "0.85"), (5000, "5000"), (12e3, "12k"), (7.118e12, "7.12T"), (-2e6, "-2M")],
)
def test_numbers(value, said):
    assert number(value) == said
    assert number(NAN) == "not known"


def test_ticks_are_round():
    assert Scale(0.81, 0.9, 0, 1).ticks() == [0.82, 0.84, 0.86, 0.88, 0.9]
    assert Scale(1, 4, 0, 1, whole=True).ticks() == [1, 2, 3, 4]
    assert Scale(1e11, 9e13, 0, 1, log=True).ticks()[0] == 1e11
    assert Scale(3, 4, 0, 1, log=True).ticks()[:2] == [3, 3.2]
