# SPDX-License-Identifier: Apache-2.0
"""Gradients estimated from values, for a few coefficients of a perturbation."""

from collections.abc import Callable

import numpy as np

__all__ = ["random_basis", "zeroth_order_gradient"]


def random_basis(mask: np.ndarray, rank: int, rng: np.random.Generator) -> np.ndarray:
    """Return orthogonal noises that a perturbation of low rank is made of.

    Zeroth-order training costs queries in proportion to the number of coefficients, so
    a perturbation of 16,000 free samples is out of reach. Noise is in every band
    and at all times: each combination of a few noises moves the whole of a spectrogram.
    With the shipped recogniser, 32 noises learned what tones, short or long, and slow
    cosines in the same number did not.

    Parameters
    ----------
    mask : ndarray of shape (input_length,) and dtype bool
        Where the perturbation may be other than zero.
    rank : int
        Number of noises, at most that of the samples that `mask` allows.
    rng : numpy.random.Generator
        Draws them.

    Returns
    -------
    ndarray of shape (input_length, rank)
        Orthogonal columns, of a length such that coefficients of the size s make a
        perturbation whose root mean square over the mask is s.

    Raises
    ------
    ValueError
        If `mask` leaves less than `rank` samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.perturbation.zeroth_order import random_basis
    >>> basis = random_basis(np.arange(9) > 2, 2, np.random.default_rng(0))
    >>> (basis.T @ basis).round(6)
    array([[3., 0.],
           [0., 3.]])
    """
    room = int(mask.sum())
    if rank > room:
        raise ValueError(
            f"rank={rank} is more than the {room} samples of the waveform that the "
            f"perturbation may change; allowed are 1 to {room}. Use a smaller rank, or "
            "mask=False."
        )
    orthonormal, _ = np.linalg.qr(rng.normal(size=(room, rank)))
    basis = np.zeros((len(mask), rank))
    basis[mask] = orthonormal * np.sqrt(room / rank)
    return basis


def zeroth_order_gradient(
    loss: Callable[[np.ndarray], np.ndarray],
    point: np.ndarray,
    *,
    n_directions: int,
    smoothing: float,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray]:
    """Estimate a gradient from values: one-sided differences in random directions.

    The estimate is ``d / (q * smoothing) * sum_j (L(w + smoothing * u_j) - L(w)) u_j``
    with q directions u_j that are uniform on the unit sphere of d dimensions. Other
    than in [1]_, up to d of them are orthogonal to each other [2]_, which makes the
    estimate less noisy: exact for a linear loss and ``q = d``.

    Parameters
    ----------
    loss : callable
        Maps points ``(m, d)`` to their losses ``(m,)``.
    point : ndarray of shape (d,)
        Where the gradient is wanted.
    n_directions : int
        Number q of directions.
    smoothing : float
        Length of the steps that are tried.
    rng : numpy.random.Generator
        Draws the directions.

    Returns
    -------
    value : float
        The loss at `point`.
    gradient : ndarray of shape (d,)
        The estimate.

    References
    ----------
    .. [1] Y.-Y. Tsai, P.-Y. Chen and T.-Y. Ho, "Transfer Learning without Knowing:
       Reprogramming Black-box Machine Learning Models with Scarce Data and Limited
       Resources", ICML 2020.
    .. [2] K. Choromanski, M. Rowland, V. Sindhwani, R. Turner and A. Weller,
       "Structured Evolution with Compact Architectures for Scalable Policy
       Optimization", ICML 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.perturbation.zeroth_order import zeroth_order_gradient
    >>> slope = np.array([1.0, -2.0])
    >>> value, gradient = zeroth_order_gradient(
    ...     lambda points: points @ slope,
    ...     np.ones(2),
    ...     n_directions=2,
    ...     smoothing=0.1,
    ...     rng=np.random.default_rng(0),
    ... )
    >>> value, gradient.round(6)
    (-1.0, array([ 1., -2.]))
    """
    size = len(point)
    blocks = []
    for start in range(0, n_directions, size):
        count = min(size, n_directions - start)
        axes, upper = np.linalg.qr(rng.normal(size=(size, count)))
        # Without the signs that the algorithm happens to choose: uniform.
        blocks.append((axes * np.sign(np.diagonal(upper))).T)
    directions = np.concatenate(blocks)
    value, *tried = loss(np.vstack([point, point + smoothing * directions]))
    slopes = (np.array(tried) - value) / smoothing
    return float(value), size / n_directions * slopes @ directions
