# SPDX-License-Identifier: Apache-2.0
"""Choice of settings by cross-validation on the training parts of many datasets.

No test part is ever opened: only the files of training parts are read.
"""

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

from sklearn_v2s.benchmark.results import read_rows, write_rows
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.datasets import list_datasets, load_dataset
from sklearn_v2s.runtime.environment import describe_environment

__all__ = ["cross_validate_settings", "summarise"]

_COLUMNS = (
    "setting", "parameters", "dataset", "n", "folds", "seed", "accuracy", "log_loss",
    "seconds", "environment",
)  # fmt: skip


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
    names = list(datasets) or list_datasets(data, splits=["train"])
    rows: list[dict[str, Any]] = list(read_rows(output, _COLUMNS))
    known = {(row["setting"], row["dataset"], int(row["seed"])) for row in rows}
    todo = [
        (dataset, setting)
        for dataset in names
        for setting in settings
        if (setting, dataset, seed) not in known
    ]
    for dataset, setting in tqdm(todo, desc="cross-validation"):
        X, y = load_dataset(dataset, "train", data)
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
        write_rows(output, _COLUMNS, rows)
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of means over the datasets that all settings have.

    Parameters
    ----------
    rows : sequence of dict
        As `cross_validate_settings` returns them.

    Returns
    -------
    str
        One line for each setting, the most accurate first.
    """
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    done = [
        {row["dataset"] for row in rows if row["setting"] == name} for name in settings
    ]
    shared = set.intersection(*done) if done else set()

    def mean(name: str, column: str) -> float:
        return float(
            np.mean(
                [
                    float(row[column])
                    for row in rows
                    if row["setting"] == name and row["dataset"] in shared
                ]
            )
        )

    lines = [
        f"| setting ({len(shared)} datasets) | accuracy | log-loss | seconds |",
        "|---|---|---|---|",
    ]
    if shared:
        settings.sort(key=lambda name: -mean(name, "accuracy"))
        lines += [
            f"| {name} | {mean(name, 'accuracy'):.3f} | {mean(name, 'log_loss'):.3f} "
            f"| {mean(name, 'seconds') * len(shared):.0f} |"
            for name in settings
        ]
    return "\n".join(lines)
