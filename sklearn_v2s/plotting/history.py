# SPDX-License-Identifier: Apache-2.0
"""Learning curves."""

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.plotting.axes import COLOURS, get_axes

__all__ = ["TrainingHistoryDisplay"]

_PANELS = (
    ("loss", "Loss"),
    ("accuracy", "Accuracy"),
    ("sliced_wasserstein", "Sliced Wasserstein distance"),
)
# What counts time: passes over the data, or questions to a black box.
_TIMES = {"epoch": "Epoch", "n_queries": "Questions to the source"}
_PARTS = (("train_", "training", "-"), ("valid_", "validation", "--"))


class TrainingHistoryDisplay:
    """Loss and accuracy by epoch, of training and validation part.

    Losses are without penalties, so that the two parts can be compared. Where an
    `AlignmentCallback` measured the distance to speech, it has a panel too.

    Parameters
    ----------
    history : list of dict
        The ``history_`` of a fitted classifier.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after `plot`.
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        Its panels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.plotting import TrainingHistoryDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier.from_paper(max_epochs=2, random_state=0)
    >>> classifier = classifier.fit(X, np.arange(20) % 2)
    >>> display = TrainingHistoryDisplay.from_estimator(classifier)
    >>> [axes.get_ylabel() for axes in display.axes_]
    ['Loss', 'Accuracy']
    """

    figure_: Any
    axes_: np.ndarray

    def __init__(self, history: list[dict[str, float]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, axes: Any = None) -> Self:
        """Draw the learning curves of a fitted classifier.

        Parameters
        ----------
        estimator : V2SClassifier, TransferClassifier, FCNClassifier or \
BlackBoxV2SClassifier
            Fitted, with at least one epoch of training. The time of a black box is the
            number of queries.
        axes : array-like of matplotlib Axes, default=None
            To draw on; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            Drawn.

        Raises
        ------
        ValueError
            If nothing was trained by gradient.
        """
        check_is_fitted(estimator)
        return cls(estimator.history_).plot(axes=axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw a panel for each quantity that was recorded.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            As many as there are panels; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            This display.
        """
        if not self.history:
            raise ValueError(
                "history is empty: nothing was trained by gradient. Fit with "
                "max_epochs of 1 or more."
            )
        recorded = {name for row in self.history for name in row}
        time = next(name for name in _TIMES if name in recorded)
        panels = [
            (key, label)
            for key, label in _PANELS
            if any(name.endswith(key) for name in recorded)
        ]
        size = 4.5 * len(panels), 3.6
        figure, found = get_axes(axes, len(panels), (1, len(panels)), size)
        for each, (key, label) in zip(found, panels, strict=True):
            self._draw(each, key, time)
            each.set(xlabel=_TIMES[time], ylabel=label)
            each.grid(alpha=0.3)
        self.figure_, self.axes_ = figure, found
        return self

    def _draw(self, axes: Any, key: str, time: str) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # A single epoch is no line.
        marker = "o" if len(self.history) < 30 else None
        curves = [
            (prefix + key, part, line, colour)
            for (prefix, part, line), colour in zip(_PARTS, COLOURS, strict=False)
        ]
        for name, part, line, colour in [*curves, (key, None, "-", COLOURS[2])]:
            rows = [row for row in self.history if name in row]
            if rows:
                axes.plot(
                    [row[time] for row in rows],
                    [row[name] for row in rows],
                    linestyle=line,
                    marker=marker,
                    markersize=3,
                    color=colour,
                    label=part,
                )
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
