# SPDX-License-Identifier: Apache-2.0
"""Random groups of source classes, the mapping of the V2S paper."""

from typing import Any

import numpy as np
from numpy.random import RandomState
from sklearn.utils import check_random_state

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.group_mapping import BaseGroupMapping

__all__ = ["RandomLabelMapping"]


class RandomLabelMapping(BaseGroupMapping):
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

    _parameter_constraints: dict[str, Any] = {
        **BaseGroupMapping._parameter_constraints,
        "random_state": ["random_state"],
    }

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
