# SPDX-License-Identifier: Apache-2.0
"""Which source classes speak for which target class."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_v2s.plotting.axes import get_axes

__all__ = ["LabelMappingDisplay"]


class LabelMappingDisplay:
    """Weights of source classes for target classes, as a map of colours.

    Of the source classes those are drawn that are strongest for any target class.

    Parameters
    ----------
    weights : ndarray of shape (K, n_classes)
        How much each source class speaks for each target class.
    source_classes : sequence of str
        Their K names.
    target_classes : sequence
        The target classes.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after `plot`.
    ax_ : matplotlib Axes
        Where the weights are.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.plotting import LabelMappingDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 40)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = V2SClassifier(views="replicas", max_epochs=1, random_state=0)
    >>> display = LabelMappingDisplay.from_estimator(classifier.fit(X, y))
    >>> [tick.get_text() for tick in display.ax_.get_xticklabels()]
    ['down', 'up']
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        weights: np.ndarray,
        source_classes: Sequence[str],
        target_classes: Sequence[Any],
    ) -> None:
        self.weights = weights
        self.source_classes = source_classes
        self.target_classes = target_classes

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, n_source_classes: int = 5, ax: Any = None
    ) -> Self:
        """Draw the label mapping of a fitted classifier.

        Parameters
        ----------
        estimator : V2SClassifier
            Fitted, with a label mapping that reads logits of the source classes.
        n_source_classes : int, default=5
            Strongest source classes of each target class to draw.
        ax : matplotlib Axes, default=None
            To draw on; None makes a new figure.

        Returns
        -------
        LabelMappingDisplay
            Drawn.

        Raises
        ------
        ValueError
            If the label mapping reads no logits.
        """
        check_is_fitted(estimator)
        weights = estimator.model_.source_class_weights()
        if weights is None:
            raise ValueError(
                f"the label mapping with source_output={estimator.source_output!r} and "
                f"views={list(estimator.views_)} reads no logits of source classes. "
                "Fit with source_output='both' or 'logits', and 'replicas' in views."
            )
        classes = estimator.model_.reprogrammed.source.classes
        return cls(weights, classes, estimator.classes_).plot(n_source_classes, ax=ax)

    def plot(self, n_source_classes: int = 5, *, ax: Any = None) -> Self:
        """Draw the strongest source classes of each target class.

        Parameters
        ----------
        n_source_classes : int, default=5
            How many of each.
        ax : matplotlib Axes, default=None
            To draw on; None makes a new figure.

        Returns
        -------
        LabelMappingDisplay
            This display.
        """
        order = np.argsort(-self.weights, axis=0, kind="stable")[:n_source_classes]
        # Each once, in the order of the first target class that it speaks for.
        rows = list(dict.fromkeys(order.T.ravel().tolist()))
        n_rows, n_columns = len(rows), len(self.target_classes)
        size = 2.4 + 0.5 * n_columns, 1.2 + 0.24 * n_rows
        figure, axes = get_axes(ax, 1, (1, 1), size)
        (axis,) = axes
        limit = float(np.abs(self.weights[rows]).max()) or 1.0
        image = axis.imshow(
            self.weights[rows], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
        )
        axis.set_xticks(range(n_columns), [str(name) for name in self.target_classes])
        axis.set_yticks(range(n_rows), [self.source_classes[row] for row in rows])
        axis.set(xlabel="Target class", ylabel="Source class")
        figure.colorbar(image, ax=axis, label="Weight")
        self.figure_, self.ax_ = figure, axis
        return self
