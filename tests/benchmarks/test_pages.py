"""Tables of the pages, and the picture of the comparison, from made-up results."""

import json

import pytest

from apps import finished
from benchmarks import pages
from benchmarks.evidence_tables import TABLES, Found, read
from benchmarks.pages import draw, filled
from tests.apps import finished_runs


def run(accuracies, seconds, flops=1e12, frozen=(0, 0, 1), source="a.json", cores=2):
    results = {
        "subnets": [{"test_accuracy": value} for value in accuracies],
        "training_flops": flops,
        "memory_average_bytes": 2 * 2**20,
        "memory_minimum_bytes": 2**20,
        "machine": {"processor": "Quick", "cores": cores},
    }
    columns = zip(range(1, 4), seconds, (0.1, 0.1, 0.08), frozen, strict=True)
    lines = [
        "epoch,seconds,flops_share,frozen_blocks,active_samples,sparsity",
        *(",".join(map(str, (*row, 100, 0.9))) for row in columns),
    ]
    results, history = finished.Results(results, source), finished.rows(lines)
    return finished.Run(source, results, history, None, results["machine"])


def seeds(*runs):
    return Found(runs, "Quick, 2 cores")


@pytest.fixture
def found():
    return {
        "10_ems_90": seeds(run([0.9], [5, 1, 1]), run([0.8], [1, 5, 1], 3e12)),
        "10_dense": seeds(run([0.95], [9, 9, 9])),
        "10_spfde_20_20_90": seeds(*[run([0.7], [2, 2, 1])] * 3),
        "50_ast_90_95_98": seeds(*[run([0.9, 0.8, 0.7], [1, 1, 1])] * 3),
        **{f"50_alone_{s}": seeds(*[run([s / 100], [1, 1, 2])] * 3) for s in (90, 95, 98)},
    }


def rows(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_a_row_is_the_mean_of_its_seeds_in_the_seconds_of_quiet_epochs(found):
    dense, ems, spfde = rows(TABLES["equal"](found))
    assert ems == ["MEST EM&S", "85.00 ± 7.07 (2 seeds)", "2e+12", "3", "2, 1"]
    assert dense[1] == "95.00 (one seed)" and spfde[1] == "70.00 ± 0.00"


def test_runs_on_other_machines_count_for_accuracy_and_not_for_seconds(found):
    found["10_ems_90"] = seeds(*found["10_ems_90"].runs, run([0.4], [0.5, 0.5, 0.5], cores=1))
    _, ems, _ = rows(TABLES["equal"](found))
    assert ems[1].startswith("70.00") and ems[3] == "3"
    found["10_ems_90"] = seeds(run([0.4], [0.5, 0.5, 0.5], cores=1))
    assert rows(TABLES["equal"](found))[1][3] == "not timed"


def test_methods_by_sparsity(found):
    (row,) = rows(TABLES["methods"](found))
    assert row == ["MEST EM&S", "85.00 ± 7.07 (2 seeds)", "not run", "not run", "2e+12", "3"]


def test_sub_nets_beside_the_sum_of_those_alone(found):
    together, alone = rows(TABLES["subnets"](found))
    assert together == ["AST", "90.00 ± 0.00", "80.00 ± 0.00", "70.00 ± 0.00", "1e+12", "3"]
    assert alone == ["each alone", "90.00 ± 0.00", "95.00 ± 0.00", "98.00 ± 0.00", "3e+12", "12"]


def test_samples_that_are_never_forgotten_and_layers(found, tmp_path):
    analyses = finished_runs.analyses(("s",)) | {"layers": ["a"], "blocks": [[0]]}
    analyses |= {"epochs": [12, 24, 36], "gradient_norms": [[1.0]] * 3}
    analyses["forgetting"] |= {"histogram": [[9]] * 3}
    analyses["forgetting"] |= {"never_forgotten": [0, 0, 4], "never_learned": [9, 9, 1]}
    layers = {"similarity": [[0.5], [0.6], [1.0]], "cka": [[0.7], [0.8], [1.0]]}
    others = {name: [[1.0]] * 3 for name in ("density", "overlap", "explored")}
    analyses["subnets"] = {"s": layers | others}
    source = tmp_path / "run.json"
    source.write_text(json.dumps({"analyses": analyses}))
    found["70_analysed_ems_90"] = seeds(*[run([0.9], [1, 1, 1], source=source)] * 2)
    assert rows(TABLES["forgetting"](found)) == [["MEST EM&S, 90 %", "4", "1"]]
    first, _, last = rows(TABLES["layers"](found))
    assert first == ["MEST EM&S, 90 %", "12", "0.50, 0.70"] and last[2] == "1.00, 1.00"


def test_epochs_by_frozen_blocks(found):
    """Shares so far of 0.1, 0.1 and 0.08 are epochs of 0.1, 0.1 and 0.04."""
    first, second = rows(TABLES["epochs"](found))
    assert first == ["0", "2", "1.00", "1.00 (2.00 s)"]
    assert second == ["1", "1", "0.40", "0.50 (1.00 s)"]


def test_a_page_keeps_all_but_its_tables(found):
    page = "a\n<!-- table: equal -->\nold\n<!-- end -->\nb\n<!-- table: lengths -->\n<!-- end -->\n"
    new = filled(page, found)
    assert new.startswith("a\n<!-- table: equal -->\n\n|") and "old" not in new
    assert new.count("<!-- end -->") == 2 and filled(new, found) == new


def test_the_picture_is_drawn(tmp_path):
    draw(read(), tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


def test_a_table_that_was_measured_has_its_command(found, tmp_path, monkeypatch):
    command = "python benchmarks/step_memory.py --steps=3"
    variants = {"dense": {"before": 2**20, "steps": 2**21}}
    (tmp_path / "one.json").write_text(json.dumps({"command": command, "variants": variants}))
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    page = filled("a\n<!-- measured: one memory -->\n<!-- end -->\nb\n", found)
    assert f"\n`{command}`\n\n| MiB |" in page and "| dense | 1 | 2 |" in page
    assert filled(page, found) == page


def test_what_is_counted_is_that_of_one_sparsity(found, tmp_path, monkeypatch):
    memory = {"memory_average": 2**20, "memory_average_vs_set": -0.25}
    memory |= {"memory_minimum": 2**19, "memory_minimum_vs_set": None}
    of = {"training_flops": 1.5e12, "share_of_dense": 0.125} | memory
    counted = [{"sparsity": s, "method": str(s), **of} for s in (None, 0.9, 0.95)]
    (tmp_path / "costs.json").write_text(json.dumps({"rows": counted}))
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    page = filled("<!-- counted: costs 0.9 -->\n<!-- end -->\n", found)
    shown = rows(page.split("\n\n")[1])
    assert [row[0] for row in shown] == ["None", "0.9"]
    assert shown[1][1:] == ["1.500e+12", "12.5%", "1.0 MiB (-25.0%)", "0.5 MiB"]
