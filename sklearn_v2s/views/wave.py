# SPDX-License-Identifier: Apache-2.0
"""The series, or its differences, as the waveform itself, read by a kernel bank."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sklearn_v2s.runtime.batching import free_bytes, run_in_batches
from sklearn_v2s.sources.registry import pack_source, source_on, unpack_source
from sklearn_v2s.views.base import View, of_shape
from sklearn_v2s.views.pooling import (
    FULL_VECTORS,
    GROUP_SIZE,
    N_THRESHOLDS,
    PooledResponses,
    pool_responses,
    quantiles,
    spread_levels,
)

__all__ = ["WaveView"]

# Responses to hold at once: what stays in the cache of a CPU, and what fills a GPU.
_RESPONSES_CPU = 100_000
_RESPONSES_GPU = 2**26
# Least and largest batch size, and samples in a batch: a few long series must not wait
# for others. Elsewhere as many as fill the device, but no more, for batches are padded.
_BATCH_CPU = 4, FULL_VECTORS, 2**14
_BATCH_ELSEWHERE = 1, 256, 2**22
# What a response may take on a GPU, in bytes, with all that is computed from it.
_BYTES_PER_RESPONSE = 64


class WaveView(View):
    """The series as the waveform itself, read by the kernels of a kernel bank.

    The paper's placement with one replica and no perturbation: the series stands at the
    beginning of the second, zeros follow. The responses at the samples where the
    series sits depend on nothing else, so that only these are computed. Thresholds are
    quantiles of the responses to some of the training series; labels are not used.

    Parameters
    ----------
    source : SourceModel
        Frozen source whose front end is a `KernelBankFrontEnd`.
    slope : bool
        Read the differences of neighbouring values instead of the values.
    n_channels, n_timepoints : int
        Shape of a series. Several channels share the second and the kernels.
    seed : int
        Of the quantile levels.

    Attributes
    ----------
    thresholds : Tensor of shape (n_channels, n_dilations, N_THRESHOLDS, k)
        Of the k kernels of each channel.

    References
    ----------
    Dempster, Schmidt, Webb. MiniRocket: a very fast (almost) deterministic transform
    for time series classification. KDD 2021.
    """

    def __init__(
        self, source: Any, slope: bool, n_channels: int, n_timepoints: int, seed: int
    ) -> None:
        # A module of the user need not have a front end at all.
        front_end = getattr(source, "front_end", None)
        if not hasattr(front_end, "responses_in_columns"):
            raise ValueError(
                f"wave_source must have a kernel bank as its front end, got a "
                f"{type(source).__name__} with {type(front_end).__name__}. Use "
                "wave_source='wavebank', or views without 'wave' and 'slope'."
            )
        self.source = source
        self.slope = slope
        self.share = source.input_length // n_channels
        if self.share < 1:
            raise ValueError(
                f"X has {n_channels} channels, but the waveform of wave_source has "
                f"only {source.input_length} samples: at most {source.input_length} "
                "channels fit. Use views without 'wave' and 'slope'."
            )
        self.start = float(np.random.default_rng(seed).random())
        n_kernels = len(self.front_end.kernels)
        # Many channels share the kernels, for the number of features is to stay.
        of_each = max(7, n_kernels // n_channels)
        self.chosen = (
            torch.arange(n_channels)[:, None] * of_each + torch.arange(of_each)
        ) % n_kernels
        n_samples = min(n_timepoints - slope, self.share)
        reach = self.front_end.config.kernel_length - 1
        longest = max(1, (n_samples - 1) // reach)
        self.dilations = [2**power for power in range(int(np.log2(longest)) + 1)]
        like = self.front_end.kernels
        self.thresholds = like.new_zeros(
            n_channels, len(self.dilations), N_THRESHOLDS, of_each
        )
        pooled = pool_responses(like.new_zeros(of_each, 4, 1), self.thresholds[0, 0])
        repeated = n_channels * len(self.dilations)
        self.block_sizes = [repeated * part.shape[1] for part in pooled.features()]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "source": pack_source(self.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.source = unpack_source(self.source, self.thresholds.dtype)

    @property
    def front_end(self) -> Any:
        """The kernel bank of the source."""
        return self.source.front_end

    def _waveforms(self, series: np.ndarray, channel: int) -> Tensor:
        values = np.ascontiguousarray(series[:, channel])
        if self.slope:
            # A single value has no slope, which a flat one shows as well.
            values = np.diff(values, axis=1) if values.shape[1] > 1 else 0 * values
        waveforms = torch.from_numpy(values).to(self.front_end.kernels.dtype)
        if waveforms.shape[1] > self.share:
            waveforms = functional.adaptive_avg_pool1d(waveforms, self.share)
        return waveforms

    @torch.inference_mode()
    def fit(self, series: np.ndarray, order: np.ndarray) -> None:
        """Set the thresholds."""
        n_channels, _, n_thresholds, _ = self.thresholds.shape
        levels = spread_levels(self.thresholds.numel(), self.start)
        levels = levels.reshape(self.thresholds.shape)
        position = 0
        for channel in range(n_channels):
            for index, dilation in enumerate(self.dilations):
                rows = order[(position + np.arange(n_thresholds)) % len(order)]
                position += n_thresholds
                waveforms = self._waveforms(series[rows], channel)
                size = _batch_size(waveforms.shape[1], waveforms.device)
                # In batches as for `features`: responses that are equal, as of flat
                # parts of a series, must stay on the same side of a threshold.
                batch = _padded_batch(waveforms, size)
                responses = torch.cat(
                    [
                        part[..., : len(rows)]
                        for _, part in self._responses(
                            self.front_end, batch, dilation, self.chosen[channel]
                        )
                    ]
                ).permute(2, 0, 1)
                self.thresholds[channel, index] = quantiles(
                    responses, levels[channel, index].to(responses)
                )

    def _responses(
        self, front_end: Any, batch: Tensor, dilation: int, kernels: Tensor
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield the responses of some kernels at a time, and which ones these are."""
        count = _n_responses(batch.device) // batch.numel() // GROUP_SIZE * GROUP_SIZE
        return front_end.responses_in_columns(
            batch, dilation, kernels, max(GROUP_SIZE, count)
        )

    @torch.inference_mode()
    def compute(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the pooled responses of each series."""
        front_end = source_on(self.source, device).front_end
        thresholds = self.thresholds.to(device)
        n_channels = self.thresholds.shape[0]
        ends = np.cumsum(self.block_sizes)
        # Filled part by part: several copies of many series would take too much memory.
        features = self.thresholds.new_empty(len(series), int(ends[-1]))
        blocks = [
            block.unflatten(1, (n_channels, -1))
            for block in features.tensor_split(ends[:-1].tolist(), dim=1)
        ]
        for channel in range(n_channels):
            waveforms = self._waveforms(series, channel)
            kernels = self.chosen[channel].to(device)

            def pool(
                rows: slice,
                size: int,
                channel: int = channel,
                waveforms: Tensor = waveforms,
                kernels: Tensor = kernels,
            ) -> None:
                batch = _padded_batch(waveforms[rows], size).to(device)
                pooled = [
                    PooledResponses.join(
                        [
                            pool_responses(part, thresholds[channel, index][:, of_part])
                            for of_part, part in self._responses(
                                front_end, batch, dilation, kernels
                            )
                        ]
                    ).features()
                    for index, dilation in enumerate(self.dilations)
                ]
                n = rows.stop - rows.start
                for block, parts in zip(blocks, zip(*pooled, strict=True), strict=True):
                    block[rows, channel] = torch.cat(parts, dim=1)[:n].cpu()

            size = _batch_size(waveforms.shape[1], device)
            run_in_batches(pool, len(series), size, device)
        return features.numpy()

    def identity(self) -> dict[str, Any] | None:
        """Return all that decides the features, if it can be named."""
        reference = getattr(self.source, "reference", None)
        if reference is None:
            return None
        return {
            "source": reference.sha256,
            "slope": self.slope,
            "share": self.share,
            "dilations": self.dilations,
            "chosen": self.chosen.numpy(),
            "thresholds": self.thresholds.numpy(),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the thresholds."""
        return {"thresholds": self.thresholds.numpy()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over the thresholds."""
        self.thresholds = torch.from_numpy(
            of_shape("thresholds", arrays, tuple(self.thresholds.shape))
        )


def _batch_size(n_samples: int, device: torch.device) -> int:
    """Return the number of series in a batch, a power of two."""
    on_cpu = device.type == "cpu"
    least, most, samples = _BATCH_CPU if on_cpu else _BATCH_ELSEWHERE
    return 2 ** int(np.log2(max(least, min(most, samples // n_samples))))


def _padded_batch(waveforms: Tensor, size: int) -> Tensor:
    """Return waveforms as columns, padded with zeros.

    Batches have one size: the features of a series must not depend, not even by
    rounding, on how many others are in the batch.
    """
    return functional.pad(waveforms.T, (0, size - len(waveforms))).contiguous()


def _n_responses(device: torch.device) -> int:
    """Return how many responses to hold at once."""
    if device.type == "cpu":
        return _RESPONSES_CPU
    free = free_bytes(device)
    if free is None:
        return _RESPONSES_GPU
    return min(_RESPONSES_GPU, free // _BYTES_PER_RESPONSE)
