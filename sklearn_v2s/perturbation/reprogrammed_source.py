# SPDX-License-Identifier: Apache-2.0
"""A frozen source model whose input is a placed series plus a perturbation."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_v2s.perturbation.perturbation import Perturbation
from sklearn_v2s.placement import Placement
from sklearn_v2s.placement.base import MaskedPlacement
from sklearn_v2s.runtime.batching import free_bytes, run_in_batches
from sklearn_v2s.runtime.devices import is_on, to_device
from sklearn_v2s.runtime.row_parts import pass_in_parts, row_threads
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.sources.fast import compiled_layers, shared_spectrogram_for
from sklearn_v2s.sources.registry import pack_source, source_on, unpack_source

__all__ = ["ReprogrammedSource", "collect_outputs"]

# Bytes of spectrograms that a training may cache.
_SPECTRA_BUDGET = 2**29
# Series to transform at a time for that cache.
_SPECTRA_BATCH = 64
# Waveforms in a forward pass without gradients: what the caches of a CPU hold (with 128
# each took twice as long), and what occupies any other device.
_BATCH_CPU, _BATCH_ELSEWHERE = 32, 4096
# Bytes that a source may take for each sample of a waveform: at least twice what the
# shipped ones do. Where it is not enough, the batches become smaller on the way.
_BYTES_PER_SAMPLE = 512


class ReprogrammedSource(nn.Module):
    """A source model that reads placed series with a perturbation.

    Parameters
    ----------
    source : nn.Module
        Frozen source model. It is shared with other estimators, so this module never
        moves it to another device or mode; a pickle holds it by name and SHA-256.
    placement : Placement
        Series to waveform.
    perturbation : Perturbation
        What is added.
    owns_source : bool, default=False
        The source is a copy of its own, to be fine-tuned, and a part of its state.

    Attributes
    ----------
    shared_spectrogram : SharedSpectrogram or None
        The fast path through the front end, where source and placement allow it.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource
    >>> from sklearn_v2s.placement import ReplicaPlacement
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

    # A module of the user's may have any attributes besides those of the contract.
    source: Any
    _spectra: Tensor | None

    def __init__(
        self,
        source: nn.Module,
        placement: Placement,
        perturbation: Perturbation,
        owns_source: bool = False,
    ) -> None:
        super().__init__()
        self.source = source
        self.placement = placement
        self.perturbation = perturbation
        self.owns_source = owns_source
        self.shared_spectrogram = None
        if isinstance(placement, MaskedPlacement):
            self.shared_spectrogram = shared_spectrogram_for(source, placement.mask())
        self._spectra = None

    def __getstate__(self) -> dict[str, Any]:
        state = {**vars(self), "_spectra": None}
        if not self.owns_source:
            packed = pack_source(self.source)
            state["_modules"] = {**self._modules, "source": packed}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self.owns_source:
            dtype = self.perturbation.delta.dtype
            packed = self._modules["source"]
            self._modules["source"] = unpack_source(packed, dtype)

    def train(self, mode: bool = True) -> Self:
        """Switch dropout; the source stays in the modes in which it was frozen."""
        self.training = mode
        self.perturbation.train(mode)
        return self

    def on(self, device: torch.device) -> "ReprogrammedSource":
        """Return this module if it is on that device, else a copy there.

        Parameters
        ----------
        device : torch.device
            Where to compute.

        Returns
        -------
        ReprogrammedSource
            A copy reads the shared source of that device, whose weights are not copied
            again, and draws from the same generators.
        """
        if is_on(self.perturbation.delta, device):
            return self
        if self.owns_source:
            source = copy.deepcopy(self.source).to(device)
        else:
            source = source_on(self.source, device)
        moved = ReprogrammedSource(
            source, self.placement, self.perturbation.on(device), self.owns_source
        )
        if moved.shared_spectrogram is not None:
            moved.shared_spectrogram.to(device)
        return moved.train(self.training)

    def fold(self, number: int, n_folds: int) -> "ReprogrammedSource":
        """Return a module with the perturbations of one part of the training data.

        Parameters
        ----------
        number : int
            Of the part, from 0 to ``n_folds - 1``.
        n_folds : int
            How many neighbouring perturbations there are, one for each part.

        Returns
        -------
        ReprogrammedSource
            This module if there is one part only.
        """
        if n_folds == 1:
            return self
        groups = self.groups_of_fold(number, n_folds)
        return ReprogrammedSource(
            self.source, self.placement, self.perturbation.groups(groups)
        ).eval()

    def groups_of_fold(self, number: int, n_folds: int) -> list[int]:
        """Return the numbers of the perturbations of one part; see `fold`."""
        return list(range(number, len(self.perturbation.delta), n_folds))

    def without_perturbation(self) -> "ReprogrammedSource":
        """Return a module that reads the placed series alone."""
        silent = copy.deepcopy(self.perturbation)
        with torch.no_grad():
            silent.delta.zero_()
        return ReprogrammedSource(self.source, self.placement, silent).eval()

    @contextmanager
    def training_on(self, series: np.ndarray) -> Iterator[None]:
        """Prepare for training steps: cached spectra, threads, a source with gradients.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            All normalised series that `forward` will be given by row.
        """
        tuned = [
            parameter
            for parameter in (self.source.parameters() if self.owns_source else ())
            # Integers have no gradient.
            if parameter.is_floating_point()
        ]
        try:
            self._spectra = self.spectra(series)
            for parameter in tuned:
                parameter.requires_grad_(True)
            with row_threads():
                yield
        finally:
            self._spectra = None
            for parameter in tuned:
                parameter.requires_grad_(False)
                parameter.grad = None

    def spectra(
        self, series: np.ndarray, budget: int = _SPECTRA_BUDGET
    ) -> Tensor | None:
        """Return the spectra of placed series, which a training computes only once.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        budget : int, default=2**29
            Memory that they may take, in bytes.

        Returns
        -------
        Tensor or None
            None without a shared spectrogram, or above the budget.
        """
        if self.shared_spectrogram is None or len(series) == 0:
            return None
        like = self.perturbation.delta
        first = self._inputs(torch.from_numpy(series[:1]).to(like))
        if len(series) * first.nbytes > budget:
            return None
        spectra = first.new_empty(len(series), *first.shape[1:])
        for start in range(0, len(series), _SPECTRA_BATCH):
            rows = slice(start, start + _SPECTRA_BATCH)
            spectra[rows] = self._inputs(torch.from_numpy(series[rows]).to(like))
        return spectra

    def identity(self, by_content: bool = False) -> dict[str, Any] | None:
        """Return all that the outputs depend on, besides the series.

        Parameters
        ----------
        by_content : bool, default=False
            Identify a source without a SHA-256 by its type and weights: enough where
            all sources are copies of one module.

        Returns
        -------
        dict or None
            None where the source cannot be identified.
        """
        reference = getattr(self.source, "reference", None)
        if self.owns_source or (reference is None and not by_content):
            return None
        perturbation = self.perturbation
        values = {"delta": perturbation.effective(), "log_gain": perturbation.log_gain}
        return {
            "source": self._content() if reference is None else reference,
            "placement": [type(self.placement).__name__, vars(self.placement)],
            **{name: value.detach().cpu().numpy() for name, value in values.items()},
        }

    def _content(self) -> list[Any]:
        state = self.source.state_dict()
        weights = {name: value.cpu().numpy() for name, value in state.items()}
        return [type(self.source).__qualname__, weights]

    def waveforms(self, series: Tensor) -> Tensor:
        """Return the input of the source, of shape (batch, G, input_length)."""
        return self.perturbation(self.placement.place(series)).transpose(0, 1)

    def forward(self, series: Tensor, rows: Tensor | None = None) -> SourceOutputs:
        """Return the source outputs of series, one for each perturbation.

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series.
        rows : Tensor of shape (batch,), default=None
            Which of the series of `training_on` they are.

        Returns
        -------
        SourceOutputs
            Logits of shape (batch, G, K) and embedding of shape (batch, G, d).
        """
        added, gain = self.perturbation.added(), self.perturbation.gain
        if self._gradients_skip_source(added, gain):
            compiled = compiled_layers()(self._outputs)
            outputs = pass_in_parts(compiled, (series, rows), (added, gain))
        else:
            outputs = self._outputs(series, rows, added, gain)
        return SourceOutputs(*outputs)

    def _gradients_skip_source(self, *learned: Tensor) -> bool:
        """Return whether gradients pass through a frozen, known source on a CPU."""
        return (
            torch.is_grad_enabled()
            and self.shared_spectrogram is not None
            and not self.owns_source
            and learned[0].device.type == "cpu"
            and any(value.requires_grad for value in learned)
        )

    def _inputs(self, series: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return placed series, or their spectra where these are enough."""
        if rows is not None and self._spectra is not None:
            return self._spectra[rows]
        placed = self.placement.place(series)
        if self.shared_spectrogram is None:
            return placed
        return self.shared_spectrogram.transform(self.source.front_end, placed)

    def _outputs(
        self, series: Tensor, rows: Tensor | None, added: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs = self._inputs(series, rows)
        if self.shared_spectrogram is None:
            waveforms = gain[:, None] * inputs.unsqueeze(1) + added
            logits, embedding = self.source(waveforms.flatten(0, 1))
        else:
            front_end = self.source.front_end
            features = self.shared_spectrogram(front_end, inputs, added, gain)
            logits, embedding = self.source.network(features.flatten(0, 1))
        shape = len(inputs), len(added)
        return logits.unflatten(0, shape), embedding.unflatten(0, shape)


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
        Series in each forward pass. None takes 32 on a CPU, and elsewhere as many as
        are expected to fit into the free memory. A device that runs out of memory gets
        fewer, with a warning.
    rows : ndarray of shape (n,), default=None
        Which of the series of `ReprogrammedSource.training_on` they are.

    Returns
    -------
    SourceOutputs
        Logits of shape (n, G, K) and embedding of shape (n, G, d), as float64 arrays.
    """
    was_training = module.training
    module.eval()
    delta = module.perturbation.delta
    parts: list[SourceOutputs] = []

    def forward(batch: slice, size: int) -> None:
        cached = None
        if rows is not None:
            cached = to_device(torch.from_numpy(rows[batch]), delta.device)
        parts.append(module(torch.from_numpy(series[batch]).to(delta), cached))

    if batch_size is None:
        n_groups, input_length = delta.shape
        batch_size = _batch_size(n_groups, input_length, delta.device)
    run_in_batches(forward, len(series), batch_size, delta.device)
    module.train(was_training)
    return SourceOutputs(
        *(
            # In two steps: not every device has float64.
            torch.cat(tensors).cpu().double().numpy()
            for tensors in zip(*parts, strict=True)
        )
    )


def _batch_size(n_groups: int, input_length: int, device: torch.device) -> int:
    """Return the number of series in a forward pass without gradients."""
    if device.type == "cpu":
        return _BATCH_CPU
    free = free_bytes(device)
    waveforms = _BATCH_ELSEWHERE
    if free is not None:
        waveforms = min(waveforms, free // (_BYTES_PER_SAMPLE * input_length))
    return max(1, waveforms // n_groups)
