# SPDX-License-Identifier: Apache-2.0
"""Lemma 1 and Theorem 1 of the paper, in numbers."""

import numpy as np
import ot
from scipy.special import softmax

from docs.studies.paper.finding import Finding, Table
from sklearn_v2s.alignment import (
    LARGEST_RISK,
    risk_bound,
    sliced_wasserstein,
    wasserstein1,
)

__all__ = ["distances", "examine_theory", "lemma_sides"]

# Table 3 of the paper, V2Sa: source loss and mean sliced Wasserstein distance.
_SOURCE_LOSS = 0.171
_MEAN_SWD = 1.829
_N_SOURCE_CLASSES = 35

_N_POINTS = 300
_N_DIMENSIONS = 36


def lemma_sides() -> tuple[float, float]:
    """Return both sides of Lemma 1 where it does not hold.

    The lemma bounds the mean of ``||f(x) - f(x')||`` over independent x and x' by
    ``2 sqrt(K)`` times the distance W1 of the two distributions of logits. Let both be
    the same, half of it sure of the first class and half of the second. Then W1 is 0,
    but two independent draws differ half of the time.

    Returns
    -------
    left, right : float
        The lemma says that ``left <= right``.

    Examples
    --------
    >>> from docs.studies.paper.theory import lemma_sides
    >>> left, right = lemma_sides()
    >>> round(left, 3), right
    (0.707, 0.0)
    """
    logits = np.array([[20.0, -20.0], [-20.0, 20.0]])
    weight = np.full(2, 0.5)
    outputs = softmax(logits, axis=1)
    left = weight @ ot.dist(outputs, outputs, "euclidean") @ weight
    return float(left), risk_bound(0.0, len(logits), wasserstein1(logits, logits))


def distances(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float, float]:
    """Return W1, W2 and sliced W2 of two samples of the same size.

    Parameters
    ----------
    a, b : ndarray of shape (n, d)
        Points, all of the same weight.
    seed : int
        Of the 1,000 projections.

    Returns
    -------
    w1, w2, sw2 : float
        Distances.
    """
    weight = np.full(len(a), 1 / len(a))
    w2 = np.sqrt(ot.emd2(weight, weight, ot.dist(a, b, "sqeuclidean")))
    return wasserstein1(a, b), float(w2), sliced_wasserstein(a, b, random_state=seed)


def examine_theory(seed: int = 0) -> Finding:
    """Compute the counter-example, the bound, and what slicing does to a distance.

    Parameters
    ----------
    seed : int, default=0
        Of points and projections.

    Returns
    -------
    Finding
        Three tables.
    """
    left, right = lemma_sides()
    bound = risk_bound(_SOURCE_LOSS, _N_SOURCE_CLASSES, _MEAN_SWD)
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(_N_POINTS, _N_DIMENSIONS))
    other = rng.normal(size=start.shape)
    lines = [
        [name, *(f"{distance:.3f}" for distance in distances(start, moved, seed))]
        for name, moved in (
            ("a sample and itself, moved by 1 in each dimension", start + 1),
            ("a sample and another one, moved by 1 in each dimension", other + 1),
        )
    ]
    return Finding(
        "lemma",
        [
            Table(
                "Lemma 1 with D = D', two classes, independent draws",
                ["", "value"],
                [
                    ["left side, mean of the distance of two outputs", f"{left:.3f}"],
                    ["right side, 2 sqrt(K) W1", f"{right:.3f}"],
                    ["left <= right", "yes" if left <= right else "no"],
                ],
            ),
            Table(
                "The bound of Theorem 1 with the numbers of Table 3 (V2Sa)",
                ["", "value"],
                [
                    [
                        f"{_SOURCE_LOSS} + 2 sqrt({_N_SOURCE_CLASSES}) * {_MEAN_SWD}",
                        f"{bound:.2f}",
                    ],
                    ["largest risk that there is, sqrt(2)", f"{LARGEST_RISK:.2f}"],
                ],
            ),
            Table(
                f"{_N_POINTS} normal points in {_N_DIMENSIONS} dimensions",
                ["", "W1", "W2", "sliced W2"],
                lines,
            ),
        ],
    )
