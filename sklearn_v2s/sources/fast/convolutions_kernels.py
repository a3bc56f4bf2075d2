# SPDX-License-Identifier: Apache-2.0
"""The two convolutions of AttRNN, clip by clip.

What a clip needs stays in the cache, and nothing else is written but what comes out.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sklearn_v2s.sources.fast.jit import inline, jit

__all__ = ["Kernels", "compile_kernels"]

_Array = npt.NDArray[np.float32]

_ZERO, _ONE = np.float32(0), np.float32(1)


class Kernels(NamedTuple):
    """Both passes, for one size of the layers.

    Attributes
    ----------
    forward : callable
        Takes features (batch, T, F), the first kernel (n_maps, n_taps) and its bias
        (n_maps), the second kernel (n_maps, n_taps) and what it adds (T), and room for
        the result, ``relu(conv2(relu(conv1(features))))``, (batch, T, F).
    backward : callable
        Takes the gradient of the result, features, result, kernels and bias as above,
        and room for the gradient of the features, (batch, T, F).
    """

    forward: Callable[..., None]
    backward: Callable[..., None]


@inline
def _add_taps(
    rows: Any, start: int, stride: int, kernel: Any, total: Any, size: int, n_taps: int
) -> None:
    """Add up rows, `stride` values apart, times a kernel."""
    seen = rows[start : start + (n_taps - 1) * stride + size]
    for j in range(size):
        found = total[j]
        for tap in range(n_taps):
            found += kernel[tap] * seen[tap * stride + j]
        total[j] = found


@inline
def _set_map(
    padded: Any, step: int, kernel: Any, bias: Any, own: Any, size: int, n_taps: int
) -> None:
    """Set one of the maps between the convolutions at a time step."""
    seen = padded[step * size : (step + n_taps) * size]
    for j in range(size):
        found = bias
        for tap in range(n_taps):
            found += kernel[tap] * seen[tap * size + j]
        own[j] = max(found, _ZERO)


@lru_cache
def compile_kernels(n_bands: int, n_maps: int, n_taps: int) -> Kernels:
    """Compile both passes; what was compiled once on a machine is read from a file.

    Parameters
    ----------
    n_bands : int
        F, the width of the features.
    n_maps : int
        Maps between the convolutions.
    n_taps : int
        Length of both kernels, odd.

    Returns
    -------
    Kernels
        For arrays of float32.
    """
    reach = n_taps // 2
    width = n_maps * n_bands

    @jit
    def forward(
        features: _Array,
        kernel1: _Array,
        bias1: _Array,
        kernel2: _Array,
        offset: _Array,
        summed: _Array,
    ) -> None:
        n_steps = features.shape[1]
        # Zeros before the first and after the last time step.
        padded = np.zeros((n_steps + 2 * reach) * n_bands, np.float32)
        maps = np.zeros((n_steps + 2 * reach) * width, np.float32)
        for clip in range(len(features)):
            padded[reach * n_bands : (reach + n_steps) * n_bands] = features[
                clip
            ].ravel()
            for step in range(n_steps):
                for number in range(n_maps):
                    start = (step + reach) * width + number * n_bands
                    own = maps[start : start + n_bands]
                    kernel, bias = kernel1[number], bias1[number]
                    _set_map(padded, step, kernel, bias, own, n_bands, n_taps)
            for step in range(n_steps):
                total = summed[clip, step]
                for j in range(n_bands):
                    total[j] = offset[step]
                for number in range(n_maps):
                    start = step * width + number * n_bands
                    kernel = kernel2[number]
                    _add_taps(maps, start, width, kernel, total, n_bands, n_taps)
                for j in range(n_bands):
                    total[j] = max(total[j], _ZERO)

    @jit
    def backward(
        gradient: _Array,
        features: _Array,
        summed: _Array,
        kernel1: _Array,
        bias1: _Array,
        kernel2: _Array,
        found: _Array,
    ) -> None:
        n_steps = features.shape[1]
        # Correlation and convolution are each other's transpose.
        flipped1 = kernel1[:, ::-1].copy()
        flipped2 = kernel2[:, ::-1].copy()
        padded = np.zeros((n_steps + 2 * reach) * n_bands, np.float32)
        passed = np.zeros((n_steps + 2 * reach) * n_bands, np.float32)
        slopes = np.zeros((n_steps + 2 * reach) * width, np.float32)
        values = np.empty(n_bands, np.float32)
        for clip in range(len(features)):
            padded[reach * n_bands : (reach + n_steps) * n_bands] = features[
                clip
            ].ravel()
            for step in range(n_steps):
                start = (step + reach) * n_bands
                own = passed[start : start + n_bands]
                given, result = gradient[clip, step], summed[clip, step]
                for j in range(n_bands):
                    # A factor and no choice: what is not a number stays so.
                    own[j] = given[j] * (_ONE if result[j] > _ZERO else _ZERO)
            for step in range(n_steps):
                for number in range(n_maps):
                    kernel, bias = kernel1[number], bias1[number]
                    _set_map(padded, step, kernel, bias, values, n_bands, n_taps)
                    start = (step + reach) * width + number * n_bands
                    slope = slopes[start : start + n_bands]
                    for j in range(n_bands):
                        slope[j] = _ZERO
                    kernel, at = flipped2[number], step * n_bands
                    _add_taps(passed, at, n_bands, kernel, slope, n_bands, n_taps)
                    for j in range(n_bands):
                        slope[j] *= _ONE if values[j] > _ZERO else _ZERO
            for step in range(n_steps):
                total = found[clip, step]
                for j in range(n_bands):
                    total[j] = _ZERO
                for number in range(n_maps):
                    start = step * width + number * n_bands
                    kernel = flipped1[number]
                    _add_taps(slopes, start, width, kernel, total, n_bands, n_taps)

    return Kernels(forward, backward)
