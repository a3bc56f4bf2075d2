# SPDX-License-Identifier: Apache-2.0
"""Synthetic series from their published definitions, for use without internet."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sklearn_v2s.runtime.sklearn_compat import Interval, validate_params

__all__ = ["make_control_charts", "make_cylinder_bell_funnel"]

_CONSTRAINTS: dict[str, Any] = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "noise": [Interval(Real, 0, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
}


def _balanced_labels(
    n_samples: int, n_classes: int, shuffle: bool, rng: np.random.RandomState
) -> np.ndarray:
    """Return classes 0, 1, ... in turn, or in random order."""
    y = np.arange(n_samples) % n_classes
    return rng.permutation(y) if shuffle else y


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def make_cylinder_bell_funnel(
    n_samples: int = 100,
    *,
    noise: float = 1.0,
    shuffle: bool = True,
    random_state: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Generate cylinders, bells and funnels.

    With :math:`\chi = 1` for :math:`a \le t \le b` and 0 elsewhere,
    :math:`t = 1, \dots, 128`, the classes are

    .. math::

        \text{0, cylinder:} \quad & (6 + \eta) \, \chi(t) + \epsilon(t) \\
        \text{1, bell:} \quad & (6 + \eta) \, \chi(t) \, (t - a) / (b - a)
        + \epsilon(t) \\
        \text{2, funnel:} \quad & (6 + \eta) \, \chi(t) \, (b - t) / (b - a)
        + \epsilon(t)

    where :math:`a` is an integer, uniform in [16, 32], :math:`b - a` one in [32, 96],
    and :math:`\eta` and all :math:`\epsilon(t)` are standard normal.

    Parameters
    ----------
    n_samples : int, default=100
        Number of series; the classes have equal numbers of them, or one more.
    noise : float, default=1.0
        Factor of :math:`\epsilon(t)`; the definition has 1.
    shuffle : bool, default=True
        Put the classes in random order; otherwise they take turns.
    random_state : int, RandomState instance or None, default=None
        Of everything that is drawn.

    Returns
    -------
    X : ndarray of shape (n_samples, 128)
        Series, not normalised (those of the UCR archive's CBF are).
    y : ndarray of shape (n_samples,)
        Classes 0, 1 and 2.

    References
    ----------
    Saito. Local feature extraction and its applications using a library of bases. PhD
    thesis, Yale University, 1994.

    Examples
    --------
    >>> from sklearn_v2s.datasets import make_cylinder_bell_funnel
    >>> X, y = make_cylinder_bell_funnel(6, shuffle=False, random_state=0)
    >>> X.shape, y.tolist()
    ((6, 128), [0, 1, 2, 0, 1, 2])
    """
    rng = check_random_state(random_state)
    t = np.arange(1, 129)
    y = _balanced_labels(n_samples, 3, shuffle, rng)
    start = rng.randint(16, 33, size=(n_samples, 1))
    length = rng.randint(32, 97, size=(n_samples, 1))
    height = 6.0 + rng.normal(size=(n_samples, 1))
    end = start + length
    inside = (t >= start) & (t <= end)
    rising, falling = (t - start) / length, (end - t) / length
    shape = np.choose(y[:, None], [np.ones_like(rising), rising, falling])
    X = height * inside * shape + noise * rng.normal(size=inside.shape)
    return X, y


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def make_control_charts(
    n_samples: int = 100,
    *,
    noise: float = 1.0,
    shuffle: bool = True,
    random_state: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Generate synthetic control charts.

    For :math:`t = 1, \dots, 60`, with :math:`m = 30`, :math:`s = 2` and all
    :math:`r(t)` uniform in [-3, 3], the classes are

    .. math::

        \text{0, normal:} \quad & m + r(t) s \\
        \text{1, cyclic:} \quad & m + r(t) s + a \sin(2 \pi t / T) \\
        \text{2, increasing:} \quad & m + r(t) s + g t \\
        \text{3, decreasing:} \quad & m + r(t) s - g t \\
        \text{4, upward shift:} \quad & m + r(t) s + k(t) x \\
        \text{5, downward shift:} \quad & m + r(t) s - k(t) x

    where :math:`a` and :math:`T` are uniform in [10, 15], :math:`g` in [0.2, 0.5] and
    :math:`x` in [7.5, 20]; :math:`k(t)` is 0 before a position that is uniform in
    [20, 40], and 1 from there on.

    Parameters
    ----------
    n_samples : int, default=100
        Number of series; the classes have equal numbers of them, or one more.
    noise : float, default=1.0
        Factor of :math:`r(t) s`; the definition has 1.
    shuffle : bool, default=True
        Put the classes in random order; otherwise they take turns.
    random_state : int, RandomState instance or None, default=None
        Of everything that is drawn.

    Returns
    -------
    X : ndarray of shape (n_samples, 60)
        Series, not normalised (those of the UCR archive's SyntheticControl are).
    y : ndarray of shape (n_samples,)
        Classes 0 to 5.

    References
    ----------
    Alcock, Manolopoulos. Time-series similarity queries employing a feature-based
    approach. 7th Hellenic Conference on Informatics, 1999.

    Examples
    --------
    >>> from sklearn_v2s.datasets import make_control_charts
    >>> X, y = make_control_charts(12, shuffle=False, random_state=0)
    >>> X.shape, y.tolist()
    ((12, 60), [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5])
    """
    rng = check_random_state(random_state)
    t = np.arange(1, 61)
    y = _balanced_labels(n_samples, 6, shuffle, rng)

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, size=(n_samples, 1))

    cycle = draw(10, 15) * np.sin(2 * np.pi * t / draw(10, 15))
    trend = draw(0.2, 0.5) * t
    shift = draw(7.5, 20) * (t >= draw(20, 40))
    pattern = np.choose(
        y[:, None], [np.zeros_like(cycle), cycle, trend, -trend, shift, -shift]
    )
    common = 30.0 + 2.0 * noise * rng.uniform(-3, 3, size=pattern.shape)
    return common + pattern, y
