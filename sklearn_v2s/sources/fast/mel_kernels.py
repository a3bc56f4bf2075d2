# SPDX-License-Identifier: Apache-2.0
"""Mel bands of sums of spectra, frame by frame.

Nothing but the bands is written on the way there, and nothing but the gradient of what
is added on the way back. Each filter is read where it is not zero.
"""

from typing import Any

import numpy as np

from sklearn_v2s.sources.fast.jit import inline, jit

__all__ = ["backward", "forward"]

_ZERO, _TWO = np.float32(0), np.float32(2)


@inline
def _supports(filters: Any) -> Any:
    """Return where each filter begins and ends."""
    found = np.zeros((len(filters), 2), np.int64)
    for band in range(len(filters)):
        for k in range(filters.shape[1]):
            if filters[band, k] != _ZERO:
                if found[band, 1] == 0:
                    found[band, 0] = k
                found[band, 1] = k + 1
    return found


@jit
def forward(
    spectra: Any, added: Any, gain: Any, filters: Any, magnitude: bool, mel: Any
) -> None:
    """Set the mel bands of ``gain * spectra + added``.

    Parameters
    ----------
    spectra : ndarray of shape (batch, 1 or G, 2, T, n_bins)
        Real and imaginary parts, shared by all G sums or one for each.
    added : ndarray of shape (G, 2, T, n_bins)
        What is added to the spectra of all rows.
    gain : ndarray of shape (G,)
        Factors of the spectra.
    filters : ndarray of shape (n_mels, n_bins)
        Filter bank.
    magnitude : bool
        Whether it filters magnitudes, instead of energies.
    mel : ndarray of shape (batch, G, T, n_mels)
        The result.
    """
    shared = spectra.shape[1] == 1
    n_bins = spectra.shape[4]
    supports = _supports(filters)
    energy = np.empty(n_bins, np.float32)
    for row in range(len(spectra)):
        for group in range(len(added)):
            own, factor = spectra[row, 0 if shared else group], gain[group]
            for frame in range(added.shape[2]):
                real, imaginary = own[0, frame], own[1, frame]
                more_real = added[group, 0, frame]
                more_imaginary = added[group, 1, frame]
                for k in range(n_bins):
                    x = factor * real[k] + more_real[k]
                    y = factor * imaginary[k] + more_imaginary[k]
                    energy[k] = x * x + y * y
                if magnitude:
                    for k in range(n_bins):
                        energy[k] = np.sqrt(energy[k])
                bands = mel[row, group, frame]
                for band in range(len(filters)):
                    weights, total = filters[band], _ZERO
                    for k in range(supports[band, 0], supports[band, 1]):
                        total += weights[k] * energy[k]
                    bands[band] = total


@jit
def backward(
    gradient: Any,
    spectra: Any,
    added: Any,
    gain: Any,
    filters: Any,
    magnitude: bool,
    of_added: Any,
    of_gain: Any,
) -> None:
    """Add up the gradients of what is added and of the gain.

    Parameters
    ----------
    gradient : ndarray of shape (batch, G, T, n_mels)
        Of the mel bands.
    spectra, added, gain, filters, magnitude
        As in `forward`.
    of_added : ndarray of shape (G, 2, T, n_bins)
        What the first is added to.
    of_gain : ndarray of shape (G,)
        What the second is added to.
    """
    shared = spectra.shape[1] == 1
    n_bins = spectra.shape[4]
    supports = _supports(filters)
    slope = np.empty(n_bins, np.float32)
    for row in range(len(spectra)):
        for group in range(len(added)):
            own, factor = spectra[row, 0 if shared else group], gain[group]
            total = _ZERO
            for frame in range(added.shape[2]):
                above = gradient[row, group, frame]
                for k in range(n_bins):
                    slope[k] = _ZERO
                for band in range(len(filters)):
                    weights, given = filters[band], above[band]
                    for k in range(supports[band, 0], supports[band, 1]):
                        slope[k] += given * weights[k]
                real, imaginary = own[0, frame], own[1, frame]
                more_real = added[group, 0, frame]
                more_imaginary = added[group, 1, frame]
                if magnitude:
                    for k in range(n_bins):
                        x = factor * real[k] + more_real[k]
                        y = factor * imaginary[k] + more_imaginary[k]
                        size = np.sqrt(x * x + y * y)
                        # Silence has no slope; 0 is torch's choice as well.
                        slope[k] = slope[k] / size if size > _ZERO else _ZERO
                else:
                    for k in range(n_bins):
                        slope[k] *= _TWO
                of_real = of_added[group, 0, frame]
                of_imaginary = of_added[group, 1, frame]
                for k in range(n_bins):
                    x = slope[k] * (factor * real[k] + more_real[k])
                    y = slope[k] * (factor * imaginary[k] + more_imaginary[k])
                    of_real[k] += x
                    of_imaginary[k] += y
                    total += x * real[k] + y * imaginary[k]
            of_gain[group] += total
