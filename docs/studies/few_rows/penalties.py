# SPDX-License-Identifier: Apache-2.0
"""What to believe where there are few series: experiments on training parts.

Some series of each class are drawn from a training part, and the label mapping is
scored on the other series of the part. `score_single_rows` draws one of each class,
where leave-one-out, which otherwise chooses penalty and temperature of the label
mapping, has nothing to choose by. `score_largest_penalties` draws more, and compares
how far the grid of penalties should go.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold

from sklearn_v2s.benchmark.results import write_rows
from sklearn_v2s.datasets import list_datasets, load_dataset
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.transformer import V2STransformer

__all__ = [
    "PENALTY_COLUMNS",
    "SINGLE_ROW_COLUMNS",
    "score_largest_penalties",
    "score_single_rows",
]

SINGLE_ROW_COLUMNS = (
    "penalty", "temperature", "log_loss_beyond_even", "accuracy", "datasets", "draws",
    "seed", "versions", "date",
)  # fmt: skip
PENALTY_COLUMNS = (
    "series_of_class", "largest_penalty", "accuracy", "log_loss", "accuracy_wins",
    "accuracy_losses", "log_loss_wins", "log_loss_losses", "datasets", "draws", "seed",
    "versions", "date",
)  # fmt: skip

_TEMPERATURES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
_DRAWS, _FOLDS = 4, 3
# Penalties are shares of the sum of squares, of which a standardised row has as many as
# features. The grids end where their names say, with four penalties for each power.
_SINGLE_PENALTIES = np.logspace(-7, 1, 9)
_LEAST, _FOR_EACH_POWER = -7, 4
_LARGEST = (1, -1, -2, -3, -4)


class Features(NamedTuple):
    """What the views give of some series of a training part."""

    values: np.ndarray
    block_sizes: list[int]
    codes: np.ndarray

    def fit(self, rows: np.ndarray, penalties: Any) -> LinearLabelMapping:
        """Fit the label mapping to some rows; penalties are shares."""
        squares = self.values.shape[1] * len(rows)
        mapping = LinearLabelMapping(
            block_sizes=self.block_sizes, alphas=np.asarray(penalties) * squares
        )
        return mapping.fit(self.values[rows], self.codes[rows])


def _load_features(
    folder: Path, name: str, seed: int, most: int | None = None
) -> Features:
    """Return the features of a training part, or of at most so many of its series."""
    X, y = load_dataset(name, "train", folder)
    rows = np.random.default_rng(seed).permutation(len(y))[:most]
    transformer = V2STransformer(random_state=seed)
    values = transformer.fit_transform(np.asarray(X)[rows])
    sizes = transformer.model_.block_sizes
    return Features(values, sizes, np.unique(y[rows], return_inverse=True)[1])


def draw(
    codes: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` rows of each class that has more, and the others of these."""
    drawn, others = [], []
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        if len(rows) > count:
            drawn.append(rows[:count])
            others.append(rows[count:])
    if len(drawn) < 2:
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    return np.sort(np.concatenate(drawn)), np.sort(np.concatenate(others))


def _score_one_of_each(features: Features, seed: int) -> Iterator[tuple[Any, Any]]:
    """Yield log-losses and accuracies, both of shape (penalties, temperatures)."""
    rng = np.random.default_rng(seed)
    codes = features.codes
    classes = np.unique(codes)
    for _ in range(_DRAWS):
        drawn = np.array(
            [rng.choice(np.flatnonzero(codes == code)) for code in classes]
        )
        others = np.setdiff1d(np.arange(len(codes)), drawn)
        if not len(others):
            return
        shape = len(_SINGLE_PENALTIES), len(_TEMPERATURES)
        loss, accuracy = np.empty(shape), np.empty(shape)
        truth = np.arange(len(others)), codes[others]
        for number, penalty in enumerate(_SINGLE_PENALTIES):
            mapping = features.fit(np.array(drawn), penalty)
            scores = mapping.decision_scores(features.values[others])
            accuracy[number] = (scores.argmax(axis=1) == codes[others]).mean()
            loss[number] = [
                -log_softmax(temperature * scores, axis=1)[truth].mean()
                for temperature in _TEMPERATURES
            ]
        yield loss - np.log(len(classes)), accuracy


def score_single_rows(
    folder: Path, output: Path, seed: int = 0
) -> list[dict[str, str | float]]:
    """Compare penalties and temperatures for one row of each class; write a table.

    Parameters
    ----------
    folder : Path
        Datasets in UCR layout; test parts are not opened.
    output : Path
        CSV file with the columns `SINGLE_ROW_COLUMNS`, written at the end.
    seed : int, default=0
        Of draws and sources.

    Returns
    -------
    list of dict
        Its rows, by log-loss.
    """
    found = []
    for name in list_datasets(folder):
        features = _load_features(folder, name, seed, most=150)
        if draws := list(_score_one_of_each(features, seed)):
            found.append([np.mean(part, axis=0) for part in zip(*draws, strict=True)])
    loss, accuracy = (np.mean(part, axis=0) for part in zip(*found, strict=True))
    described = _described(seed)
    rows: list[dict[str, str | float]] = [
        {
            "penalty": f"{penalty:.0e}",
            "temperature": temperature,
            "log_loss_beyond_even": round(float(loss[i, j]), 4),
            "accuracy": round(float(accuracy[i, j]), 4),
            "datasets": len(found),
            "draws": _DRAWS,
            **described,
        }
        for i, penalty in enumerate(_SINGLE_PENALTIES)
        for j, temperature in enumerate(_TEMPERATURES)
    ]
    rows.sort(key=lambda row: float(row["log_loss_beyond_even"]))
    write_rows(output, SINGLE_ROW_COLUMNS, rows)
    return rows


def _described(seed: int) -> dict[str, str | float]:
    versions = describe_environment()
    return {
        "seed": seed,
        "versions": json.dumps(versions, sort_keys=True),
        "date": str(versions["date"]),
    }


def _splits(
    codes: np.ndarray, count: int | None, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to fit and rows to score; None: cross-validation on all rows."""
    if count is None:
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
        common = np.flatnonzero(np.bincount(codes)[codes] >= _FOLDS)
        for fitted, held_out in folds.split(common, codes[common]):
            yield common[fitted], common[held_out]
        return
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        drawn, others = draw(codes, count, rng)
        if len(others):
            yield drawn, others


def score_largest_penalties(
    folder: Path,
    output: Path,
    seed: int = 0,
    counts: Sequence[int | None] = (2, 3, 5, 10, None),
) -> list[dict[str, str | float]]:
    """Compare ends of the grid that the penalty is chosen from; write a table.

    Parameters
    ----------
    folder : Path
        Datasets in UCR layout; test parts are not opened.
    output : Path
        CSV file with the columns `PENALTY_COLUMNS`, written at the end.
    seed : int, default=0
        Of draws, folds and sources.
    counts : sequence of int or None, default=(2, 3, 5, 10, None)
        Series of each class to draw; None takes all, three-fold. Those that no
        dataset has enough series for are left out.

    Returns
    -------
    list of dict
        Its rows. Wins and losses are counted over datasets against the longest grid.
    """
    grids = [
        np.logspace(_LEAST, last, _FOR_EACH_POWER * (last - _LEAST) + 1)
        for last in _LARGEST
    ]
    found: dict[int | None, list[np.ndarray]] = {count: [] for count in counts}
    for name in list_datasets(folder):
        features = _load_features(folder, name, seed)
        for count in counts:
            held_out = [
                [score(features, grid, fitted, others) for grid in grids]
                for fitted, others in _splits(features.codes, count, seed)
            ]
            if held_out:
                found[count].append(np.mean(held_out, axis=0))
    described = _described(seed)
    rows: list[dict[str, str | float]] = []
    for count, of_datasets in found.items():
        if not of_datasets:
            continue
        scores = np.array(of_datasets)
        # Of each grid, above the longest one.
        gain = np.round(scores - scores[:, :1], 9)
        for number, last in enumerate(_LARGEST):
            accuracy, log_loss = gain[:, number].T
            rows.append(
                {
                    "series_of_class": "all, 3 folds" if count is None else count,
                    "largest_penalty": f"{10.0**last:.0e}",
                    "accuracy": round(float(scores[:, number, 0].mean()), 4),
                    "log_loss": round(float(scores[:, number, 1].mean()), 4),
                    "accuracy_wins": int((accuracy > 0).sum()),
                    "accuracy_losses": int((accuracy < 0).sum()),
                    "log_loss_wins": int((log_loss < 0).sum()),
                    "log_loss_losses": int((log_loss > 0).sum()),
                    "datasets": len(scores),
                    "draws": _FOLDS if count is None else _DRAWS,
                    **described,
                }
            )
    write_rows(output, PENALTY_COLUMNS, rows)
    return rows


def score(
    features: Features, grid: np.ndarray, fitted: np.ndarray, held_out: np.ndarray
) -> tuple[float, float]:
    """Return accuracy and log-loss on the judging rows."""
    mapping = features.fit(fitted, grid)
    probability = mapping.transform(features.values[held_out])
    truth = np.searchsorted(mapping.classes_, features.codes[held_out])
    right = probability.argmax(axis=1) == truth
    own = probability[np.arange(len(held_out)), truth]
    return float(right.mean()), float(-np.log(np.maximum(own, 1e-15)).mean())
