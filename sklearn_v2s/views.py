# SPDX-License-Identifier: Apache-2.0
"""Views: the ways in which the source models hear a series.

The view ``"replicas"`` is the paper's: replicas of the series and a perturbation that
gradient training may change; `sklearn_v2s.reprogramming` holds it. The views here need
no training.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sklearn_v2s.chunking import free_bytes, run_in_chunks
from sklearn_v2s.placement import TonePlacement
from sklearn_v2s.pooling import (
    FULL_VECTORS,
    GROUP_SIZE,
    N_THRESHOLDS,
    PooledResponses,
    pool_responses,
    spread_levels,
)
from sklearn_v2s.reprogramming import (
    Perturbation,
    ReprogrammedSource,
    collect_outputs,
)
from sklearn_v2s.sources.contract import copy_source

__all__ = [
    "VIEWS",
    "LevelView",
    "ToneView",
    "View",
    "WaveView",
    "build_views",
    "content_order",
]

VIEWS = ("replicas", "tone", "wave", "slope", "level")

# Responses to hold at once: what stays in the cache of a CPU, and what fills a GPU.
_CHUNK_CPU = 100_000
_CHUNK_GPU = 2**26
# Series to hear at a time, at least and at most, and their samples: few long ones must
# not wait for company. Elsewhere as many as fill the device, but no more, for what
# lacks is filled up with silence.
_COMPANY_CPU = 4, FULL_VECTORS, 2**14
_COMPANY_ELSEWHERE = 1, 256, 2**22
# What a response may take on a GPU, in bytes, with all that is made of it.
_BYTES_OF_RESPONSE = 64
# Of the standard deviation of all values: series whose levels differ by less were
# brought to one level before, and what is left is rounding.
_SAME_LEVEL = 1e-2


def content_order(series: np.ndarray, seed: int) -> np.ndarray:
    """Return the rows of different series, in an order drawn by their content.

    Drawing rows by number would choose others where rows are repeated or come in
    another order; drawn by content, a weight of 2 is the same as the series twice.

    Parameters
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        Series as the user gave them.
    seed : int
        Another seed gives another order.

    Returns
    -------
    ndarray of shape (n_different,)
        Row numbers.
    """
    key = int(seed).to_bytes(8, "little")
    # Without the sign of zeros, which no user sees.
    rows = np.ascontiguousarray(series) + 0.0
    found: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        found.setdefault(hashlib.blake2b(row.tobytes(), key=key).digest(), number)
    return np.array([found[digest] for digest in sorted(found)])


class View(ABC):
    """What all views share.

    Attributes
    ----------
    block_sizes : list of int
        Numbers of features of the blocks that the view's features come in.
    """

    block_sizes: list[int]

    # Not abstract: many views have nothing to learn.
    def fit(self, series: np.ndarray, order: np.ndarray) -> None:  # noqa: B027
        """Learn, without labels, what the view needs of the training series.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised training series.
        order : ndarray of shape (n_different,)
            Rows of different series, in random order (see `content_order`).
        """

    @abstractmethod
    def features(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return features of shape (n, sum(block_sizes)) of normalised series."""

    def identity(self) -> dict[str, Any] | None:
        """Return all that decides the features, beside the series.

        Returns
        -------
        dict or None
            None where that is not known, or the features are quicker computed than
            kept.
        """
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `fit` learned."""
        return {}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:  # noqa: B027
        """Take over what `arrays` returned."""


class ToneView(View):
    """The series as the pitch of a tone, heard by the source without a perturbation.

    Parameters
    ----------
    source : nn.Module
        Frozen source.
    source_output : {"logits", "embedding", "both"}
        What is read.
    n_channels : int
        Channels of a series.
    dtype : torch.dtype
        Arithmetic.
    """

    def __init__(
        self, source: Any, source_output: str, n_channels: int, dtype: torch.dtype
    ) -> None:
        silence = [torch.Generator()]
        self.module = ReprogrammedSource(
            source,
            TonePlacement(source.input_length, source.sample_rate, n_channels),
            Perturbation(source.input_length, silence, init_scale=0.0),
        ).to(dtype)
        sizes = {"logits": len(source.classes), "embedding": source.embedding_size}
        self.outputs = list(sizes) if source_output == "both" else [source_output]
        self.block_sizes = [sum(sizes[name] for name in self.outputs)]

    def identity(self) -> dict[str, Any] | None:
        """Return all that decides the features, if it can be named."""
        heard = self.module.identity()
        return None if heard is None else {**heard, "outputs": self.outputs}

    def features(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the source outputs of each series."""
        outputs = collect_outputs(self.module.on(device), series)
        return np.concatenate(
            [getattr(outputs, name)[:, 0] for name in self.outputs], axis=1
        )


class WaveView(View):
    """The series as the waveform itself, heard by the kernels of a kernel bank.

    The paper's placement with one replica and no perturbation: the series stands at the
    beginning of the second, silence follows. The responses at the samples where the
    series sits depend on it alone, so that only these are computed. Thresholds are
    quantiles of the responses to some of the training series; labels are not used.

    Parameters
    ----------
    source : SourceModel
        Frozen source whose front end is a `KernelBankFrontEnd`.
    slope : bool
        Hear the differences of neighbouring values instead of the values.
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
        if not hasattr(front_end, "responses_side_by_side"):
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

    @property
    def front_end(self) -> Any:
        """The kernel bank; not kept, for a pickle holds its source by name."""
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
                size = _company(waveforms.shape[1], waveforms.device)
                # As `features` hears them: responses that are equal, as of flat parts
                # of a series, are to stand on the same side of a threshold.
                room = _side_by_side(waveforms, size)
                responses = torch.cat(
                    [
                        found[..., : len(rows)]
                        for _, found in self._responses(
                            self.front_end, room, dilation, self.chosen[channel]
                        )
                    ]
                ).permute(2, 0, 1)
                self.thresholds[channel, index] = _quantiles(
                    responses, levels[channel, index].to(responses)
                )

    def _responses(
        self, front_end: Any, room: Tensor, dilation: int, chosen: Tensor
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield responses of some of the chosen kernels, and which these are."""
        count = _chunk_values(room.device) // room.numel() // GROUP_SIZE * GROUP_SIZE
        return front_end.responses_side_by_side(
            room, dilation, chosen, max(GROUP_SIZE, count)
        )

    @torch.inference_mode()
    def features(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the pooled responses of each series."""
        front_end = self.front_end
        if device.type != "cpu":
            front_end = copy_source(front_end).to(device)
        thresholds = self.thresholds.to(device)
        n_channels = self.thresholds.shape[0]
        ends = np.cumsum(self.block_sizes)
        # Filled part by part: several copies of many series would not fit anywhere.
        found = self.thresholds.new_empty(len(series), int(ends[-1]))
        kinds = [
            kind.unflatten(1, (n_channels, -1))
            for kind in found.tensor_split(ends[:-1].tolist(), dim=1)
        ]
        for channel in range(n_channels):
            waveforms = self._waveforms(series, channel)
            chosen = self.chosen[channel].to(device)

            def hear(
                rows: slice,
                size: int,
                channel: int = channel,
                waveforms: Tensor = waveforms,
                chosen: Tensor = chosen,
            ) -> None:
                room = _side_by_side(waveforms[rows], size).to(device)
                pooled = [
                    PooledResponses.join(
                        [
                            pool_responses(found, thresholds[channel, index][:, some])
                            for some, found in self._responses(
                                front_end, room, dilation, chosen
                            )
                        ]
                    ).features()
                    for index, dilation in enumerate(self.dilations)
                ]
                n = rows.stop - rows.start
                for kind, parts in zip(kinds, zip(*pooled, strict=True), strict=True):
                    kind[rows, channel] = torch.cat(parts, dim=1)[:n].cpu()

            size = _company(waveforms.shape[1], device)
            run_in_chunks(hear, len(series), size, device)
        return found.numpy()

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
            _of_shape("thresholds", arrays, tuple(self.thresholds.shape))
        )


def _company(n_samples: int, device: torch.device) -> int:
    """Return how many series to hear at a time, a power of two."""
    on_cpu = device.type == "cpu"
    fewest, most, samples = _COMPANY_CPU if on_cpu else _COMPANY_ELSEWHERE
    fitting = max(fewest, min(most, samples // n_samples))
    return 2 ** int(np.log2(fitting))


def _side_by_side(waveforms: Tensor, size: int) -> Tensor:
    """Return waveforms as columns, with silence for those that lack.

    Always so many: what a series gives must not depend, not even by rounding, on the
    series that stand beside it.
    """
    return functional.pad(waveforms.T, (0, size - len(waveforms))).contiguous()


def _chunk_values(device: torch.device) -> int:
    """Return how many responses to hold at once."""
    if device.type == "cpu":
        return _CHUNK_CPU
    free = free_bytes(device)
    return _CHUNK_GPU if free is None else min(_CHUNK_GPU, free // _BYTES_OF_RESPONSE)


def _of_shape(
    name: str, arrays: dict[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Return a copy of one of `arrays`, which must have that shape."""
    array = np.array(arrays[name])
    if array.shape != shape:
        raise TypeError(f"{name} has shape {array.shape}, expected {shape}")
    return array


def _quantiles(responses: Tensor, levels: Tensor) -> Tensor:
    """Return the quantile of each row at its own level; both are (rows, k, ...)."""
    ordered = responses.sort(dim=2).values
    position = levels.unsqueeze(2) * (ordered.shape[2] - 1)
    below = position.floor().long()
    above = position.ceil().long()
    share = position - below
    low, high = ordered.gather(2, below), ordered.gather(2, above)
    return (low + share * (high - low)).squeeze(2)


class LevelView(View):
    """Loudness: mean and standard deviation of each channel of a series.

    The other views hear shape above all. A series of data that were brought to one
    level beforehand has nothing to say here, and says nothing.

    Parameters
    ----------
    n_channels : int
        Channels of a series.
    """

    def __init__(self, n_channels: int) -> None:
        self.block_sizes = [2 * n_channels]
        self.differs = np.zeros(2 * n_channels, dtype=bool)

    @staticmethod
    def _levels(series: np.ndarray) -> np.ndarray:
        return np.concatenate([series.mean(axis=2), series.std(axis=2)], axis=1)

    def fit(self, series: np.ndarray, order: np.ndarray) -> None:
        """Find out which levels differ between series."""
        levels = self._levels(series)
        # Different series once each: repeating some must not change what differs.
        scale = max(1.0, series[order].std())
        self.differs = np.ptp(levels, axis=0) > _SAME_LEVEL * scale

    def features(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return the levels that differ, and 0 for the others."""
        return np.where(self.differs, self._levels(series), 0.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return which levels differ."""
        return {"differs": self.differs}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over which levels differ."""
        self.differs = _of_shape("differs", arrays, self.differs.shape)


def build_views(
    names: Sequence[str],
    source: Any,
    wave_source: Any,
    *,
    source_output: str,
    n_channels: int,
    n_timepoints: int,
    dtype: torch.dtype,
    seed: int,
) -> dict[str, View]:
    """Return the views that need no training, by name, not fitted."""
    views: dict[str, View] = {}
    for name in names:
        if name == "tone":
            views[name] = ToneView(source, source_output, n_channels, dtype)
        elif name == "level":
            views[name] = LevelView(n_channels)
        elif name != "replicas":
            views[name] = WaveView(
                wave_source, name == "slope", n_channels, n_timepoints, seed
            )
    return views
