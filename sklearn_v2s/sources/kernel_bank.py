# SPDX-License-Identifier: Apache-2.0
"""The kernel bank: a front end that reads the waveform itself, at many time scales.

A log-mel front end loses the shape of anything that is shorter than its window. A
bank of short kernels, applied at dilations 1, 2, 4, ..., keeps it. Convolution is
linear: the responses to a sum of two waveforms are the sum of their responses.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["KernelBankConfig", "KernelBankFrontEnd"]

# Products of matrices whose columns are a multiple of this treat all columns alike.
_EVEN = 96
# Added to the mean magnitude of a frame before the logarithm; speech is near 0.1.
_FLOOR = 1e-5
# Keeps the standardisation of a clip without any variation finite.
_SMALLEST_STD = 1e-10

# Learning of the kernels.
_PATCHES_OF_A_CLIP = 40
_QUIET_SHARE = 0.3
_ROUNDS = 30
_CLIPS = 1000


@dataclass(frozen=True)
class KernelBankConfig:
    """What a kernel bank computes.

    Parameters
    ----------
    sample_rate : int, default=16000
        Samples for each second of the waveform, in Hz.
    input_length : int, default=16000
        Length of the waveform in samples.
    n_kernels : int, default=84
        Number of kernels, shared by all dilations; at least 7.
    kernel_length : int, default=9
        Taps of a kernel; odd, at least 3.
    n_octaves : int, default=8
        The recogniser reads dilations 1, 2, 4, ..., ``2 ** (n_octaves - 1)``.
    hop_length : int, default=128
        Length of a frame, in samples; a multiple of half the largest dilation.
    """

    sample_rate: int = 16000
    input_length: int = 16000
    n_kernels: int = 84
    kernel_length: int = 9
    n_octaves: int = 8
    hop_length: int = 128

    def __post_init__(self) -> None:
        if self.n_kernels < 7:
            raise ValueError(
                f"front end: n_kernels must be at least 7, got {self.n_kernels}."
            )
        # A single tap of mean 0 is no kernel.
        if self.kernel_length % 2 == 0 or self.kernel_length < 3:
            raise ValueError(
                "front end: kernel_length must be odd and at least 3, got "
                f"{self.kernel_length}."
            )
        if self.n_octaves < 1:
            raise ValueError(
                f"front end: n_octaves must be at least 1, got {self.n_octaves}."
            )
        if self.hop_length < 1 or self.hop_length % max(1, 2**self.n_octaves // 4):
            raise ValueError(
                f"front end: hop_length must be a positive multiple of "
                f"{2**self.n_octaves // 4} for n_octaves={self.n_octaves}, got "
                f"{self.hop_length}."
            )
        if self.n_frames < 1:
            raise ValueError(
                f"front end: {self.input_length} samples are shorter than one frame "
                f"of {self.hop_length}."
            )

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.input_length // self.hop_length

    @property
    def n_channels(self) -> int:
        """Number of features of a frame."""
        return self.n_kernels * self.n_octaves

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON types."""
        return asdict(self)


class KernelBankFrontEnd(nn.Module):
    """Waveform to the standardised log-magnitudes of a bank of dilated kernels.

    Parameters
    ----------
    config : KernelBankConfig
        What to compute.

    Attributes
    ----------
    kernels : Tensor of shape (n_kernels, kernel_length)
        Of mean 0 and length 1. Random until `learn` is called; a checkpoint carries
        them.

    References
    ----------
    Dempster, Schmidt, Webb. MiniRocket: a very fast (almost) deterministic transform
    for time series classification. KDD 2021 (dilated kernels of nine taps).
    Coates, Ng. Learning feature representations with k-means. 2012 (their learning).

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources import KernelBankConfig, KernelBankFrontEnd
    >>> front_end = KernelBankFrontEnd(KernelBankConfig())
    >>> front_end(torch.ones(2, 16000)).shape
    torch.Size([2, 125, 672])
    >>> front_end.responses(torch.ones(2, 150), dilation=4).shape
    torch.Size([2, 84, 150])
    """

    kernels: Tensor

    def __init__(self, config: KernelBankConfig) -> None:
        super().__init__()
        self.config = config
        random = torch.randn(config.n_kernels, config.kernel_length)
        self.register_buffer("kernels", _normalise(random))

    def responses(
        self,
        waveform: Tensor,
        dilation: int,
        stride: int = 1,
    ) -> Tensor:
        """Return the responses of kernels at one dilation, linear in the waveform.

        Parameters
        ----------
        waveform : Tensor of shape (batch, n_samples)
            Of any length; silence is assumed before and after. The response at a
            sample depends on the ``(kernel_length - 1) * dilation + 1`` samples around
            it, so that a part of the second may be computed by itself.
        dilation : int
            Distance of two taps, in samples.
        stride : int, default=1
            Distance of two responses, in samples.

        Returns
        -------
        Tensor of shape (batch, n_kernels, ceil(n_samples / stride))
            Centred on the samples.
        """
        span = (self.config.kernel_length - 1) * dilation
        padded = functional.pad(waveform, (span // 2, span // 2))
        # A product of matrices: with one input channel it takes a CPU half the time
        # of the convolution.
        patches = padded.unfold(1, span + 1, stride)[..., ::dilation]
        return self.kernels @ patches.transpose(1, 2)

    def responses_in_columns(
        self, waveforms: Tensor, dilation: int, kernels: Tensor, count: int
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield the responses of some kernels at a time, with the waveforms as columns.

        Parameters
        ----------
        waveforms : Tensor of shape (n_samples, batch)
            As for `responses`, transposed.
        dilation : int
            Distance of two taps, in samples.
        kernels : Tensor of shape (k,)
            Numbers of the kernels to apply.
        count : int
            Kernels at a time.

        Yields
        ------
        some : slice
            Which of `kernels`.
        responses : Tensor of shape (at most count, n_samples, batch)
            Those of `responses`, with the axes in another order.
        """
        n_samples, batch = waveforms.shape
        reach = (self.config.kernel_length - 1) * dilation // 2
        # What a waveform gives must not depend on its place, not even by rounding.
        silence = -n_samples % (_EVEN // math.gcd(_EVEN, batch))
        padded = functional.pad(waveforms, (0, 0, reach, reach + silence))
        taps = padded.unfold(0, n_samples + silence, dilation).permute(0, 2, 1)
        taps = taps.flatten(1)
        for start in range(0, len(kernels), count):
            some = slice(start, start + count)
            found = (self.kernels[kernels[some]] @ taps).unflatten(1, (-1, batch))
            yield some, found[:, :n_samples]

    def forward(self, waveform: Tensor) -> Tensor:
        """Return features of shape (batch, n_frames, n_kernels * n_octaves)."""
        if waveform.device.type != "cpu":
            return self._features(waveform)
        # The responses to one clip stay in the cache of a CPU; to many they do not.
        return torch.cat([self._features(clip) for clip in waveform.split(1)])

    def _features(self, waveform: Tensor) -> Tensor:
        config = self.config
        octaves = []
        for octave in range(config.n_octaves):
            dilation = 2**octave
            # The mean magnitude of a slow kernel needs few of its responses.
            stride = max(1, dilation // 2)
            magnitude = self.responses(waveform, dilation, stride).abs()
            shape = (config.n_frames, config.hop_length // stride)
            octaves.append(
                magnitude[..., : shape[0] * shape[1]].unflatten(2, shape).mean(3)
            )
        level = torch.log(torch.cat(octaves, dim=1) + _FLOOR).transpose(1, 2)
        centred = level - level.mean((-2, -1), keepdim=True)
        variance = centred.square().mean((-2, -1), keepdim=True)
        return centred / (torch.sqrt(variance + _SMALLEST_STD**2) + _SMALLEST_STD)

    @torch.no_grad()
    def learn(self, clips: Tensor, generator: torch.Generator) -> None:
        """Learn the kernels from speech, by spherical k-means on patches.

        Parameters
        ----------
        clips : Tensor of shape (n_clips, input_length)
            Speech; at most 1,000 clips are used, drawn at random.
        generator : torch.Generator
            Draws clips, patches and the first kernels.

        Raises
        ------
        ValueError
            If the clips are shorter than the slowest kernel, or give fewer patches
            with sound than there are kernels.
        """
        config = self.config
        longest = (config.kernel_length - 1) * 2 ** (config.n_octaves - 1)
        if longest >= config.input_length:
            raise ValueError(
                f"front end: a kernel takes up to {longest + 1} samples, and a clip "
                f"has only {config.input_length} samples. Use fewer n_octaves."
            )
        order = torch.randperm(len(clips), generator=generator)[:_CLIPS]
        clips = clips[order]
        taps = torch.arange(config.kernel_length)
        found = []
        for octave in range(config.n_octaves):
            span = (config.kernel_length - 1) * 2**octave
            starts = torch.randint(
                config.input_length - span,
                (len(clips), _PATCHES_OF_A_CLIP),
                generator=generator,
            )
            positions = starts.unsqueeze(2) + taps * 2**octave
            patches = clips.gather(1, positions.flatten(1)).reshape(-1, len(taps))
            patches = patches - patches.mean(1, keepdim=True)
            strength = patches.norm(dim=1)
            # Patches of the silence between words would be noise.
            found.append(patches[strength > strength.quantile(_QUIET_SHARE)])
        patches = torch.cat(found)
        if len(patches) < config.n_kernels:
            raise ValueError(
                f"front end: {config.n_kernels} kernels cannot be learned from "
                f"{len(patches)} patches with sound. Give more clips."
            )
        patches = _normalise(patches)
        order = torch.randperm(len(patches), generator=generator)[: config.n_kernels]
        kernels = patches[order].clone()
        for _ in range(_ROUNDS):
            nearest = (patches @ kernels.T).argmax(1)
            sums = torch.zeros_like(kernels).index_add_(0, nearest, patches)
            used = torch.bincount(nearest, minlength=len(kernels)) > 0
            kernels[used] = _normalise(sums[used])
        self.kernels.copy_(kernels)


def _normalise(patches: Tensor) -> Tensor:
    """Return patches of mean 0 and length 1."""
    patches = patches.double()
    patches = patches - patches.mean(1, keepdim=True)
    return (patches / patches.norm(dim=1, keepdim=True)).float()
