# SPDX-License-Identifier: Apache-2.0
"""What the views without a perturbation say of the classes, fixed for a training."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from sklearn_v2s.label_mapping.base import Codes, Floats
from sklearn_v2s.label_mapping.fitting import fit_mapping
from sklearn_v2s.label_mapping.linear import LinearLabelMapping

__all__ = ["Offset"]


@dataclass(frozen=True)
class Offset:
    """Scores of some features, to which a training adds those of the others.

    No gradient changes what the views without a perturbation say, but a head that reads
    them would have to compute it in each step. A map fitted to them once says it at no
    cost, and leave-one-out, so that the training does not take for learned what was
    only fitted.

    Attributes
    ----------
    learned, fixed : LinearLabelMapping
        Fitted to the features that the training changes, and to the others.
    scores : ndarray of shape (n, n_classes)
        Logarithms of the leave-one-out probabilities of `fixed`.
    """

    learned: LinearLabelMapping
    fixed: LinearLabelMapping
    scores: Floats

    @classmethod
    def fit(
        cls,
        features: Floats,
        n_learned: int,
        fixed_sizes: list[int],
        codes: Codes,
        weight: Floats,
        n_classes: int,
        mapping_size: int | None = None,
    ) -> Self:
        """Fit both maps.

        Parameters
        ----------
        features : ndarray of shape (n, n_features)
            Those of all views.
        n_learned : int
            Number of features, the first ones, that the training changes.
        fixed_sizes : list of int
            Blocks of the others.
        codes : ndarray of shape (n,)
            Target class of each row, from 0 to ``n_classes - 1``.
        weight : ndarray of shape (n,)
            Positive weights.
        n_classes : int
            Number of target classes.
        mapping_size : int, default=None
            As in `LinearLabelMapping`.

        Returns
        -------
        Offset
            The offset.
        """
        learned = LinearLabelMapping(mapping_size=mapping_size)
        fit_mapping(learned, features[:, :n_learned], codes, weight, n_classes)
        # The training begins with what the offset says.
        learned.coef_ = np.zeros_like(learned.coef_)
        learned.intercept_ = np.zeros_like(learned.intercept_)
        fixed = LinearLabelMapping(block_sizes=fixed_sizes, store_loo_scores=True)
        fit_mapping(fixed, features[:, n_learned:], codes, weight, n_classes)
        return cls(learned, fixed, fixed.loo_scores_)

    def write_sum_to(self, mapping: LinearLabelMapping) -> None:
        """Make `mapping` the sum of both maps.

        Parameters
        ----------
        mapping : LinearLabelMapping
            Fitted to the features of all views.
        """
        learned, fixed = self.learned, self.fixed
        for name in ("mean_", "scale_", "bound_"):
            both = getattr(learned, name), getattr(fixed, name)
            setattr(mapping, name, np.concatenate(both))
        mapping.selected_ = np.concatenate(
            [learned.selected_, learned.n_features_in_ + fixed.selected_]
        )
        # A block of one: in it a row keeps its length, as without blocks.
        single = np.ones(len(learned.selected_), dtype=np.intp)
        mapping.block_sizes_ = np.concatenate([single, fixed.block_sizes_])
        mapping.coef_ = np.hstack(
            [
                learned.temperature_ * learned.coef_,
                fixed.temperature_ * fixed.coef_,
            ]
        )
        mapping.intercept_ = (
            learned.temperature_ * learned.intercept_
            + fixed.temperature_ * fixed.intercept_
        )
        mapping.temperature_ = 1.0
