# SPDX-License-Identifier: Apache-2.0
"""What all views share."""

import hashlib
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from sklearn_v2s.runtime.output_cache import cached

__all__ = ["View", "content_order", "of_shape"]


class View(ABC):
    """A way in which a source model reads series: a placement and a source output.

    Attributes
    ----------
    block_sizes : list of int
        Numbers of neighbouring columns of the features that form a block.
    """

    block_sizes: list[int]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return sum(self.block_sizes)

    # Not abstract: many views have nothing to learn.
    def fit(self, series: np.ndarray, order: np.ndarray) -> None:  # noqa: B027
        """Learn, without labels, what the view needs of the training series.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised training series.
        order : ndarray of shape (n_different,)
            Rows of different series, in random order (see `content_order`).
        """

    def features(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> np.ndarray:
        """Return the features of normalised series.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        device : torch.device
            Where to compute.
        memory : str, object with the interface of joblib.Memory or None, default=None
            Where features are cached, if at all.

        Returns
        -------
        ndarray of shape (n, n_features)
            The features.
        """
        (features,) = cached(
            memory,
            self.identity(),
            series,
            device,
            lambda rows: [self.compute(rows, device)],
        )
        return features

    @abstractmethod
    def compute(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return what `features` does, not cached."""

    def identity(self) -> dict[str, Any] | None:
        """Return all that the features depend on, besides the series.

        Returns
        -------
        dict or None
            None where it is not known, or computing is faster than caching.
        """
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `fit` learned."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:  # noqa: B027
        """Take over what `arrays` returned."""


def content_order(series: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of different series, in an order drawn by their content.

    Rows drawn by number would differ where rows are repeated or permuted; drawn by
    content, a weight of 2 is the same as the series twice.

    Parameters
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        Series as the user gave them.
    seed : int
        Another seed gives another order.

    Returns
    -------
    ndarray of shape (n_different,)
        Row numbers.
    """
    key = int(seed).to_bytes(8, "little")
    # Adding zero removes the sign of zeros.
    rows = np.ascontiguousarray(series) + 0.0
    first: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        first.setdefault(hashlib.blake2b(row.tobytes(), key=key).digest(), number)
    return np.array([first[digest] for digest in sorted(first)])


def of_shape(
    name: str, arrays: dict[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Return a copy of one of `arrays`, which must have that shape."""
    array = np.array(arrays[name])
    if array.shape != shape:
        raise TypeError(f"{name} has shape {array.shape}, expected {shape}")
    return array
