# SPDX-License-Identifier: Apache-2.0
"""Hard many-to-one mappings: every target class has a group of source classes."""

from abc import abstractmethod
from numbers import Integral

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.utils import check_random_state

from sklearn_v2s.label_mapping.base import (
    BaseWordMapping,
    Codes,
    Floats,
    class_totals,
)

# Class means of probabilities are compared at this many decimals, so that the order in
# which rows were summed (a weight of 2 or a row given twice) cannot decide a tie.
_TIE_DECIMALS = 12


class _GroupMapping(BaseWordMapping):
    """Disjoint groups of equal size, one for each target class."""

    mapping_size: int | None
    mapping_size_: int
    source_indices_: Codes

    def _fit_weights(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int
    ) -> Floats:
        n_sources = scores.shape[1]
        size = self._group_size(n_sources, n_classes)
        groups = self._assign(scores, codes, weight, n_classes, size)
        weights = np.zeros((n_sources, n_classes))
        weights[groups, np.arange(n_classes)[:, None]] = 1 / size
        self.mapping_size_ = size
        self.source_indices_ = groups
        return weights

    def _group_size(self, n_sources: int, n_classes: int) -> int:
        """Return the checked number of source classes of one target class."""
        largest = n_sources // n_classes
        if largest == 0:
            raise ValueError(
                f"{type(self).__name__} gives each target class source classes of its "
                f"own, but source_scores has n_features = {n_sources} and there are "
                f"{n_classes} target classes. Use a source model with more classes, or "
                "BayesianLabelMapping or LinearLabelMapping, which share them."
            )
        size = self.mapping_size
        if size is None:
            return largest
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(
                f"mapping_size={size!r} is not allowed: give an integer from 1 to "
                f"{largest}, or None for {largest}, the largest here."
            )
        if size > largest:
            raise ValueError(
                f"mapping_size={size} for {n_classes} target classes needs "
                f"{size * n_classes} source classes, but source_scores has n_features "
                f"= {n_sources}. The largest mapping_size allowed is {largest}, which "
                "None chooses."
            )
        return int(size)

    @abstractmethod
    def _assign(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int, size: int
    ) -> Codes:
        """Return the source classes of each target class, shape (n_classes, size)."""


class RandomLabelMapping(_GroupMapping):
    """Random, disjoint groups of source classes: the mapping of the V2S paper.

    The score of a target class is the mean probability of its group (Eq. 4 of [1]_).
    The rows of ``transform`` do not sum to one where source classes are left over, or
    where a group has more than one member.

    Parameters
    ----------
    mapping_size : int, default=None
        Number q of source classes in each group. None takes the largest,
        ``floor(K / C)``.
    aggregation : {"probability", "logit"}, default="probability"
        "probability" returns ``softmax(source_scores) @ weights_``; "logit" returns
        ``softmax(source_scores @ weights_)``.
    random_state : int, RandomState instance or None, default=None
        Draws the groups. Pass an int for the same groups on every call; an instance
        draws from its stream and advances it. None draws from fresh entropy and, other
        than scikit-learn, leaves the global generator of NumPy untouched.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    weights_ : ndarray of shape (n_features, n_classes)
        ``1 / mapping_size_`` where a source class belongs to the group of a target
        class, else 0.
    source_indices_ : ndarray of shape (n_classes, mapping_size)
        Source classes of each group.
    mapping_size_ : int
        Number of source classes in each group.
    n_features_in_ : int
        Number K of source classes.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    ContiguousLabelMapping : The grouping of the code released with the paper.
    FrequencyLabelMapping : Groups chosen by what the source model predicts.

    References
    ----------
    .. [1] C.-H. H. Yang, Y.-Y. Tsai and P.-Y. Chen, "Voice2Series: Reprogramming
       Acoustic Models for Time Series Classification", ICML 2021, arXiv:2106.09296.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import RandomLabelMapping
    >>> logits = np.zeros((2, 7))
    >>> mapping = RandomLabelMapping(random_state=0).fit(logits, ["no", "yes"])
    >>> mapping.source_indices_.shape
    (2, 3)
    >>> mapping.transform(logits).round(3)
    array([[0.143, 0.143],
           [0.143, 0.143]])
    """

    def __init__(
        self,
        mapping_size: int | None = None,
        aggregation: str = "probability",
        random_state: int | RandomState | None = None,
    ) -> None:
        self.mapping_size = mapping_size
        self.aggregation = aggregation
        self.random_state = random_state

    def _assign(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int, size: int
    ) -> Codes:
        seed = RandomState() if self.random_state is None else self.random_state
        order = check_random_state(seed).permutation(scores.shape[1])
        return np.sort(order[: n_classes * size].reshape(n_classes, size), axis=1)


class ContiguousLabelMapping(_GroupMapping):
    """Groups of neighbours: target class k has source classes k*q to (k+1)*q - 1.

    This is what the code released with the V2S paper does under the name "random
    mapping"; source classes from ``C * q`` on are not used. The default of that code
    was ``mapping_size=1``; the default here is the size that the paper prescribes.

    Parameters
    ----------
    mapping_size : int, default=None
        Number q of source classes in each group. None takes the largest,
        ``floor(K / C)``.
    aggregation : {"probability", "logit"}, default="probability"
        "probability" returns ``softmax(source_scores) @ weights_`` (Eq. 4 of [1]_);
        "logit" returns ``softmax(source_scores @ weights_)``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    weights_ : ndarray of shape (n_features, n_classes)
        ``1 / mapping_size_`` where a source class belongs to the group of a target
        class, else 0.
    source_indices_ : ndarray of shape (n_classes, mapping_size)
        Source classes of each group.
    mapping_size_ : int
        Number of source classes in each group.
    n_features_in_ : int
        Number K of source classes.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    RandomLabelMapping : The mapping that the paper describes.

    References
    ----------
    .. [1] C.-H. H. Yang, Y.-Y. Tsai and P.-Y. Chen, "Voice2Series: Reprogramming
       Acoustic Models for Time Series Classification", ICML 2021, arXiv:2106.09296.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import ContiguousLabelMapping
    >>> mapping = ContiguousLabelMapping(mapping_size=2)
    >>> mapping.fit(np.zeros((2, 5)), [-1, 1]).source_indices_
    array([[0, 1],
           [2, 3]])
    """

    def __init__(
        self, mapping_size: int | None = None, aggregation: str = "probability"
    ) -> None:
        self.mapping_size = mapping_size
        self.aggregation = aggregation

    def _assign(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int, size: int
    ) -> Codes:
        return np.arange(n_classes * size).reshape(n_classes, size)


class FrequencyLabelMapping(_GroupMapping):
    """Give each source class to the target class for which it is predicted most often.

    ``N[s, t]`` is the weight of the samples of target class t for which the source
    model predicts s (argmax). The largest entry whose source class is free and whose
    target class has room is assigned, until every target class has q source classes
    (FLM, [1]_). Equal counts are common, for most source classes are never predicted:
    they are ordered by the mean probability of s among the samples of t, then by the
    lower source class, then by the lower target class.

    Parameters
    ----------
    mapping_size : int, default=None
        Number q of source classes for each target class. None takes the largest,
        ``floor(K / C)``.
    aggregation : {"probability", "logit"}, default="probability"
        "probability" returns ``softmax(source_scores) @ weights_`` (Eq. 4 of [2]_);
        "logit" returns ``softmax(source_scores @ weights_)``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    weights_ : ndarray of shape (n_features, n_classes)
        ``1 / mapping_size_`` where a source class belongs to the group of a target
        class, else 0.
    source_indices_ : ndarray of shape (n_classes, mapping_size)
        Source classes of each group, sorted.
    mapping_size_ : int
        Number of source classes in each group.
    frequencies_ : ndarray of shape (n_features, n_classes)
        The weighted counts N.
    n_features_in_ : int
        Number K of source classes.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    IterativeLabelMapping : The same, assigned anew while the perturbation trains.
    BayesianLabelMapping : Soft weights from the same counts.

    References
    ----------
    .. [1] Y.-Y. Tsai, P.-Y. Chen and T.-Y. Ho, "Transfer Learning without Knowing:
       Reprogramming Black-box Machine Learning Models with Scarce Data and Limited
       Resources", ICML 2020.
    .. [2] C.-H. H. Yang, Y.-Y. Tsai and P.-Y. Chen, "Voice2Series: Reprogramming
       Acoustic Models for Time Series Classification", ICML 2021, arXiv:2106.09296.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import FrequencyLabelMapping
    >>> logits = 5 * np.eye(4)[[3, 3, 0, 0]]
    >>> mapping = FrequencyLabelMapping(mapping_size=1)
    >>> mapping.fit(logits, ["a", "a", "b", "b"]).source_indices_
    array([[3],
           [0]])
    """

    frequencies_: Floats

    def __init__(
        self, mapping_size: int | None = None, aggregation: str = "probability"
    ) -> None:
        self.mapping_size = mapping_size
        self.aggregation = aggregation

    def _assign(
        self, scores: Floats, codes: Codes, weight: Floats, n_classes: int, size: int
    ) -> Codes:
        self.frequencies_ = prediction_frequencies(scores, codes, weight, n_classes)
        totals = np.bincount(codes, weight, n_classes)
        likeness = class_totals(softmax(scores, axis=1), codes, weight, n_classes)
        likeness = np.divide(
            likeness, totals, out=np.zeros_like(likeness), where=totals > 0
        )
        return _assign_greedily(
            self.frequencies_, likeness.round(_TIE_DECIMALS), n_classes, size
        )


class IterativeLabelMapping(FrequencyLabelMapping):
    """Frequency mapping that is assigned anew at every epoch of the training (ILM).

    One ``fit`` does exactly what that of :class:`FrequencyLabelMapping` does. The
    attribute ``refit_each_epoch`` asks the training code to call it again when an epoch
    begins, with the source scores under the perturbation as it then is [1]_.

    Parameters
    ----------
    mapping_size : int, default=None
        Number q of source classes for each target class. None takes the largest,
        ``floor(K / C)``; the authors use 1.
    aggregation : {"probability", "logit"}, default="probability"
        "probability" returns ``softmax(source_scores) @ weights_``; "logit" returns
        ``softmax(source_scores @ weights_)``, as the authors do.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Target classes, in the order of the columns of ``transform``.
    weights_ : ndarray of shape (n_features, n_classes)
        ``1 / mapping_size_`` where a source class belongs to the group of a target
        class, else 0.
    source_indices_ : ndarray of shape (n_classes, mapping_size)
        Source classes of each group, sorted.
    mapping_size_ : int
        Number of source classes in each group.
    frequencies_ : ndarray of shape (n_features, n_classes)
        The weighted counts N of the last fit.
    n_features_in_ : int
        Number K of source classes.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns seen in ``fit``, if they were all strings.

    See Also
    --------
    FrequencyLabelMapping : The same, assigned once.

    References
    ----------
    .. [1] A. Chen, Y. Yao, P.-Y. Chen, Y. Zhang and S. Liu, "Understanding and
       Improving Visual Prompting: A Label-Mapping Perspective", CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.label_mapping import IterativeLabelMapping
    >>> mapping = IterativeLabelMapping(mapping_size=1)
    >>> mapping.refit_each_epoch
    True
    >>> mapping.fit(5 * np.eye(3)[[2, 1]], [0, 1]).weights_
    array([[0., 0.],
           [0., 1.],
           [1., 0.]])
    """

    refit_each_epoch = True


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


def _assign_greedily(
    frequencies: Floats, likeness: Floats, n_classes: int, size: int
) -> Codes:
    """Take the best free (source, target) pair until all targets have `size` sources.

    The keys do not change on the way, so one sorted walk finds each next best pair.
    """
    source, target = np.indices(frequencies.shape)
    keys = (target, source, -likeness, -frequencies)
    order = np.lexsort([key.ravel() for key in keys])
    groups: list[list[int]] = [[] for _ in range(n_classes)]
    free = np.ones(len(frequencies), dtype=bool)
    for s, t in zip(source.ravel()[order], target.ravel()[order], strict=True):
        if free[s] and len(groups[t]) < size:
            free[s] = False
            groups[t].append(int(s))
    result: NDArray[np.intp] = np.sort(np.array(groups, dtype=np.intp), axis=1)
    return result
