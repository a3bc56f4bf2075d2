# SPDX-License-Identifier: Apache-2.0
"""The child process of the accuracy benchmark: one method on one dataset.

It reads a JSON request from the standard input and writes a JSON row for each seed, one
a line, to what was its standard output; anything else that is printed goes to the
standard error.
"""

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import get_tags

from sklearn_v2s.benchmark.calibration import CalibratedHead, find_head
from sklearn_v2s.benchmark.memory import PeakMemory
from sklearn_v2s.benchmark.methods import Method, resolve_method
from sklearn_v2s.benchmark.metrics import score_predictions
from sklearn_v2s.datasets import load_dataset
from sklearn_v2s.runtime.environment import describe_environment

__all__ = ["Dataset", "as_accepted", "measure", "measure_all", "pad_series"]

_LONGEST_ERROR = 500
# Distributions beyond those of `describe_environment`.
_PEERS = ("sklearn-v2s", "aeon", "numba")


class Dataset:
    """Both official parts of a dataset.

    Parameters
    ----------
    name : str
        Name.
    folder : str, default=None
        As in `load_dataset`.

    Attributes
    ----------
    X_train, X_test : ndarray or list
        Series, without the dimension of channels where there is one channel.
    y_train, y_test : ndarray of shape (n,)
        Labels.
    length : int
        Time points of the longest series of the training part.
    """

    def __init__(self, name: str, folder: str | None = None) -> None:
        X, self.y_train = load_dataset(name, "train", folder)
        self.X_train = _without_single_channel(X)
        X, self.y_test = load_dataset(name, "test", folder)
        self.X_test = _without_single_channel(X)
        self.length = max(np.shape(series)[-1] for series in self.X_train)


def _without_single_channel(X: Any) -> Any:
    if isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[1] == 1:
        return X[:, 0]
    return X


def pad_series(X: Any, length: int) -> Any:
    """Lengthen series that are shorter by repeating their last value.

    Parameters
    ----------
    X : ndarray of shape (n, ..., n_timepoints), or list of such series
        Series.
    length : int
        Least number of time points.

    Returns
    -------
    ndarray or list
        `X` itself where nothing is too short.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.benchmark.worker import pad_series
    >>> pad_series(np.array([[1, 2], [3, 4]]), 4)
    array([[1, 2, 2, 2],
           [3, 4, 4, 4]])
    """
    if not isinstance(X, np.ndarray):
        return [pad_series(np.asarray(series), length) for series in X]
    missing = max(0, length - X.shape[-1])
    return np.pad(X, [(0, 0)] * (X.ndim - 1) + [(0, missing)], mode="edge")


def as_accepted(estimator: Any, X: Any) -> Any:
    """Join the channels for an estimator that takes tables only."""
    if (
        isinstance(X, np.ndarray)
        and X.ndim == 3
        and not get_tags(estimator).input_tags.three_d_array
    ):
        return X.reshape(len(X), -1)
    return X


def warm_up(method: Method, data: Dataset, threads: int) -> None:
    """Fit and predict a few made-up series, so that compilers run before the clock.

    Parameters
    ----------
    method : Method
        Any; all methods are treated alike.
    data : Dataset
        Gives the shape of the series.
    threads : int
        Number of threads.
    """
    rng = np.random.default_rng(0)
    shape = (*np.shape(data.X_train[0])[:-1], max(data.length, method.min_length))
    X = rng.normal(size=(8, *shape))
    y = np.resize(np.unique(data.y_train)[:2], len(X))
    try:
        estimator = method.make(0, threads)
        X = as_accepted(estimator, X)
        estimator.fit(X, y).predict(X[:2])
    except Exception as error:
        # The run itself, on real series, shows whether the method works.
        print(f"{method.name}: warm-up failed: {error!r}", file=sys.stderr)


def measure(
    method: Method, data: Dataset, seed: int, threads: int, memory: PeakMemory
) -> dict[str, Any]:
    """Fit a method on the training part and score it on the test part.

    Test labels are only seen by `score_predictions`.

    Parameters
    ----------
    method : Method
        What to fit.
    data : Dataset
        On what.
    seed : int
        Of the method, and of the permutation where its labels are shuffled.
    threads : int
        Number of threads.
    memory : PeakMemory
        Started before the first run of the process.

    Returns
    -------
    dict of str to float
        Scores, ``fit_seconds``, ``predict_seconds``, ``calibration_seconds`` (only of
        a method without probabilities, and not part of the two others) and
        ``peak_memory_mib`` of fit and prediction.
    """
    y_train = data.y_train
    if method.shuffled_labels:
        y_train = np.random.default_rng(seed).permutation(y_train)
    estimator = method.make(seed, threads)
    X_train, X_test = (
        as_accepted(estimator, pad_series(X, method.min_length))
        for X in (data.X_train, data.X_test)
    )
    kind = _kind_of_probabilities(method, estimator)

    gc.collect()
    memory.restart()
    start = time.perf_counter()
    estimator.fit(X_train, y_train)
    fitted = time.perf_counter()
    if kind == "largest":
        proba = estimator.predict_proba(X_test)
        predicted = estimator.classes_[proba.argmax(axis=1)]
    else:
        predicted = estimator.predict(X_test)
    done = time.perf_counter()
    peak = memory.peak_mib()

    calibration: float | None = None
    if kind == "own":
        proba = estimator.predict_proba(X_test)
    elif kind == "calibrated":
        start_of_calibration = time.perf_counter()
        found = find_head(estimator)
        calibrated = CalibratedHead(found.head, random_state=seed)
        calibrated.fit(found.transform(X_train), y_train)
        calibration = time.perf_counter() - start_of_calibration
        proba = calibrated.predict_proba(found.transform(X_test))
    elif kind == "predicted":
        proba = (predicted[:, None] == estimator.classes_).astype(np.float64)
    return {
        **score_predictions(data.y_test, proba, predicted, estimator.classes_),
        "fit_seconds": fitted - start,
        "predict_seconds": done - fitted,
        "calibration_seconds": calibration,
        "peak_memory_mib": peak,
    }


def _kind_of_probabilities(method: Method, estimator: Any) -> str:
    if method.probabilities != "own" or hasattr(estimator, "predict_proba"):
        return method.probabilities
    return "calibrated" if hasattr(estimator, "decision_function") else "predicted"


def describe_error(error: BaseException) -> str:
    """Return kind and text of an error on one line of limited length.

    Parameters
    ----------
    error : BaseException
        The error.

    Returns
    -------
    str
        One line.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:_LONGEST_ERROR]


def installed_versions() -> dict[str, str | int]:
    """Return `describe_environment`, with the versions of peers that are installed."""
    described = describe_environment()
    for name in _PEERS:
        try:
            described[name] = version(name)
        except PackageNotFoundError:
            continue
    return described


def describe_machine() -> str:
    """Return system, processor and number of cores, without any name of a machine."""
    described = describe_environment()
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    words = [str(described["machine"]), processor, f"{described['cores']} cores"]
    return ", ".join(word for word in words if word)


def measure_all(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each seed of a request.

    Parameters
    ----------
    request : dict
        ``method``, ``dataset``, ``folder``, ``seeds`` and ``threads``.

    Yields
    ------
    dict
        A row; one with ``error`` where something was raised.
    """
    threads = request["threads"]
    torch.set_num_threads(threads)
    common = {
        "method": request["method"],
        "dataset": request["dataset"],
        "threads": threads,
        "machine": describe_machine(),
    }
    data: Dataset | None = None
    for seed in request["seeds"]:
        row = {**common, "seed": seed, "error": ""}
        try:
            method = resolve_method(request["method"])
            if data is None:
                data = Dataset(request["dataset"], request["folder"])
                warm_up(method, data, threads)
                memory = PeakMemory()
            row |= {
                "n_train": len(data.y_train),
                "n_test": len(data.y_test),
                "length": data.length,
                "n_classes": len(np.unique(data.y_train)),
                **measure(method, data, seed, threads, memory),
            }
        except Exception as error:
            row["error"] = describe_error(error)
        # After the run: only then is all imported that a method needs.
        versions = installed_versions()
        yield {**row, "versions": versions, "date": versions["date"]}


def main() -> None:
    """Serve the request on the standard input."""
    # Estimators may print; only rows may reach the parent's pipe.
    rows = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with rows:
        for row in measure_all(json.load(sys.stdin)):
            rows.write(json.dumps(row) + "\n")
            rows.flush()


if __name__ == "__main__":
    main()
