# SPDX-License-Identifier: Apache-2.0
"""Means, ranks and significance of methods over datasets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata, wilcoxon

from sklearn_v2s.benchmark.methods import SHUFFLED_LABELS

__all__ = ["MEASURES", "Comparison", "compare", "holm", "wilcoxon_p"]

MEASURES = (
    "accuracy", "balanced_accuracy", "log_loss", "ece", "fit_seconds",
    "predict_seconds", "peak_memory_mib",
)  # fmt: skip

# Means over seeds that differ by rounding only are ties.
_DECIMALS = 9


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values that are adjusted for their number.

    Parameters
    ----------
    p_values : sequence of float of shape (n,)
        One for each test.

    Returns
    -------
    ndarray of shape (n,)
        Below a level where Holm's step-down procedure rejects at that level.

    References
    ----------
    Holm. A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 1979.

    Examples
    --------
    >>> from sklearn_v2s.benchmark.comparison import holm
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    stepped = given[order] * np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


def wilcoxon_p(a: np.ndarray, b: np.ndarray) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test.

    Parameters
    ----------
    a, b : ndarray of shape (n_datasets,)
        Scores of two methods; ties are left out.

    Returns
    -------
    float
        1 where all are ties.
    """
    if np.array_equal(a, b):
        return 1.0
    return float(wilcoxon(a, b).pvalue)


@dataclass(frozen=True)
class Comparison:
    """Scores of methods, each a mean over seeds.

    Attributes
    ----------
    methods : list of str
        Compared methods.
    reference : str
        The one that the others are tested against.
    datasets : list of str
        Datasets that all methods have.
    left_out : dict of str to list of str
        Other datasets, and the methods that lack them.
    scores : dict of str to ndarray of shape (n_datasets, n_methods)
        For each of `MEASURES`.
    controls : list of str
        Methods with shuffled labels, which are not compared.
    means : dict of (str, str) to dict of str to float
        Method and dataset to measures, for all that there is.
    seeds : dict of str to list of int
        Method to seeds.
    shapes : dict of str to dict of str to str
        Dataset to ``n_train``, ``n_test``, ``length`` and ``n_classes``.
    """

    methods: list[str]
    reference: str
    datasets: list[str]
    left_out: dict[str, list[str]]
    scores: dict[str, np.ndarray]
    controls: list[str]
    means: dict[tuple[str, str], dict[str, float]]
    seeds: dict[str, list[int]]
    shapes: dict[str, dict[str, str]]

    def mean_ranks(self) -> np.ndarray:
        """Return the mean rank by accuracy of each method, 1 being the best."""
        return rankdata(-self.scores["accuracy"], axis=1).mean(axis=0)

    def summary(self) -> list[dict[str, Any]]:
        """Return a row for each method, the best mean rank first.

        Returns
        -------
        list of dict
            Means of the scores; ``mean_rank``; ``wins``, ``ties`` and ``losses`` of the
            method against the reference by accuracy; ``p`` of the Wilcoxon test of
            that, ``p_holm`` adjusted for the number of other methods; sums of the
            seconds; the largest peak memory.
        """
        accuracy = self.scores["accuracy"]
        column = self.methods.index(self.reference)
        others = [name for name in self.methods if name != self.reference]
        p = {
            name: wilcoxon_p(accuracy[:, self.methods.index(name)], accuracy[:, column])
            for name in others
        }
        adjusted = dict(zip(others, holm(list(p.values())), strict=True))
        ranks = self.mean_ranks()
        rows = []
        for index in np.argsort(ranks, kind="stable"):
            name = self.methods[index]
            values = {key: scores[:, index] for key, scores in self.scores.items()}
            signs = np.sign(accuracy[:, index] - accuracy[:, column])
            fit, predict = values["fit_seconds"].sum(), values["predict_seconds"].sum()
            rows.append(
                {
                    "method": name,
                    "datasets": len(self.datasets),
                    **{key: float(values[key].mean()) for key in MEASURES[:4]},
                    "mean_rank": float(ranks[index]),
                    "wins": int((signs > 0).sum()),
                    "ties": int((signs == 0).sum()),
                    "losses": int((signs < 0).sum()),
                    "p": p.get(name),
                    "p_holm": float(adjusted[name]) if name in adjusted else None,
                    "fit_seconds": float(fit),
                    "predict_seconds": float(predict),
                    "total_seconds": float(fit + predict),
                    "peak_memory_mib": float(values["peak_memory_mib"].max()),
                }
            )
        return rows

    def pairwise(self) -> list[dict[str, Any]]:
        """Return a row for each pair of methods.

        Returns
        -------
        list of dict
            ``method``, ``other``, ``wins``, ``ties``, ``losses``, ``p`` and ``p_holm``,
            adjusted for the number of pairs.
        """
        accuracy = self.scores["accuracy"]
        rows: list[dict[str, Any]] = []
        for first, method in enumerate(self.methods):
            for second in range(first + 1, len(self.methods)):
                signs = np.sign(accuracy[:, first] - accuracy[:, second])
                rows.append(
                    {
                        "method": method,
                        "other": self.methods[second],
                        "wins": int((signs > 0).sum()),
                        "ties": int((signs == 0).sum()),
                        "losses": int((signs < 0).sum()),
                        "p": wilcoxon_p(accuracy[:, first], accuracy[:, second]),
                    }
                )
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p_holm"] = float(p)
        return rows


def _means_over_seeds(
    rows: Sequence[dict[str, str]],
) -> dict[tuple[str, str], dict[str, float]]:
    grouped: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        grouped.setdefault((row["method"], row["dataset"]), []).append(row)
    return {
        key: {
            measure: round(
                float(np.mean([float(row[measure]) for row in group])), _DECIMALS
            )
            for measure in MEASURES
        }
        for key, group in grouped.items()
    }


def compare(
    rows: Sequence[dict[str, str]],
    methods: Sequence[str] = (),
    reference: str = "v2s",
) -> Comparison:
    """Compare methods over the datasets that all of them have.

    Parameters
    ----------
    rows : sequence of dict
        Rows of `run_accuracy`; those with an error are passed over.
    methods : sequence of str, default=()
        Methods to compare; empty means all but those with shuffled labels.
    reference : str, default="v2s"
        The method that the others are tested against.

    Returns
    -------
    Comparison
        Scores and tests.

    Raises
    ------
    ValueError
        If the reference or a method has no rows, or no dataset is shared by all.
    """
    rows = [row for row in rows if not row["error"]]
    measured = list(dict.fromkeys(row["method"] for row in rows))
    controls = [name for name in measured if name.endswith(SHUFFLED_LABELS)]
    chosen = list(dict.fromkeys(methods)) or [
        name for name in measured if name not in controls
    ]
    unknown = [name for name in [*chosen, reference] if name not in measured]
    if unknown:
        raise ValueError(
            f"methods {unknown} have no rows; the results have {measured}. "
            "Choose among those, the reference too."
        )
    if reference not in chosen:
        raise ValueError(
            f"reference={reference!r} is not among the methods {chosen}; add it, or "
            "name another reference."
        )
    means = _means_over_seeds(rows)
    lacking = {
        dataset: [name for name in chosen if (name, dataset) not in means]
        for dataset in sorted({row["dataset"] for row in rows})
    }
    datasets = [dataset for dataset, missing in lacking.items() if not missing]
    if not datasets:
        raise ValueError(
            f"methods {chosen} have no dataset in common; leave some out, or measure "
            f"what is missing: {lacking}."
        )
    return Comparison(
        methods=chosen,
        reference=reference,
        datasets=datasets,
        left_out={name: missing for name, missing in lacking.items() if missing},
        scores={
            measure: np.array(
                [[means[name, data][measure] for name in chosen] for data in datasets]
            )
            for measure in MEASURES
        },
        controls=[name for name in controls if name not in chosen],
        means=means,
        seeds={
            name: sorted({int(row["seed"]) for row in rows if row["method"] == name})
            for name in measured
        },
        shapes={
            row["dataset"]: {
                key: row[key] for key in ("n_train", "n_test", "length", "n_classes")
            }
            for row in rows
        },
    )
