# SPDX-License-Identifier: Apache-2.0
"""What all estimators of series share: checks, normalisation, seeds, predictions."""

from abc import ABCMeta, abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.runtime.sklearn_compat import StrOptions
from sklearn_v2s.series.checks import check_series
from sklearn_v2s.series.normalization import SeriesNormalizer
from sklearn_v2s.series.weights import balance_classes, check_weights

__all__ = ["SeriesClassifier", "SeriesEstimator", "TrainingData"]

# Smallest score of a class: keeps logarithms finite.
_TINY = np.finfo(np.float64).tiny
# What `check_series` learns of the series.
_SHAPE_ATTRIBUTES = (
    "n_features_in_",
    "n_channels_in_",
    "n_timepoints_in_",
    "unequal_length_",
    "feature_names_in_",
)


class TrainingData(NamedTuple):
    """Checked training data: the rows of positive weight.

    Attributes
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        Series as the user gave them; shorter ones end in NaN.
    codes : ndarray of shape (n,)
        Positions of the labels in ``classes_``.
    weight : ndarray of shape (n,)
        Sample weights times class weights.
    """

    series: np.ndarray
    codes: np.ndarray
    weight: np.ndarray


class SeriesEstimator(BaseEstimator):
    """Base of the estimators that take series.

    Subclasses have the parameters ``normalization``, ``missing``, ``precision``,
    ``device`` and ``random_state``. Their ``fit`` works on an `_unfitted_copy` and
    hands it to `_assign_fitted` when all is done, so that a fit that fails or is
    interrupted leaves the estimator as it was.
    """

    _parameter_constraints: dict[str, Any] = {
        "normalization": [StrOptions({"global", "series"}), None],
        "missing": [StrOptions({"error", "interpolate"})],
        "precision": [StrOptions({"float32", "float64"})],
        "device": [str, torch.device],
        "random_state": ["random_state"],
    }

    # Set by fit; declared here for type checkers.
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

    def _unfitted_copy(self, keep_shape: bool = False) -> Self:
        """Return an estimator with the same parameter objects, not fitted.

        With `keep_shape` it has the shape of the series of the previous fit, for checks
        with ``reset=False``.
        """
        copied = type(self).__new__(type(self))
        for name, value in self.get_params(deep=False).items():
            setattr(copied, name, value)
        if keep_shape:
            for name in _SHAPE_ATTRIBUTES:
                if hasattr(self, name):
                    setattr(copied, name, getattr(self, name))
        return copied

    def _assign_fitted(self, fitted: Self) -> Self:
        """Take over what was fitted on an `_unfitted_copy`, and nothing of before."""
        parameters = self.get_params(deep=False)
        for name in [name for name in vars(self) if name.endswith("_")]:
            if name not in parameters:
                delattr(self, name)
        for name, value in vars(fitted).items():
            if name not in parameters:
                setattr(self, name, value)
        return self

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
    ) -> SeriesNormalizer:
        with np.errstate(over="ignore", invalid="ignore"):
            normalizer = SeriesNormalizer(self.normalization).fit(series, sample_weight)
        if not np.isfinite(normalizer.scale_).all():
            raise ValueError(
                f"X has values as large as {np.nanmax(np.abs(series)):.3g}, whose "
                "variance is infinite in float64. Scale the series down."
            )
        return normalizer

    def _checked_series(self, X: Any) -> np.ndarray:
        """Check X against the shape of the fit."""
        check_is_fitted(self)
        series, _ = check_series(self, X, reset=False, missing=self.missing)
        return series

    def _normalized_series(self, X: Any) -> np.ndarray:
        """Check X against the shape of the fit, and normalise it."""
        series = self._checked_series(X)
        return self._normalizer.transform(series)


class SeriesClassifier(ClassifierMixin, SeriesEstimator, metaclass=ABCMeta):
    """Base of the classifiers of series.

    Subclasses have the parameter ``class_weight`` and define `_scores`.
    """

    classes_: np.ndarray

    def _check_training_data(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        classes: np.ndarray | None = None,
        reset: bool = True,
    ) -> TrainingData:
        """Check the training data; set ``classes_`` and the shape of the series."""
        series, y = check_series(self, X, y, reset=reset, missing=self.missing)
        try:
            check_classification_targets(y)
        except (TypeError, ValueError) as error:
            kinds = sorted({type(label).__name__ for label in np.asarray(y).tolist()})
            if len(kinds) < 2:
                raise
            raise TypeError(
                f"y holds labels of the types {kinds}, which have no common order; use "
                "strings only, or numbers only."
            ) from error
        weight = check_weights(sample_weight, len(series))
        # A series of weight zero is the same as no series.
        kept = weight > 0
        series, y, weight = series[kept], y[kept], weight[kept]
        labels, codes = np.unique(y, return_inverse=True)
        if classes is not None:
            unknown = np.setdiff1d(labels, classes)
            if len(unknown):
                raise ValueError(
                    f"y has the labels {unknown.tolist()}, which are not among the "
                    f"classes {classes.tolist()}."
                )
            codes = np.searchsorted(classes, y)
            labels = classes
        if len(labels) < 2:
            raise ValueError(
                f"{type(self).__name__} needs samples of at least 2 classes, but y has "
                f"only one class: {labels.tolist()[0]!r}."
            )
        self.classes_ = labels
        weight = weight * balance_classes(self.class_weight, labels, codes, weight)
        kept = weight > 0
        return TrainingData(series[kept], codes[kept], weight[kept])

    @abstractmethod
    def _scores(self, X: Any) -> np.ndarray:
        """Check X and return scores of 0 or more, in proportion to probabilities."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the target classes.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; rows sum to 1.
        """
        # A probability is never zero. The least score decides nothing but rows without
        # any.
        scores = np.maximum(self._scores(X), _TINY)
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
