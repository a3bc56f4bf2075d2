# SPDX-License-Identifier: Apache-2.0
"""The accuracy benchmark: rows, failures, going on after an interruption."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from sklearn_v2s import cli
from sklearn_v2s.benchmark import accuracy
from sklearn_v2s.benchmark.accuracy import COLUMNS, run_accuracy
from sklearn_v2s.datasets import load_dataset
from tests.ucr_folder import write_dataset

# Found by the child processes on their path. The second seed ends the process.
MODULE = """
import os
from pathlib import Path
from sklearn.dummy import DummyClassifier

class Failing(DummyClassifier):
    def fit(self, X, y):
        if Path({mended!r}).exists():
            return super().fit(X, y)
        raise RuntimeError("out of\\nluck")

class Mortal(DummyClassifier):
    def __init__(self, random_state=None, strategy="prior"):
        super().__init__(strategy=strategy, random_state=random_state)

    def fit(self, X, y):
        print("this is no row")
        os.write(2, b"the last words\\n")
        if self.random_state == 1:
            os._exit(3)
        return super().fit(X, y)

class Threads(DummyClassifier):
    def fit(self, X, y):
        import torch
        names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"]
        found = [os.environ[name] for name in names] + [torch.get_num_threads()]
        raise RuntimeError(str(found))
"""


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("A", "B"):
        write_dataset(tmp_path / "ucr", name)
    return tmp_path / "ucr"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Serve requests in this process, with made-up scores; return what was run."""
    ran: list[tuple[str, str, int]] = []

    def serve(self: Any, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        assert request["seeds"], "a process would start for nothing"
        for seed in request["seeds"]:
            ran.append((request["method"], request["dataset"], seed))
            yield {
                "method": request["method"],
                "dataset": request["dataset"],
                "threads": request["threads"],
                "seed": seed,
                "accuracy": 0.123456789,
                "calibration_seconds": None,
                "versions": {"torch": "0"},
                "error": "",
            }

    monkeypatch.setattr(accuracy._Children, "serve", serve)
    return ran


@pytest.mark.slow
def test_children(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    mended = tmp_path / "mended"
    (tmp_path / "own_methods.py").write_text(MODULE.format(mended=str(mended)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = tmp_path / "results.csv"
    names = ["sklearn.linear_model:LogisticRegression"]
    names += [f"own_methods:{name}" for name in ("Failing", "Mortal", "Threads")]
    command = ["benchmark", "accuracy", "--data", str(folder), "--datasets", "A"]
    command += ["--output", str(output), "--quiet", "--methods", *names]
    command += ["--seeds", "0", "1", "--jobs", "2", "--threads", "1"]
    assert cli.main(command) == 1
    assert "8 runs, 5 failed" in capsys.readouterr().out
    rows = {(row["method"], row["seed"]): row for row in read(output)}
    assert len(rows) == 8

    X, y = load_dataset("A", "train", folder)
    X_test, y_test = load_dataset("A", "test", folder)
    expected = LogisticRegression(random_state=0).fit(X, y).score(X_test, y_test)
    good = rows[names[0], "0"]
    assert float(good["accuracy"]) == pytest.approx(expected, abs=1e-6)
    assert float(good["fit_seconds"]) > 0
    assert json.loads(good["versions"])["torch"]
    assert rows[names[1], "0"]["error"] == "RuntimeError: out of luck"
    assert rows[names[1], "0"]["accuracy"] == ""
    assert rows[names[2], "0"]["error"] == ""
    assert rows[names[2], "1"]["error"] == (
        "the process ended with exit code 3 the last words"
    )
    assert rows[names[3], "0"]["error"] == "RuntimeError: ['1', '1', '1', 1]"

    # What failed is tried again; what did not is kept, even if it was edited.
    before = output.read_text().replace(good["fit_seconds"], "77.5")
    output.write_text(before)
    mended.touch()
    command[command.index("--methods") + 1 : command.index("--seeds")] = names[:2]
    assert cli.main(command) == 0
    rows = {(row["method"], row["seed"]): row for row in read(output)}
    assert rows[names[0], "0"]["fit_seconds"] == "77.5"
    assert rows[names[1], "0"]["error"] == ""
    assert float(rows[names[1], "0"]["accuracy"]) == pytest.approx(1 / 3, abs=1e-6)


def test_one_run_for_methods_without_a_seed(folder: Path, tmp_path: Path, served):
    names = ["majority", "majority:shuffled-labels", "v2s"]
    run_accuracy(names, ["A"], [4, 5, 4], tmp_path / "r.csv", folder, progress=False)
    assert sorted(served) == [
        ("majority", "A", 4),
        ("majority:shuffled-labels", "A", 4),
        ("majority:shuffled-labels", "A", 5),
        ("v2s", "A", 4),
        ("v2s", "A", 5),
    ]


def test_rows_as_written(folder: Path, tmp_path: Path, served):
    output = tmp_path / "r.csv"
    rows = run_accuracy(["v2s"], [], [0], output, folder, threads=3, progress=False)
    assert rows == read(output)
    assert [row["dataset"] for row in rows] == ["A", "B"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["accuracy"] == "0.123457"
    assert rows[0]["calibration_seconds"] == ""
    assert rows[0]["versions"] == '{"torch": "0"}'
    assert rows[0]["threads"] == "3"


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_going_on_after_an_interruption(
    folder: Path,
    tmp_path: Path,
    served: list[tuple[str, str, int]],
    monkeypatch: pytest.MonkeyPatch,
    n_jobs: int,
):
    output = tmp_path / "r.csv"

    def call() -> list[dict[str, str]]:
        return run_accuracy(
            ["v2s", "rocket"], [], [0, 1], output, folder, n_jobs, progress=False
        )

    write: Callable[..., None] = accuracy.write_rows

    def interrupted(path: Path, columns: Any, rows: list[Any]) -> None:
        if len(rows) > 3:
            raise KeyboardInterrupt
        write(path, columns, rows)

    with monkeypatch.context() as context:
        context.setattr(accuracy, "write_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call()
    kept = read(output)
    assert len(kept) == 3
    assert not list(tmp_path.glob(".*"))
    served.clear()
    rows = call()
    assert rows[:3] == kept
    assert rows == read(output)
    done = [(row["method"], row["dataset"], int(row["seed"])) for row in rows]
    assert len(set(done)) == len(done) == 8
    assert sorted(served) == sorted(done[3:])
    served.clear()
    assert call() == rows
    assert served == []


def test_refusals(folder: Path, tmp_path: Path, served):
    output = tmp_path / "r.csv"

    def call(**changed: Any) -> None:
        given = {
            "methods": ["v2s"],
            "datasets": ["A"],
            "seeds": [0],
            "output": output,
            "folder": folder,
            "progress": False,
        }
        run_accuracy(**(given | changed))

    with pytest.raises(ValueError, match="method 'v3s' is unknown"):
        call(methods=["v2s", "v3s"])
    with pytest.raises(ValueError, match=r"n_jobs=0 must be at least 1"):
        call(n_jobs=0)
    with pytest.raises(ValueError, match=r"threads=0 must be at least 1"):
        call(threads=0)
    with pytest.raises(ValueError, match="1 methods, 1 datasets and 0 seeds"):
        call(seeds=[])
    with pytest.raises(ValueError, match="datasets is empty"):
        call(datasets=[], folder=None)
    assert not output.exists() and served == []
    output.write_text("method,accuracy\nv2s,1\n")
    with pytest.raises(ValueError, match=r"r\.csv has the columns \['method'"):
        call()
    assert output.read_text() == "method,accuracy\nv2s,1\n"
