# SPDX-License-Identifier: Apache-2.0
"""Placement: how a target series becomes a waveform of the source's length."""

import math
import warnings
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Placement", "ReplicaPlacement", "TonePlacement"]

# How many replicas ``n_segments="auto"`` asks for where they fit.
_AUTO_SEGMENTS = 8

# The tone: share of the second that is silent before and after it, length of its rise
# and fall, loudness, pitch range as shares of the sample rate (150 Hz and 6 kHz at
# 16 kHz), and the standardised values that the range stands for.
_SILENCE = 0.05
_RAMP = 0.01
_LOUDNESS = 0.3
_PITCHES = (150 / 16000, 6000 / 16000)
_RANGE = 3.0
# In units of the last place: what the mean of a long series may be off by.
_ROUNDING = 100


class Placement(Protocol):
    """What turns a batch of series into waveforms."""

    def place(self, series: Tensor) -> Tensor:
        """Return waveforms (batch, input_length) of (batch, channels, time points)."""


class ReplicaPlacement:
    """Put replicas of a series into silence, at equal intervals from the beginning.

    Several channels share the second: channel ``c`` of ``C`` has the samples from
    ``c * (input_length // C)`` on and is placed there by the same rule. The source then
    hears one channel after the other in one waveform, at the cost of one; a view for
    each channel would cost as many passes through the source as there are channels.

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
        """Say once, for a fit, that the series will be shortened."""
        if self.resamples:
            warnings.warn(
                f"series of {self.n_timepoints} time points in {self.n_channels} "
                f"channel(s) do not fit into {self.input_length} samples; each is "
                f"resampled to {self.segment_length} points by averaging neighbours.",
                UserWarning,
                stacklevel=2,
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


class TonePlacement:
    """Sound a series as the pitch of a tone: frequency modulation.

    Replicas at the sample rate last some milliseconds and are over within one window of
    a log-mel front end. Sounded over the second, the course of a series is drawn on the
    spectrogram, as the formants of speech are. Each series is standardised by itself:
    values from -3 to 3 standard deviations stand for pitches from 150 Hz to 6 kHz, even
    on the mel scale. Several channels are sounded one after the other.

    Parameters
    ----------
    input_length : int
        Length of the waveform, in samples.
    sample_rate : int
        Of the waveform, in Hz. The pitches are shares of it.
    n_channels : int
        Channels of a series.

    Raises
    ------
    ValueError
        If there are more channels than samples to sound them.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.placement import TonePlacement
    >>> placement = TonePlacement(16000, 16000, n_channels=1)
    >>> placement.place(torch.tensor([[[0.0, 1.0, 0.0]]])).shape
    torch.Size([1, 16000])
    """

    def __init__(self, input_length: int, sample_rate: int, n_channels: int) -> None:
        self.input_length = input_length
        self.sample_rate = sample_rate
        self.silence = round(_SILENCE * input_length)
        sounding = input_length - 2 * self.silence
        self.share = sounding // n_channels
        if self.share < 1:
            raise ValueError(
                f"X has {n_channels} channels, but the source's waveform has only "
                f"{sounding} samples to sound them one after the other."
            )

    def place(self, series: Tensor) -> Tensor:
        """Return the waveforms of a batch of series.

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Values of any scale.

        Returns
        -------
        Tensor of shape (batch, input_length)
            A tone of amplitude 0.3 between two silences.
        """
        centred = series - series.mean(2, keepdim=True)
        size = centred.abs().amax(2, keepdim=True)
        # What rounding leaves of a constant series is no course.
        rounding = _ROUNDING * torch.finfo(series.dtype).eps
        flat = size <= rounding * series.abs().amax(2, keepdim=True)
        centred = centred.masked_fill(flat, 0.0)
        # Divided twice: the square of a small value may be zero.
        centred = centred / torch.where(flat, torch.ones_like(size), size)
        std = centred.square().mean(2, keepdim=True).sqrt()
        values = centred / torch.where(std > 0, std, torch.ones_like(std))
        course = functional.interpolate(
            values, size=self.share, mode="linear", align_corners=True
        ).flatten(1)
        height = (course.clamp(-_RANGE, _RANGE) + _RANGE) / (2 * _RANGE)
        low, high = (_mel(share * self.sample_rate) for share in _PITCHES)
        mel = low + height * (high - low)
        hertz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
        # In cycles, modulo 1: a phase that grows over the second would lose digits.
        exact = hertz if hertz.device.type == "mps" else hertz.double()
        cycles = torch.cumsum(exact / self.sample_rate, dim=1) % 1.0
        tone = torch.sin(2.0 * math.pi * cycles).to(series) * _LOUDNESS
        waveform = series.new_zeros(len(series), self.input_length)
        end = self.silence + tone.shape[1]
        waveform[:, self.silence : end] = tone * self._envelope(tone)
        return waveform

    def _envelope(self, tone: Tensor) -> Tensor:
        """Return a rise from and a fall to silence, without a click."""
        length = max(1, min(round(_RAMP * self.sample_rate), tone.shape[1] // 2))
        rise = 0.5 - 0.5 * torch.cos(torch.linspace(0, math.pi, length))
        envelope = tone.new_ones(tone.shape[1])
        envelope[:length] = rise.to(tone)
        envelope[-length:] = rise.flip(0).to(tone)
        return envelope


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)
