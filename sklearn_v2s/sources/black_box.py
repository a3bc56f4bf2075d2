# SPDX-License-Identifier: Apache-2.0
"""A source that is a function, with checked outputs and counted queries."""

from typing import Any

import numpy as np
from torch import nn

__all__ = ["BlackBox"]

# Smallest probability that a logarithm is taken of.
_TINY = np.finfo(np.float64).tiny


class BlackBox:
    """Query a callable, check what it returns, and count.

    Parameters
    ----------
    source : callable
        Waveforms ``(n, input_length)`` to ``(n, K)``.
    source_output : {"probabilities", "logits"}
        What it returns.
    n_classes : int, default=None
        The K that is expected; None takes that of the first query.
    """

    def __init__(
        self, source: Any, source_output: str, n_classes: int | None = None
    ) -> None:
        if isinstance(source, nn.Module):
            raise TypeError(
                f"source is a {type(source).__name__}, an nn.Module: it takes tensors, "
                "and a black box takes arrays. Give it to V2SClassifier, which "
                "trains through it, or wrap it in a function from arrays to arrays."
            )
        self.source = source
        self.source_output = source_output
        self.n_classes = n_classes
        self.n_queries = 0

    def query(self, waveforms: np.ndarray) -> np.ndarray:
        """Return logits of shape (n, K) as float64."""
        n = len(waveforms)
        self.n_queries += n
        given = self.source(waveforms)
        try:
            scores = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"source returned {type(given).__name__}, which is no array of numbers "
                f"({error}); it must return one row of scores for each waveform."
            ) from error
        known = self.n_classes or "n_source_classes"
        if scores.ndim != 2 or len(scores) != n or scores.shape[1] < 1:
            raise ValueError(
                f"source returned an array of shape {scores.shape} for {n} waveforms; "
                f"it must return ({n}, {known}): one row of scores for each waveform."
            )
        if self.n_classes is None:
            self.n_classes = scores.shape[1]
        if scores.shape[1] != self.n_classes:
            raise ValueError(
                f"source returned {scores.shape[1]} scores for each waveform, but "
                f"{known} before; it must always return those of the same classes."
            )
        if not np.isfinite(scores).all():
            raise ValueError(
                "source returned NaN or infinity for waveforms with values up to "
                f"{np.abs(waveforms).max():.3g}; scores must be finite. If the source "
                "needs quieter waveforms, use normalization='global' or 'series' and "
                "smaller input_gain, init_scale and lr."
            )
        if self.source_output == "logits":
            return scores
        if (scores < 0).any():
            raise ValueError(
                f"source returned the negative value {scores.min():.3g}, which is no "
                "probability; set source_output='logits' for scores of any sign."
            )
        return np.log(np.maximum(scores, _TINY))
