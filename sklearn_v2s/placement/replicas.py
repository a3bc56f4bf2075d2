# SPDX-License-Identifier: Apache-2.0
"""Replicas of a series in a waveform of the source's length: the paper's placement."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sklearn_v2s.runtime.user_warnings import warn_user

__all__ = ["ReplicaPlacement"]

# Number of replicas of ``n_segments="auto"``, where they fit.
_AUTO_SEGMENTS = 8


class ReplicaPlacement:
    """Put replicas of a series into zeros, at equal intervals from the beginning.

    Several channels share the second: channel ``c`` of ``C`` has the samples from
    ``c * (input_length // C)`` on and is placed there by the same rule. So all
    channels take one forward pass; a view for each channel would take as many passes as
    there are channels.

    Parameters
    ----------
    input_length : int
        Length of the waveform, in samples.
    n_channels : int
        Channels of a series.
    n_timepoints : int
        Length of a series, in time points. A series longer than its share of the
        waveform is resampled to that share by averaging neighbours.
    n_segments : int or "auto", default="auto"
        Number m of replicas; ``"auto"`` takes 8, or as many as fit.

    Attributes
    ----------
    segment_length : int
        Samples that one replica takes.
    n_segments : int
        Replicas of each channel.
    starts : list of int
        First sample of each replica of the first channel.

    Raises
    ------
    ValueError
        If `n_segments` replicas do not fit; names the largest number that does.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, section 5.2 and figure 4.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.placement import ReplicaPlacement
    >>> placement = ReplicaPlacement(10, n_channels=1, n_timepoints=2, n_segments=3)
    >>> placement.starts
    [0, 2, 4]
    >>> placement.place(torch.tensor([[[1.0, 2.0]]]))
    tensor([[1., 2., 1., 2., 1., 2., 0., 0., 0., 0.]])
    """

    def __init__(
        self,
        input_length: int,
        n_channels: int,
        n_timepoints: int,
        n_segments: int | Literal["auto"] = "auto",
    ) -> None:
        share = input_length // n_channels
        if share < 1:
            raise ValueError(
                f"X has {n_channels} channels, but the source's waveform has only "
                f"{input_length} samples: at most {input_length} channels fit."
            )
        self.input_length = input_length
        self.n_channels = n_channels
        self.n_timepoints = n_timepoints
        self.segment_length = min(n_timepoints, share)
        largest = share // self.segment_length
        count = min(_AUTO_SEGMENTS, largest) if n_segments == "auto" else n_segments
        if count > largest:
            raise ValueError(
                f"n_segments={count} replicas of {self.segment_length} time "
                f"points do not fit into {share} samples; the largest n_segments for "
                f"this length is {largest}."
            )
        self.n_segments = count
        # The interval is a whole number of series lengths, as in the released code.
        interval = (largest // count) * self.segment_length
        self.starts = [segment * interval for segment in range(count)]
        self._channel_starts = [channel * share for channel in range(n_channels)]

    @property
    def resamples(self) -> bool:
        """Whether the series are longer than what they are given room for."""
        return self.segment_length < self.n_timepoints

    def warn_if_resampling(self) -> None:
        """Warn if the series will be shortened."""
        if self.resamples:
            warn_user(
                f"series of {self.n_timepoints} time points in {self.n_channels} "
                f"channel(s) do not fit into {self.input_length} samples; each is "
                f"resampled to {self.segment_length} points by averaging neighbours.",
            )

    def spans(self) -> Sequence[tuple[int, int]]:
        """Return channel and first sample of each replica."""
        return [
            (channel, first + start)
            for channel, first in enumerate(self._channel_starts)
            for start in self.starts
        ]

    def mask(self) -> Tensor:
        """Return the mask M of equation 1.

        Returns
        -------
        Tensor of shape (input_length,) and dtype bool
            False where a series sits, True elsewhere.
        """
        mask = torch.ones(self.input_length, dtype=torch.bool)
        for _, start in self.spans():
            mask[start : start + self.segment_length] = False
        return mask

    def place(self, series: Tensor) -> Tensor:
        """Return the waveforms of a batch of series.

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Values of any scale.

        Returns
        -------
        Tensor of shape (batch, input_length)
            Zero where no series sits.
        """
        if self.resamples:
            series = functional.adaptive_avg_pool1d(series, self.segment_length)
        waveform = series.new_zeros(len(series), self.input_length)
        for channel, start in self.spans():
            waveform[:, start : start + self.segment_length] = series[:, channel]
        return waveform
