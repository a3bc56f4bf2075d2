# SPDX-License-Identifier: Apache-2.0
"""What mappings share that give each target class a group of source classes."""

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.source_class_mapping import BaseSourceClassMapping
from sklearn_v2s.runtime.sklearn_compat import NumberInterval

__all__ = ["BaseGroupMapping"]


class BaseGroupMapping(BaseSourceClassMapping):
    """Disjoint groups of equal size, one for each target class."""

    _parameter_constraints: dict[str, Any] = {
        **BaseSourceClassMapping._parameter_constraints,
        "mapping_size": [NumberInterval(Integral, 1, None, closed="left"), None],
    }

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
        """Return the number of source classes of one target class."""
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
