# SPDX-License-Identifier: Apache-2.0
"""What all Displays share: matplotlib where it is needed, colours, new axes."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "class_styles", "get_axes"]

# Okabe and Ito's colours, told apart with any colour vision; yellow comes last, for it
# is faint on white.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#F0E442",
)
_MARKERS = "os^Dvp*X"


def class_styles(n_classes: int) -> list[dict[str, Any]]:
    """Return colour and marker of each class, together different for 64 classes."""
    count = len(COLOURS)
    return [
        {
            "color": COLOURS[number % count],
            "marker": _MARKERS[(number + number // count) % len(_MARKERS)],
        }
        for number in range(n_classes)
    ]


def get_axes(
    axes: Any,
    n_axes: int,
    shape: tuple[int, int],
    figsize: tuple[float, float],
    **grid: Any,
) -> tuple["Figure", np.ndarray]:
    """Return the figure and the axes to draw on.

    Parameters
    ----------
    axes : Axes, array-like of Axes or None
        Those of the user; None makes a new figure.
    n_axes : int
        How many are needed.
    shape : tuple of (int, int)
        Rows and columns of a new figure.
    figsize : tuple of (float, float)
        Its size, in inches.
    **grid
        For ``subplots`` of a new figure.

    Returns
    -------
    figure : Figure
        Of the axes.
    axes : ndarray of Axes of shape (n_axes,)
        To draw on.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the user gave another number of axes.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'Displays need matplotlib: pip install "sklearn-v2s[plot]"'
        ) from error
    if axes is None:
        figure, made = plt.subplots(
            *shape, figsize=figsize, layout="constrained", squeeze=False, **grid
        )
        return figure, made.ravel()[:n_axes]
    found = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(found) != n_axes:
        raise ValueError(
            f"axes holds {len(found)} axes, but {n_axes} are drawn on. Give as many, "
            "or None for a new figure."
        )
    first: Axes = found[0]
    parent = first.get_figure(root=True)
    assert parent is not None
    return parent, found
