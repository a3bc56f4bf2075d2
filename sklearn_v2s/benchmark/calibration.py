# SPDX-License-Identifier: Apache-2.0
"""Probabilities for classifiers whose head only gives decision scores.

The ridge heads of the ROCKET family have a `predict_proba` of zeros and ones. For
log-loss and calibration error they get a softmax of their decision scores times one
factor, which is fitted on cross-validated scores of the training data. Predictions
stay those of the head: a factor above 0 does not change which score is the largest.

``CalibratedClassifierCV(method="temperature")`` of scikit-learn would fit the kernels
anew in each fold and refuses classes of fewer series than folds, which the UCR archive
has; here only the head is fitted anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.base import clone

from sklearn_v2s.label_mapping.linear import fit_temperature

__all__ = ["CalibratedHead", "class_scores", "find_head"]


class FoundHead(NamedTuple):
    """Last step of a fitted classifier and what leads to it.

    Attributes
    ----------
    head : estimator
        Fitted, with `decision_function`.
    transform : callable
        From series, as the classifier takes them, to what the head reads.
    """

    head: Any
    transform: Callable[[np.ndarray], np.ndarray]


def find_head(classifier: Any) -> FoundHead:
    """Return head and transform of a fitted classifier.

    Parameters
    ----------
    classifier : estimator
        A fitted `RocketClassifier`, `MiniRocketClassifier` or
        `MultiRocketHydraClassifier` of aeon, or any scikit-learn classifier with
        `decision_function`, which is its own head.

    Returns
    -------
    FoundHead
        Head and transform.

    Raises
    ------
    TypeError
        If the classifier has none of these forms.
    """
    if hasattr(classifier, "pipeline_"):  # RocketClassifier, MiniRocketClassifier
        pipeline = classifier.pipeline_
        return FoundHead(
            pipeline[-1], lambda X: pipeline[:-1].transform(_with_channels(X))
        )
    if hasattr(classifier, "_transform_multirocket"):  # MultiRocketHydraClassifier
        # aeon keeps these four without a common pipeline.
        steps = [
            (classifier._transform_hydra, classifier._scale_hydra),
            (classifier._transform_multirocket, classifier._scale_multirocket),
        ]

        def transform(X: np.ndarray) -> np.ndarray:
            X = _with_channels(X)
            parts = [scale.transform(kernels.transform(X)) for kernels, scale in steps]
            return np.concatenate(parts, axis=1)

        return FoundHead(classifier.classifier, transform)
    if hasattr(classifier, "decision_function"):
        return FoundHead(classifier, lambda X: X)
    raise TypeError(
        f"{type(classifier).__name__} has no head that is known here: neither "
        "decision_function, nor the attributes pipeline_ or _transform_multirocket of "
        "aeon's classifiers. Give it a predict_proba, or use a release of aeon that "
        "keeps them (1.6 does)."
    )


def _with_channels(X: np.ndarray) -> np.ndarray:
    return X[:, None, :] if X.ndim == 2 else X


def class_scores(head: Any, features: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return decision scores with a column for each class.

    Parameters
    ----------
    head : estimator
        Fitted, with `decision_function`.
    features : ndarray of shape (n, n_features)
        What the head reads.
    classes : ndarray of shape (n_classes,)
        Sorted; the head has seen all or some of them.

    Returns
    -------
    ndarray of shape (n, n_classes)
        Scores; -1 for a class that the head has not seen, which was -1 in all targets
        of its regression.
    """
    scores = np.asarray(head.decision_function(features), dtype=np.float64)
    if scores.ndim == 1:
        # One regression on -1 and 1 stands for two that mirror each other.
        scores = np.column_stack([-scores, scores])
    full = np.full((len(scores), len(classes)), -1.0)
    full[:, np.searchsorted(classes, head.classes_)] = scores
    return full


class CalibratedHead:
    """Softmax of a factor times the decision scores of a head.

    The factor, an inverse temperature, minimises the log-loss of stratified 5-fold
    cross-validated scores of the same head, by the very rule that `LinearLabelMapping`
    has for its own scores: no method is favoured.

    Parameters
    ----------
    head : estimator
        Fitted, with `decision_function`; it is cloned for the folds.
    n_folds : int, default=5
        Folds, fewer where all classes have fewer series. A class of one series is
        absent from the training side of one fold: there its score is -1, as that of
        a ridge fitted to other classes only would be, and its series is left out.
    random_state : int, default=0
        Of the folds.

    Attributes
    ----------
    factor_ : float
        Inverse temperature; 1 where the data is too small for two folds with two
        classes on each training side.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger. On calibration of modern neural networks. ICML 2017.

    Platt. Probabilistic outputs for support vector machines and comparisons to
    regularized likelihood methods. Advances in Large Margin Classifiers, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import RidgeClassifierCV
    >>> from sklearn_v2s.benchmark.calibration import CalibratedHead
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> y = np.where(X[:, 0] > 0, "up", "down")
    >>> head = RidgeClassifierCV().fit(X, y)
    >>> proba = CalibratedHead(head).fit(X, y).predict_proba(X)
    >>> bool((head.classes_[proba.argmax(axis=1)] == head.predict(X)).all())
    True
    """

    factor_: float

    def __init__(self, head: Any, n_folds: int = 5, random_state: int = 0) -> None:
        self.head = head
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(self, features: np.ndarray, y: np.ndarray) -> "CalibratedHead":
        """Fit the factor.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            What the head was fitted on.
        y : ndarray of shape (n,)
            Labels that the head was fitted on.

        Returns
        -------
        CalibratedHead
            This object.
        """
        classes = self.head.classes_
        scores, codes = self._cross_validated_scores(features, y, classes)
        if len(codes) == 0:
            self.factor_ = 1.0
            return self
        self.factor_ = fit_temperature(scores, codes, np.ones(len(codes)))
        return self

    def _cross_validated_scores(
        self, features: np.ndarray, y: np.ndarray, classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        codes = np.searchsorted(classes, y)
        n_folds = min(self.n_folds, int(np.bincount(codes).max()))
        # Not StratifiedKFold, which refuses or warns where classes are small: series,
        # shuffled and sorted by class, are dealt out to the folds in turn.
        order = np.random.default_rng(self.random_state).permutation(len(codes))
        order = order[np.argsort(codes[order], kind="stable")]
        folds = np.empty(len(codes), dtype=np.int64)
        folds[order] = np.arange(len(codes)) % n_folds
        scores, kept = [np.empty((0, len(classes)))], [codes[:0]]
        for fold in range(n_folds):
            train = folds != fold
            seen = np.unique(codes[train])
            if len(seen) < 2:
                continue
            # Scores of a class without training rows do not depend on the head.
            test = ~train & np.isin(codes, seen)
            if test.any():
                head = clone(self.head).fit(features[train], y[train])
                scores.append(class_scores(head, features[test], classes))
                kept.append(codes[test])
        return np.concatenate(scores), np.concatenate(kept)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return probabilities.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            What the head reads.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of the head's `classes_`.
        """
        scores = class_scores(self.head, features, self.head.classes_)
        return softmax(self.factor_ * scores, axis=1)
