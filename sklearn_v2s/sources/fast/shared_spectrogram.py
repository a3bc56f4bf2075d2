# SPDX-License-Identifier: Apache-2.0
"""The log-mel features of placed series with a perturbation, without repeated work.

The short-time Fourier transform is linear: the spectrogram of a placed series plus a
perturbation is the sum of both spectrograms. That of the series never changes, and is
zero in all frames that no replica touches; that of the perturbation is the same for all
series. So a pass of a training transforms one waveform instead of a batch of them, and
its backward pass too; frames that no replica touches are computed once.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.fast.compiled import takes_compiled_form
from sklearn_v2s.sources.front_end import FrontEndConfig, LogMelFrontEnd

__all__ = ["SharedSpectrogram", "shared_spectrogram_for"]

# Values of the arrays that a CPU works on at a time: they stay in a cache of a MiB.
_CHUNK_VALUES = 2**16


class SharedSpectrogram(nn.Module):
    """Log-mel features of placed series with perturbations.

    The front end itself is handed to each call, for it is a part of a shared source.

    Parameters
    ----------
    config : FrontEndConfig
        Of the front end.
    silent : Tensor of shape (input_length,) and dtype bool
        True where no placed series ever sits (the mask M of equation 1).

    Attributes
    ----------
    touched : Tensor of shape (n_touched,)
        Frames that overlap a placed series.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.placement import ReplicaPlacement
    >>> from sklearn_v2s.sources.front_end import FRONT_ENDS, LogMelFrontEnd
    >>> from sklearn_v2s.sources.fast.shared_spectrogram import SharedSpectrogram
    >>> front_end = LogMelFrontEnd(FRONT_ENDS["kapre"])
    >>> placement = ReplicaPlacement(16000, n_channels=1, n_timepoints=140)
    >>> shared = SharedSpectrogram(front_end.config, placement.mask())
    >>> placed = placement.place(torch.randn(5, 1, 140))
    >>> perturbation, gain = torch.randn(1, 16000), torch.ones(1)
    >>> spectra = shared.transform(front_end, placed)
    >>> features = shared(front_end, spectra, perturbation, gain)
    >>> torch.allclose(features[:, 0], front_end(placed + perturbation), atol=1e-4)
    True
    """

    touched: Tensor
    _untouched: Tensor
    _order: Tensor

    def __init__(self, config: FrontEndConfig, silent: Tensor) -> None:
        super().__init__()
        padded = functional.pad(~silent.cpu(), (config.pad_left, config.pad_right))
        overlaps = padded.unfold(0, config.n_fft, config.hop_length).any(dim=1)
        touched, untouched = overlaps.nonzero()[:, 0], (~overlaps).nonzero()[:, 0]
        for name, frames in (
            ("touched", touched),
            ("_untouched", untouched),
            ("_order", torch.cat([touched, untouched]).argsort()),
        ):
            self.register_buffer(name, frames, persistent=False)

    @torch.no_grad()
    def transform(self, front_end: LogMelFrontEnd, placed: Tensor) -> Tensor:
        """Return the spectrograms of placed series in the frames that they touch.

        Parameters
        ----------
        front_end : LogMelFrontEnd
            On the device of `placed`.
        placed : Tensor of shape (..., input_length)
            Placed series, without gain.

        Returns
        -------
        Tensor of shape (..., 2, n_touched, n_bins)
            Real and imaginary part.
        """
        config = front_end.config
        padded = functional.pad(placed, (config.pad_left, config.pad_right))
        frames = padded.unfold(-1, config.n_fft, config.hop_length)
        frames = frames.index_select(-2, self.touched) * front_end.window
        spectrum = torch.fft.rfft(frames)
        return torch.stack([spectrum.real, spectrum.imag], dim=-3)

    def forward(
        self,
        front_end: LogMelFrontEnd,
        spectra: Tensor,
        perturbation: Tensor,
        gain: Tensor,
    ) -> Tensor:
        """Return the features of placed series with perturbations.

        Parameters
        ----------
        front_end : LogMelFrontEnd
            On the device of `spectra`.
        spectra : Tensor of shape (batch, 2, n_touched, n_bins)
            From `transform`: the series that all G perturbations meet. Of shape
            (batch, G, 2, n_touched, n_bins) where each has its own.
        perturbation : Tensor of shape (G, input_length)
            What is added.
        gain : Tensor of shape (G,)
            Factors of the placed series.

        Returns
        -------
        Tensor of shape (batch, G, n_frames, n_mels)
            As the front end gives them for the sums of the waveforms.
        """
        mel = self.mel(front_end, spectra, perturbation, gain)
        return front_end.standardise(mel)

    def mel(
        self,
        front_end: LogMelFrontEnd,
        spectra: Tensor,
        perturbation: Tensor,
        gain: Tensor,
    ) -> Tensor:
        """Return the mel bands of what `forward` gives the features of.

        Parameters
        ----------
        front_end, spectra, perturbation, gain
            As in `forward`.

        Returns
        -------
        Tensor of shape (batch, G, n_frames, n_mels)
            Not compressed.
        """
        spectrum = front_end.spectrogram(perturbation)
        bins_last = spectrum.transpose(-1, -2).index_select(-2, self.touched)
        added = torch.stack([bins_last.real, bins_last.imag], dim=-3)
        if spectra.dim() == 4:
            spectra = spectra.unsqueeze(1)
        filters, power = front_end.filter_bank, front_end.config.power
        compiled = takes_compiled_form(added, spectra, filters)
        mel = _MelOfSums.apply(compiled, spectra, added, gain, filters, power)
        rest = front_end.mel(spectrum.index_select(-1, self._untouched))
        rest = rest.expand(len(spectra), -1, -1, -1)
        return torch.cat([mel, rest], dim=2).index_select(2, self._order)


def shared_spectrogram_for(source: Any, silent: Tensor) -> SharedSpectrogram | None:
    """Return the fast path through the front end of a source, if it has one.

    Parameters
    ----------
    source : Source
        A module that is more than front end and network may do anything with a
        waveform: it has none.
    silent : Tensor of shape (input_length,) and dtype bool
        True where no placed series ever sits.

    Returns
    -------
    SharedSpectrogram or None
        On the CPU.
    """
    plain = getattr(type(source), "forward", None) is SourceModel.forward
    if not plain or not isinstance(source.front_end, LogMelFrontEnd):
        return None
    return SharedSpectrogram(source.front_end.config, silent)


class _MelOfSums(torch.autograd.Function):
    """Mel bands of ``gain * spectra + added``, a few series at a time on a CPU.

    Nothing as large as the spectra is kept for the backward pass, which forms the sums
    again; `spectra` themselves have no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        compiled: bool,
        spectra: Tensor,
        added: Tensor,
        gain: Tensor,
        filters: Tensor,
        power: float,
    ) -> Tensor:
        read = spectra, added, gain, filters
        shape = len(spectra), len(added), spectra.shape[3], len(filters)
        mel = spectra.new_empty(shape)
        magnitude = power == 1.0
        if compiled:
            _kernels().forward(*_arrays(read), magnitude, mel.numpy())
        else:
            _forward(*read, magnitude, mel)
        ctx.compiled, ctx.magnitude = compiled, magnitude
        ctx.save_for_backward(*read)
        return mel

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spectra, added, gain, filters = ctx.saved_tensors
        read = gradient, spectra, added, gain, filters
        slopes = torch.zeros_like(added), torch.zeros_like(gain)
        if ctx.compiled:
            _kernels().backward(*_arrays(read), ctx.magnitude, *_arrays(slopes))
        else:
            of_gain = slopes[1] if ctx.needs_input_grad[3] else None
            _backward(*read, ctx.magnitude, slopes[0], of_gain)
        return None, None, *slopes, None, None


def _kernels() -> Any:
    from sklearn_v2s.sources.fast import mel_kernels

    return mel_kernels


def _arrays(tensors: Iterable[Tensor]) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _forward(
    spectra: Tensor,
    added: Tensor,
    gain: Tensor,
    filters: Tensor,
    magnitude: bool,
    mel: Tensor,
) -> None:
    for rows in _chunks(spectra, added):
        energy = _sums(spectra[rows], added, gain).square_().sum(2)
        if magnitude:
            energy = energy.sqrt_()
        torch.matmul(energy, filters.T, out=mel[rows])


def _backward(
    gradient: Tensor,
    spectra: Tensor,
    added: Tensor,
    gain: Tensor,
    filters: Tensor,
    magnitude: bool,
    of_added: Tensor,
    of_gain: Tensor | None,
) -> None:
    for rows in _chunks(spectra, added):
        sums = _sums(spectra[rows], added, gain)
        slope = gradient[rows] @ filters
        if magnitude:
            # The magnitude has no slope at silence; 0 is torch's choice as well.
            size = sums.square().sum(2).sqrt_()
            slope = torch.where(size > 0, slope / size, 0.0)
        else:
            slope = slope.mul_(2.0)
        sums *= slope.unsqueeze(2)
        of_added += sums.sum(0)
        if of_gain is not None:
            of_gain += (sums * spectra[rows]).sum((0, 2, 3, 4))


def _sums(spectra: Tensor, added: Tensor, gain: Tensor) -> Tensor:
    return torch.addcmul(added, spectra, gain[:, None, None, None])


def _chunks(spectra: Tensor, added: Tensor) -> list[slice]:
    batch = len(spectra)
    size = batch
    if spectra.device.type == "cpu":
        size = max(1, _CHUNK_VALUES // max(1, added.numel()))
    return [slice(start, start + size) for start in range(0, batch, size)]
