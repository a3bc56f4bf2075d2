# SPDX-License-Identifier: Apache-2.0
"""What to believe where each class has one series: an experiment on training parts.

Leave-one-out, which otherwise chooses penalty and temperature of the label mapping, has
nothing to say there. One series of each class is drawn from a training part; penalties
and temperatures are judged by the log-loss of the part's other series.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.special import log_softmax

from sklearn_v2s.benchmark.results import write_rows
from sklearn_v2s.datasets import list_datasets, load_dataset
from sklearn_v2s.environment import describe_environment
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.transformer import V2STransformer

__all__ = ["COLUMNS", "judge_single_rows"]

COLUMNS = (
    "penalty", "temperature", "log_loss_beyond_even", "accuracy", "datasets", "draws",
    "seed", "versions", "date",
)  # fmt: skip

_PENALTIES = np.logspace(-7, 1, 9)
_TEMPERATURES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_MOST_SERIES, _DRAWS = 150, 4


def _judge(folder: Path, name: str, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield log-losses and accuracies, both of shape (penalties, temperatures)."""
    X, y = load_dataset(name, "train", folder)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(y))[:_MOST_SERIES]
    codes = np.unique(y[rows], return_inverse=True)[1]
    transformer = V2STransformer(random_state=seed)
    features = transformer.fit_transform(np.asarray(X)[rows])
    fixed = sum(sum(view.block_sizes) for view in transformer._fixed_views.values())
    sizes = transformer._block_sizes(features.shape[1] - fixed)
    classes = np.unique(codes)
    for _ in range(_DRAWS):
        drawn = [rng.choice(np.flatnonzero(codes == code)) for code in classes]
        others = np.setdiff1d(np.arange(len(codes)), drawn)
        if not len(others):
            return
        shape = len(_PENALTIES), len(_TEMPERATURES)
        loss, accuracy = np.empty(shape), np.empty(shape)
        truth = np.arange(len(others)), codes[others]
        for number, penalty in enumerate(_PENALTIES):
            # With standardised features the sum of squares is their number for a row.
            mapping = LinearLabelMapping(
                block_sizes=sizes,
                alphas=penalty * features.shape[1] * len(drawn),
            ).fit(features[drawn], codes[drawn])
            scores = mapping.decision_scores(features[others])
            accuracy[number] = (scores.argmax(axis=1) == codes[others]).mean()
            loss[number] = [
                -log_softmax(temperature * scores, axis=1)[truth].mean()
                for temperature in _TEMPERATURES
            ]
        yield loss - np.log(len(classes)), accuracy


def judge_single_rows(
    folder: Path, output: Path, seed: int = 0
) -> list[dict[str, str | float]]:
    """Judge penalties and temperatures for one row of each class; write a table.

    Parameters
    ----------
    folder : Path
        Datasets in UCR layout; test parts are not opened.
    output : Path
        CSV file with the columns `COLUMNS`, written at the end.
    seed : int, default=0
        Of draws and sources.

    Returns
    -------
    list of dict
        Its rows, by log-loss.
    """
    names = list_datasets(folder)
    found = [
        [np.mean(part, axis=0) for part in zip(*draws, strict=True)]
        for draws in (list(_judge(folder, name, seed)) for name in names)
        if draws
    ]
    loss, accuracy = (np.mean(part, axis=0) for part in zip(*found, strict=True))
    versions = describe_environment()
    rows: list[dict[str, str | float]] = [
        {
            "penalty": f"{penalty:.0e}",
            "temperature": temperature,
            "log_loss_beyond_even": round(float(loss[i, j]), 4),
            "accuracy": round(float(accuracy[i, j]), 4),
            "datasets": len(found),
            "draws": _DRAWS,
            "seed": seed,
            "versions": json.dumps(versions, sort_keys=True),
            "date": str(versions["date"]),
        }
        for i, penalty in enumerate(_PENALTIES)
        for j, temperature in enumerate(_TEMPERATURES)
    ]
    rows.sort(key=lambda row: float(row["log_loss_beyond_even"]))
    write_rows(output, COLUMNS, rows)
    return rows
