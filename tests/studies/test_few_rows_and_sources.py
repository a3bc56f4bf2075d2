# SPDX-License-Identifier: Apache-2.0
"""Choice of settings on training parts, and the command line around it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.studies.defaults import __main__ as defaults
from docs.studies.few_rows import penalties as few_rows
from docs.studies.few_rows.__main__ import main as few_rows_main
from docs.studies.few_rows.penalties import PENALTY_COLUMNS, SINGLE_ROW_COLUMNS
from docs.studies.sources.__main__ import main as sources_main
from docs.studies.sources.ranking import COLUMNS, summarise_sources
from sklearn_v2s import cli
from sklearn_v2s.alignment import rank_sources
from sklearn_v2s.benchmark.results import read_rows
from sklearn_v2s.datasets import load_dataset
from tests.small import make_series
from tests.ucr_folder import write_dataset, write_part

WINS = [name for name in PENALTY_COLUMNS if name.endswith(("_wins", "_losses"))]
SETTING = {"max_epochs": 0, "n_views": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Training parts only: a test part that is not there cannot be opened."""
    for name in ("A", "B"):
        X, y = make_series(8, 2, 12)
        write_part(tmp_path / "ucr", name, "train", X, y)
    return tmp_path / "ucr"


def test_defaults(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    candidates = {"one": SETTING, "two": SETTING}
    monkeypatch.setattr(defaults, "CANDIDATES", candidates)
    output = tmp_path / "r.csv"
    command = ["--data", str(folder), "--output", str(output)]
    assert defaults.main([*command, "--settings", "one", "--folds", "2"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| setting (2 datasets) |")
    assert table[2].startswith("| one | ")
    first = output.read_text()
    assert [line[:8] for line in first.splitlines()[1:]] == ['one,"{""'] * 2
    assert defaults.main([*command, "--folds", "2"]) == 0
    # Rows that were there are kept as they are, seconds included.
    assert output.read_text().startswith(first)
    rows = output.read_text().splitlines()
    assert [line[:4] for line in rows[1:]] == ["one,", "one,", "two,", "two,"]
    with pytest.raises(SystemExit):
        defaults.main([*command, "--settings", "three"])
    assert "invalid choice: 'three'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_comes_without_waiting_for_torch(arguments: list[str]):
    code = (
        "import sys\nfrom sklearn_v2s.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("usage: v2s")
    heavy = {"torch", "sklearn", "scipy", "aeon", "numba", "matplotlib", "h5py"}
    if arguments[0] == "train":
        # The options are the parameters of the classifier.
        heavy -= {"torch", "sklearn", "scipy"}
    assert not heavy & set(run.stderr.split())


def test_usage(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main(["benchmark"])
    assert caught.value.code == 2
    assert "{accuracy,report}" in capsys.readouterr().err


def test_one_series_of_each_class(tmp_path, capsys):
    for name in ("One", "Two"):
        write_dataset(tmp_path, name, n_train=9, n_test=3, n_timepoints=16)
    # A part that has no other series than those drawn.
    write_dataset(tmp_path, "Three", n_train=3, n_test=3, n_timepoints=16)
    output = tmp_path / "rows.csv"
    arguments = ["single", "--data", str(tmp_path)]
    assert few_rows_main([*arguments, "--output", str(output)]) == 0
    rows = read_rows(output, SINGLE_ROW_COLUMNS)
    assert len(rows) == 63
    losses = [float(row["log_loss_beyond_even"]) for row in rows]
    assert losses == sorted(losses) and losses[0] < -0.9 < -0.1 < losses[-1] < 0
    assert {row["datasets"] for row in rows} == {"2"}
    assert "log_loss_beyond_even" in capsys.readouterr().out


def test_few_series_of_each_class(tmp_path, capsys):
    for name in ("One", "Two"):
        write_dataset(tmp_path, name, n_train=18, n_test=3, n_timepoints=16)
    output = tmp_path / "rows.csv"
    arguments = ["penalties", "--data", str(tmp_path)]
    assert few_rows_main([*arguments, "--output", str(output)]) == 0
    rows = read_rows(output, PENALTY_COLUMNS)
    # Ten of a class are more than there are.
    counts = ["2", "3", "5", "all, 3 folds"]
    assert [row["series_of_class"] for row in rows[::5]] == counts
    assert len(rows) == 20
    for longest in rows[::5]:
        assert longest["largest_penalty"] == "1e+01"
        assert {longest[name] for name in WINS} == {"0"}
    for row in rows:
        assert sum(int(row[name]) for name in WINS[:2]) <= int(row["datasets"]) == 2
    # The classes are easy to tell apart: a shorter grid makes nothing worse.
    assert all(float(row["accuracy"]) > 0.9 for row in rows)
    assert "largest_penalty 1e-02" in capsys.readouterr().out


def test_penalties_are_shares_of_the_sum_of_squares():
    # Labels that nothing explains: the largest penalty that there is serves best.
    rng = np.random.default_rng(0)
    features = few_rows.Features(rng.normal(size=(40, 60)), [60], np.arange(40) % 2)
    rows = np.arange(30)
    for largest in (1e-1, 1e1):
        mapping = features.fit(rows, np.logspace(-7, np.log10(largest), 9))
        np.testing.assert_allclose(mapping.alpha_, largest * 60 * 30)
    accuracy, log_loss = few_rows.score(
        features, np.array([1e1]), rows, np.arange(30, 40)
    )
    own = mapping.transform(features.values[30:])[np.arange(10), features.codes[30:]]
    np.testing.assert_allclose(log_loss, -np.log(own).mean())
    assert accuracy == np.mean(own > 0.5)


def test_drawn_rows_leave_others_of_their_class():
    codes = np.array([0] * 5 + [1] * 3 + [2] * 4 + [3])
    drawn, others = few_rows.draw(codes, 3, np.random.default_rng(0))
    # Classes 1 and 3 have too few.
    assert np.bincount(codes[drawn]).tolist() == [3, 0, 3]
    assert np.bincount(codes[others]).tolist() == [2, 0, 1]
    assert not set(drawn) & set(others)
    for rows in few_rows.draw(codes, 4, np.random.default_rng(0)):
        assert rows.size == 0


def test_sources_are_compared_and_rows_kept(tmp_path, capsys):
    for name in ("One", "Two"):
        write_dataset(tmp_path, name, n_train=12, n_test=6, n_timepoints=30)
    output = tmp_path / "sources.csv"
    command = ["--data", str(tmp_path), "--quiet"]
    command += ["--output", str(output), "--sources", "attrnn", "wavebank"]
    assert sources_main([*command, "--datasets", "One"]) == 0
    first = output.read_text()
    assert sources_main(command) == 0
    assert output.read_text().startswith(first)
    assert "| attrnn |" in capsys.readouterr().out
    rows = read_rows(output, COLUMNS)
    assert [row["dataset"] for row in rows] == ["One", "One", "Two", "Two"]
    X, y = load_dataset("Two", "train", tmp_path)
    (expected,) = rank_sources(X, y, ["wavebank"])
    (found,) = (
        row for row in rows if (row["dataset"], row["source"]) == ("Two", "wavebank")
    )
    assert float(found["wasserstein1"]) == round(expected.scores.wasserstein1, 4)
    assert float(found["bound"]) == round(expected.bound, 2)


def test_what_the_nearest_source_is_worth():
    rows = [
        {
            "dataset": dataset,
            "source": source,
            "sliced_wasserstein": distance,
            "wasserstein1": 2.0,
            "bound": 10.0,
            "source_loss": 0.5,
            "accuracy": accuracy,
        }
        for dataset, source, distance, accuracy in (
            ("A", "far", 3.0, 0.9),
            ("A", "near", 1.0, 0.8),
            ("B", "far", 5.0, 0.6),
            ("B", "near", 2.0, 0.6),
            ("C", "far", 9.0, 0.1),
        )
    ]
    lines = summarise_sources(rows).splitlines()
    assert lines[0].startswith("| source (2 datasets) |")
    near = "| near | 1.50 (1.00 to 2.00) | 2.0 | 10 | 0.500 | 0.7000 | 1.75 | 2 |"
    far = "| far | 4.00 (3.00 to 5.00) | 2.0 | 10 | 0.500 | 0.7500 | 1.25 | 0 |"
    assert lines[2:4] == [near, far]
    assert lines[-1].endswith("on 1 of 2 datasets.")
