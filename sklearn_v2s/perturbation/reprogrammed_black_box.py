# SPDX-License-Identifier: Apache-2.0
"""Series to logits of a black box, through placement and perturbation."""

from dataclasses import dataclass

import numpy as np
import torch

from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.sources.black_box import BlackBox

__all__ = ["ReprogrammedBlackBox"]

# Waveforms in one call of the source, at most: what a small machine has memory for.
_CALL = 256


@dataclass(frozen=True)
class ReprogrammedBlackBox:
    """A black box that reads placed series with perturbations added.

    Attributes
    ----------
    black_box : BlackBox
        What is queried.
    placement : ReplicaPlacement
        Series to waveforms.
    input_gain : float
        Factor of the placed series.
    precision : {"float32", "float64"}
        Type of the waveforms.
    """

    black_box: BlackBox
    placement: ReplicaPlacement
    input_gain: float
    precision: str

    def waveforms(self, series: np.ndarray, perturbation: np.ndarray) -> np.ndarray:
        """Return the waveforms of normalised series, of shape (n, input_length)."""
        placed = self.placement.place(torch.from_numpy(series)).numpy()
        return (self.input_gain * placed + perturbation).astype(self.precision)

    def logits(self, series: np.ndarray, perturbations: np.ndarray) -> np.ndarray:
        """Return logits (m, n, K) of n series with each of m perturbations."""
        n = len(series)
        pairs = np.arange(len(perturbations) * n)
        logits = [
            self.black_box.query(
                self.waveforms(series[part % n], perturbations[part // n])
            )
            for part in np.array_split(pairs, -(-len(pairs) // _CALL))
        ]
        return np.concatenate(logits).reshape(len(perturbations), n, -1)
