# SPDX-License-Identifier: Apache-2.0
"""Findings about the paper against hand-computed numbers; the paper's own rule."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel, wilcoxon

from docs.studies.paper import rule
from docs.studies.paper.__main__ import main
from docs.studies.paper.document import BEGIN, END, fill_block, write_table
from docs.studies.paper.finding import Finding, Table, write_finding
from docs.studies.paper.labels import ERAS, examine_labels, released_codes
from docs.studies.paper.rule import (
    AccuracyOnSeries,
    measure_configuration,
    run_paper_rule,
    summarise_paper_rule,
)
from docs.studies.paper.table2 import (
    METHODS,
    examine_table2,
    is_share,
    mean_error_per_class,
    read_table2,
)
from docs.studies.paper.theory import distances, examine_theory, lemma_sides
from docs.studies.paper.unfrozen import examine_freezing, source_digest
from sklearn_v2s import V2SClassifier
from sklearn_v2s.benchmark.accuracy import COLUMNS as ACCURACY_COLUMNS
from sklearn_v2s.benchmark.results import write_rows
from sklearn_v2s.benchmark.worker import Dataset
from sklearn_v2s.sources import load_source
from tests.small import make_classifier, make_series
from tests.tiny_source import TinySource
from tests.ucr_folder import write_dataset, write_part


def cells(finding: Finding, table: int) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in finding.tables[table].rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "ucr", "Waves")
    return tmp_path / "ucr"


# --- Table 2 --------------------------------------------------------------------------


def test_means_of_the_table_by_hand():
    rows = read_table2()
    sound = [row for row in rows if not row.collapsed]
    assert (len(rows), len(sound)) == (30, 26)
    found = [mean_error_per_class(rows, method) for method in METHODS]
    assert found == pytest.approx([4.22, 3.62, 4.44, 14.61], abs=0.005)
    summary = cells(examine_table2(), 0)
    assert summary["mean, 30 rows"] == ["88.03", "89.42", "87.43", "57.57"]
    assert summary["median, 30 rows"] == ["92.36", "93.60", "91.00", "55.31"]
    assert summary["mean, 26 rows"][:2] == ["87.10", "87.80"]
    assert summary["median, 26 rows"][:2] == ["91.50", "90.91"]
    assert summary["MPCE, printed"] == ["2.09", "2.04", "2.13", "48.36"]


def test_significance_against_scipy():
    rows = read_table2()
    ours = [row.accuracy["v2sa"] for row in rows]
    other = [row.accuracy["sota"] for row in rows]
    found = cells(examine_table2(), 1)
    t, w = found["p, paired t-test"][1], found["p, Wilcoxon signed-rank test"][1]
    assert float(t) == pytest.approx(ttest_rel(ours, other).pvalue, abs=1e-4)
    assert float(w) == pytest.approx(wilcoxon(ours, other).pvalue, abs=1e-4)
    assert (round(float(t), 2), round(float(w), 2)) == (0.13, 0.44)
    assert found["wins / ties / losses"][1:] == ["13 / 6 / 11", "9 / 6 / 11"]
    assert found["wins or ties"] == ["19 of 30", "19 of 30", "15 of 26"]


def test_cells_that_are_fractions():
    assert cells(examine_table2(), 2)["V2Sa"] == ["29 of 30", "19 of 20"]
    # 19 of 100, cut; 10 of 105, rounded; between two fractions of 601.
    assert is_share(18.99, 100) and is_share(9.52, 105) and not is_share(96.02, 601)


def test_class_shares_of_test_parts(tmp_path: Path):
    X = np.ones((28, 3))
    # 15 of 28 is 53.57 percent, as TFa has it on Coffee; ECG200's 81 is no share.
    write_part(tmp_path, "Coffee", "test", X, np.repeat([0, 1], [15, 13]))
    write_part(tmp_path, "ECG200", "test", X, np.repeat([-1, 1], [14, 14]))
    found = cells(examine_table2(tmp_path), 3)
    assert found["Coffee"] == ["53.57", "53.57", "yes"]
    assert found["ECG200"] == ["81.00", "50.00", "no"]
    assert found["datasets"] == ["2", "equal", "1"]


def test_the_table_has_the_sizes_of_the_archive(shared: Path):
    with open(shared / "ucr" / "MANIFEST.csv", newline="", encoding="utf-8") as stream:
        manifest = {row["name"]: row for row in csv.DictReader(stream)}
    rows = {row.dataset: row for row in read_table2()}
    assert len(manifest) == 26 and manifest.keys() < rows.keys()
    for name, there in manifest.items():
        row = rows[name]
        for key in ("n_train", "n_test", "length", "n_classes"):
            assert getattr(row, key) == int(there[key]), (name, key)
        assert row.labels == [int(label) for label in there["labels"].split()]


# --- theory ---------------------------------------------------------------------------


def test_the_lemma_fails():
    left, right = lemma_sides()
    # Two draws differ half of the time, and are then sqrt(2) apart.
    assert left == pytest.approx(np.sqrt(2) / 2, abs=1e-6)
    assert right == 0
    finding = examine_theory()
    assert cells(finding, 0)["left <= right"] == ["no"]
    assert cells(finding, 1)["0.171 + 2 sqrt(35) * 1.829"] == ["21.81"]
    moved, other = cells(finding, 2).values()
    assert moved[:2] == ["6.000", "6.000"]
    assert [float(value) for value in other] == pytest.approx(
        [8.65, 8.70, 0.976], abs=0.06
    )


def test_distances_of_a_moved_sample_by_hand():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(20, 4))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    w1, w2, sw2 = distances(points, points + 3, seed=0)
    assert (w1, w2) == pytest.approx((6, 6))
    # The mean square of one coordinate of a random direction is 1/d.
    assert sw2 == pytest.approx(6 / np.sqrt(4), rel=0.05)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# --- labels ---------------------------------------------------------------------------


def test_released_label_code():
    expected = {
        (-1, 1): ([1, 1], [1, 1], [0, 0], [0, 1]),
        (1, 2): ([1, 0],) * 4,
        (0, 1): ([0, 1],) * 4,
        (1, 2, 3, 4, 5): ([1, 2, 3, 4, 0],) * 4,
        (3, 4, 5, 6, 7, 8): ([3, 4, 5, 0, 1, 2],) * 3,
    }
    for labels, by_era in expected.items():
        for era, codes in zip(ERAS, by_era, strict=False):
            assert released_codes(era, np.array(labels)).tolist() == codes, era
    a, b, _, d = ERAS
    assert released_codes(a, np.array([-1, 1]), is_ecg200=True).tolist() == [1, 1]
    assert released_codes(b, np.array([-1, 1]), is_ecg200=True).tolist() == [0, 1]
    with pytest.raises(IndexError, match="class number 7 is out of bounds for 6"):
        released_codes(d, np.arange(3, 9))


def test_our_labels_stay_apart(tmp_path: Path):
    for seed, split in enumerate(("train", "test")):
        X, codes = make_series(20, seed=seed)
        write_part(tmp_path, "ECG200", split, X, 2 * codes - 1)
    classifier = make_classifier(TinySource(), max_epochs=0)
    finding = examine_labels(classifier, tmp_path)
    accuracies = cells(finding, 1)
    collapsed = accuracies.pop("{-1,1} after era A")
    assert "has only one class: 1" in collapsed[0]
    assert (
        len(accuracies) == 4 and len({value[0] for value in accuracies.values()}) == 1
    )
    real = 100 * np.mean(
        classifier.fit(*make_series(20)).predict(make_series(20, seed=1)[0])
        == make_series(20, seed=1)[1]
    )
    assert cells(finding, 2)["ECG200"] == ["87.00", "1 of 2", "100.00", f"{real:.2f}"]
    with pytest.raises(ValueError, match="has none of"):
        (tmp_path / "empty").mkdir()
        examine_labels(classifier, tmp_path / "empty")
    write_part(tmp_path, "Words", "train", X, np.where(codes, "a", "b"))
    write_part(tmp_path, "Words", "test", X, np.where(codes, "a", "b"))
    with pytest.raises(ValueError, match="Words has labels that are no numbers"):
        examine_labels(classifier, tmp_path, ["Words"])


# --- the frozen source ----------------------------------------------------------------


def test_the_source_is_the_same_after_a_fit():
    source = TinySource(input_length=16000)
    state = torch.get_rng_state()
    finding = examine_freezing(source)
    assert torch.equal(state, torch.get_rng_state())
    frozen = cells(finding, 0)
    assert frozen["before"] == [source_digest(load_source(source))] == frozen["after"]
    assert frozen["bit-identical"] == ["yes"]
    counts = cells(finding, 1)
    assert counts["sklearn-v2s, 1 perturbation"] == ["16,000", "0", "16,000"]
    assert counts["sklearn-v2s, 2 perturbations"] == ["32,000", "0", "32,000"]
    assert counts["release of July 2021, counted"] == ["16,000", "201,225", "217,225"]
    digest = source_digest(source)
    with torch.no_grad():
        source.norm.running_mean[0] = torch.nextafter(
            source.norm.running_mean[0], torch.tensor(9.0)
        )
    assert source_digest(source) != digest


# --- the paper's rule -----------------------------------------------------------------


def test_one_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch):
    data = Dataset("Waves", str(folder))
    fitted: list[Any] = []

    class Watched(V2SClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            fitted.append(super().fit(X, y, sample_weight))
            return self

    monkeypatch.setattr(rule, "V2SClassifier", Watched)
    state = torch.get_rng_state()
    found = measure_configuration(data, 3, 0.4, 2, 12, TinySource())
    assert torch.equal(state, torch.get_rng_state())

    # The same without a look at the test part: it changes nothing.
    plain = V2SClassifier.from_paper(
        source=TinySource(), dropout=0.4, n_segments=2, max_epochs=12, random_state=3
    ).fit(data.X_train, data.y_train)
    assert np.array_equal(plain.perturbation_, fitted[0].perturbation_)
    assert plain.score(data.X_test, data.y_test) == pytest.approx(
        found["accuracy_chosen_by_validation"]
    )
    losses = [row["valid_loss"] for row in plain.history_]
    assert found["validation_loss"] == min(losses)
    accuracies = fitted[0].callbacks[0].accuracies
    assert len(accuracies) == 12 and len(set(accuracies)) > 1
    best = found["epoch_chosen_by_validation"] - 1
    assert losses[best] == min(losses)
    assert accuracies[best] == pytest.approx(found["accuracy_chosen_by_validation"])
    assert found["accuracy_chosen_on_test"] == max(accuracies)
    assert accuracies[found["epoch_chosen_on_test"] - 1] == max(accuracies)


def test_accuracy_after_each_epoch_is_that_of_a_shorter_training(folder: Path):
    data = Dataset("Waves", str(folder))
    given = {"source": TinySource(), "early_stopping": False, "random_state": 0}
    on_test = AccuracyOnSeries(data.X_test, data.y_test - 1)
    setting = {**given, "dropout": 0.3, "n_segments": 3}
    V2SClassifier.from_paper(**setting, max_epochs=3, callbacks=[on_test]).fit(
        data.X_train, data.y_train
    )
    for epochs, accuracy in enumerate(on_test.accuracies, start=1):
        shorter = V2SClassifier.from_paper(**setting, max_epochs=epochs)
        shorter.fit(data.X_train, data.y_train)
        assert shorter.score(data.X_test, data.y_test) == pytest.approx(accuracy)


def test_rows_and_going_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    output = tmp_path / "rule.csv"
    calls: list[tuple[int, float, int]] = []

    def measure(
        data: Any, seed: int, dropout: float, n_segments: int, *rest: Any
    ) -> Any:
        calls.append((seed, dropout, n_segments))
        if n_segments == 2 and not output.with_suffix(".mended").exists():
            raise ValueError("the training diverged")
        return {"validation_loss": 1.0, "accuracy_chosen_on_test": 0.123456789}

    monkeypatch.setattr(rule, "measure_configuration", measure)

    def call(**changed: Any) -> list[dict[str, Any]]:
        given = {"seeds": [0, 1], "dropouts": [0.0, 0.4], "segments": [1, 2, 40]}
        return run_paper_rule(
            folder,
            ["Waves"],
            output=output,
            source=TinySource(),
            progress=False,
            **({"epochs": 4} | given | changed),
        )

    rows = call()
    # 40 replicas of 12 points do not fit into the 400 samples of this source.
    assert len(rows) == len(calls) == 8
    with open(output, newline="", encoding="utf-8") as stream:
        assert rows == list(csv.DictReader(stream))
    assert rows[0]["accuracy_chosen_on_test"] == "0.123457"
    assert rows[1]["error"] == "ValueError: the training diverged"
    assert (rows[0]["epochs"], rows[0]["source"]) == ("4", "TinySource")
    assert json.loads(rows[0]["environment"])["torch"]
    calls.clear()
    output.with_suffix(".mended").touch()
    assert [row["error"] for row in call()] == [""] * 8
    assert sorted(calls) == [(s, d, 2) for s in (0, 1) for d in (0.0, 0.4)]
    with pytest.raises(ValueError, match=r"rule\.csv has runs of 4 epochs"):
        call(epochs=5)
    with pytest.raises(ValueError, match="epochs=0 must be at least 1"):
        call(epochs=0)
    with pytest.raises(ValueError, match="0 seeds"):
        call(seeds=[])


def make_rule_row(dataset: str, seed: int, segments: int, *values: float) -> Any:
    names = ("validation_loss", "accuracy_chosen_by_validation")
    row = dict(zip((*names, "accuracy_chosen_on_test"), values, strict=True))
    row |= {"dataset": dataset, "seed": seed, "n_segments": segments, "dropout": 0.0}
    return dict.fromkeys(rule.COLUMNS, "") | row | {"epochs": 9, "source": "attrnn"}


RULE_ROWS = [
    make_rule_row("Coffee", 0, 1, 0.5, 0.6, 0.9),
    make_rule_row("Coffee", 0, 2, 0.4, 0.7, 0.8),
    make_rule_row("Coffee", 1, 1, 0.3, 0.5, 0.6),
    make_rule_row("Coffee", 1, 2, 0.9, 0.9, 1.0),
    make_rule_row("FordA", 0, 1, 0.1, 0.93, 0.94),
]


def test_two_ways_of_choosing_by_hand():
    failed = {**make_rule_row("Coffee", 0, 3, 0, 1, 1), "error": "ValueError"}
    found = summarise_paper_rule([*RULE_ROWS, failed])["Coffee"]
    assert found["honest"] == pytest.approx((0.7 + 0.5) / 2)
    assert found["chosen_on_test"] == pytest.approx((0.9 + 1.0) / 2)
    assert found["best_seed_chosen_on_test"] == 1.0
    assert (found["n_seeds"], found["n_fits"]) == (2, 4)


# --- the document ---------------------------------------------------------------------


def test_table_of_the_document(tmp_path: Path):
    write_rows(tmp_path / "a.csv", rule.COLUMNS, RULE_ROWS[:3])
    # A fit that both files have counts once.
    write_rows(tmp_path / "b.csv", rule.COLUMNS, RULE_ROWS[2:])
    empty = dict.fromkeys(ACCURACY_COLUMNS, "")
    runs = [("v2s", "Coffee", 0, 0.9), ("v2s", "Coffee", 1, 1.0)]
    runs += [("rocket", "Coffee", 0, 0.1), ("v2s", "Wine", 0, 0.75)]
    runs += [("v2s-frequency", "Coffee", 0, 0.8)]
    results = [
        {**empty, "method": m, "dataset": d, "seed": s, "accuracy": a}
        for m, d, s, a in runs
    ]
    write_rows(tmp_path / "accuracy.csv", ACCURACY_COLUMNS, results)
    document = tmp_path / "text.md"
    document.write_text(f"# T\n\n{BEGIN}\nold\n{END}\n\nend\n", encoding="utf-8")
    command = ["table", "--output", str(document)]
    command += ["--paper-rule", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    command += ["--results", str(tmp_path / "accuracy.csv")]
    assert main(command) == 0
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"# T\n\n{BEGIN}\n\n| dataset |") and text.endswith("end\n")
    assert "old" not in text
    assert "| Coffee | 100.00 | 60.00 | 95.00 | 80.00 | 95.00 | 2 / 1 / 2 | 4 |" in text
    assert (
        "| FordA † | 100.00 | 93.00 | 94.00 | not run | not run | 1 / 0 / 0 | 1 |"
        in text
    )
    assert (
        "| Wine | 90.74 | not run | not run | not run | 75.00 | 0 / 0 / 1 | 0 |" in text
    )
    # FordA is an artefact and Wine has no preset.
    means = "| 100.00 | 60.00 | 95.00 | 80.00 | 95.00 |"
    assert f"| mean of the 1 without † that have all {means}" in text
    assert "9 epochs, dropout 0.0, n_segments 1, 2." in text
    assert text.count("\n| ") == 30 + 2
    # Once more changes nothing.
    assert main(command) == 0
    assert document.read_text(encoding="utf-8") == text


def test_a_document_without_results_or_marks(tmp_path: Path):
    missing = " | ".join(["not run"] * 4)
    assert f"| Coffee | 100.00 | {missing} |" in write_table([], [])
    with pytest.raises(FileNotFoundError, match="no result file"):
        write_table([tmp_path / "rule.csv"], [])
    for text in ("", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"):
        with pytest.raises(ValueError, match="the document must have"):
            fill_block(text, "table")


def test_the_shipped_document_has_the_marks():
    path = Path(__file__).parents[2] / "docs" / "reproduction.md"
    fill_block(path.read_text(encoding="utf-8"), "table")


# --- files and commands ---------------------------------------------------------------


def test_written_findings(tmp_path: Path):
    finding = Finding("f", [Table("T", ["", "a", "b"], [["x", "1", "2"]])])
    assert finding.markdown() == "T:\n\n|  | a | b |\n|---|---|---|\n| x | 1 | 2 |"
    write_finding(finding, tmp_path / "f.csv")
    with open(tmp_path / "f.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["row"], row["column"], row["value"]) for row in rows] == [
        ("x", "a", "1"),
        ("x", "b", "2"),
    ]
    assert json.loads(rows[0]["environment"])["date"] == rows[0]["date"]
    write_finding(finding, tmp_path / "f.json")
    content = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert content["tables"][0]["rows"] == [["x", "1", "2"]]
    assert content["environment"]["torch"] and content["date"]
    with pytest.raises(ValueError, match=r"output='f.txt' must end in \.csv or \.json"):
        write_finding(finding, tmp_path / "f.txt")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["table2"], "| MPCE, 30 rows | 4.22 | 3.62 | 4.44 | 14.61 |"),
        (["lemma"], "| left <= right | no |"),
    ],
)
def test_commands(
    words: list[str], shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    output = tmp_path / "finding.json"
    assert main([*words, "--output", str(output)]) == 0
    assert shown in capsys.readouterr().out
    assert json.loads(output.read_text(encoding="utf-8"))["finding"] == words[0]


@pytest.mark.slow
def test_commands_that_fit(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["unfrozen", "--epochs", "1"]) == 0
    assert "| bit-identical | yes |" in capsys.readouterr().out
    assert main(["labels"]) == 0
    assert "| {-1,1} | **[1, 1]** |" in capsys.readouterr().out
    command = ["rule", "--data", str(folder), "--datasets", "Waves"]
    command += ["--output", str(tmp_path / "r.csv"), "--epochs", "1", "--quiet"]
    command += ["--dropouts", "0.2", "--segments", "2"]
    assert main(command) == 0
    assert "| Waves | – | " in capsys.readouterr().out
    with open(tmp_path / "r.csv", newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["dropout"], row["n_segments"], row["source"]) == ("0.2", "2", "attrnn")
