# SPDX-License-Identifier: Apache-2.0
"""Speech clips as waveforms, and the forward pass of a source model over them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_v2s.runtime.devices import to_device

__all__ = ["as_waveforms", "logits_of_clips"]

# Factor from 16-bit samples to waveforms.
_PCM_SCALE = 1.0 / 32768.0


def as_waveforms(clips: np.ndarray) -> Tensor:
    """Return clips of 16-bit samples as waveforms in [-1, 1), in float32."""
    return torch.from_numpy(clips.astype(np.float32) * _PCM_SCALE)


@torch.no_grad()
def logits_of_clips(
    source: Any,
    read: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Return the logits of a source model for clips, of shape (n, K).

    Parameters
    ----------
    source : nn.Module
        Source model in evaluation mode, on any device.
    read : callable
        Maps some of `rows` to their clips, of dtype int16.
    rows : ndarray of int
        Which clips.
    batch_size : int
        Clips for each call of the source.
    """
    parameter = next(source.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    logits = []
    for start in range(0, len(rows), batch_size):
        clips = read(rows[start : start + batch_size])
        outputs = source(to_device(as_waveforms(clips), device))
        logits.append(outputs.logits.cpu().numpy())
    return np.concatenate(logits)
