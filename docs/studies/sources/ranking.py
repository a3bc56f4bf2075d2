# SPDX-License-Identifier: Apache-2.0
"""Whether the distance to speech predicts the better source, as in Tables 3 and 4."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from tqdm import tqdm

from sklearn_v2s.alignment import rank_sources
from sklearn_v2s.benchmark.results import read_rows, write_rows
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.datasets import list_datasets, load_dataset
from sklearn_v2s.runtime.environment import describe_environment

__all__ = ["COLUMNS", "measure_sources", "summarise_sources"]

COLUMNS = (
    "dataset", "source", "sliced_wasserstein", "wasserstein1", "bound", "source_loss",
    "accuracy", "n_train", "n_test", "seed", "environment",
)  # fmt: skip


def measure_sources(
    data: Path,
    output: Path,
    sources: Sequence[str],
    datasets: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Measure distance and accuracy of sources, on the view of the paper.

    Parameters
    ----------
    data : Path
        Folder in UCR layout.
    output : Path
        CSV file with the columns `COLUMNS`, written after each dataset. Rows that are
        already there are kept and not computed again.
    sources : sequence of str
        Names, with logits of speech kept beside them.
    datasets : sequence of str, default=()
        Names; empty means all in the folder.
    seed : int, default=0
        Of perturbations and projections.
    progress : bool, default=True
        Show a progress bar.

    Returns
    -------
    list of dict
        The rows of the file. Distances are of the training part, accuracy is that of
        the test part; nothing is chosen by it.
    """
    rows: list[dict[str, Any]] = list(read_rows(output, COLUMNS))
    known = {(row["dataset"], row["source"], int(row["seed"])) for row in rows}
    classifier = V2SClassifier(views="replicas", max_epochs=0, random_state=seed)
    names = list(datasets) or list_datasets(data)
    for dataset in tqdm(names, desc="datasets", disable=not progress):
        todo = [name for name in sources if (dataset, name, seed) not in known]
        if not todo:
            continue
        X, y = load_dataset(dataset, "train", data)
        X_test, y_test = load_dataset(dataset, "test", data)
        for rank in rank_sources(X, y, todo, estimator=classifier, random_state=seed):
            fitted = clone(classifier).set_params(source=rank.name).fit(X, y)
            accuracy = fitted.score(X_test, y_test)
            rows.append(
                {
                    "dataset": dataset,
                    "source": rank.name,
                    "sliced_wasserstein": round(rank.scores.sliced_wasserstein, 4),
                    "wasserstein1": round(rank.scores.wasserstein1, 4),
                    "bound": round(rank.bound, 2),
                    "source_loss": round(rank.source_loss, 4),
                    "accuracy": round(accuracy, 4),
                    "n_train": len(y),
                    "n_test": len(y_test),
                    "seed": seed,
                    "environment": json.dumps(describe_environment()),
                }
            )
        write_rows(output, COLUMNS, rows)
    return rows


def summarise_sources(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of means over the datasets that all sources have.

    Parameters
    ----------
    rows : sequence of dict
        As `measure_sources` returns them.

    Returns
    -------
    str
        One line for each source, the nearest first, and one that says how often the
        nearest source is the most accurate one.
    """
    sources = list(dict.fromkeys(row["source"] for row in rows))
    by_dataset: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_dataset.setdefault(row["dataset"], {})[row["source"]] = row
    shared = [found for found in by_dataset.values() if len(found) == len(sources)]

    def table(column: str) -> np.ndarray:
        return np.array(
            [[float(found[name][column]) for name in sources] for found in shared]
        )

    distance, accuracy = table("sliced_wasserstein"), table("accuracy")
    ranks = rankdata(-accuracy, axis=1)
    lines = [
        f"| source ({len(shared)} datasets) | SWD, mean (range) | exact W1 | bound "
        "| source loss | accuracy | mean rank by accuracy | nearest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    nearest = distance.argmin(axis=1)
    for column in distance.mean(axis=0).argsort():
        name, own = sources[column], distance[:, column]
        lines.append(
            f"| {name} | {own.mean():.2f} ({own.min():.2f} to {own.max():.2f}) "
            f"| {table('wasserstein1')[:, column].mean():.1f} "
            f"| {table('bound')[:, column].mean():.0f} "
            f"| {table('source_loss')[0, column]:.3f} "
            f"| {accuracy[:, column].mean():.4f} | {ranks[:, column].mean():.2f} "
            f"| {int((nearest == column).sum())} |"
        )
    best = accuracy[np.arange(len(shared)), nearest] == accuracy.max(axis=1)
    lines += [
        "",
        f"The nearest source is the most accurate one, or as accurate as that, on "
        f"{int(best.sum())} of {len(shared)} datasets.",
    ]
    return "\n".join(lines)
