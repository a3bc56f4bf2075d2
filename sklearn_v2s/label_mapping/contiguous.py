# SPDX-License-Identifier: Apache-2.0
"""Groups of neighbouring source classes, the mapping of the paper's code."""

import numpy as np

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.group_mapping import BaseGroupMapping

__all__ = ["ContiguousLabelMapping"]


class ContiguousLabelMapping(BaseGroupMapping):
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
