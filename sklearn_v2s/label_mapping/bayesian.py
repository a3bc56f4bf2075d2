# SPDX-License-Identifier: Apache-2.0
"""Soft mapping: every target class weighs all source classes (BLM, BLM+)."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.special import softmax

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.source_class_mapping import (
    BaseSourceClassMapping,
    class_totals,
    prediction_frequencies,
)
from sklearn_v2s.runtime.sklearn_compat import NumberInterval

__all__ = ["BayesianLabelMapping"]

# Share of the source classes that BLM+ looks at, from the authors' code.
_TOP_SHARE = 0.15


class BayesianLabelMapping(BaseSourceClassMapping):
    """Soft many-to-many weights from how often each source class is predicted.

    Of the logits their mean over the training samples is subtracted first, so that the
    source class that is *predicted* is the one that stands out most in a sample. One
    source class often wins for nearly all series: counted as it comes, it would fill
    the columns of all target classes, whose scores would then be equal whatever the
    series, and without a gradient.

    With ``N[s, t]``, the weight of the samples of target class t for which the source
    model predicts s, the weight of s in t is ``N[s, t] / (sum_t N[s, t] + smoothing)``,
    divided by the sum of its column (BLM, [1]_). BLM+ replaces the counts by the
    probabilities of the `top_k` most probable source classes of each sample. A target
    class without any samples weighs all source classes equally.

    Source classes are shared, so there may be more target than source classes.

    Parameters
    ----------
    smoothing : float, default=1.0
        Laplace smoothing, at least 0. The larger, the less do source classes count
        that are seldom predicted.
    plus : bool, default=False
        Whether to sum probabilities (BLM+) instead of counting predictions (BLM).
    top_k : int, default=None
        Number of source classes of each sample that BLM+ sums, at most K. None takes
        ``max(1, round(0.15 * K))``; the authors' code takes the floor of 15 % of C,
        which is 0 for few target classes. Not read where `plus` is False.
    aggregation : {"probability", "logit"}, default="logit"
        "logit" returns ``softmax((source_scores - offset_) @ weights_)``, as the
        authors do but for the offset; "probability" returns
        ``softmax(source_scores - offset_) @ weights_``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    weights_ : ndarray of shape (n_features, n_classes)
        Weight of each source class in each target class. Columns sum to one.
    offset_ : ndarray of shape (n_features,)
        Weighted mean of the logits of the training samples.
    frequencies_ : ndarray of shape (n_features, n_classes)
        The weighted counts, or sums of probabilities, N.
    n_features_in_ : int
        Number K of source classes.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    IterativeLabelMapping : Hard groups from the same counts.

    References
    ----------
    .. [1] C. Cai, Z. Ye, L. Feng, J. Qi and F. Liu, "Bayesian-guided Label Mapping for
       Visual Reprogramming", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import BayesianLabelMapping
    >>> logits = 5 * np.eye(3)[[0, 0, 1, 1, 2]]
    >>> mapping = BayesianLabelMapping().fit(logits, ["a", "a", "a", "b", "b"])
    >>> mapping.weights_.round(3)
    array([[0.667, 0.   ],
           [0.333, 0.4  ],
           [0.   , 0.6  ]])
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSourceClassMapping._parameter_constraints,
        "smoothing": [NumberInterval(Real, 0, None, closed="left")],
        "plus": ["boolean"],
        "top_k": [NumberInterval(Integral, 1, None, closed="left"), None],
    }

    refit_each_epoch = True

    frequencies_: Floats
    offset_: Floats

    def __init__(
        self,
        smoothing: float = 1.0,
        plus: bool = False,
        top_k: int | None = None,
        aggregation: str = "logit",
    ) -> None:
        self.smoothing = smoothing
        self.plus = plus
        self.top_k = top_k
        self.aggregation = aggregation

    def _fit_weights(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> Floats:
        self.offset_ = np.average(scores, axis=0, weights=weight)
        scores = scores - self.offset_
        counts = (
            self._top_probabilities(scores, codes, weight, n_classes)
            if self.plus
            else prediction_frequencies(scores, codes, weight, n_classes)
        )
        total = counts.sum(axis=1, keepdims=True) + float(self.smoothing)
        weights = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        column = weights.sum(axis=0)
        weights[:, column == 0] = 1
        self.frequencies_ = counts
        return weights / weights.sum(axis=0)

    def _top_probabilities(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> Floats:
        """Sum, for each target class, the largest source probabilities of its rows."""
        n_sources = scores.shape[1]
        top_k = self.top_k
        if top_k is None:
            top_k = max(1, round(_TOP_SHARE * n_sources))
        elif top_k > n_sources:
            raise ValueError(
                f"top_k={top_k!r} is not allowed: give an integer from 1 to "
                f"{n_sources}, the number of source classes, or None."
            )
        # A stable sort, so that of equal scores the first is taken, as argmax does.
        top = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        probability = softmax(scores, axis=1)
        kept = np.zeros_like(probability)
        rows = np.arange(len(scores))[:, None]
        kept[rows, top] = probability[rows, top]
        return class_totals(kept, codes, weight, n_classes)

    def _transform(self, scores: Floats) -> Floats:
        return super()._transform(scores - self.offset_)

    def _shapes(self, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
        shapes = super()._shapes(n_features, n_classes)
        return {**shapes, "offset_": (n_features,)}

    def complete(self) -> None:
        """Add `offset_` to what a file of 0.1.0 holds, where there was none."""
        if not hasattr(self, "offset_"):
            self.offset_ = np.zeros(len(self.weights_))
