# SPDX-License-Identifier: Apache-2.0
"""A linear label mapping in two parts: what a training changes, and a fixed offset."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sklearn_v2s.label_mapping.base import Floats
from sklearn_v2s.label_mapping.linear import LinearLabelMapping

__all__ = ["Offset"]


@dataclass(frozen=True)
class Offset:
    """Scores of some features, to which a training adds those of the others.

    No gradient changes what the views without a perturbation say, but a head that reads
    them would have to compute it in each step. Their part of the scores of a fitted map
    is computed once instead.

    Their leave-one-out scores would be the honest ones, but cross-validation found them
    harmful: where they are near chance, only a perturbation that learns each training
    series by heart makes up for it (docs/method.md).

    Attributes
    ----------
    learned : LinearLabelMapping
        The part of the map that reads the first features, with the intercept.
    scores : ndarray of shape (n, n_classes)
        What the part that reads the other features says of the training rows.
    """

    learned: LinearLabelMapping
    scores: Floats

    @classmethod
    def split(
        cls, mapping: LinearLabelMapping, features: Floats, n_learned: int
    ) -> Self | None:
        """Split a fitted map.

        Parameters
        ----------
        mapping : LinearLabelMapping
            Fitted.
        features : ndarray of shape (n, n_features)
            Of the training rows.
        n_learned : int
            Number of features, the first ones, that the training changes.

        Returns
        -------
        Offset or None
            None where a block of the map has features of both parts.
        """
        n_read = int(np.searchsorted(mapping.selected_, n_learned))
        ends = np.cumsum(mapping.block_sizes_)
        if len(ends) and n_read not in ends:
            return None
        n_blocks = int(np.searchsorted(ends, n_read, side="right"))
        learned = _part(mapping, slice(n_read), slice(n_blocks), 0, n_learned)
        fixed = _part(
            mapping,
            slice(n_read, None),
            slice(n_blocks, None),
            n_learned,
            mapping.n_features_in_ - n_learned,
        )
        fixed.intercept_ = np.zeros_like(fixed.intercept_)
        scores = fixed.decision_scores(features[:, n_learned:])
        return cls(learned, fixed.temperature_ * scores)

    def write_to(self, mapping: LinearLabelMapping) -> None:
        """Put the learned part back into the map that was split.

        Parameters
        ----------
        mapping : LinearLabelMapping
            A copy of that map; changed in place.
        """
        learned = self.learned
        n_read = learned.coef_.shape[1]
        coef = mapping.temperature_ * mapping.coef_
        coef[:, :n_read] = learned.temperature_ * learned.coef_
        mapping.coef_ = coef
        mapping.intercept_ = learned.temperature_ * learned.intercept_
        mapping.temperature_ = 1.0


def _part(
    mapping: LinearLabelMapping,
    read: slice,
    blocks: slice,
    first: int,
    n_features: int,
) -> LinearLabelMapping:
    """Return the part of a map that reads some neighbouring features."""
    part = LinearLabelMapping()
    part.classes_ = mapping.classes_
    part.n_features_in_ = n_features
    selected: NDArray[np.intp] = mapping.selected_[read] - first
    part.selected_ = selected
    part.block_sizes_ = mapping.block_sizes_[blocks]
    part.mean_, part.scale_ = mapping.mean_[read], mapping.scale_[read]
    part.bound_ = mapping.bound_[read]
    part.coef_ = mapping.coef_[:, read]
    part.intercept_ = mapping.intercept_
    part.temperature_ = mapping.temperature_
    return part
