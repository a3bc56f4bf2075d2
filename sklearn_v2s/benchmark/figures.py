# SPDX-License-Identifier: Apache-2.0
"""Figures of a benchmark report, as PNG."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_v2s.benchmark.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "MISSING",
    "as_png",
    "draw_critical_difference",
    "draw_pairwise_scatter",
]

MISSING = 'Figures need aeon and matplotlib: pip install "sklearn-v2s[benchmark]"'
_ALPHA = 0.05
# Inches that a letter of a label takes in the critical-difference diagram.
_LETTER = 0.13


def as_png(figure: "Figure") -> bytes:
    """Return a figure as the bytes of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, bbox_inches="tight")
    return content.getvalue()


def _short(method: str) -> str:
    """Return a name that fits inside a figure, without module and parameters."""
    return method.partition("{")[0].rpartition(":")[2]


def draw_critical_difference(comparison: Comparison) -> bytes | None:
    """Draw mean ranks by accuracy, bars joining methods that do not differ.

    Cliques are those of pairwise Wilcoxon tests with Holm's correction at 0.05, as aeon
    computes them.

    Parameters
    ----------
    comparison : Comparison
        What to draw.

    Returns
    -------
    bytes or None
        PNG; None with fewer than three methods or two datasets, which the test behind
        the diagram needs.

    Raises
    ------
    ImportError
        If aeon or matplotlib is missing.
    """
    if len(comparison.methods) < 3 or len(comparison.datasets) < 2:
        return None
    try:
        import matplotlib.pyplot as plt
        from aeon.visualisation import plot_critical_difference
    except ImportError as error:
        raise ImportError(MISSING) from error
    space = max(1.5, _LETTER * max(map(len, comparison.methods)))
    figure, _ = plot_critical_difference(
        comparison.scores["accuracy"],
        comparison.methods,
        test="wilcoxon",
        correction="holm",
        alpha=_ALPHA,
        width=int(np.ceil(4 + 2 * space)),
        textspace=space,
    )
    try:
        return as_png(figure)
    finally:
        plt.close(figure)


def draw_pairwise_scatter(comparison: Comparison, method: str) -> bytes:
    """Draw the accuracy of the reference against that of another method.

    Not by aeon's function of that name, which needs seaborn.

    Parameters
    ----------
    comparison : Comparison
        What to draw.
    method : str
        The other method, on the horizontal axis.

    Returns
    -------
    bytes
        PNG with a point for each dataset.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    accuracy = comparison.scores["accuracy"]
    x = accuracy[:, comparison.methods.index(method)]
    y = accuracy[:, comparison.methods.index(comparison.reference)]
    low = max(0.0, float(min(x.min(), y.min())) - 0.03)
    figure = Figure(figsize=(5, 5))
    axes: Any = figure.subplots()
    axes.plot([low, 1.01], [low, 1.01], color="black", alpha=0.5, linewidth=1)
    for better, colour in ((y > x, "tab:blue"), (y < x, "tab:red"), (x == y, "grey")):
        axes.scatter(x[better], y[better], color=colour, s=22)
    box = {"boxstyle": "round", "facecolor": "white", "alpha": 0.7}
    for place, align, name, wins in (
        ((0.03, 0.97), ("left", "top"), comparison.reference, int((y > x).sum())),
        ((0.97, 0.03), ("right", "bottom"), method, int((y < x).sum())),
    ):
        axes.text(
            *place,
            f"{_short(name)} is better on {wins}",
            transform=axes.transAxes,
            horizontalalignment=align[0],
            verticalalignment=align[1],
            bbox=box,
        )
    axes.set(
        xlim=(low, 1.01),
        ylim=(low, 1.01),
        aspect="equal",
        xlabel=f"{method}, accuracy (mean {x.mean():.4f})",
        ylabel=f"{comparison.reference}, accuracy (mean {y.mean():.4f})",
        title=f"{len(x)} datasets, {int((x == y).sum())} ties",
    )
    return as_png(figure)
