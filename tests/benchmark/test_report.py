# SPDX-License-Identifier: Apache-2.0
"""Numbers and files of a report, against hand-made and scipy's values."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from sklearn_v2s import cli
from sklearn_v2s.benchmark.accuracy import COLUMNS
from sklearn_v2s.benchmark.comparison import compare, holm, wilcoxon_p
from sklearn_v2s.benchmark.report import read_results, write_report
from sklearn_v2s.benchmark.results import write_rows

# Accuracies of three methods on four datasets, and their ranks by hand.
TABLE = {
    "v2s": (0.9, 0.8, 0.7, 0.6),  # 1, 1.5, 1, 3
    "rocket": (0.8, 0.8, 0.6, 0.7),  # 2, 1.5, 2.5, 2
    "majority": (0.5, 0.5, 0.6, 0.8),  # 3, 3, 2.5, 1
}


def make_row(method: str, dataset: str, accuracy: float, **changed: Any) -> Any:
    row = {
        "method": method,
        "dataset": dataset,
        "seed": 0,
        "n_train": 10,
        "n_test": 20,
        "length": 30,
        "n_classes": 2,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy - 0.1,
        "log_loss": 1 - accuracy,
        "ece": 0.25,
        "fit_seconds": 2.0,
        "predict_seconds": 0.5,
        "calibration_seconds": "",
        "peak_memory_mib": 100 * accuracy,
        "threads": 1,
        "versions": json.dumps({"torch": "9.9", "date": "2026-01-02"}),
        "machine": "Linux x86_64, 2 cores",
        "date": "2026-01-02",
        "error": "",
    } | changed
    return {name: str(value) for name, value in row.items()}


def make_rows(table: dict[str, tuple[float, ...]] = TABLE) -> list[Any]:
    return [
        make_row(method, f"D{index}", accuracy)
        for method, values in table.items()
        for index, accuracy in enumerate(values)
    ]


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# --- numbers --------------------------------------------------------------------------


def test_ranks_wins_and_means_by_hand():
    rows = {row["method"]: row for row in compare(make_rows()).summary()}
    assert list(rows) == ["v2s", "rocket", "majority"]
    ranks = {name: row["mean_rank"] for name, row in rows.items()}
    assert ranks == {"v2s": 6.5 / 4, "rocket": 8 / 4, "majority": 9.5 / 4}
    for name, expected in (("rocket", (1, 1, 2)), ("majority", (1, 0, 3))):
        row = rows[name]
        assert (row["wins"], row["ties"], row["losses"]) == expected
    assert rows["rocket"]["accuracy"] == pytest.approx(0.725)
    assert rows["rocket"]["balanced_accuracy"] == pytest.approx(0.625)
    assert rows["rocket"]["log_loss"] == pytest.approx(0.275)
    assert rows["rocket"]["ece"] == 0.25
    assert rows["rocket"]["total_seconds"] == 4 * 2.5
    assert rows["rocket"]["peak_memory_mib"] == pytest.approx(80)
    assert rows["v2s"]["p"] is None and rows["v2s"]["p_holm"] is None


def test_p_values_are_scipys_with_holms_correction():
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.9, 12)
    table = {
        "v2s": tuple(base),
        "a": tuple(base - rng.uniform(0, 0.1, 12)),
        "b": tuple(base + rng.normal(0, 0.05, 12)),
        "c": tuple(base),
    }
    comparison = compare(make_rows(table))
    raw = [wilcoxon(table[name], base).pvalue for name in ("a", "b")] + [1.0]
    rows = {row["method"]: row for row in comparison.summary()}
    np.testing.assert_allclose([rows[name]["p"] for name in "abc"], raw)
    # The smallest of three counts three times, the next twice.
    assert raw[0] < raw[1]
    adjusted = [3 * raw[0], max(3 * raw[0], min(1, 2 * raw[1])), 1.0]
    np.testing.assert_allclose([rows[name]["p_holm"] for name in "abc"], adjusted)

    pairs = {(row["method"], row["other"]): row for row in comparison.pairwise()}
    assert len(pairs) == 6
    assert pairs["a", "b"]["p"] == pytest.approx(
        wilcoxon(table["a"], table["b"]).pvalue
    )
    values = [row["p"] for row in comparison.pairwise()]
    np.testing.assert_allclose(
        [row["p_holm"] for row in comparison.pairwise()], holm(values)
    )
    assert (pairs["v2s", "a"]["wins"], pairs["v2s", "c"]["ties"]) == (12, 12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(p_values: list[float]):
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = np.zeros(len(p_values), dtype=bool)
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(p_values) - step) > level:
                break
            rejected[index] = True
        np.testing.assert_array_equal(adjusted <= level, rejected)


def test_equal_scores_do_not_differ():
    assert wilcoxon_p(np.array([0.5, 0.7]), np.array([0.5, 0.7])) == 1.0


def test_scores_are_means_over_seeds():
    rows = [make_row("v2s", "D", value, seed=s) for s, value in enumerate((0.7, 0.9))]
    # Their mean is not 0.8 in binary arithmetic; it is a tie all the same.
    rows += [make_row("rocket", "D", 0.1 + 0.7)]
    comparison = compare(rows)
    assert comparison.scores["accuracy"].tolist() == [[0.8, 0.8]]
    assert comparison.seeds == {"v2s": [0, 1], "rocket": [0]}


def test_only_shared_datasets_count():
    rows = [
        row
        for row in make_rows()
        if (row["method"], row["dataset"])
        != (
            "majority",
            "D3",
        )
    ]
    rows.append(make_row("rocket", "D4", 0.5))
    rows.append(make_row("majority", "D3", 0, error="no luck"))
    comparison = compare(rows)
    assert comparison.datasets == ["D0", "D1", "D2"]
    assert comparison.left_out == {"D3": ["majority"], "D4": ["v2s", "majority"]}
    assert comparison.mean_ranks().tolist() == [3.5 / 3, 2.0, 8.5 / 3]
    two = compare(rows, ["rocket", "v2s"])
    assert two.datasets == ["D0", "D1", "D2", "D3"]
    assert two.methods == ["rocket", "v2s"]


def test_controls_are_not_ranked():
    rows = [*make_rows(), make_row("v2s:shuffled-labels", "D0", 0.5)]
    comparison = compare(rows)
    assert comparison.methods == list(TABLE)
    assert comparison.controls == ["v2s:shuffled-labels"]
    assert len(comparison.datasets) == 4
    chosen = compare(rows, ["v2s", "v2s:shuffled-labels"])
    assert chosen.datasets == ["D0"] and chosen.controls == []


def test_refused_comparisons():
    with pytest.raises(ValueError, match=r"\['v3s'\] have no rows; .*'rocket'"):
        compare(make_rows(), reference="v3s")
    with pytest.raises(ValueError, match=r"\['a'\] have no rows"):
        compare(make_rows(), ["v2s", "a"])
    with pytest.raises(ValueError, match="reference='v2s' is not among"):
        compare(make_rows(), ["rocket", "majority"])
    rows = [make_row("v2s", "A", 1), make_row("rocket", "B", 1)]
    with pytest.raises(ValueError, match="no dataset in common"):
        compare(rows)


# --- files ----------------------------------------------------------------------------


def test_read_several_files(tmp_path: Path):
    first = [make_row("v2s", "A", 0.1), make_row("v2s", "B", 0.2)]
    second = [
        make_row("v2s", "A", 0.3),
        make_row("v2s", "B", 0, error="no luck"),
        make_row("v2s", "B", 0.4, seed=1),
    ]
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for path, rows in zip(paths, (first, second), strict=True):
        write_rows(path, COLUMNS, rows)
    assert read_results(paths) == [second[0], first[1], second[2]]
    with pytest.raises(FileNotFoundError, match=r"3\.csv"):
        read_results([tmp_path / "3.csv"])


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("aeon", reason="aeon draws the diagram")
    control = "v2s:shuffled-labels"
    rows = [*make_rows(), make_row(control, "D0", 0.4, seed=1, date="2026-01-05")]
    rows += [make_row("rocket", "D9", 0.5), make_row("v2s", "D9", 0, error="no luck")]
    write_rows(tmp_path / "r.csv", COLUMNS, rows)
    output = tmp_path / "out"
    command = ["benchmark", "report", str(tmp_path / "r.csv"), "--output", str(output)]
    assert cli.main([*command, "--name", "small"]) == 0
    files = [
        "small.md",
        "small-summary.csv",
        "small-datasets.csv",
        "small-cd.png",
        "small-rocket.png",
        "small-majority.png",
    ]
    assert capsys.readouterr().out.split() == [str(output / name) for name in files]
    assert {path.name for path in output.iterdir()} == set(files)
    for name in files[3:]:
        assert (output / name).read_bytes().startswith(b"\x89PNG")

    summary = {row["method"]: row for row in read(output / "small-summary.csv")}
    assert summary["rocket"]["mean_rank"] == "2.0"
    assert (summary["rocket"]["wins"], summary["rocket"]["losses"]) == ("1", "2")
    by_dataset = {row["dataset"]: row for row in read(output / "small-datasets.csv")}
    assert list(by_dataset) == ["D0", "D1", "D2", "D3", "D9"]
    assert by_dataset["D1"]["majority"] == "0.5" and by_dataset["D1"]["length"] == "30"
    assert (by_dataset["D9"]["v2s"], by_dataset["D9"]["rocket"]) == ("", "0.5")

    text = (output / "small.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "# small: 3 methods on 4 datasets"
    for line in (
        "- machine: Linux x86_64, 2 cores",
        "- seeds: 0, 1; `majority`: 0; `rocket`: 0; `v2s`: 0; `v2s:shuffled-labels`: 1",
        "- date: 2026-01-02 to 2026-01-05",
        "- versions: torch 9.9",
        "- this report: `python -m sklearn_v2s benchmark report r.csv --output out "
        "--name small --reference v2s`",
        "- D9: not measured for `v2s`, `majority`",
        "- `v2s` on D9, seed 0: no luck",
        "| `v2s:shuffled-labels` | 1 | 0.4000 | 0.3000 | 0.6000 | 0.5000 |",
        "| D1 | 10 | 20 | 30 | 2 | **0.8000** | **0.8000** | 0.5000 |",
        "| D9 | 10 | 20 | 30 | 2 | – | **0.5000** | – |",
    ):
        assert line in lines
    p = wilcoxon(TABLE["rocket"], TABLE["v2s"]).pvalue
    start = "| `rocket` | 0.7250 | 0.6250 | 0.2750 | 0.2500 | 2.00 | 1 / 1 / 2 "
    assert f"{start}| {p:.4f} |" in text
    assert str(tmp_path) not in text
    for name in files[3:]:
        assert f"]({name})" in text


def test_two_methods_have_no_diagram(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="figures are matplotlib's")
    write_rows(tmp_path / "r.csv", COLUMNS, make_rows())
    written = write_report(
        [tmp_path / "r.csv"], tmp_path, "two", ["v2s", "majority"], "majority"
    )
    assert [path.name for path in written][3:] == ["two-v2s.png"]
    assert "cd.png" not in (tmp_path / "two.md").read_text(encoding="utf-8")


def test_settings_that_differ_in_punctuation_get_a_figure_each(tmp_path: Path):
    pytest.importorskip("matplotlib", reason="figures are matplotlib's")
    names = ['v2s{"l2": 1}', 'v2s{"l2":1}']
    rows = [make_row(name, "D", 0.5) for name in ("v2s", *names)]
    write_rows(tmp_path / "r.csv", COLUMNS, rows)
    written = write_report([tmp_path / "r.csv"], tmp_path, "a")
    assert [path.name for path in written][3:] == [
        "a-v2s-l2-1.png",
        "a-v2s-l2-1-1.png",
    ]


def test_refused_reports(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    write_rows(tmp_path / "r.csv", COLUMNS, make_rows())
    with pytest.raises(ValueError, match="must be the beginning of a file name"):
        write_report([tmp_path / "r.csv"], tmp_path / "out", "a/b")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "aeon.visualisation", None)
    command = ["benchmark", "report", str(tmp_path / "r.csv")]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 1
    assert 'pip install "sklearn-v2s[benchmark]"' in capsys.readouterr().err
    # Nothing is written before all of it is known.
    assert not (tmp_path / "out").exists()
