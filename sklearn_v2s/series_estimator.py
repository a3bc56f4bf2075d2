# SPDX-License-Identifier: Apache-2.0
"""What all estimators of series share: checks, normalisation, seeds, predictions."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s._compat import StrOptions
from sklearn_v2s.series import SeriesNormalizer, check_series
from sklearn_v2s.weights import balance_classes, check_weights

__all__ = ["SeriesClassifier", "SeriesEstimator", "epoch_rows"]

_HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "valid_loss",
    "train_accuracy",
    "valid_accuracy",
    "sliced_wasserstein",
    "dur",
)
# Smallest score of a class: keeps logarithms finite.
_TINY = np.finfo(np.float64).tiny


def epoch_rows(history: Any) -> list[dict[str, float]]:
    """Return losses, accuracies and seconds of each epoch of a skorch history."""
    return [
        {key: float(row[key]) for key in _HISTORY_COLUMNS if key in row}
        for row in history
    ]


class SeriesEstimator(BaseEstimator):
    """Base of the estimators that take series.

    Subclasses have the parameters ``normalization``, ``missing``, ``precision``,
    ``device`` and ``random_state``.
    """

    _parameter_constraints: dict[str, Any] = {
        "normalization": [StrOptions({"global", "series"}), None],
        "missing": [StrOptions({"error", "interpolate"})],
        "precision": [StrOptions({"float32", "float64"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    _normalizer: SeriesNormalizer
    n_channels_in_: int
    n_timepoints_in_: int
    n_features_in_: int
    unequal_length_: bool

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "interpolate"
        return tags

    @contextmanager
    def _unchanged_on_failure(self) -> Iterator[None]:
        """Leave the estimator as it was if fitting fails or is broken off."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self._leave_device()
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _leave_device(self) -> None:
        """Bring back to the CPU what fitting moved to a device."""

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def _seeds(self, count: int) -> list[int]:
        """Draw independent seeds; seed i does not depend on how many are drawn."""
        rng = check_random_state(self.random_state)
        root = np.random.SeedSequence(int(rng.randint(np.iinfo(np.int32).max)))
        return [
            int(child.generate_state(1, np.uint64)[0] >> 1)
            for child in root.spawn(count)
        ]

    def _fit_normalizer(
        self, series: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            normalizer = SeriesNormalizer(self.normalization).fit(series, sample_weight)
        if not np.isfinite(normalizer.scale_).all():
            raise ValueError(
                f"X has values as large as {np.nanmax(np.abs(series)):.3g}, whose "
                "variance is infinite in float64. Scale the series down."
            )
        self._normalizer = normalizer

    def _series(self, X: Any) -> np.ndarray:
        """Check X for a fitted estimator and return normalised series."""
        check_is_fitted(self)
        series, _ = check_series(self, X, reset=False, missing=self.missing)
        return self._normalizer.transform(series)


class SeriesClassifier(ClassifierMixin, SeriesEstimator, metaclass=ABCMeta):
    """Base of the classifiers of series.

    Subclasses have the parameter ``class_weight`` and define `predict_proba`.
    """

    classes_: np.ndarray

    def _check_training_data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: np.ndarray | None = None,
        reset: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return series, encoded classes and weights of the rows that count."""
        series, y = check_series(self, X, y, reset=reset, missing=self.missing)
        try:
            check_classification_targets(y)
        except TypeError as error:
            kinds = sorted({type(label).__name__ for label in y.tolist()})
            raise TypeError(
                f"y holds labels of the types {kinds}, which have no common order; use "
                "strings only, or numbers only."
            ) from error
        weight = check_weights(sample_weight, len(series))
        # A series of weight zero is the same as no series.
        counts = weight > 0
        series, y, weight = series[counts], y[counts], weight[counts]
        found, codes = np.unique(y, return_inverse=True)
        if classes is not None:
            unknown = np.setdiff1d(found, classes)
            if len(unknown):
                raise ValueError(
                    f"y has the labels {unknown.tolist()}, which are not among the "
                    f"classes {classes.tolist()}."
                )
            codes = np.searchsorted(classes, y)
            found = classes
        if len(found) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but y has "
                f"only one class: {found.tolist()[0]!r}."
            )
        self.classes_ = found
        weight = weight * balance_classes(self.class_weight, found, codes, weight)
        counts = weight > 0
        return series[counts], codes[counts], weight[counts]

    @abstractmethod
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the target classes."""

    @staticmethod
    def _distributions(scores: np.ndarray) -> np.ndarray:
        """Return scores as probabilities whose rows sum to 1 and are never zero."""
        # The offset decides nothing but rows without any score.
        scores = np.maximum(scores, _TINY)
        return scores / scores.sum(axis=1, keepdims=True)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return logarithms of `predict_proba`, of shape (n, n_classes)."""
        return np.log(self.predict_proba(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return log-odds for two classes, log-probabilities for more.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            Positive where the second of two classes is the likelier one.
        """
        log_proba = self.predict_log_proba(X)
        if len(self.classes_) == 2:
            return log_proba[:, 1] - log_proba[:, 0]
        return log_proba

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each series, of shape (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
