# SPDX-License-Identifier: Apache-2.0
"""Augmentation of speech clips and of their spectrograms, on batches, in torch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sklearn_v2s.runtime.devices import to_device

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave the word what it is.

    Parameters
    ----------
    shift : float, default=0.1
        Largest shift in time, in seconds; what leaves the second is lost.
    speed : float, default=0.1
        Largest change of speed and pitch together, as a share; it imitates shorter and
        longer vocal tracts, that is, other speakers.
    noise : float, default=0.02
        Largest standard deviation of white noise against a clip of amplitude 1.
    gain : float, default=6.0
        Largest change of level before noise is added, in dB.
    time_mask, mel_mask : int, default=25 and 15
        Largest width of the masked frames and mel bands; each is applied twice
        (SpecAugment).

    References
    ----------
    Park et al. SpecAugment: a simple data augmentation method for automatic speech
    recognition. Interspeech 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.pretraining.augmentation import Augmentation
    >>> generator = torch.Generator().manual_seed(0)
    >>> Augmentation().waveforms(torch.zeros(2, 16000), 16000, generator).shape
    torch.Size([2, 16000])
    """

    shift: float = 0.1
    speed: float = 0.1
    noise: float = 0.02
    gain: float = 6.0
    time_mask: int = 25
    mel_mask: int = 15

    def waveforms(
        self, waveforms: Tensor, sample_rate: int, generator: torch.Generator
    ) -> Tensor:
        """Return changed waveforms of shape (batch, input_length)."""

        def uniform(size: int, low: float, high: float) -> Tensor:
            return torch.rand(size, 1, generator=generator) * (high - low) + low

        batch, length = waveforms.shape
        rate = 1.0 + uniform(batch, -self.speed, self.speed)
        offset = uniform(batch, -self.shift, self.shift) * sample_rate
        # Read each clip at `rate` times the speed around its middle; grid_sample
        # interpolates linearly and puts zeros outside.
        positions = torch.arange(length) - length / 2
        positions = positions * rate + length / 2 + offset
        grid = torch.stack(
            [2.0 * (positions + 0.5) / length - 1.0, torch.zeros_like(positions)], -1
        )
        moved = functional.grid_sample(
            waveforms[:, None, None, :],
            grid[:, None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )[:, 0, 0]
        level = 10.0 ** (uniform(batch, -self.gain, self.gain) / 20.0)
        strength = uniform(batch, 0.0, self.noise)
        # One in two clips stays clean.
        strength = strength * (uniform(batch, 0.0, 1.0) < 0.5)
        noise = torch.randn(batch, length, generator=generator)
        return moved * level + noise * strength

    def features(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Return features of shape (batch, n_frames, n_mels) with masked bands."""
        batch, n_frames, n_mels = features.shape
        # Drawn on the CPU, so that every device sees the same masks.
        keep = torch.ones(features.shape, dtype=features.dtype)
        for size, width, axis in (
            (n_frames, self.time_mask, 1),
            (n_frames, self.time_mask, 1),
            (n_mels, self.mel_mask, 2),
            (n_mels, self.mel_mask, 2),
        ):
            widths = torch.rand(batch, 1, generator=generator) * width
            starts = torch.rand(batch, 1, generator=generator) * (size - widths)
            position = torch.arange(size)
            masked = (position >= starts) & (position < starts + widths)
            keep = keep * (~masked).unsqueeze(3 - axis)
        # The features have mean zero: a masked value carries nothing.
        return features * to_device(keep, features.device)
