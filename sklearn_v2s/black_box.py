# SPDX-License-Identifier: Apache-2.0
"""Reprogramming of a black-box source: queries, but no weights and no gradients."""

from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np

from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.label_mapping.fitting import LABEL_MAPPINGS, new_mapping
from sklearn_v2s.perturbation.reprogrammed_black_box import ReprogrammedBlackBox
from sklearn_v2s.perturbation.zeroth_order import random_basis
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.runtime.sklearn_compat import (
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
)
from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.series.estimator import SeriesClassifier
from sklearn_v2s.sources.black_box import BlackBox
from sklearn_v2s.training.zeroth_order import (
    OrderedRows,
    ZerothOrderTraining,
    refit_interval,
)

__all__ = ["BlackBoxV2SClassifier"]


class BlackBoxV2SClassifier(SeriesClassifier):
    """Reprogram a source that is a function: waveforms in, scores out.

    A web service or a program without source code gives no gradients. The perturbation
    is then trained by zeroth-order optimisation (BAR, [1]_): the source is queried with
    slightly different perturbations, and the differences of the loss estimate its
    gradient. So that few queries are enough, the perturbation is a combination of
    `rank` random noises.

    Parameters
    ----------
    source : callable
        ``source(waveforms)`` takes an array of shape (n, input_length), n at most 256,
        and returns one of shape (n, n_source_classes). A pickle of the classifier holds
        it by the rules of pickle: a function by its name.
    input_length : int, default=16000
        Length of the waveforms that the source takes, in samples.
    source_output : {"probabilities", "logits"}, default="probabilities"
        What the source returns: numbers of 0 or more, which are scaled to a sum of 1,
        or scores of any sign, whose softmax are probabilities.
    n_segments : int or "auto", default="auto"
        Number of replicas of a series in the waveform; ``"auto"`` takes 8, or as many
        as fit.
    mask : bool, default=False
        Keep the perturbation away from the samples where a series sits.
    input_gain : float, default=1.0
        Factor of the normalised series.
    init_scale : float, default=0.1
        Root mean square of the initial perturbation. Starting from silence, differences
        tell little: for a source that takes logarithms of a spectrum, any sound is far
        from none.
    label_mapping : str or transformer, default="frequency"
        ``"random"``, ``"contiguous"``, ``"frequency"`` (BAR's), ``"iterative"``,
        ``"bayesian"``, ``"linear"``, or an instance, which is cloned. It reads the
        logits of the source classes, or logarithms of their probabilities.
    mapping_size : int, default=None
        Source classes for each target class; None takes as many as there are.
    rank : int, default=32
        Number of coefficients that are trained.
    n_directions : int, default=2
        Directions that a step tries. For the same number of queries, many rough steps
        achieve more than a few good ones.
    smoothing : float, default=0.01
        How far it goes in each, in units of the coefficients.
    max_iter : int, default=100
        Steps.
    max_queries : int, default=None
        Largest number of waveforms that `fit` may query. None sets no limit beside
        `max_iter`. The label mapping takes one query for each series, the final
        comparison another; a step takes ``n_directions + 1`` for each different
        series of its batch. As many steps are made as that allows.
    batch_size : int, default=16
        Series that are drawn for a step, those of large weight more often.
    lr : float, default=0.1
        Learning rate of Adam at the start; it falls to zero as a cosine.
    class_weight : dict, "balanced" or None, default=None
        Factors of the sample weights by class.
    normalization : {"global", "series"} or None, default="global"
        Remove mean and scale of the training data, of each series, or nothing.
    missing : {"error", "interpolate"}, default="error"
        What to do with NaN.
    precision : {"float32", "float64"}, default="float32"
        Type of the waveforms.
    random_state : int, RandomState instance or None, default=None
        Of noises, initial values, batches, directions and random mapping.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    perturbation_ : ndarray of shape (input_length,)
        What is added to the placed series.
    label_mapping_ : transformer
        The fitted label mapping; its classes are the positions in `classes_`.
    n_source_classes_ : int
        Columns that the source returns.
    n_queries_ : int
        Waveforms that `fit` queried.
    n_iter_ : int
        Steps made.
    history_ : list of dict
        For each step ``loss``, that of its batch before the step, and ``n_queries``,
        the queries until then.
    initial_loss_, loss_ : float
        Loss of the training data before and after. If the steps made it no less,
        they are dropped.
    n_features_in_ : int
        Values of a series, over all channels.
    n_timepoints_in_, n_channels_in_ : int
        Shape of a series.
    unequal_length_ : bool
        Whether `fit` saw series of unequal length; shorter ones are then allowed.

    See Also
    --------
    V2SClassifier : For sources that are modules of PyTorch.

    Notes
    -----
    Predictions query the source too, once for each series; they are not counted.

    References
    ----------
    .. [1] Y.-Y. Tsai, P.-Y. Chen and T.-Y. Ho, "Transfer Learning without Knowing:
       Reprogramming Black-box Machine Learning Models with Scarce Data and Limited
       Resources", ICML 2020. arXiv:2007.08714.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import BlackBoxV2SClassifier
    >>> def loudness(waveforms):
    ...     parts = waveforms.reshape(len(waveforms), 8, -1)
    ...     return np.square(parts).mean(axis=2)
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = BlackBoxV2SClassifier(
    ...     loudness, input_length=400, max_iter=10, random_state=0
    ... ).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    _parameter_constraints: dict[str, Any] = {
        **{
            name: constraint
            for name, constraint in SeriesClassifier._parameter_constraints.items()
            if name != "device"
        },
        "source": [callable],
        "input_length": [Interval(Integral, 1, None, closed="left")],
        "source_output": [StrOptions({"probabilities", "logits"})],
        "n_segments": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "mask": ["boolean"],
        "input_gain": [Interval(Real, 0, None, closed="neither")],
        "init_scale": [Interval(Real, 0, None, closed="left")],
        "label_mapping": [
            StrOptions(set(LABEL_MAPPINGS)),
            HasMethods(["fit", "transform"]),
        ],
        "mapping_size": [Interval(Integral, 1, None, closed="left"), None],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "n_directions": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "max_queries": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        source: Any,
        *,
        input_length: int = 16000,
        source_output: Literal["probabilities", "logits"] = "probabilities",
        n_segments: int | Literal["auto"] = "auto",
        mask: bool = False,
        input_gain: float = 1.0,
        init_scale: float = 0.1,
        label_mapping: str | LabelMapping = "frequency",
        mapping_size: int | None = None,
        rank: int = 32,
        n_directions: int = 2,
        smoothing: float = 0.01,
        max_iter: int = 100,
        max_queries: int | None = None,
        batch_size: int = 16,
        lr: float = 0.1,
        class_weight: Any = None,
        normalization: Literal["global", "series"] | None = "global",
        missing: Literal["error", "interpolate"] = "error",
        precision: Literal["float32", "float64"] = "float32",
        random_state: Any = None,
    ) -> None:
        self.source = source
        self.input_length = input_length
        self.source_output = source_output
        self.n_segments = n_segments
        self.mask = mask
        self.input_gain = input_gain
        self.init_scale = init_scale
        self.label_mapping = label_mapping
        self.mapping_size = mapping_size
        self.rank = rank
        self.n_directions = n_directions
        self.smoothing = smoothing
        self.max_iter = max_iter
        self.max_queries = max_queries
        self.batch_size = batch_size
        self.lr = lr
        self.class_weight = class_weight
        self.normalization = normalization
        self.missing = missing
        self.precision = precision
        self.random_state = random_state

    # Set by fit; declared here for type checkers.
    history_: list[dict[str, float]]
    initial_loss_: float
    label_mapping_: Any
    loss_: float
    n_iter_: int
    n_queries_: int
    n_source_classes_: int
    perturbation_: np.ndarray

    # A label mapping handed in has parameters of its own to validate.
    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn the perturbation and the label mapping from queries.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, or a list of series ``(t,)`` or ``(n_channels, t)`` of unequal
            length.
        y : array-like of shape (n,)
            Labels of any kind.
        sample_weight : array-like of shape (n,), default=None
            Weights; a weight of 2 counts as the series twice, a weight of 0 as its
            absence.

        Returns
        -------
        BlackBoxV2SClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If X, y, a parameter or an output of the source cannot be used; the text
            names it, the value seen and what is allowed.
        """
        fitted = self._unfitted_copy()
        given, codes, weight = fitted._check_training_data(X, y, sample_weight)
        fitted._normalizer = fitted._fit_normalizer(given, weight)
        series = fitted._normalizer.transform(given)
        source = fitted._reprogrammed()
        source.placement.warn_if_resampling()
        mapping_seed, seed = self._seeds(2)
        mapping = new_mapping(self.label_mapping, self.mapping_size, mapping_seed)
        n_steps = self._affordable_steps(len(codes), mapping)
        rng = np.random.default_rng(seed)
        changeable = np.ones(self.input_length, bool)
        if self.mask:
            changeable = source.placement.mask().numpy()
        basis = random_basis(changeable, self.rank, rng)
        start = rng.normal(size=self.rank)
        start *= self.init_scale * np.sqrt(self.rank) / np.linalg.norm(start)
        training = ZerothOrderTraining(
            source=source,
            data=OrderedRows.sort(given, series, codes, weight),
            n_classes=len(fitted.classes_),
            basis=basis,
            batch_size=self.batch_size,
            lr=self.lr,
            n_directions=self.n_directions,
            smoothing=self.smoothing,
            rng=rng,
        )
        best = training.evaluate(mapping, start)
        fitted.initial_loss_ = best.loss
        if n_steps:
            trained = training.run(best.mapping, start, n_steps)
            best = min(best, trained, key=lambda solution: solution.loss)
        fitted.loss_, fitted.label_mapping_, fitted.perturbation_ = best
        fitted.history_ = training.history
        fitted.n_iter_ = n_steps
        fitted.n_queries_ = source.black_box.n_queries
        assert source.black_box.n_classes is not None
        fitted.n_source_classes_ = source.black_box.n_classes
        return self._assign_fitted(fitted)

    def _affordable_steps(self, n: int, mapping: LabelMapping) -> int:
        """Return how many steps for n series keep within both limits."""
        if self.max_queries is None:
            return self.max_iter
        if self.max_queries < n:
            raise ValueError(
                f"max_queries={self.max_queries} is not enough: the label mapping "
                f"needs a query for each of the {n} series. Allowed are {n} or more."
            )
        cost = (self.n_directions + 1) * min(self.batch_size, n)
        every = refit_interval(mapping, n, self.batch_size)
        cost += -(-n // every) if every else 0
        steps = max(0, self.max_queries - 2 * n) // cost
        if steps == 0 < self.max_iter:
            warn_user(
                f"max_queries={self.max_queries} allows no step: the label mapping "
                f"and the final comparison take {2 * n} queries, a step up to {cost}."
                " The perturbation stays random.",
            )
        return min(self.max_iter, steps)

    def _reprogrammed(self, n_classes: int | None = None) -> ReprogrammedBlackBox:
        """Return the source behind the placement, which has no query counted yet."""
        placement = ReplicaPlacement(
            self.input_length,
            n_channels=self.n_channels_in_,
            n_timepoints=self.n_timepoints_in_,
            n_segments=self.n_segments,
        )
        black_box = BlackBox(self.source, self.source_output, n_classes)
        return ReprogrammedBlackBox(
            black_box, placement, self.input_gain, self.precision
        )

    def reprogram(self, X: Any) -> np.ndarray:
        """Return the waveforms that the source is queried with.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, input_length)
            Samples at the source's sample rate, whatever that is.
        """
        series = self._normalized_series(X)
        return self._reprogrammed().waveforms(series, self.perturbation_)

    def _scores(self, X: Any) -> np.ndarray:
        series = self._normalized_series(X)
        source = self._reprogrammed(self.n_source_classes_)
        logits = source.logits(series, self.perturbation_[None])[0]
        return np.asarray(self.label_mapping_.transform(logits), dtype=np.float64)
