# SPDX-License-Identifier: Apache-2.0
"""What all label mappings share: the checks of the data."""

from abc import ABCMeta, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_v2s.runtime.moved_modules import moved_name
from sklearn_v2s.runtime.sklearn_compat import fit_context
from sklearn_v2s.series.weights import check_weights

__all__ = ["BaseLabelMapping", "Codes", "Floats"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)


def _encode(labels: NDArray[Any], classes: ArrayLike | None) -> tuple[Any, Codes]:
    """Return the sorted target classes and the position of each label among them."""
    seen, codes = np.unique(labels, return_inverse=True)
    if classes is None:
        return seen, codes
    known = np.asarray(classes)
    if known.ndim != 1 or known.size == 0:
        raise ValueError(
            f"classes has shape {known.shape}: give a one-dimensional array with every "
            "target class, or None to take the classes from y."
        )
    known = np.unique(known)
    # A dictionary, for np.isin would call the number 1 and the string "1" equal.
    position = {label: index for index, label in enumerate(known.tolist())}
    unknown = [label for label in seen.tolist() if label not in position]
    if unknown:
        raise ValueError(
            f"y has the labels {unknown[:10]!r}, which classes={known.tolist()[:10]!r} "
            "lacks: classes must name every target class."
        )
    return known, np.array([position[label] for label in seen.tolist()])[codes]


class BaseLabelMapping(TransformerMixin, BaseEstimator, metaclass=ABCMeta):
    """Reduce source scores of shape (n, K) to target-class scores of shape (n, C).

    A subclass sets its fitted attributes in ``_fit`` and returns non-negative scores
    from ``_transform``; the checks of the data are made here, once, and those of its
    parameters by what ``_parameter_constraints`` says of them, as in scikit-learn.

    Attributes
    ----------
    reads_logits : bool
        Whether `source_scores` must be the logits of the source classes. If False,
        any real features will do, such as embeddings.
    refit_each_epoch : bool
        Whether a training fits the mapping again at the beginning of each epoch,
        because it depends on the source scores, which change with the perturbation.
    """

    _parameter_constraints: dict[str, Any] = {}

    reads_logits: bool = True
    refit_each_epoch: bool = False
    # Kinds of numbers in which scores are read as they come.
    _dtypes: tuple[type, ...] = (np.float64,)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        source_scores: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Learn the mapping.

        Parameters
        ----------
        source_scores : array-like of shape (n_samples, n_features)
            Outputs of the source model for each sample: the logits of its K source
            classes or, where ``reads_logits`` is False, any real features.
        y : array-like of shape (n_samples,)
            Target class of each sample: integers, strings or booleans.
        sample_weight : float or array-like of shape (n_samples,), default=None
            Non-negative weights that stand for counts: weight 0 is the same as leaving
            the row out, an integer weight w the same as repeating the row w times.
            A number is the weight of every row; None stands for 1.
        classes : array-like of shape (n_classes,), default=None
            All target classes, where `y` may lack some of them. None takes the classes
            from the rows of `y` with a positive weight.

        Returns
        -------
        self : object
            The fitted mapping.

        Raises
        ------
        ValueError
            If a parameter, the data or the weights are not as described.
        """
        scores, labels = validate_data(self, source_scores, y, dtype=self._dtypes)
        check_classification_targets(labels)
        weight = check_weights(sample_weight, len(scores))
        kept = weight > 0
        if not kept.all():
            scores, labels, weight = scores[kept], labels[kept], weight[kept]
        known, codes = _encode(labels, classes)
        self._fit(scores, codes, weight, len(known))
        self.classes_ = known
        return self

    def complete(self) -> None:
        """Add fitted attributes that a file of an earlier release lacks."""

    def check_arrays(self, n_features: int, n_classes: int) -> None:
        """Check that what was read from a file fits together.

        Arrays of another shape could be broadcast, and give predictions all the same.

        Parameters
        ----------
        n_features : int
            Number of source outputs that the mapping reads.
        n_classes : int
            Number of target classes.

        Raises
        ------
        TypeError
            If an array has another shape.
        """
        shapes = {"classes_": (n_classes,), **self._shapes(n_features, n_classes)}
        for name, shape in shapes.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise TypeError(f"{name} has shape {found}, expected {shape}")

    def _shapes(self, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the arrays that predictions are made of."""
        return {}

    def transform(self, source_scores: ArrayLike) -> Floats:
        """Return non-negative scores of the target classes.

        Parameters
        ----------
        source_scores : array-like of shape (n_samples, n_features)
            Outputs of the source model for each sample, as given to ``fit``.

        Returns
        -------
        target_scores : ndarray of shape (n_samples, n_classes)
            Scores in the order of ``classes_``. Dividing a row by its sum gives
            probabilities.
        """
        check_is_fitted(self)
        return self._transform(
            validate_data(self, source_scores, dtype=self._dtypes, reset=False)
        )

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Return one name for each target class.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Ignored; only here because scikit-learn passes it.

        Returns
        -------
        feature_names_out : ndarray of str objects of shape (n_classes,)
            ``class_`` followed by the target class.
        """
        check_is_fitted(self)
        return np.array([f"class_{label}" for label in self.classes_], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Declare that ``fit`` needs `y`."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @abstractmethod
    def _fit(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> None:
        """Set the fitted attributes from checked rows, all of positive weight."""

    @abstractmethod
    def _transform(self, scores: Floats) -> Floats:
        """Return the target-class scores of checked rows."""
