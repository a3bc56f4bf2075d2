# SPDX-License-Identifier: Apache-2.0
"""Choice of default settings by cross-validation on training parts.

No test part is ever opened: only ``*_TRAIN.tsv`` files are read.
"""

import csv
import io
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.environment import describe_environment
from sklearn_v2s.tensor_file import write_bytes

__all__ = ["cross_validate_settings", "read_training_part"]

_COLUMNS = (
    "setting", "parameters", "dataset", "n", "folds", "seed", "accuracy", "log_loss",
    "seconds", "environment",
)  # fmt: skip


def read_training_part(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the training part of a dataset in UCR layout.

    Parameters
    ----------
    folder : Path
        Holds ``<name>/<name>_TRAIN.tsv``, label first, tab separated.
    name : str
        Dataset.

    Returns
    -------
    X : ndarray of shape (n, n_timepoints)
        Series.
    y : ndarray of shape (n,)
        Labels.
    """
    table = np.loadtxt(folder / name / f"{name}_TRAIN.tsv", delimiter="\t", ndmin=2)
    return table[:, 1:], table[:, 0].astype(np.int64)


def _read_rows(output: Path) -> list[dict[str, str]]:
    if not output.is_file():
        return []
    with open(output, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_rows(output: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(output, text.getvalue().encode())


def cross_validate_settings(
    settings: dict[str, dict[str, Any]],
    data: Path,
    output: Path,
    datasets: Sequence[str] = (),
    n_folds: int = 3,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Cross-validate settings of `V2SClassifier` on training parts.

    Parameters
    ----------
    settings : dict of str to dict
        Name to parameters.
    data : Path
        Folder in UCR layout.
    output : Path
        CSV file with a row for each setting and dataset, written after each. Rows that
        are already there are kept and not computed again.
    datasets : sequence of str, default=()
        Names; empty means all in the folder.
    n_folds : int, default=3
        Stratified folds, less where a class has fewer samples, at least 2.
    seed : int, default=0
        Of the folds and of the classifiers.

    Returns
    -------
    list of dict
        The rows of the file.
    """
    names = list(datasets) or sorted(
        path.parent.name for path in data.glob("*/*_TRAIN.tsv")
    )
    rows: list[dict[str, Any]] = list(_read_rows(output))
    known = {(row["setting"], row["dataset"], int(row["seed"])) for row in rows}
    todo = [
        (dataset, setting)
        for dataset in names
        for setting in settings
        if (setting, dataset, seed) not in known
    ]
    for dataset, setting in tqdm(todo, desc="cross-validation"):
        X, y = read_training_part(data, dataset)
        smallest = np.unique(y, return_counts=True)[1].min()
        folds = max(2, min(n_folds, int(smallest)))
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        classifier = V2SClassifier(random_state=seed).set_params(**settings[setting])
        proba = np.zeros((len(y), len(np.unique(y))))
        start = time.perf_counter()
        with warnings.catch_warnings():
            # A class with fewer members than folds; the folds are what they can be.
            warnings.filterwarnings("ignore", message="The least populated class")
            parts = list(splitter.split(X, y))
        for train, test in parts:
            fitted = clone(classifier).fit(X[train], y[train])
            columns = np.searchsorted(np.unique(y), fitted.classes_)
            proba[np.ix_(test, columns)] = fitted.predict_proba(X[test])
        seconds = time.perf_counter() - start
        predicted = np.unique(y)[proba.argmax(axis=1)]
        rows.append(
            {
                "setting": setting,
                "parameters": json.dumps(settings[setting], sort_keys=True),
                "dataset": dataset,
                "n": len(y),
                "folds": folds,
                "seed": seed,
                "accuracy": round(float(accuracy_score(y, predicted)), 4),
                "log_loss": round(float(log_loss(y, proba, labels=np.unique(y))), 4),
                "seconds": round(seconds, 2),
                "environment": json.dumps(describe_environment()),
            }
        )
        _write_rows(output, rows)
    return rows
