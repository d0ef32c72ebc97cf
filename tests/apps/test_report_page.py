"""`spfde report --html`: one page about finished runs."""

import html.parser
import json
import pathlib
import re
import shlex

import pytest

from apps import errors, program, report, report_origin, report_page
from apps.config import RunConfig
from apps.finished import load
from tests.apps import finished_runs
from tests.tflite.browser import asked

EVIDENCE = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "evidence"


class Page(html.parser.HTMLParser):
    """What a page holds: its text, headings, tables by caption, attributes of elements."""

    VOID = ("meta", "link", "img", "path")

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.elements = [], [], []
        self.tables, self.headings, self.charts = {}, [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "caption":
            self._caption = ""
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")
        elif tag == "figcaption":
            self.charts.append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self._rows[-1][-1] += data
        elif "caption" in self.open:
            self._caption += data
        elif {"h1", "h2", "h3"} & set(self.open):
            self.headings[-1] += data
        elif "figcaption" in self.open:
            self.charts[-1] += data

    @property
    def text(self):
        return " ".join(self.words)

    def column(self, caption, heading):
        head, *rows = self.tables[caption]
        return [row[head.index(heading)].strip() for row in rows]


RESULTS = "after the last epoch, on all test samples"
PLAN = "FLOPs that training took, and its plan"
FILE = "its size, and what it does on phones"


def page(*folders):
    return Page(report_page.page(folders))


def test_one_run(tmp_path):
    found = page(finished_runs.folder(tmp_path / "run"))
    assert found.headings == [
        "mlp, set, digits",
        "Results",
        "Training",
        "Sparsity, freezing and sieving over time",
        "Cost and memory, against the plan",
        "The .tflite file",
        "How to repeat it",
    ]
    head, row = found.tables[RESULTS]
    assert dict(zip(head, row, strict=True)) == {
        "run": "set",
        "seeds": "1",
        "test accuracy, %": "87.50",
        "zeros, %": "90.00",
        "training FLOPs": "200G",
        "share of dense": "0.200",
        "training time": "8 s",
        ".tflite": "1.2 kB",
    }
    assert found.tables[PLAN][1][1:] == ["200G", "250G", "-20.00", "2.00 MB", "1.00 MB"]
    assert found.tables[FILE][1][1:5] == ["1,234", "4,936", "0.250", "87.00"]
    blocks = found.tables["FLOPs of a sample at the end, block by block"]
    assert blocks == [["block", "forward", "weight gradient"], ["1", "10", "30"], ["2", "20", "40"]]
    assert found.charts[:2] == ["accuracy, %", "loss"]
    assert {"zeros, %", "frozen blocks", "samples in use"} < set(found.charts)
    assert "0123abcd" in found.text and "keras 3.15.1" in found.text


def test_seeds_are_one_row_with_mean_deviation_and_range(tmp_path):
    folders = [
        finished_runs.folder(tmp_path / f"s{seed}", 0.8 + 0.02 * seed, seed=seed)
        for seed in range(3)
    ]
    other = finished_runs.folder(tmp_path / "rigl", 0.5, method="rigl")
    found = page(*folders, other)
    assert found.column(RESULTS, "run") == ["1: set", "2: rigl"]
    assert found.column(RESULTS, "seeds") == ["3", "1"]
    assert found.column(RESULTS, "test accuracy, %") == ["82.00", "50.00"]
    assert found.column(RESULTS, "± deviation") == ["2.00", ""]
    assert "Accuracy and cost" in found.headings
    labels = [a["aria-label"] for tag, a in found.elements if a.get("role") == "img"]
    assert "1: set: 82 at training FLOPs 200G" in labels[0]
    # The curve ends at the mean; the first range is half of that from the lowest to the highest.
    over_flops = next(label for label in labels if "over training FLOPs so far" in label)
    assert "1: set: 82 at training FLOPs so far 200G; 2: rigl: 50 at" in over_flops
    assert "1: set: 82 at seconds so far 8" in next(la for la in labels if "seconds so far" in la)
    assert sum(a.get("class") == "band" for tag, a in found.elements) >= 4


def test_what_a_paper_reports_stands_beside(tmp_path):
    one = finished_runs.folder(tmp_path / "a", paper_accuracy=0.7102, paper_flops=9.6e14)
    two = finished_runs.folder(tmp_path / "b", method="rigl", paper_accuracy=0.7)
    found = page(one, two)
    assert found.column(RESULTS, "run") == ["1: set", "2: rigl"]
    assert found.column(RESULTS, "the paper's accuracy, %") == ["71.02", "70.00"]
    assert found.column(RESULTS, "its FLOPs") == ["960T", ""]
    assert "its FLOPs" not in page(two).tables[RESULTS][0]


def test_rows_name_what_differs(tmp_path):
    one = finished_runs.folder(tmp_path / "a", interval=None, sieve_fraction=0.0, warmup_epochs=2)
    two = finished_runs.folder(tmp_path / "b", interval=3, sieve_fraction=0.2, warmup_epochs=1)
    three = finished_runs.folder(tmp_path / "c", method="rigl", interval=3)
    found = page(one, two, three)
    assert found.column(RESULTS, "run") == [
        "1: set",
        "2: set, interval=3, sieve_fraction=0.2",
        "3: rigl, interval=3",
    ]
    four = finished_runs.folder(tmp_path / "d", interval=None, sieve_fraction=None, warmup_epochs=2)
    assert page(one, four).column(RESULTS, "run") == [
        "1: sieve_fraction=0.0",
        "2: sieve_fraction=None",
    ]


def test_sub_nets_have_rows_and_curves_of_their_own(tmp_path):
    subnets = ("subnet_90", "subnet_95")
    ast = finished_runs.folder(tmp_path / "ast", 0.9, subnets, method="ast")
    alone = page(ast)
    assert alone.column(RESULTS, "run") == subnets_of(alone) == list(subnets)
    assert alone.column(RESULTS, "test accuracy, %") == ["90.00", "80.00"]
    found = page(ast, finished_runs.folder(tmp_path / "set"))
    assert found.column(RESULTS, "run") == ["1a: ast, subnet_90", "1b: ast, subnet_95", "2: set"]
    assert found.column(FILE, "test accuracy, %") == ["90.00", "80.00", "87.00"]
    assert len(found.column(PLAN, "planned")) == 2
    label = next(a["aria-label"] for _, a in found.elements if "over epochs" in str(a.values()))
    assert "1a: ast, subnet_90: 90 at epoch 4; 1b: ast, subnet_95: 80 at epoch 4" in label


def subnets_of(found):
    label = next(a["aria-label"] for _, a in found.elements if a.get("role") == "img")
    assert label.startswith("accuracy, %. training: 100 at epoch 4; ")
    return re.findall(r"subnet_\d+", label)


def test_nothing_is_loaded_and_all_text_is_escaped(tmp_path):
    nasty = '<script>alert("&")</script>'.replace("/", "")
    folder = pathlib.Path(finished_runs.folder(tmp_path / nasty, dataset=nasty, scheme=[nasty]))
    found = finished_runs.analyses(subnets=(nasty, "b"))
    (folder / "analyses.json").write_text(json.dumps(found))
    other = finished_runs.folder(tmp_path / "b", model=nasty)
    text = report_page.page([folder, other])
    assert "<script" not in text and "&lt;script&gt;alert(&quot;&amp;&quot;)" in text
    assert "dense<b>" not in text and "dense&lt;b&gt;" in text
    assert not re.search(r"https?://|@import|url\(", text)
    parsed = Page(text)
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "iframe", "object")
        assert attributes.get("href", "data:").startswith("data:")
        assert attributes.get("src", "data:").startswith("data:")
    pictures = [a for tag, a in parsed.elements if tag == "svg" and a.get("class") == "chart"]
    assert pictures and all(a["role"] == "img" and a["aria-label"] for a in pictures)


def test_what_is_off_has_no_chart(tmp_path):
    folder = pathlib.Path(finished_runs.folder(tmp_path / "run", method="dense"))
    lines = [
        line.replace(",0.9,", ",0,").replace(",80,", ",100,")
        for line in (folder / "history.csv").read_text().splitlines()
    ]
    lines = [re.sub(r",[01],100,", ",0,100,", line) for line in lines]
    (folder / "history.csv").write_text("\n".join(lines))
    assert "Sparsity, freezing and sieving over time" not in page(folder).headings


def test_analyses_are_a_part_of_the_page(tmp_path):
    folder = pathlib.Path(finished_runs.folder(tmp_path / "run"))
    (folder / "analyses.json").write_text(json.dumps(finished_runs.analyses()))
    (folder / "hardest.png").write_bytes(finished_runs.PNG)
    found = page(folder)
    assert "Masks, layers and samples" in found.headings
    head, conv, dense = found.tables["subnet_90: after epoch 4"]
    assert head[:4] == ["layer", "block", "density", "similarity"]
    assert conv == ["conv2d_1", "1", "0.125", "0.125", "0.75", "0.125", "0.125", "0.125"]
    assert dense == ["dense<b>", "2", "", "", "1", "", "", ""]
    assert "samples never forgotten, and never learned" in found.charts
    (image,) = (a for tag, a in found.elements if tag == "img")
    assert image["alt"] == "hardest samples: 98, 99"
    assert image["src"].startswith("data:image/png;base64,iVBORw0KGgpyZXN0")


def test_without_forgetting_the_rest_is_shown(tmp_path):
    folder = pathlib.Path(finished_runs.folder(tmp_path / "run"))
    measured = finished_runs.analyses() | {"forgetting": None}
    (folder / "analyses.json").write_text(json.dumps(measured))
    found = page(folder)
    assert "density" in found.charts and "Samples" not in found.headings


def test_times_on_several_machines_have_no_mean(tmp_path):
    files = [finished_runs.evidence(tmp_path / f"{seed}.json", seed=seed) for seed in range(2)]
    other = finished_runs.evidence(tmp_path / "other.json", method="rigl")
    found = page(*files, other)
    assert found.column(RESULTS, "training time") == ["8 s", "8 s"]
    assert "different ones" not in found.text
    changed = json.loads((tmp_path / "0.json").read_text())
    changed["machine"]["cores"] = 1
    (tmp_path / "0.json").write_text(json.dumps(changed))
    found = page(*files, other)
    assert found.column(RESULTS, "training time") == ["several machines", "8 s"]
    assert "They were different ones: Fast, 1 cores; Fast, 2 cores." in found.text


def test_on_how_many_samples_the_sparse_mode_was_measured(tmp_path):
    folder = pathlib.Path(finished_runs.folder(tmp_path / "run"))
    found = json.loads((folder / "results.json").read_text())
    for samples, shown in [(50, "80.00"), (20, "80.00 (on 20 samples)")]:
        found |= {"sparse_mode_test_accuracy": 0.8, "sparse_mode_test_samples": samples}
        (folder / "results.json").write_text(json.dumps(found))
        assert page(folder).column(FILE, "in sparse mode, %") == [shown]


def test_the_files_of_the_comparison_are_runs():
    files = sorted(EVIDENCE.glob("10_*-seed0.json"))
    found = page(*files)
    expected = [json.loads(file.read_text()) for file in files]
    accuracies = [f"{100 * one['results']['test_accuracy']:.2f}" for one in expected]
    assert found.column(RESULTS, "test accuracy, %") == accuracies
    assert all(one["command"] in found.text for one in expected)
    assert expected[0]["machine"]["processor"] in found.text


def test_the_command_gives_the_same_options(tmp_path):
    config = RunConfig(
        method="ast",
        sparsity="0.9,0.95",
        gradient_correction=False,
        augment=True,
        epochs=50,
        output_dir=str(tmp_path / "a run"),
    )
    folder = finished_runs.folder(tmp_path / "run", **json.loads(config.to_json()))
    program_name, name, *flags = shlex.split(report_origin.command(load(folder)))
    assert (program_name, name) == ("spfde", "train")
    assert program.parse(RunConfig, flags) == config
    assert not any(flag.startswith(("--warmup_epochs", "--resume")) for flag in flags)


def test_the_program_writes_the_page(tmp_path, capsys):
    folder, out = finished_runs.folder(tmp_path / "run"), tmp_path / "out.html"
    assert report.main([folder, f"--html={out}"]) == 0
    assert out.read_text() == report_page.page([folder])
    assert capsys.readouterr().out == ""
    assert report.main([folder, "--html=out.txt"]) == errors.MISUSED


@pytest.mark.parametrize("name", ["results.json", "history.csv", "analyses.json"])
def test_a_damaged_file_is_one_line_and_no_page(tmp_path, capsys, name):
    folder, out = pathlib.Path(finished_runs.folder(tmp_path / "run")), tmp_path / "out.html"
    (folder / name).write_text("{\n")
    assert report.main([str(folder), f"--html={out}"]) == errors.MISUSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and name in line and not out.exists()


def test_what_earlier_versions_did_not_say_is_left_out(tmp_path, capsys):
    folder, out = pathlib.Path(finished_runs.folder(tmp_path / "run")), tmp_path / "out.html"
    found = json.loads((folder / "results.json").read_text())
    costs = found.pop("block_flops_per_sample")
    (folder / "results.json").write_text(json.dumps(found))
    assert "FLOPs of a sample at the end, block by block" not in page(folder).tables
    found["block_flops_per_sample"] = costs | {"forward": ["x", 1]}
    (folder / "results.json").write_text(json.dumps(found))
    assert report.main([str(folder), f"--html={out}"]) == errors.MISUSED
    assert capsys.readouterr().err.startswith("error: `block_flops_per_sample` of a finished run")
    del found["planned_training_flops"], found["block_flops_per_sample"]
    (folder / "results.json").write_text(json.dumps(found))
    assert report.main([str(folder), f"--html={out}"]) == errors.MISUSED
    assert "have no 'planned_training_flops'" in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(tmp_path, chromium, scheme):
    folder = pathlib.Path(
        finished_runs.folder(tmp_path / "a-run-with-a-name-as-long-as-they-come-in-practice")
    )
    (folder / "analyses.json").write_text(json.dumps(finished_runs.analyses()))
    out = tmp_path / "out.html"
    out.write_text(report_page.page([folder, *sorted(EVIDENCE.glob("10_*-seed0.json"))]))
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    preferred = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preferred})
    asked(chromium)
    chromium.get(out.as_uri())
    chromium.execute_script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    shown = chromium.execute_script(
        """const root = document.documentElement;
        const text = document.querySelector(".chart .mid").getBoundingClientRect();
        return [innerWidth, root.scrollWidth, text.height,
          getComputedStyle(document.body).backgroundColor];"""
    )
    assert shown[:2] == [360, 360]
    assert shown[2] >= 10  # as high as letters that can be read
    assert (shown[3] == "rgb(255, 255, 255)") == (scheme == "light")
    assert not chromium.get_log("browser")
    assert asked(chromium) == {out.as_uri()}
