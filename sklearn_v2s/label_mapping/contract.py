# SPDX-License-Identifier: Apache-2.0
"""The contract that every label mapping meets, the user's own too."""

from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

__all__ = ["LabelMapping", "MatrixMapping"]


class LabelMapping(Protocol):
    """The contract of a label mapping, which scikit-learn transformers meet.

    It may have more: ``reads_logits`` says that it needs the logits of the source
    classes, and ``refit_each_epoch`` that it is fitted again at the beginning of each
    epoch of a training. Without these attributes neither is the case. ``fit`` is given
    ``classes`` only where `y` lacks some of them.

    Examples
    --------
    >>> from sklearn_v2s.label_mapping import ContiguousLabelMapping
    >>> from sklearn_v2s.label_mapping.contract import LabelMapping
    >>> def n_classes(mapping: LabelMapping) -> int:
    ...     return mapping.transform([[0.0] * 4]).shape[1]
    >>> n_classes(ContiguousLabelMapping().fit([[0.0] * 4] * 2, ["no", "yes"]))
    2
    """

    def fit(
        self,
        source_scores: Any,
        y: Any,
        /,
        sample_weight: Any = None,
        *,
        classes: Any = None,
    ) -> Self:
        """Learn the mapping from source scores (n, K) and the target class of each."""

    def transform(self, source_scores: Any, /) -> Any:
        """Return non-negative scores of the target classes, (n, C)."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, as scikit-learn has it."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as scikit-learn has it."""


@runtime_checkable
class MatrixMapping(LabelMapping, Protocol):
    """A fitted label mapping that weighs source classes by a matrix.

    Attributes
    ----------
    weights_ : ndarray of shape (K, C)
        Weight of each source class in each target class.
    aggregation : str
        ``"probability"`` or ``"logit"``: what the weights are applied to.
    """

    weights_: np.ndarray
    aggregation: str
