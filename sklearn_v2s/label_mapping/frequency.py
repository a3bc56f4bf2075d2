# SPDX-License-Identifier: Apache-2.0
"""Groups chosen by the source classes that are predicted, once or in each epoch."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.group_mapping import BaseGroupMapping
from sklearn_v2s.label_mapping.source_class_mapping import (
    class_totals,
    prediction_frequencies,
)

__all__ = ["FrequencyLabelMapping", "IterativeLabelMapping"]

# Class means of probabilities are compared at this many decimals, so that the order in
# which rows were summed (a weight of 2 or a row given twice) cannot decide a tie.
_TIE_DECIMALS = 12


class FrequencyLabelMapping(BaseGroupMapping):
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
        sums = class_totals(softmax(scores, axis=1), codes, weight, n_classes)
        means = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
        return _assign_greedily(
            self.frequencies_, means.round(_TIE_DECIMALS), n_classes, size
        )


class IterativeLabelMapping(FrequencyLabelMapping):
    """Frequency mapping that is assigned anew at every epoch of the training (ILM).

    One ``fit`` does exactly what that of :class:`FrequencyLabelMapping` does. The
    attribute ``refit_each_epoch`` asks a training to call it again at the beginning of
    each epoch, with the source scores under the perturbation as it then is [1]_.

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


def _assign_greedily(
    frequencies: Floats, mean_probability: Floats, n_classes: int, size: int
) -> Codes:
    """Take the best free (source, target) pair until all targets have `size` sources.

    The keys do not change on the way, so one sorted walk finds each next best pair.
    """
    source, target = np.indices(frequencies.shape)
    keys = (target, source, -mean_probability, -frequencies)
    order = np.lexsort([key.ravel() for key in keys])
    groups: list[list[int]] = [[] for _ in range(n_classes)]
    free = np.ones(len(frequencies), dtype=bool)
    for s, t in zip(source.ravel()[order], target.ravel()[order], strict=True):
        if free[s] and len(groups[t]) < size:
            free[s] = False
            groups[t].append(int(s))
    result: NDArray[np.intp] = np.sort(np.array(groups, dtype=np.intp), axis=1)
    return result
