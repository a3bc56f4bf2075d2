# SPDX-License-Identifier: Apache-2.0
"""What mappings share that weigh source classes by a matrix."""

from abc import abstractmethod
from typing import Any

import numpy as np
from scipy.special import softmax

from sklearn_v2s.label_mapping.base import BaseLabelMapping, Codes, Floats
from sklearn_v2s.runtime.sklearn_compat import StrOptions

__all__ = ["BaseSourceClassMapping", "class_totals", "prediction_frequencies"]

# A floor for scores: a row that underflows to zeros could not be divided by its sum.
_SMALLEST = np.finfo(np.float64).tiny


class BaseSourceClassMapping(BaseLabelMapping):
    """Weigh the source classes for each target class by a fixed matrix.

    A subclass has the parameter `aggregation` and returns the matrix from
    ``_fit_weights``.

    Attributes
    ----------
    weights_ : ndarray of shape (n_features, n_classes)
        Weight of each source class in each target class; columns sum to one.
    """

    _parameter_constraints: dict[str, Any] = {
        "aggregation": [StrOptions({"probability", "logit"})]
    }

    aggregation: str
    weights_: Floats

    def _fit(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> None:
        self.weights_ = self._fit_weights(scores, codes, weight, n_classes)

    @abstractmethod
    def _fit_weights(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> Floats:
        """Return the matrix of shape (source classes, target classes)."""

    def _shapes(self, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
        return {"weights_": (n_features, n_classes)}

    def _transform(self, scores: Floats) -> Floats:
        # The parameter may have been set anew since fit.
        self._validate_params()
        if self.aggregation == "logit":
            return softmax(scores @ self.weights_, axis=1)
        return np.maximum(softmax(scores, axis=1) @ self.weights_, _SMALLEST)


def class_totals(rows: Floats, codes: Codes, weight: Floats, n_classes: int) -> Floats:
    """Sum weighted rows class by class; the result has shape (columns, classes)."""
    membership = np.zeros((len(codes), n_classes))
    membership[np.arange(len(codes)), codes] = weight
    return rows.T @ membership


def prediction_frequencies(
    scores: Floats, codes: Codes, weight: Floats, n_classes: int
) -> Floats:
    """Count, for each source and target class, the weight of the samples predicted so.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_sources)
        Logits of the source classes.
    codes : ndarray of shape (n_samples,)
        Target class of each sample, from 0 to ``n_classes - 1``.
    weight : ndarray of shape (n_samples,)
        Weight of each sample.
    n_classes : int
        Number of target classes.

    Returns
    -------
    frequencies : ndarray of shape (n_sources, n_classes)
        Total weight of the samples of a target class whose largest logit is that of a
        source class; of equal logits the first counts.
    """
    frequencies = np.zeros((scores.shape[1], n_classes))
    np.add.at(frequencies, (scores.argmax(axis=1), codes), weight)
    return frequencies
