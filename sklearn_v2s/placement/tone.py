# SPDX-License-Identifier: Apache-2.0
"""A series as the pitch of a tone."""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["TonePlacement"]

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


class TonePlacement:
    """Sound a series as the pitch of a tone: frequency modulation.

    Replicas at the sample rate last some milliseconds and are over within one window of
    a log-mel front end. Sounded over the second, the curve of a series appears on the
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
        # What rounding leaves of a constant series is not a curve.
        rounding = _ROUNDING * torch.finfo(series.dtype).eps
        flat = size <= rounding * series.abs().amax(2, keepdim=True)
        centred = centred.masked_fill(flat, 0.0)
        # Divided twice: the square of a small value may be zero.
        centred = centred / torch.where(flat, torch.ones_like(size), size)
        std = centred.square().mean(2, keepdim=True).sqrt()
        values = centred / torch.where(std > 0, std, torch.ones_like(std))
        curve = functional.interpolate(
            values, size=self.share, mode="linear", align_corners=True
        ).flatten(1)
        height = (curve.clamp(-_RANGE, _RANGE) + _RANGE) / (2 * _RANGE)
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
