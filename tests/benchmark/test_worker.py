# SPDX-License-Identifier: Apache-2.0
"""What happens to one method on one dataset."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss

from sklearn_v2s.benchmark import worker
from sklearn_v2s.benchmark.memory import PeakMemory
from sklearn_v2s.benchmark.methods import Method
from sklearn_v2s.benchmark.worker import Dataset, measure, measure_all, pad_series
from tests.small import make_series
from tests.ucr_folder import write_dataset


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what it is given and says the last training label."""

    seen: list[tuple[np.ndarray, np.ndarray]] = []
    allocated_mib = 0
    first_fit_seconds = 0.0

    def __init__(self, random_state: int | None = None, n_jobs: int = 1) -> None:
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Recorder":
        if not self.seen:
            time.sleep(self.first_fit_seconds)
        self.seen.append((X, y))
        self.classes_ = np.unique(y)
        np.ones(self.allocated_mib << 17)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.full(len(X), self.seen[-1][1][-1])


class Taking3D(Recorder):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Recorder, "seen", [])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    write_dataset(tmp_path, "A")
    return Dataset("A", str(tmp_path))


def method(estimator: type = Recorder, **parameters: Any) -> Method:
    return Method("a", lambda seed, n_threads: estimator(), **parameters)


def request(folder: Path, name: str, *seeds: int) -> dict[str, Any]:
    return {
        "method": name,
        "dataset": "A",
        "folder": str(folder),
        "seeds": list(seeds),
        "threads": 1,
    }


def test_fit_sees_the_training_part_only(data: Dataset):
    row = measure(method(), data, 0, 1, PeakMemory())
    ((X, y),) = Recorder.seen
    np.testing.assert_array_equal(X, data.X_train)
    np.testing.assert_array_equal(y, data.y_train)
    assert row["accuracy"] == np.mean(data.y_test == data.y_train[-1])


def test_shuffled_labels_are_a_permutation_by_the_seed(data: Dataset):
    shuffled = method(shuffled_labels=True)
    test_labels = data.y_test.copy()
    for seed in (0, 0, 1):
        measure(shuffled, data, seed, 1, PeakMemory())
    first, again, other = (y.tolist() for _, y in Recorder.seen)
    assert first == again != other
    assert first != data.y_train.tolist()
    assert sorted(first) == sorted(data.y_train)
    np.testing.assert_array_equal(data.y_test, test_labels)


def test_short_series_are_padded_for_those_who_need_it(data: Dataset):
    measure(method(min_length=15), data, 0, 1, PeakMemory())
    ((X, _),) = Recorder.seen
    np.testing.assert_array_equal(X[:, :12], data.X_train)
    np.testing.assert_array_equal(X[:, 12:], np.repeat(data.X_train[:, -1:], 3, 1))


@given(st.integers(1, 5), st.integers(1, 9))
def test_padding(n_timepoints: int, length: int):
    X = np.arange(2 * 3 * n_timepoints).reshape(2, 3, n_timepoints)
    for padded in (pad_series(X, length), np.array(pad_series(list(X), length))):
        assert padded.shape == (2, 3, max(n_timepoints, length))
        np.testing.assert_array_equal(padded[..., :n_timepoints], X)
        assert (padded[..., n_timepoints:] == X[..., -1:]).all()


def test_channels_are_joined_for_estimators_of_tables(data: Dataset):
    data.X_train, data.y_train = make_series(6, 3, 12, n_channels=2)
    data.X_test, data.y_test = make_series(6, 3, 12, n_channels=2, seed=1)
    measure(method(), data, 0, 1, PeakMemory())
    measure(method(Taking3D), data, 0, 1, PeakMemory())
    assert [X.shape for X, _ in Recorder.seen] == [(6, 24), (6, 2, 12)]
    np.testing.assert_array_equal(Recorder.seen[0][0][:, 12:], data.X_train[:, 1])


def test_where_probabilities_come_from(data: Dataset):
    memory = PeakMemory()
    own = measure(method(LogisticRegression), data, 0, 1, memory)
    fitted = LogisticRegression().fit(data.X_train, data.y_train)
    proba = fitted.predict_proba(data.X_test)
    assert own["accuracy"] == fitted.score(data.X_test, data.y_test)
    assert own["log_loss"] == pytest.approx(log_loss(data.y_test, proba))
    assert own["calibration_seconds"] is None
    # "largest" says the same with one call.
    largest = method(LogisticRegression, probabilities="largest")
    scores = ("accuracy", "balanced_accuracy", "log_loss", "ece")
    row = measure(largest, data, 0, 1, memory)
    assert [row[name] for name in scores] == [own[name] for name in scores]
    # Without probabilities: from decision scores, with the predictions unchanged.
    ridge = measure(method(RidgeClassifier), data, 0, 1, memory)
    fitted = RidgeClassifier().fit(data.X_train, data.y_train)
    assert ridge["accuracy"] == fitted.score(data.X_test, data.y_test)
    assert ridge["calibration_seconds"] > 0
    assert 0 < ridge["log_loss"] < np.log(3)
    # Without either: 1 for what is predicted.
    said = measure(method(), data, 0, 1, memory)
    wrong = 1 - said["accuracy"]
    assert said["ece"] == pytest.approx(wrong)
    assert said["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) * wrong)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are reset on Linux only"
)
def test_memory_is_that_of_the_run(data: Dataset, monkeypatch: pytest.MonkeyPatch):
    memory = PeakMemory()
    peaks = []
    for mib in (256, 0):
        monkeypatch.setattr(Recorder, "allocated_mib", mib)
        peaks.append(measure(method(), data, 0, 1, memory)["peak_memory_mib"])
    assert 240 < peaks[0] < 400
    assert 0 <= peaks[1] < 100


def test_what_happens_once_is_not_timed(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Recorder, "first_fit_seconds", 0.5)
    monkeypatch.setattr(worker, "resolve_method", lambda name: method())
    rows = list(measure_all(request(tmp_path, "a", 0, 1)))
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(row["fit_seconds"] < 0.3 for row in rows)
    # A warm-up on made-up series of the right length, then the two runs.
    assert [X.shape for X, _ in Recorder.seen] == [(8, 12), (18, 12), (18, 12)]


def test_rows_describe_the_run(tmp_path: Path):
    write_dataset(tmp_path, "A", n_train=6, n_test=9, n_timepoints=7)
    (row,) = measure_all(request(tmp_path, "majority", 3))
    expected = {
        "method": "majority",
        "dataset": "A",
        "seed": 3,
        "n_train": 6,
        "n_test": 9,
        "length": 7,
        "n_classes": 3,
        "accuracy": pytest.approx(1 / 3),
        "balanced_accuracy": pytest.approx(1 / 3),
        "log_loss": pytest.approx(np.log(3)),
        "threads": 1,
        "error": "",
    }
    assert {name: row[name] for name in expected} == expected
    assert row["date"] == row["versions"]["date"]
    assert {"torch", "numpy", "scikit-learn"} <= set(row["versions"])
    assert "cores" in row["machine"]


def test_errors_are_rows(tmp_path: Path):
    write_dataset(tmp_path, "A")
    text = 'sklearn.linear_model:LogisticRegression{"C": -1}'
    rows = list(measure_all(request(tmp_path, text, 0, 1)))
    assert [row["seed"] for row in rows] == [0, 1]
    assert all("'C' parameter" in row["error"] for row in rows)
    assert all("accuracy" not in row for row in rows)
    (row,) = measure_all(request(tmp_path / "none", "majority", 0))
    assert row["error"].startswith("FileNotFoundError: ")
    (row,) = measure_all(request(tmp_path, "no.module:Class", 0))
    assert row["error"] == "ModuleNotFoundError: No module named 'no'"


def test_errors_take_one_short_line():
    text = worker.describe_error(ValueError("a\nb " * 1000))
    assert text.startswith("ValueError: a b a b")
    assert len(text) == 500
