# SPDX-License-Identifier: Apache-2.0
"""Front ends: waveform to log-mel spectrogram, differentiable and parameterised.

A front end starts with a *linear* map, the short-time Fourier transform. The
spectrogram of a sum of two waveforms is therefore the sum of their spectrograms,
which is what lets the perturbation be transformed once for a whole batch.
"""

from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["FRONT_ENDS", "FrontEndConfig", "LogMelFrontEnd", "mel_filter_bank"]

_LEAST = {
    "sample_rate": 1,
    "input_length": 1,
    "n_fft": 1,
    "hop_length": 1,
    "pad_left": 0,
    "pad_right": 0,
    "n_mels": 1,
}
# A header that was tampered with shall not make a front end take all memory.
_MOST_SAMPLES = 2**20


@dataclass(frozen=True)
class FrontEndConfig:
    """What a log-mel front end computes.

    Parameters
    ----------
    sample_rate : int, default=16000
        Samples for each second of the waveform, in Hz.
    input_length : int, default=16000
        Length of the waveform in samples.
    n_fft : int, default=1024
        Length of the transform, in samples.
    window_length : int, default=None
        Length of the analysis window (periodic Hann), in samples; zeros follow it up to
        `n_fft`. None means `n_fft`.
    hop_length : int, default=128
        Distance between two frames, in samples.
    pad_left, pad_right : int, default=448
        Zeros put before and after the waveform, in samples. 448 and 448 is what
        TensorFlow's ``SAME`` padding gives for one second at 16 kHz.
    n_mels : int, default=80
        Number of mel bands.
    f_min, f_max : float, default=40.0 and 8000.0
        Lowest and highest frequency of the mel bands, in Hz.
    mel_scale : {"slaney", "htk"}, default="slaney"
        Formula of the mel scale.
    mel_norm : {"slaney", None}, default="slaney"
        ``"slaney"`` divides each triangle by its width.
    mel_slopes : {"hertz", "mel"}, default="hertz"
        Scale on which the sides of the triangles are straight. TensorFlow has
        ``"mel"``, and no weight for the constant part of the signal.
    power : {1.0, 2.0}, default=2.0
        Exponent of the magnitude that the mel bands add up.
    compression : {"decibel", "log"}, default="decibel"
        ``"decibel"`` is kapre 0.2.0: 10 log10 of the square root of the mel power,
        minus the maximum of the clip, floored at -80. ``"log"`` is the natural
        logarithm of mel plus `log_offset`.
    log_offset : float, default=1e-6
        Added before the logarithm, for ``compression="log"``.
    standardisation : {"clip", None}, default="clip"
        ``"clip"`` gives each clip mean 0 and standard deviation 1; None leaves the
        compressed bands as they are.

    References
    ----------
    Choi, Joo, Kim. Kapre: On-GPU audio preprocessing layers for a quick
    implementation of deep neural network models with Keras. 2017.

    Examples
    --------
    >>> from sklearn_v2s.sources.front_end import FRONT_ENDS
    >>> FRONT_ENDS["kapre"].n_frames
    125
    """

    sample_rate: int = 16000
    input_length: int = 16000
    n_fft: int = 1024
    window_length: int | None = None
    hop_length: int = 128
    pad_left: int = 448
    pad_right: int = 448
    n_mels: int = 80
    f_min: float = 40.0
    f_max: float = 8000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    mel_slopes: Literal["hertz", "mel"] = "hertz"
    power: float = 2.0
    compression: Literal["decibel", "log"] = "decibel"
    log_offset: float = 1e-6
    standardisation: Literal["clip"] | None = "clip"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            is_integer = isinstance(value, Integral) and not isinstance(value, bool)
            if not is_integer or value < least:
                raise ValueError(
                    f"front end: {name} must be an integer of at least {least}, got "
                    f"{value!r}."
                )
        for name in ("hop_length", "pad_left", "pad_right"):
            if getattr(self, name) > _MOST_SAMPLES:
                raise ValueError(
                    f"front end: {name} must be at most {_MOST_SAMPLES}, got "
                    f"{getattr(self, name)}."
                )
        for name, known in (
            ("mel_scale", ("slaney", "htk")),
            ("mel_norm", ("slaney", None)),
            ("mel_slopes", ("hertz", "mel")),
            ("power", (1.0, 2.0)),
            ("compression", ("decibel", "log")),
            ("standardisation", ("clip", None)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"front end: {name} must be one of {known}, got "
                    f"{getattr(self, name)!r}."
                )
        if not 1 <= (self.window_length or self.n_fft) <= self.n_fft:
            raise ValueError(
                f"front end: window_length must be from 1 to n_fft={self.n_fft}, got "
                f"{self.window_length}."
            )
        if self.n_frames < 1:
            raise ValueError(
                f"front end: {self.input_length} samples with {self.pad_left} and "
                f"{self.pad_right} zeros around them are shorter than one window of "
                f"{self.n_fft}."
            )

    @property
    def n_frames(self) -> int:
        """Number of frames of the spectrogram."""
        padded = self.pad_left + self.input_length + self.pad_right
        return (padded - self.n_fft) // self.hop_length + 1

    @property
    def span(self) -> tuple[float, float]:
        """Seconds of the clip at the start of the first frame and the end of the last.

        Zeros around the clip make it larger or smaller than the clip.
        """
        start = self.n_fft / 2 - self.pad_left - self.hop_length / 2
        end = start + self.n_frames * self.hop_length
        return start / self.sample_rate, end / self.sample_rate

    @property
    def n_bins(self) -> int:
        """Number of frequency bins before the mel bands."""
        return self.n_fft // 2 + 1

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain JSON types."""
        return asdict(self)


# YAMNet: TensorFlow's mel bands of magnitudes, not standardised. One second is filled
# up with zeros to two patches of 96 frames, the second 48 frames later.
_YAMNET = FrontEndConfig(
    n_fft=512,
    window_length=400,
    hop_length=160,
    pad_left=0,
    pad_right=7392,
    n_mels=64,
    f_min=125.0,
    f_max=7500.0,
    mel_scale="htk",
    mel_norm=None,
    mel_slopes="mel",
    power=1.0,
    compression="log",
    log_offset=1e-3,
    standardisation=None,
)

#: Log-mel front ends by name: what published networks were trained with.
FRONT_ENDS: dict[str, FrontEndConfig] = {
    # kapre 0.2.0 as the Voice2Series release configured it.
    "kapre": FrontEndConfig(),
    # For TC-ResNet: 100 frames of 64 bands.
    "mel-64": FrontEndConfig(hop_length=160, pad_left=432, pad_right=432, n_mels=64),
    # The later release of the AttRNN weights (model-attRNN.h5) by its author.
    "speech-cmd-recognition": FrontEndConfig(
        pad_left=0,
        pad_right=896,
        mel_scale="htk",
        mel_norm=None,
        power=1.0,
        compression="log",
    ),
    "yamnet": _YAMNET,
    # The same bands as VGGish has them: one patch of 96 frames.
    "vggish": replace(_YAMNET, pad_right=112, log_offset=1e-2),
}

# The decibel floor of kapre and the smallest mel power it can tell from silence.
_DECIBEL_FLOOR = -80.0
# Clips to transform at a time where no gradients are wanted.
_CLIPS = 4
_SMALLEST_MEL_POWER = 1e-20
# 10 log10 of the root of e.
_DECIBELS_OF_E = 5.0 / float(np.log(10.0))
# Keeps the standardisation of a clip without any variation finite.
_SMALLEST_STD = 1e-10
# Axes of a clip: frames and bands.
_CLIP = (-2, -1)


def _hz_to_mel(hertz: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    # Slaney: linear below 1 kHz, 27 logarithmic steps for each factor of 6.4 above.
    linear = hertz / (200.0 / 3.0)
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hertz, 1e-10) / 1000.0) / np.log(6.4)
    return np.where(hertz >= 1000.0, logarithmic, linear)


def _mel_to_hz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    linear = mel * (200.0 / 3.0)
    logarithmic = 1000.0 * np.exp(np.log(6.4) * (mel - 15.0) / 27.0)
    return np.where(mel >= 15.0, logarithmic, linear)


def mel_filter_bank(config: FrontEndConfig) -> np.ndarray:
    """Return the triangular mel filters of a configuration.

    Parameters
    ----------
    config : FrontEndConfig
        The front end.

    Returns
    -------
    ndarray of shape (n_mels, n_bins)
        Weights in float64; row ``m`` is the triangle of band ``m``.

    References
    ----------
    Slaney. Auditory Toolbox, version 2. Interval Research, 1998.

    Examples
    --------
    >>> from sklearn_v2s.sources.front_end import FRONT_ENDS, mel_filter_bank
    >>> mel_filter_bank(FRONT_ENDS["kapre"]).shape
    (80, 513)
    """
    bins = np.linspace(0.0, config.sample_rate / 2.0, config.n_bins)
    edges_mel = np.linspace(
        _hz_to_mel(np.array(config.f_min), config.mel_scale),
        _hz_to_mel(np.array(config.f_max), config.mel_scale),
        config.n_mels + 2,
    )
    edges = _mel_to_hz(edges_mel, config.mel_scale)
    if config.mel_slopes == "mel":
        corners, places = edges_mel, _hz_to_mel(bins, config.mel_scale)
    else:
        corners, places = edges, bins
    widths = np.diff(corners)
    rising = (places[None, :] - corners[:-2, None]) / widths[:-1, None]
    falling = (corners[2:, None] - places[None, :]) / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if config.mel_slopes == "mel":
        filters[:, 0] = 0.0
    if config.mel_norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


class LogMelFrontEnd(nn.Module):
    """Waveform to standardised log-mel spectrogram.

    Parameters
    ----------
    config : FrontEndConfig
        What to compute. The mel filters are a buffer, so that a checkpoint carries
        the very matrix that its network was trained with.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.front_end import FRONT_ENDS, LogMelFrontEnd
    >>> front_end = LogMelFrontEnd(FRONT_ENDS["kapre"])
    >>> front_end(torch.ones(2, 16000)).shape
    torch.Size([2, 125, 80])
    """

    window: Tensor
    filter_bank: Tensor

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        length = config.window_length or config.n_fft
        window = torch.hann_window(length, dtype=torch.float64).float()
        self.register_buffer(
            "window",
            functional.pad(window, (0, config.n_fft - length)),
            persistent=False,
        )
        filters = torch.from_numpy(mel_filter_bank(config)).float()
        self.register_buffer("filter_bank", filters)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Return the complex spectrogram, a linear function of the waveform.

        Parameters
        ----------
        waveform : Tensor of shape (batch, input_length)
            Samples at ``config.sample_rate``.

        Returns
        -------
        Tensor of shape (batch, n_bins, n_frames)
            Complex, unscaled.
        """
        config = self.config
        padded = functional.pad(waveform, (config.pad_left, config.pad_right))
        return torch.stft(
            padded,
            config.n_fft,
            hop_length=config.hop_length,
            window=self.window,
            center=False,
            return_complex=True,
        )

    def mel(self, spectrogram: Tensor) -> Tensor:
        """Return the mel bands of a complex spectrogram, each frame by itself.

        Parameters
        ----------
        spectrogram : Tensor of shape (..., n_bins, n_frames)
            As `spectrogram` returns it, or some of its frames.

        Returns
        -------
        Tensor of shape (..., n_frames, n_mels)
            Not compressed.
        """
        if self.config.power == 2.0:
            energy = spectrogram.real.square() + spectrogram.imag.square()
        else:
            energy = spectrogram.abs()
        return torch.matmul(energy.transpose(-1, -2), self.filter_bank.T)

    def standardise(self, mel: Tensor) -> Tensor:
        """Return the features: compressed mel bands, standardised if so configured.

        Parameters
        ----------
        mel : Tensor of shape (..., n_frames, n_mels)
            All frames of a clip, as `mel` returns them.

        Returns
        -------
        Tensor of shape (..., n_frames, n_mels)
            With ``config.standardisation="clip"`` of mean 0 and population standard
            deviation 1 for each clip.
        """
        if self.config.compression == "decibel":
            level = _Decibels.apply(mel)
        else:
            level = torch.log(mel + self.config.log_offset)
        if self.config.standardisation is None:
            return level
        return _Standardised.apply(level)

    def features(self, spectrogram: Tensor) -> Tensor:
        """Return ``standardise(mel(spectrogram))``.

        Parameters
        ----------
        spectrogram : Tensor of shape (batch, n_bins, n_frames)
            As `spectrogram` returns it.

        Returns
        -------
        Tensor of shape (batch, n_frames, n_mels)
            Features.
        """
        return self.standardise(self.mel(spectrogram))

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``features(spectrogram(waveform))``."""
        if waveform.device.type != "cpu" or torch.is_grad_enabled():
            return self.features(self.spectrogram(waveform))
        # The frames of a few clips stay in the cache of a CPU; those of many do not.
        parts = waveform.split(_CLIPS)
        return torch.cat([self.features(self.spectrogram(part)) for part in parts])


class _Decibels(torch.autograd.Function):
    """10 log10 of the amplitude below the maximum of the clip, as kapre.

    Written on the power, for the square root has no finite slope at a silent frame. The
    backward pass is torch's own but for its booleans, which cost a CPU more than the
    logarithms.
    """

    @staticmethod
    def forward(ctx: Any, mel: Tensor) -> Tensor:
        level = mel.clamp_min(_SMALLEST_MEL_POWER).log10_().mul_(5.0)
        level -= level.amax(_CLIP, keepdim=True)
        level.clamp_min_(_DECIBEL_FLOOR)
        ctx.save_for_backward(mel, level)
        return level

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        mel, level = ctx.saved_tensors
        mask = torch.empty_like(level)
        slope = gradient * torch.gt(level, _DECIBEL_FLOOR, out=mask)
        # What all levels lose goes to the maximum that they are relative to.
        lost = slope.sum(_CLIP, keepdim=True)
        torch.eq(level, 0.0, out=mask)
        slope.addcmul_(mask, lost / mask.sum(_CLIP, keepdim=True), value=-1.0)
        slope *= torch.ge(mel, _SMALLEST_MEL_POWER, out=mask)
        return slope.mul_(_DECIBELS_OF_E).div_(mel.clamp_min(_SMALLEST_MEL_POWER))


class _Standardised(torch.autograd.Function):
    """Levels of mean 0 and standard deviation 1 in each clip."""

    @staticmethod
    def forward(ctx: Any, level: Tensor) -> Tensor:
        centred = level - level.mean(_CLIP, keepdim=True)
        # The slope of a square root is infinite at zero, the value of a constant
        # clip; the offset under the root keeps the gradient finite there.
        variance = centred.square().mean(_CLIP, keepdim=True)
        std = torch.sqrt(variance + _SMALLEST_STD**2)
        features = centred.div_(std + _SMALLEST_STD)
        ctx.save_for_backward(features, std)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        features, std = ctx.saved_tensors
        along = (gradient * features).mean(_CLIP, keepdim=True)
        slope = gradient / (std + _SMALLEST_STD)
        slope.addcmul_(features, along / std, value=-1.0)
        return slope.sub_(slope.mean(_CLIP, keepdim=True))
