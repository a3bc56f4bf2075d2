# SPDX-License-Identifier: Apache-2.0
"""How far reprogrammed series are from the speech that a source was trained on.

The paper measures it as a distance between the logits of both, and bounds the risk by
it. As a bound it does not hold up; as a score to rank sources it may serve. See
``docs/alignment.md``.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_v2s.base import ReprogrammedEstimator, check_replicas
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.sources.logits import SourceLogits, load_source_logits

__all__ = [
    "LARGEST_RISK",
    "AlignmentCallback",
    "AlignmentScores",
    "SourceRank",
    "alignment_scores",
    "rank_sources",
    "risk_bound",
    "sliced_wasserstein",
    "wasserstein1",
]

#: The largest Euclidean distance of two probability vectors, the root of 2.
LARGEST_RISK = float(np.sqrt(2.0))

# Exact transport takes the memory of all pairs of points.
_LARGEST_EXACT = 5000


@dataclass(frozen=True)
class AlignmentScores:
    """Distances between the logits of speech and of reprogrammed series.

    Attributes
    ----------
    sliced_wasserstein : float
        Sliced Wasserstein-2 distance, the paper's SWD.
    wasserstein1 : float
        Exact Wasserstein-1 distance of the two samples.
    n_source, n_target : int
        Number of points on either side.
    """

    sliced_wasserstein: float
    wasserstein1: float
    n_source: int
    n_target: int


@dataclass(frozen=True)
class SourceRank:
    """A source among others, as in the paper's Table 3.

    Attributes
    ----------
    name : str
        Name of the source.
    source_loss : float
        Cross-entropy of the source on the kept speech, in nats.
    scores : AlignmentScores
        Distances between its speech and the reprogrammed series.
    bound : float
        `risk_bound` of its risk on the kept speech and exact W1.
    """

    name: str
    source_loss: float
    scores: AlignmentScores
    bound: float


def _clouds(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = (
        check_array(points, dtype=np.float64, input_name=name)
        for name, points in (("a", a), ("b", b))
    )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a has {a.shape[1]} columns and b has {b.shape[1]}; both must be points "
            "of the same space, such as logits of the same source."
        )
    return a, b


def sliced_wasserstein(
    a: Any, b: Any, n_projections: int = 1000, random_state: Any = None
) -> float:
    """Return the sliced Wasserstein-2 distance of two samples.

    Parameters
    ----------
    a : array-like of shape (n, d)
        Points of equal weight.
    b : array-like of shape (m, d)
        Points of equal weight.
    n_projections : int, default=1000
        Random directions; the paper takes 1,000.
    random_state : int, RandomState instance or None, default=None
        Draws the directions.

    Returns
    -------
    float
        Root of the mean squared distance over the directions, in the unit of the
        points.

    References
    ----------
    Bonneel, Rabin, Peyré, Pfister. Sliced and Radon Wasserstein barycenters of
    measures. Journal of Mathematical Imaging and Vision, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.alignment import sliced_wasserstein
    >>> points = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(sliced_wasserstein(points, points + 1.0, random_state=0), 1)
    1.0
    """
    import ot

    a, b = _clouds(a, b)
    if n_projections < 1:
        raise ValueError(f"n_projections={n_projections} must be at least 1.")
    # A generator of its own: POT would seed one that all its callers share.
    random = check_random_state(random_state)
    distance = ot.sliced_wasserstein_distance(
        a, b, n_projections=n_projections, seed=random
    )
    return float(distance)


def wasserstein1(a: Any, b: Any) -> float:
    """Return the exact Wasserstein-1 distance of two samples.

    Parameters
    ----------
    a : array-like of shape (n, d)
        Points of equal weight.
    b : array-like of shape (m, d)
        Points of equal weight.

    Returns
    -------
    float
        Least mean Euclidean distance over all couplings. Between samples it is above
        that of the distributions they were drawn from, the more so the more dimensions
        there are.

    Raises
    ------
    ValueError
        If a sample has more than 5,000 points, for which time and memory run out.

    Examples
    --------
    >>> from sklearn_v2s.alignment import wasserstein1
    >>> wasserstein1([[0.0], [1.0]], [[2.0], [3.0]])
    2.0
    """
    import ot

    a, b = _clouds(a, b)
    if max(len(a), len(b)) > _LARGEST_EXACT:
        raise ValueError(
            f"samples of {len(a)} and {len(b)} points are too large for exact "
            f"transport; draw at most {_LARGEST_EXACT} of each."
        )
    weights = (np.full(len(points), 1 / len(points)) for points in (a, b))
    costs = ot.dist(a, b, metric="euclidean")
    return float(ot.emd2(*weights, costs, numItermax=10_000_000))


def risk_bound(source_loss: float, n_classes: int, w1: float) -> float:
    """Return the bound of the paper's Theorem 1.

    It does not certify anything: the lemma behind it is false as stated, and a bound
    above `LARGEST_RISK`, the largest possible risk, is vacuous. See
    ``docs/alignment.md``.

    Parameters
    ----------
    source_loss : float
        Risk of the source on speech. The theorem's is the mean Euclidean distance
        between probabilities and one-hot labels; the paper's Table 3 has cross-entropy.
    n_classes : int
        K, source classes.
    w1 : float
        Wasserstein-1 distance of the logits.

    Returns
    -------
    float
        ``source_loss + 2 sqrt(n_classes) w1``.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, Theorem 1.

    Examples
    --------
    >>> from sklearn_v2s.alignment import LARGEST_RISK, risk_bound
    >>> round(risk_bound(0.171, 35, 1.829), 1), round(LARGEST_RISK, 2)
    (21.8, 1.41)
    """
    if source_loss < 0 or w1 < 0 or n_classes < 1 or n_classes != int(n_classes):
        raise ValueError(
            f"source_loss={source_loss} and w1={w1} must not be negative, and "
            f"n_classes={n_classes} must be a whole number of at least 1."
        )
    return float(source_loss + 2.0 * np.sqrt(n_classes) * w1)


def _speech_of(source_logits: Any, name: Any, source: Any) -> np.ndarray:
    """Return logits of speech by a source: those given, or those kept with its name."""
    if source_logits is None:
        if not isinstance(name, str):
            raise ValueError(
                "source_logits=None takes the logits kept with a source of that name, "
                f"but source is a {type(name).__name__}. Give source_logits: the "
                "logits of some speech, of shape (n, K)."
            )
        source_logits = load_source_logits(name)
    if not isinstance(source_logits, SourceLogits):
        return np.asarray(source_logits)
    reference = getattr(source, "reference", None)
    spoken = source_logits.card.get("checkpoint_sha256")
    if reference and spoken and spoken != reference.sha256:
        raise ValueError(
            "source_logits are of another source than the estimator's: their "
            f"checkpoint has the SHA-256 {spoken}, "
            f"that of {reference.name!r} is {reference.sha256}. Logits of different "
            f"sources have no distance; take load_source_logits({reference.name!r})."
        )
    return source_logits.logits


def alignment_scores(
    estimator: ReprogrammedEstimator,
    X: Any,
    source_logits: Any = None,
    *,
    n_projections: int = 1000,
    random_state: Any = None,
) -> AlignmentScores:
    """Measure how far reprogrammed series are from speech, by the source's logits.

    Parameters
    ----------
    estimator : V2SClassifier or V2STransformer
        Fitted, with the view ``"replicas"``.
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
        Series.
    source_logits : SourceLogits or array-like of shape (n_clips, K), default=None
        Logits of speech by the same source; None takes those kept with the checkpoint.
    n_projections : int, default=1000
        Directions of the sliced distance.
    random_state : int, RandomState instance or None, default=None
        Draws the directions.

    Returns
    -------
    AlignmentScores
        With several perturbations, all of them form one sample.

    Raises
    ------
    ValueError
        If `estimator` has no view ``"replicas"``, or `source_logits` are of another
        source.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.alignment import alignment_scores
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier("attrnn", max_epochs=0, random_state=0)
    >>> classifier = classifier.fit(X, np.arange(20) % 2)
    >>> scores = alignment_scores(classifier, X, random_state=0)
    >>> scores.n_target, scores.sliced_wasserstein < scores.wasserstein1
    (20, True)
    """
    check_replicas(estimator)
    source = estimator.model_.reprogrammed.source
    speech = _speech_of(source_logits, estimator.source, source)
    logits = estimator.source_outputs(X).logits
    target = logits.reshape(-1, logits.shape[2])
    return AlignmentScores(
        sliced_wasserstein(speech, target, n_projections, random_state),
        wasserstein1(speech, target),
        len(speech),
        len(target),
    )


class AlignmentCallback(Callback):
    """Record the sliced Wasserstein distance to speech while the perturbation trains.

    The value of an epoch stands in ``history_`` as ``"sliced_wasserstein"``. Each takes
    a pass over the training series without gradient.

    Parameters
    ----------
    source_logits : SourceLogits, array-like or str
        Logits of speech by the same source, or the name of a shipped one.
    every : int, default=1
        Measure each so many epochs.
    n_projections : int, default=1000
        Directions of the distance, the same at all epochs.
    random_state : int, default=0
        Draws the directions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.alignment import AlignmentCallback
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier.from_paper(
    ...     max_epochs=2, callbacks=[AlignmentCallback("attrnn")], random_state=0
    ... ).fit(X, np.arange(20) % 2)
    >>> all(row["sliced_wasserstein"] > 0 for row in classifier.history_)
    True
    """

    def __init__(
        self,
        source_logits: Any,
        every: int = 1,
        n_projections: int = 1000,
        random_state: int = 0,
    ) -> None:
        self.source_logits = source_logits
        self.every = every
        self.n_projections = n_projections
        self.random_state = random_state

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Hold the training series as long as the training lasts."""
        if self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1.")
        given = self.source_logits
        named = isinstance(given, str)
        source = net.module_.reprogrammed.source
        self.speech_ = _speech_of(None if named else given, given, source)
        self.series_ = X["series"]

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Measure, where it is time to."""
        if len(net.history) % self.every:
            return
        logits = collect_outputs(net.module_.reprogrammed, self.series_).logits
        target = logits.reshape(-1, logits.shape[2])
        distance = sliced_wasserstein(
            self.speech_, target, self.n_projections, self.random_state
        )
        net.history.record("sliced_wasserstein", distance)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Let the data go."""
        del self.series_, self.speech_


def rank_sources(
    X: Any,
    y: Any,
    sources: str | Sequence[str] = ("attrnn", "unet-attrnn", "wavebank"),
    *,
    estimator: V2SClassifier | None = None,
    source_logits: Mapping[str, SourceLogits] | None = None,
    random_state: Any = 0,
) -> list[SourceRank]:
    """Rank source models for a data set by the distance, as in the paper's Table 3.

    Logits of different sources live in different spaces: a source with small
    logits is close to everything. Where labels allow it, compare cross-validated
    accuracy.

    Parameters
    ----------
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
        Training series.
    y : array-like of shape (n,)
        Their labels.
    sources : str or sequence of str, default=("attrnn", "unet-attrnn", "wavebank")
        Names or checkpoint paths with logits of speech kept beside them.
    estimator : V2SClassifier, default=None
        Is cloned and fitted with each source; None takes the defaults with only the
        view ``"replicas"`` and without training: how near a source is to begin with.
    source_logits : dict of str to SourceLogits, default=None
        Logits of speech by source, where none are kept with it.
    random_state : int, RandomState instance or None, default=0
        Draws the directions, the same for all sources if it is an int.

    Returns
    -------
    list of SourceRank
        The nearest first.

    Raises
    ------
    ValueError
        If `sources` names none.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, Table 3 and Table 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.alignment import rank_sources
    >>> X = np.random.default_rng(0).normal(size=(12, 40))
    >>> ranks = rank_sources(X, np.arange(12) % 2)
    >>> sorted(rank.name for rank in ranks)
    ['attrnn', 'unet-attrnn', 'wavebank']
    """
    names = [sources] if isinstance(sources, str) else list(sources)
    if not names or not all(isinstance(name, str | os.PathLike) for name in names):
        kinds = sorted({type(name).__name__ for name in names})
        raise ValueError(
            f"sources holds {kinds or 'nothing'}; give at least one name or path of a "
            "checkpoint. For a module, use alignment_scores with source_logits."
        )
    if estimator is None:
        estimator = V2SClassifier(views="replicas", max_epochs=0, random_state=0)
    given = source_logits or {}
    ranks = []
    for name in names:
        speech = given[name] if name in given else load_source_logits(name)
        fitted = clone(estimator).set_params(source=name).fit(X, y)
        scores = alignment_scores(fitted, X, speech, random_state=random_state)
        bound = risk_bound(speech.risk, len(speech.classes), scores.wasserstein1)
        ranks.append(SourceRank(name, speech.loss, scores, bound))
    return sorted(ranks, key=lambda rank: rank.scores.sliced_wasserstein)
