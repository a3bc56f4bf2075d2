# SPDX-License-Identifier: Apache-2.0
"""Learned linear mapping, with closed-form leave-one-out for its two free numbers."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_v2s.label_mapping.base import BaseLabelMapping, Codes, Floats
from sklearn_v2s.label_mapping.ridge import fit_ridge_path
from sklearn_v2s.label_mapping.standard_rows import (
    StandardRows,
    chunks,
    long_blocks,
    standardise,
)
from sklearn_v2s.runtime.sklearn_compat import NumberInterval, StrOptions

__all__ = ["LinearLabelMapping", "fit_temperature"]

# Relative to the total variance, sum of weights times number of varying features. That
# is at least the largest eigenvalue, so the grid starts from next to nothing whatever
# the shape of the data. It ends well before the constant model: the squared error of a
# few rows often prefers that one, and loses what the features tell of the classes. How
# sure the map may be is for the temperature to say. Chosen on training parts, with few
# and with all rows (docs/method.md).
_RELATIVE_ALPHAS = np.logspace(-7, -2, 21)
# Scores of +-1 targets differ by about 1. The lower bound keeps the order of the
# scores, so that the most probable class is always defined.
_TEMPERATURES = (1e-3, 1e4)

# For singleton classes alone, where there is nothing to choose by. With these, one
# series of each class predicted the others best in the training parts of 26 datasets.
_SINGLETON_ALPHA, _SINGLETON_TEMPERATURE = 1e-3, 2.0


class LinearLabelMapping(BaseLabelMapping):
    """Learned linear map from any source features to target classes.

    Features are standardised with the weighted mean and standard deviation; one that is
    constant up to float32 rounding is ignored. A row's standardised feature counts as
    at most twice the largest one in training, so that an output of the source that was
    flat on all training rows cannot decide alone about the row where it moves.
    ``transform`` returns ``softmax(temperature_ * decision_scores(X))``, whose rows sum
    to one.

    `solver` "ridge" fits one-vs-rest targets of -1 and +1 by penalised least squares
    with a free intercept. It costs one eigenproblem of size ``min(n, d)``, from which
    follow, for every penalty, the scores that each row would get from a fit without
    it [1]_. These leave-one-out scores choose the penalty (least squared error; of
    equally good ones the largest) and then the temperature (least log-loss), so
    probabilities do not inherit the confidence of a fit in the rows it has seen. Where
    both n and d are above 2,000, the penalty is chosen on 2,000 of the rows. Of a row
    of weight w one unit, ``min(w, 1)``, is left out, as if the row were repeated w
    times; the mean and scale of the features are kept, for they use no labels.

    The temperature is fitted to labels smoothed by one pseudo-row that belongs to all
    classes equally (after [2]_): with W the sum of the weights, the true class of a row
    gets ``(W + 1 / n_classes) / (W + 1)`` and each other ``1 / n_classes / (W + 1)``.
    So it stays finite where the classes separate perfectly, and a few rows cannot make
    it sure; weights scaled to sum to one say that there is one row. The only row of a
    class, of a weight up to 1, does not count for penalty and temperature: left out, it
    is predicted to be anything but its class, however well the features tell the
    classes apart. Where all classes are such, both are fixed (see docs/method.md).

    `solver` "logistic" fits scikit-learn's multinomial logistic regression, whose
    confidence is set by `C` alone. A class without rows is given one at the mean of the
    features, of weight ``1 / n_classes``. As the fit is iterative, weights and repeated
    rows agree up to `tol` only.

    Parameters
    ----------
    solver : {"ridge", "logistic"}, default="ridge"
        How the coefficients are fitted.
    block_sizes : sequence of int, default=None
        Features that belong together, such as the outputs of one view: how many
        neighbouring ones are in each block. Every block of 32 features or more that
        varies then has the same share in the variance that the map can use, and the
        same length in every row; a smaller block of p features has ``p / 32`` of such a
        share, for a few numbers with the share of a thousand would decide alone. None:
        every feature has the same share.
    alphas : float or array-like of shape (n_alphas,), default=None
        Penalties that ridge chooses from, positive, on the scale of a sum of squares
        over all rows. None takes 21 values from 1e-7 to 1e-2 times the sum of the
        weights times the number of features that vary.
    C : float, default=1.0
        Inverse strength of the penalty of the logistic regression.
    max_iter : int, default=1000
        Largest number of iterations of the logistic regression.
    tol : float, default=1e-8
        Tolerance at which the logistic regression stops.
    mapping_size : int, default=None
        Source outputs that speak for each class: of the first `n_source_outputs`
        features those with the largest coefficients, in a first fit to the training
        rows, are kept for it, and the map is fitted again with what is kept for any
        class. Features after the first `n_source_outputs` are always kept. None keeps
        all.
    n_source_outputs : int, default=None
        Number of features, the first ones, that `mapping_size` chooses among. None:
        all features.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    selected_ : ndarray of shape (n_selected,)
        Features that are read, ascending.
    block_sizes_ : ndarray of shape (n_blocks,)
        Number of features that are read of each block; empty without blocks.
    coef_ : ndarray of shape (n_classes, n_selected)
        Coefficients of the standardised features that are read, brought to length where
        blocks are. The next three attributes are of the same features.
    intercept_ : ndarray of shape (n_classes,)
        Scores of a row at the mean of the features.
    mean_ : ndarray of shape (n_selected,)
        Weighted mean of each feature.
    scale_ : ndarray of shape (n_selected,)
        Weighted standard deviation of each feature, 1 where it is constant.
    bound_ : ndarray of shape (n_selected,)
        Largest absolute value of a standardised feature that is told apart.
    temperature_ : float
        Factor of the scores before the softmax; 1 for the logistic regression.
    alpha_ : float
        The chosen penalty. Only for ridge.
    loo_log_loss_ : float
        Weighted mean log-loss of the leave-one-out probabilities. Only for ridge.
    loo_accuracy_ : float
        Weighted share of rows whose class has the largest leave-one-out score. Only for
        ridge.
    n_iter_ : int
        Iterations of the logistic regression; 1 for ridge, which is in closed form.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    BayesianLabelMapping : Soft weights for source classes, without a learned map.

    References
    ----------
    .. [1] R. M. Rifkin and R. A. Lippert, "Notes on Regularized Least Squares",
       MIT-CSAIL-TR-2007-025, 2007.
    .. [2] J. Platt, "Probabilistic outputs for support vector machines and comparisons
       to regularized likelihood methods", 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import LinearLabelMapping
    >>> features = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> mapping = LinearLabelMapping().fit(features, list("aaabbb"))
    >>> mapping.loo_accuracy_
    1.0
    >>> mapping.transform([[0.0], [5.0]]).argmax(axis=1)
    array([0, 1])
    """

    _parameter_constraints: dict[str, Any] = {
        "solver": [StrOptions({"ridge", "logistic"})],
        "block_sizes": ["array-like", None],
        "alphas": ["array-like", NumberInterval(Real, 0, None, closed="neither"), None],
        "C": [NumberInterval(Real, 0, None, closed="neither")],
        "max_iter": [NumberInterval(Integral, 1, None, closed="left")],
        "tol": [NumberInterval(Real, 0, None, closed="neither")],
        "mapping_size": [NumberInterval(Integral, 1, None, closed="left"), None],
        "n_source_outputs": [NumberInterval(Integral, 1, None, closed="left"), None],
    }

    reads_logits = False
    # There are many features: they are read as they come.
    _dtypes = (np.float64, np.float32)

    alpha_: float
    block_sizes_: NDArray[np.intp]
    bound_: Floats
    coef_: Floats
    intercept_: Floats
    loo_accuracy_: float
    loo_log_loss_: float
    mean_: Floats
    n_iter_: int
    scale_: Floats
    selected_: NDArray[np.intp]
    temperature_: float

    def __init__(
        self,
        solver: str = "ridge",
        block_sizes: Sequence[int] | None = None,
        alphas: ArrayLike | None = None,
        C: float = 1.0,
        max_iter: int = 1000,
        tol: float = 1e-8,
        mapping_size: int | None = None,
        n_source_outputs: int | None = None,
    ) -> None:
        self.solver = solver
        self.block_sizes = block_sizes
        self.alphas = alphas
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.mapping_size = mapping_size
        self.n_source_outputs = n_source_outputs

    def decision_scores(self, X: ArrayLike) -> Floats:
        """Return the linear scores, before temperature and softmax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the kind given to ``fit``.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes)
            Scores in the order of ``classes_``.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=self._dtypes, reset=False)
        return self._decision_scores(rows)

    def _decision_scores(self, rows: Floats) -> Floats:
        scores = np.empty((len(rows), len(self.coef_)))
        blocks = long_blocks(self.block_sizes_)
        some = len(self.selected_) < rows.shape[1]
        for part in chunks(*rows.shape):
            read = rows[part, self.selected_] if some else rows[part]
            standard = standardise(read, self.mean_, self.scale_, self.bound_, blocks)
            scores[part] = standard @ self.coef_.T
        return scores + self.intercept_

    def _transform(self, scores: Floats) -> Floats:
        return softmax(self.temperature_ * self._decision_scores(scores), axis=1)

    def complete(self) -> None:
        """Add what a file of 0.1.0 lacks, where all features were read."""
        if not hasattr(self, "selected_"):
            self.selected_ = np.arange(self.n_features_in_)
            self.block_sizes_ = self._given_blocks(self.n_features_in_)

    def _shapes(self, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
        for name in ("selected_", "block_sizes_"):
            if not np.issubdtype(getattr(self, name).dtype, np.integer):
                raise TypeError(f"{name} does not hold integers")
        if not self.temperature_ > 0:
            raise TypeError(f"temperature_ is {self.temperature_!r}")
        read = (len(np.arange(n_features)[self.selected_]),)
        if len(self.block_sizes_) and self.block_sizes_.sum() != read[0]:
            raise TypeError(f"block_sizes_ does not add up to {read[0]}")
        return {
            "coef_": (n_classes, *read),
            "intercept_": (n_classes,),
            "block_sizes_": (len(self.block_sizes_),),
            **{name: read for name in ("mean_", "scale_", "bound_")},
        }

    def _fit(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> None:
        for name in ("alpha_", "loo_log_loss_", "loo_accuracy_"):
            # Left over from a fit with the other solver, they would mislead.
            self.__dict__.pop(name, None)
        alphas = self._given_alphas()
        n_features = scores.shape[1]
        n_choices = self._n_choices(n_features)
        self.selected_ = np.arange(n_features)
        self.block_sizes_ = self._given_blocks(n_features)
        self._fit_selected(scores, alphas, codes, weight, n_classes)
        if self.mapping_size is not None and self.mapping_size < n_choices:
            self._select(n_choices)
            read = scores[:, self.selected_]
            self._fit_selected(read, alphas, codes, weight, n_classes)

    def _n_choices(self, n_features: int) -> int:
        """Return the number of features that `mapping_size` chooses among."""
        n_choices = self.n_source_outputs or n_features
        if n_choices > n_features:
            raise ValueError(
                f"n_source_outputs={self.n_source_outputs!r} is not allowed: give an "
                f"integer from 1 to {n_features}, the number of features, or None."
            )
        if self.mapping_size is not None and self.mapping_size > n_choices:
            raise ValueError(
                f"mapping_size={self.mapping_size!r} is not allowed: give an integer "
                f"from 1 to {n_choices}, the number of source outputs, or None for all."
            )
        return n_choices

    def _select(self, n_choices: int) -> None:
        """Set the features to read: the strongest for each class, and all others."""
        # A stable sort, so that of equal ones the first is taken.
        order = np.argsort(-np.abs(self.coef_[:, :n_choices]), axis=1, kind="stable")
        kept = np.zeros(len(self.selected_), dtype=bool)
        kept[n_choices:] = True
        kept[order[:, : self.mapping_size]] = True
        self.selected_ = np.flatnonzero(kept)
        if len(self.block_sizes_):
            starts = np.cumsum([0, *self.block_sizes_[:-1]])
            sizes = np.add.reduceat(kept.astype(np.intp), starts)
            # A block of which nothing is read is none.
            self.block_sizes_ = sizes[sizes > 0]

    def _fit_selected(
        self,
        scores: Floats,
        alphas: Floats | None,
        codes: Codes,
        weight: Floats,
        n_classes: int,
    ) -> None:
        """Fit to the features that are read."""
        rows = StandardRows(scores, weight)
        self.mean_, self.scale_, self.bound_ = rows.mean, rows.scale, rows.bound
        if len(self.block_sizes_):
            rows.balance(self.block_sizes_.tolist())
        if self.solver == "ridge":
            self._fit_ridge(rows, alphas, codes, weight, n_classes)
        else:
            self._fit_logistic(rows.part(), codes, weight, n_classes)
        self.coef_ = self.coef_ * rows.share
        self.intercept_ = self.intercept_ - self.coef_ @ rows.offset

    def _given_blocks(self, n_features: int) -> NDArray[np.intp]:
        """Return the sizes of the user's blocks, none where there are no blocks."""
        if self.block_sizes is None:
            return np.empty(0, dtype=np.intp)
        try:
            sizes = np.asarray(self.block_sizes)
        except ValueError:
            sizes = np.empty(0)
        whole = sizes.ndim == 1 and np.issubdtype(sizes.dtype, np.integer)
        if not whole or sizes.min(initial=1) < 1 or sizes.sum() != n_features:
            raise ValueError(
                f"block_sizes={self.block_sizes!r} is not allowed: give positive "
                f"integers whose sum is the number of features, {n_features}, or "
                "None."
            )
        return sizes.astype(np.intp)

    def _given_alphas(self) -> Floats | None:
        """Return the user's penalties, ascending, or None for a grid."""
        if self.alphas is None:
            return None
        try:
            alphas = np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
        except (TypeError, ValueError):
            alphas = np.empty(0)
        good = alphas.ndim == 1 and alphas.size > 0
        if not (good and np.isfinite(alphas).all() and alphas.min() > 0):
            raise ValueError(
                f"alphas={self.alphas!r} is not allowed: give one positive finite "
                "number, a one-dimensional array of them, or None for a grid."
            )
        return np.unique(alphas)

    def _fit_ridge(
        self,
        rows: StandardRows,
        alphas: Floats | None,
        codes: Codes,
        weight: Floats,
        n_classes: int,
    ) -> None:
        if alphas is None:
            # For standardised features the number of those that vary, times the sum
            # of the weights.
            alphas = _RELATIVE_ALPHAS * max(weight.sum(), rows.variation)
        targets = np.full((len(codes), n_classes), -1.0)
        targets[np.arange(len(codes)), codes] = 1
        # Left out, the only row of a class tells nothing of a class without rows.
        loo_weight = np.where(_is_singleton(codes, weight), 0.0, weight)
        if loo_weight.any():
            ridge = fit_ridge_path(rows, targets, weight, alphas, loo_weight)
            temperature = fit_temperature(ridge.loo_scores, codes, loo_weight)
        else:
            usual = _SINGLETON_ALPHA * max(weight.sum(), rows.variation)
            nearest = np.abs(np.log(alphas / usual)).argmin()
            ridge = fit_ridge_path(rows, targets, weight, alphas[[nearest]])
            temperature = _SINGLETON_TEMPERATURE
        logs = log_softmax(temperature * ridge.loo_scores, axis=1)
        truth = np.arange(len(codes)), codes
        right = ridge.loo_scores.argmax(axis=1) == codes
        self.coef_ = ridge.coef
        self.intercept_ = ridge.intercept
        self.alpha_ = ridge.alpha
        self.n_iter_ = 1
        self.temperature_ = temperature
        self.loo_log_loss_ = float(-np.average(logs[truth], weights=weight))
        self.loo_accuracy_ = float(np.average(right, weights=weight))

    def _fit_logistic(
        self, rows: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> None:
        self.n_iter_ = 1
        self.temperature_ = 1.0
        self.coef_ = np.zeros((n_classes, rows.shape[1]))
        self.intercept_ = np.zeros(n_classes)
        if n_classes == 1:
            return
        # Without a row, a class would have a score of minus infinity: it is given one
        # at the mean of the features, of a weight that all classes together make 1.
        absent = np.setdiff1d(np.arange(n_classes), codes)
        codes = np.concatenate([codes, absent])
        weight = np.concatenate([weight, np.full(len(absent), 1 / n_classes)])
        rows = np.vstack([rows, np.zeros((len(absent), rows.shape[1]))])
        # The penalty does not change under rotation, so the rows may be described by as
        # many coordinates as they span.
        axes = None
        if rows.shape[0] < rows.shape[1]:
            _, _, axes = np.linalg.svd(rows, full_matrices=False)
            rows = rows @ axes.T
        model = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol)
        model.fit(rows, codes, sample_weight=weight)
        coef, intercept = model.coef_, model.intercept_
        if n_classes == 2:
            # One log-odds, shared out to two scores with the same softmax.
            coef = np.vstack([-coef, coef]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        self.coef_ = coef if axes is None else coef @ axes
        self.intercept_ = intercept
        self.n_iter_ = int(model.n_iter_.max())


def _is_singleton(codes: Codes, weight: Floats) -> np.ndarray:
    """Return which rows are the only one of their class, of a weight up to 1."""
    others = np.bincount(codes)[codes] - 1
    return (others == 0) & (weight <= 1)


def fit_temperature(scores: Floats, codes: Codes, weight: Floats) -> float:
    """Return the factor of `scores` whose softmax fits smoothed labels best.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes)
        Scores of rows that the model was not fitted to.
    codes : ndarray of shape (n_samples,)
        True class of each row, from 0 to ``n_classes - 1``.
    weight : ndarray of shape (n_samples,)
        Weight of each row, of at least one positive.

    Returns
    -------
    temperature : float
        Minimiser of the weighted log-loss, between 1e-3 and 1e4. The labels are
        smoothed by one pseudo-row that belongs to all classes equally.
    """
    smoothing = 1 / (weight.sum() + 1)
    truth = scores[np.arange(len(scores)), codes]
    wanted = (1 - smoothing) * truth + smoothing * scores.mean(axis=1)

    # The log-loss is convex in the temperature: its slope has one sign change.
    def slope(log_temperature: float) -> float:
        shares = softmax(np.exp(log_temperature) * scores, axis=1)
        return float(weight @ ((shares * scores).sum(axis=1) - wanted))

    low, high = (float(np.log(bound)) for bound in _TEMPERATURES)
    if slope(low) >= 0:
        return _TEMPERATURES[0]
    if slope(high) <= 0:
        return _TEMPERATURES[1]
    return float(np.exp(brentq(slope, low, high, xtol=1e-12)))
