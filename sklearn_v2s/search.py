# SPDX-License-Identifier: Apache-2.0
"""`V2SClassifierCV`: a search over settings whose fits share what they can."""

import re
import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.parameter_effects import idle_parameters
from sklearn_v2s.runtime.output_cache import OutputMemo
from sklearn_v2s.runtime.sklearn_compat import StrOptions, fit_context
from sklearn_v2s.runtime.user_warnings import warn_user

__all__ = ["V2SClassifierCV"]

_SEARCHED = ("mapping_size", "dropout", "n_segments", "max_epochs")


def _refits(search: "V2SClassifierCV") -> bool:
    if not search.refit:
        raise AttributeError(
            "refit=False leaves no classifier to predict with; set refit=True, or fit "
            "a V2SClassifier with best_params_."
        )
    return True


def _idle_texts(classifier: V2SClassifier) -> list[str]:
    """Return what is to be said of parameters without an effect, if they are valid."""
    try:
        return idle_parameters(classifier, classifier._setting())
    except (TypeError, ValueError):
        return []  # the fit says what is wrong, and scores it


class V2SClassifierCV(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Choose settings of a `V2SClassifier` by cross-validation, with shared work.

    It finds what ``GridSearchCV(estimator, grid, cv=cv)`` finds: each fold and setting
    is fitted and scored as there, with the estimator's own `random_state`. But no
    forward pass through the frozen source is computed twice. Where no perturbation is
    trained, the source outputs of a series are computed once for all folds and settings
    with the same placement and perturbation; where perturbations are trained, settings
    share what comes before the training.

    Parameters
    ----------
    estimator : V2SClassifier, default=None
        What is not searched over; None takes the defaults. It is cloned.
    mapping_size : list of int or None, default=None
        Values of the parameter of that name to choose among. None leaves the
        estimator's.
    dropout : list of float, default=None
        The same.
    n_segments : list of int or "auto", default=None
        The same.
    max_epochs : list of int, default=None
        The same: ``[0, 5]`` chooses between the random perturbation and a trained
        one; of equally good ones the first is taken.
    cv : int, splitter or iterable of (train, test), default=None
        Folds, as in `sklearn.model_selection.GridSearchCV`: None takes 5, stratified.
    scoring : str, callable, list, tuple or dict, default=None
        What is best, as there; None takes the accuracy.
    n_jobs : int, default=None
        Processes, as there, for searches that train. Others stay in one process, where
        they are faster.
    refit : bool, str or callable, default=True
        Fit again with the best setting and all data, as there.
    error_score : "raise" or number, default=np.nan
        Score of a setting that cannot be fitted, as there.
    return_train_score : bool, default=False
        Score the training parts too, as there.

    Attributes
    ----------
    cv_results_ : dict
        As of `GridSearchCV`. Shared computations are in the time of the first fit that
        needs them.
    best_params_ : dict
        The best setting.
    best_score_ : float
        Its mean score over the folds.
    best_index_ : int
        Its place in `cv_results_`.
    best_estimator_ : V2SClassifier
        Fitted to all data with the best setting, if `refit`.
    refit_time_ : float
        Seconds of that fit.
    scorer_ : callable or dict
        What scored.
    n_splits_ : int
        Number of folds.
    multimetric_ : bool
        Whether there are several scores.
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    n_features_in_ : int
        Values of a series, over all channels.

    See Also
    --------
    V2SClassifier : The classifier.
    sklearn.model_selection.GridSearchCV : For any other parameters.

    Notes
    -----
    With ``random_state=None`` all folds and settings start from one random perturbation
    drawn for the search, so that settings are compared under equal conditions.

    On a CPU scores are those of `GridSearchCV` to the last bit where a perturbation is
    trained, elsewhere up to rounding.

    A `memory` of the estimator takes the place of the shared one.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, sections 5.2 and D.4 (what was searched over there).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier, V2SClassifierCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = V2SClassifier(
    ...     source_output="logits", label_mapping="frequency", random_state=0
    ... )
    >>> search = V2SClassifierCV(
    ...     classifier, mapping_size=[1, 5], n_segments=[3, 8], cv=2
    ... )
    >>> sorted(search.fit(X, y).best_params_)
    ['mapping_size', 'n_segments']
    >>> search.predict(X).shape
    (20,)
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [V2SClassifier, None],
        "mapping_size": ["array-like", None],
        "dropout": ["array-like", None],
        "n_segments": ["array-like", None],
        "max_epochs": ["array-like", None],
        "cv": ["cv_object"],
        "scoring": [str, callable, list, tuple, dict, None],
        "n_jobs": [Integral, None],
        "refit": ["boolean", str, callable],
        "error_score": [StrOptions({"raise"}), Real],
        "return_train_score": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        mapping_size: Any = None,
        dropout: Any = None,
        n_segments: Any = None,
        max_epochs: Any = None,
        cv: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        self.estimator = estimator
        self.mapping_size = mapping_size
        self.dropout = dropout
        self.n_segments = n_segments
        self.max_epochs = max_epochs
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.refit = refit
        self.error_score = error_score
        self.return_train_score = return_train_score

    # Set by fit; declared here for type checkers.
    best_estimator_: V2SClassifier
    multimetric_: bool
    scorer_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        of_estimator = get_tags(self._unfitted())
        tags.input_tags = of_estimator.input_tags
        tags.classifier_tags = of_estimator.classifier_tags
        return tags

    def _unfitted(self) -> V2SClassifier:
        return V2SClassifier() if self.estimator is None else self.estimator

    def _grid(self) -> dict[str, list[Any]]:
        """Return the values to choose among, of each parameter that has some."""
        grid = {}
        for name in _SEARCHED:
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) == 0:
                raise ValueError(
                    f"{name}={values!r} leaves nothing to choose from: give a list "
                    f"with at least one value, or None to keep the estimator's {name}."
                )
            grid[name] = list(values)
        return grid

    @fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> Self:
        """Find the best setting and fit it.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, or a list of series of unequal length.
        y : array-like of shape (n,)
            Labels.
        sample_weight : array-like of shape (n,), default=None
            Weights, for fits and for scores that take them, as in `GridSearchCV`.
        groups : array-like of shape (n,), default=None
            Groups of rows for splitters that keep them together.

        Returns
        -------
        V2SClassifierCV
            The fitted search.

        Raises
        ------
        ValueError
            If X, y, a parameter or a list of values cannot be used.
        """
        grid = self._grid()
        estimator = clone(self._unfitted())
        # At once and by name, instead of once for each fit.
        clone(estimator)._check_training_data(X, y, sample_weight)
        drawn = estimator.random_state is None
        if drawn:
            rng = check_random_state(None)
            estimator.set_params(random_state=rng.randint(np.iinfo(np.int32).max))
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
        X, y = indexable(X, y)
        # Splitters may draw: all see one draw.
        splits = list(check_cv(self.cv, y, classifier=True).split(X, y, groups))
        epochs = grid.get("max_epochs", [estimator.max_epochs])
        # A value that is no number is left to the fit, which raises an error.
        trains = not all(isinstance(n, Integral) and n == 0 for n in epochs)
        given = estimator.memory
        if given is None:
            estimator.set_params(memory=OutputMemo(by_row=not trains))
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        search = GridSearchCV(
            estimator,
            grid,
            scoring=self.scoring,
            n_jobs=self.n_jobs if trains else None,
            refit=self.refit,
            cv=splits,
            error_score=self.error_score,
            return_train_score=self.return_train_score,
        )
        texts = {
            text
            for setting in ParameterGrid(grid)
            for text in _idle_texts(clone(estimator).set_params(**setting))
        }
        for text in sorted(texts):
            warn_user(text)
        with warnings.catch_warnings():
            # Said once, not once for each fit.
            for text in texts:
                warnings.filterwarnings("ignore", re.escape(text), UserWarning)
            search.fit(X, y, **weights)
        for name in (
            "cv_results_", "best_index_", "best_params_", "best_score_", "scorer_",
            "n_splits_", "multimetric_", "refit_time_", "feature_names_in_",
        ):  # fmt: skip
            self.__dict__.pop(name, None)
            if hasattr(search, name):
                setattr(self, name, getattr(search, name))
        if self.scoring is None:
            # That of the search holds on to the shared outputs.
            self.scorer_ = check_scoring(self._unfitted())
        self.__dict__.pop("best_estimator_", None)
        if self.refit:
            self.best_estimator_ = search.best_estimator_.set_params(memory=given)
            if drawn:
                self.best_estimator_.set_params(random_state=None)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The target classes."""
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Values of a series, over all channels."""
        return self.best_estimator_.n_features_in_

    def _best(self) -> V2SClassifier:
        check_is_fitted(self)
        return self.best_estimator_

    @available_if(_refits)
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each series, of shape (n,)."""
        return self._best().predict(X)

    @available_if(_refits)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the target classes, of shape (n, n_classes)."""
        return self._best().predict_proba(X)

    @available_if(_refits)
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return logarithms of `predict_proba`, of shape (n, n_classes)."""
        return self._best().predict_log_proba(X)

    @available_if(_refits)
    def decision_function(self, X: Any) -> np.ndarray:
        """Return log-odds for two classes, log-probabilities for more."""
        return self._best().decision_function(X)

    @available_if(_refits)
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score by which settings were chosen, of the best classifier.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.
        y : array-like of shape (n,)
            Labels.
        sample_weight : array-like of shape (n,), default=None
            Weights.

        Returns
        -------
        float
            The score.
        """
        best = self._best()
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        scorer = self.scorer_
        if isinstance(scorer, dict):
            scorer = scorer[self.refit]
        found = scorer(best, X, y, **weights)
        return found[self.refit] if isinstance(found, dict) else found
