# SPDX-License-Identifier: Apache-2.0
"""The level of a series: mean and standard deviation."""

import numpy as np
import torch

from sklearn_v2s.views.base import View, of_shape

__all__ = ["LevelView"]

# Of the standard deviation of all values: series whose levels differ by less were
# brought to one level before, and what is left is rounding.
_SAME_LEVEL = 1e-2


class LevelView(View):
    """Mean and standard deviation of each channel of a series.

    The other views depend on the shape above all. Levels that are the same in all
    training series, as of series that were normalised one by one, give zeros.

    Parameters
    ----------
    n_channels : int
        Channels of a series.
    """

    def __init__(self, n_channels: int) -> None:
        self.block_sizes = [2 * n_channels]
        self.differs = np.zeros(2 * n_channels, dtype=bool)

    @staticmethod
    def _levels(series: np.ndarray) -> np.ndarray:
        return np.concatenate([series.mean(axis=2), series.std(axis=2)], axis=1)

    def fit(self, series: np.ndarray, order: np.ndarray) -> None:
        """Find the levels that differ between series."""
        levels = self._levels(series)
        # Different series once each: repeating some must not change what differs.
        scale = max(1.0, series[order].std())
        self.differs = np.ptp(levels, axis=0) > _SAME_LEVEL * scale

    def compute(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the levels that differ, and 0 for the others."""
        return np.where(self.differs, self._levels(series), 0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return which levels differ."""
        return {"differs": self.differs}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over which levels differ."""
        self.differs = of_shape("differs", arrays, self.differs.shape)
