# SPDX-License-Identifier: Apache-2.0
"""The perturbation: what Voice2Series learns by gradient."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_v2s.chunking import free_bytes, run_in_chunks
from sklearn_v2s.devices import send
from sklearn_v2s.placement import Placement
from sklearn_v2s.row_parts import pass_in_parts, row_threads
from sklearn_v2s.sources.compiled import compiled_layers
from sklearn_v2s.sources.contract import (
    SourceModel,
    SourceOutputs,
    copy_source,
    to_inference,
)
from sklearn_v2s.sources.front_end import LogMelFrontEnd
from sklearn_v2s.sources.shared_spectrogram import SharedSpectrogram

__all__ = ["Perturbation", "ReprogrammedSource", "collect_outputs"]

# Bytes of spectrograms to keep during a training.
_SPECTRA_BUDGET = 2**29
# Series to transform at a time when they are kept.
_CHUNK = 64
# Waveforms for each pass without gradients: those that the caches of a CPU hold (128
# took twice the time for each), and those that occupy any other device.
_PASS_CPU, _PASS_ELSEWHERE = 32, 4096
# What a source may take for each sample of a waveform, in bytes, at least twice what
# those shipped do. Where it is not enough, the passes become smaller on the way.
_BYTES_OF_SAMPLE = 512


class Perturbation(nn.Module):
    """Perturbations of G views or runs, added to placed series in one pass.

    The waveform of group ``g`` is ``gain[g] * placed + mask * dropout(delta[g])``
    (equation 1, with a gain for the series). Groups never interact: each has its own
    random generator, so that what a group draws does not depend on how many stand
    beside it.

    Parameters
    ----------
    input_length : int
        Length of the waveform, in samples.
    generators : sequence of torch.Generator
        One for each of the G groups; they draw the initial values and the dropout.
    init_scale : float, default=0.01936
        The initial values are uniform in ``[-init_scale, init_scale]``.
    mask : Tensor of shape (input_length,), default=None
        The M of equation 1: 0 where a series sits. None means 1 everywhere.
    dropout : float, default=0.0
        Share of the perturbation's samples that are zeroed in a training step, the same
        samples for the whole batch. Off in evaluation mode.
    input_gain : float, default=1.0
        Factor of the placed series.
    train_gain : bool, default=False
        Learn the factor too.

    Attributes
    ----------
    delta : nn.Parameter of shape (G, input_length)
        The perturbations.
    log_gain : Tensor of shape (G,)
        Logarithm of the gain; a parameter if it is learned.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.reprogramming import Perturbation
    >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    >>> perturbation = Perturbation(16000, generators)
    >>> perturbation(torch.zeros(5, 16000)).shape
    torch.Size([2, 5, 16000])
    """

    log_gain: Tensor
    mask: Tensor | None

    def __init__(
        self,
        input_length: int,
        generators: Sequence[torch.Generator],
        *,
        init_scale: float = 0.01936,
        mask: Tensor | None = None,
        dropout: float = 0.0,
        input_gain: float = 1.0,
        train_gain: bool = False,
    ) -> None:
        super().__init__()
        self.generators = list(generators)
        self.dropout = dropout
        initial = torch.stack(
            [
                torch.rand(input_length, generator=generator) * 2.0 - 1.0
                for generator in self.generators
            ]
        )
        self.delta = nn.Parameter(initial * init_scale)
        log_gain = torch.full((len(self.generators),), input_gain).log()
        if train_gain:
            self.log_gain = nn.Parameter(log_gain)
        else:
            self.register_buffer("log_gain", log_gain)
        self.register_buffer("mask", mask if mask is None else mask.float())

    @property
    def gain(self) -> Tensor:
        """Factor of the placed series, of shape (G,)."""
        return self.log_gain.exp()

    def effective(self) -> Tensor:
        """Return what is added at prediction, of shape (G, input_length)."""
        return self.delta if self.mask is None else self.delta * self.mask

    def added(self) -> Tensor:
        """Return what is added in this step, of shape (G, input_length)."""
        delta = self.effective()
        if not self.training or self.dropout == 0.0:
            return delta
        # Drawn on the CPU, so that every device sees the same masks.
        keep = torch.stack(
            [
                torch.rand(delta.shape[1], generator=generator) >= self.dropout
                for generator in self.generators
            ]
        )
        kept = send(keep, delta.device).to(delta.dtype)
        return delta * kept / (1.0 - self.dropout)

    def forward(self, placed: Tensor) -> Tensor:
        """Return the reprogrammed waveforms.

        Parameters
        ----------
        placed : Tensor of shape (batch, input_length) or (G, batch, input_length)
            Placed series: the same for all groups, or a batch for each.

        Returns
        -------
        Tensor of shape (G, batch, input_length)
            What the source hears.
        """
        return self.gain[:, None, None] * placed + self.added()[:, None, :]


class ReprogrammedSource(nn.Module):
    """A source that hears placed series with a perturbation.

    Parameters
    ----------
    source : nn.Module
        Frozen source model. It is held beside the module's own state: it is no part of
        ``parameters()``, ``state_dict()`` or ``to()``, because it is shared.
    placement : Placement
        Series to waveform.
    perturbation : Perturbation
        What is added.
    owns_source : bool, default=False
        The source is this module's own, to be fine-tuned: a copy that nobody shares,
        and a part of its state.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.placement import ReplicaPlacement
    >>> from sklearn_v2s.reprogramming import Perturbation, ReprogrammedSource
    >>> from sklearn_v2s.sources import load_source
    >>> source = load_source("attrnn")
    >>> module = ReprogrammedSource(
    ...     source,
    ...     ReplicaPlacement(source.input_length, n_channels=1, n_timepoints=24),
    ...     Perturbation(source.input_length, [torch.Generator().manual_seed(0)]),
    ... )
    >>> module(torch.zeros(2, 1, 24)).logits.shape
    torch.Size([2, 1, 43])
    """

    source: Any
    # What the caller handed in, which may know more than a Placement has to.
    placement: Any
    _kept_spectra: Tensor | None

    def __init__(
        self,
        source: nn.Module,
        placement: Placement,
        perturbation: Perturbation,
        owns_source: bool = False,
    ) -> None:
        super().__init__()
        self.owns_source = owns_source
        if owns_source:
            self.add_module("source", source)
        else:
            object.__setattr__(self, "source", source)
        self.placement = placement
        self.perturbation = perturbation
        self.shared = _share_spectrogram(source, placement)
        self.forget_spectra()

    @contextmanager
    def training_on(self, series: np.ndarray) -> Iterator[None]:
        """Be ready for steps on rows of `series`: spectra kept, an own source trained.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series, all that the training will name by row.
        """
        trained = list(self.source.parameters()) if self.owns_source else []
        try:
            self.keep_spectra(series)
            for parameter in trained:
                # Whole numbers have no gradient.
                parameter.requires_grad_(parameter.is_floating_point())
            with row_threads():
                yield
        finally:
            self.forget_spectra()
            for parameter in trained:
                parameter.requires_grad_(False)
                parameter.grad = None

    def keep_spectra(self, series: np.ndarray, budget: int = _SPECTRA_BUDGET) -> bool:
        """Compute the spectrograms of series once, for the steps of a training.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series, all that a training will name by row.
        budget : int, default=2**29
            Memory that they may take, in bytes; above it, each step computes those of
            its own series.

        Returns
        -------
        bool
            Whether they are kept.
        """
        if self.shared is None or len(series) == 0:
            return False
        like = self.perturbation.delta
        first = self._spectra(torch.from_numpy(series[:1]).to(like))
        if len(series) * first.nbytes > budget:
            return False
        kept = first.new_empty(len(series), *first.shape[1:])
        for start in range(0, len(series), _CHUNK):
            rows = slice(start, start + _CHUNK)
            kept[rows] = self._spectra(torch.from_numpy(series[rows]).to(like))
        self._kept_spectra = kept
        return True

    def forget_spectra(self) -> None:
        """Let go of what `keep_spectra` computed."""
        self._kept_spectra = None

    def _spectra(self, series: Tensor) -> Tensor:
        assert self.shared is not None
        return self.shared.transform(self.source.front_end, self._place(series))

    def _place(self, series: Tensor) -> Tensor:
        """Place series of shape (..., n_channels, n_timepoints)."""
        placed = self.placement.place(series.flatten(0, -3))
        return placed.unflatten(0, series.shape[:-2])

    def identity(self) -> dict[str, Any] | None:
        """Return all that decides the outputs, beside the series.

        Returns
        -------
        dict or None
            None where nothing but the object itself says what the source is.
        """
        reference = getattr(self.source, "reference", None)
        if self.owns_source or reference is None:
            return None
        perturbation = self.perturbation
        values = {"delta": perturbation.delta, "log_gain": perturbation.log_gain}
        if perturbation.mask is not None:
            values["mask"] = perturbation.mask
        return {
            "source": reference.sha256,
            "placement": [type(self.placement).__name__, vars(self.placement)],
            **{name: value.detach().cpu().numpy() for name, value in values.items()},
        }

    def hear_with(self, source: nn.Module) -> None:
        """Use a copy of the same source, on another device; an own one moves along."""
        if not self.owns_source:
            object.__setattr__(self, "source", source)

    def train(self, mode: bool = True) -> "ReprogrammedSource":
        """Switch dropout; an own source is heard in the modes of a frozen one."""
        super().train(mode)
        if self.owns_source:
            to_inference(self.source)
        return self

    def on(self, device: torch.device) -> "ReprogrammedSource":
        """Return this module, or on another device a copy with a source of its own."""
        if device.type == "cpu":
            return self
        moved = copy.deepcopy(self).to(device)
        if not self.owns_source:
            moved.hear_with(copy_source(self.source).to(device))
        return moved

    def waveforms(self, series: Tensor) -> Tensor:
        """Return what the source hears, of shape (batch, G, input_length)."""
        return self.perturbation(self.placement.place(series)).transpose(0, 1)

    def forward(self, series: Tensor, rows: Tensor | None = None) -> SourceOutputs:
        """Return the source outputs of series, one for each view.

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series.
        rows : Tensor of shape (batch,), default=None
            Which of the series of `keep_spectra` they are.

        Returns
        -------
        SourceOutputs
            Logits of shape (batch, G, K) and embedding of shape (batch, G, d).
        """
        perturbation = self.perturbation
        return self.hear(series, rows, perturbation.added(), perturbation.gain)

    def hear(
        self, series: Tensor, rows: Tensor | None, added: Tensor, gain: Tensor
    ) -> SourceOutputs:
        """Return what `forward` does, with other perturbations than the module's own.

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series; of shape (batch, G, n_channels, n_timepoints) where each
            perturbation meets its own.
        rows : Tensor of shape (batch,) or (batch, G), or None
            As in `forward`.
        added : Tensor of shape (G, input_length)
            Perturbations.
        gain : Tensor of shape (G,)
            Factors of the placed series.

        Returns
        -------
        SourceOutputs
            Logits of shape (batch, G, K) and embedding of shape (batch, G, d).
        """
        learned = added, gain
        if self._passes_in_parts(learned):
            outputs = pass_in_parts(self._hear_compiled, (series, rows), learned)
        else:
            outputs = self._hear(series, rows, *learned)
        return SourceOutputs(*outputs)

    def _passes_in_parts(self, learned: Sequence[Tensor]) -> bool:
        """Return whether gradients go through a source of known kind that is frozen."""
        return (
            torch.is_grad_enabled()
            and self.shared is not None
            and not self.owns_source
            and learned[0].device.type == "cpu"
            and any(value.requires_grad for value in learned)
        )

    def _hear_compiled(self, *heard: Any) -> tuple[Tensor, Tensor]:
        with compiled_layers():
            return self._hear(*heard)

    def _hear(
        self, series: Tensor, rows: Tensor | None, added: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.shared is None:
            placed = self._place(series)
            if placed.dim() == 2:
                placed = placed.unsqueeze(1)
            waveforms = gain[:, None] * placed + added
            logits, embedding = self.source(waveforms.flatten(0, 1))
        else:
            if rows is None or self._kept_spectra is None:
                spectra = self._spectra(series)
            else:
                spectra = self._kept_spectra[rows]
            features = self.shared(self.source.front_end, spectra, added, gain)
            logits, embedding = self.source.network(features.flatten(0, 1))
        shape = len(series), len(added)
        return logits.unflatten(0, shape), embedding.unflatten(0, shape)


def _share_spectrogram(source: Any, placement: Any) -> SharedSpectrogram | None:
    """Return the fast path through the front end, if the source and placement have it.

    A source that is more than front end and network may do anything with a waveform,
    and a placement that fills the second leaves no frame to share.
    """
    plain = getattr(type(source), "forward", None) is SourceModel.forward
    if not plain or not isinstance(source.front_end, LogMelFrontEnd):
        return None
    if not hasattr(placement, "mask"):
        return None
    return SharedSpectrogram(source.front_end.config, placement.mask())


@torch.inference_mode()
def collect_outputs(
    module: ReprogrammedSource,
    series: np.ndarray,
    batch_size: int | None = None,
    rows: np.ndarray | None = None,
) -> SourceOutputs:
    """Return the source outputs of many series, without dropout, batch by batch.

    Parameters
    ----------
    module : ReprogrammedSource
        On the device to compute on.
    series : ndarray of shape (n, n_channels, n_timepoints)
        Normalised series.
    batch_size : int, default=None
        Series for each pass. None takes 32 on a CPU, and elsewhere as many as the free
        memory lets expect. A device that runs out of memory gets fewer, with a warning.
    rows : ndarray of shape (n,), default=None
        Which of the series of `ReprogrammedSource.keep_spectra` they are.

    Returns
    -------
    SourceOutputs
        Logits of shape (n, G, K) and embedding of shape (n, G, d), as float64 arrays.
    """
    was_training = module.training
    module.eval()
    delta = module.perturbation.delta
    parts: list[SourceOutputs] = []

    def hear(chunk: slice, size: int) -> None:
        known = None
        if rows is not None:
            known = send(torch.from_numpy(rows[chunk]), delta.device)
        parts.append(module(torch.from_numpy(series[chunk]).to(delta), known))

    if batch_size is None:
        n_groups, input_length = delta.shape
        batch_size = _pass_size(n_groups, input_length, delta.device)
    run_in_chunks(hear, len(series), batch_size, delta.device)
    module.train(was_training)
    return SourceOutputs(
        *(
            # In two steps: not every device has float64.
            torch.cat(tensors).cpu().double().numpy()
            for tensors in zip(*parts, strict=True)
        )
    )


def _pass_size(n_groups: int, input_length: int, device: torch.device) -> int:
    """Return the number of series for each pass without gradients."""
    if device.type == "cpu":
        return _PASS_CPU
    free = free_bytes(device)
    waveforms = _PASS_ELSEWHERE
    if free is not None:
        waveforms = min(waveforms, free // (_BYTES_OF_SAMPLE * input_length))
    return max(1, waveforms // n_groups)
