# SPDX-License-Identifier: Apache-2.0
"""Series as points of a source's space, before and after reprogramming."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from sklearn.utils.validation import check_consistent_length

from sklearn_v2s.explain import Representation, represent_series
from sklearn_v2s.plotting.axes import class_styles, get_axes

__all__ = ["SourceEmbeddingDisplay"]

# t-SNE needs a perplexity below the number of points; its default is this.
_PERPLEXITY = 30.0


class SourceEmbeddingDisplay:
    """Representations by a source before, with and after reprogramming, by t-SNE.

    The paper's figure 5. The silhouette in each title is computed in the space of the
    source itself: t-SNE draws groups also where there are none.

    Parameters
    ----------
    names : sequence of str
        What each panel shows.
    points : sequence of ndarray of shape (n, 2)
        Points of each panel.
    silhouettes : sequence of float
        Of the classes in the space of the source, from -1 to 1; NaN where a single
        class or only single points are there.
    labels : ndarray of shape (n,)
        Class of each point.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after `plot`.
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        Its panels.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, figure 5; the release's ``tsne_v2s.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.plotting import SourceEmbeddingDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> y = np.arange(20) % 2
    >>> classifier = V2SClassifier(random_state=0).fit(X, y)
    >>> display = SourceEmbeddingDisplay.from_estimators(
    ...     classifier, X, y, random_state=0
    ... )
    >>> display.names
    ['before reprogramming', 'after reprogramming']
    """

    figure_: Any
    axes_: np.ndarray

    def __init__(
        self,
        names: Sequence[str],
        points: Sequence[np.ndarray],
        silhouettes: Sequence[float],
        labels: np.ndarray,
    ) -> None:
        self.names = names
        self.points = points
        self.silhouettes = silhouettes
        self.labels = labels

    @classmethod
    def from_estimators(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        transfer: Any = None,
        output: Literal["embedding", "logits"] = "embedding",
        perplexity: float | None = None,
        random_state: Any = None,
        axes: Any = None,
    ) -> Self:
        """Compute and draw the representations of series.

        Parameters
        ----------
        estimator : V2SClassifier or V2STransformer
            Fitted, with the view ``"replicas"``.
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, best those that no estimator was fitted on.
        y : array-like of shape (n,)
            Their classes.
        transfer : TransferClassifier, default=None
            Fitted; adds a panel of its fine-tuned source.
        output : {"embedding", "logits"}, default="embedding"
            Which source output.
        perplexity : float, default=None
            Of t-SNE; None takes 30, or a third of the number of series if that is less.
        random_state : int, RandomState instance or None, default=None
            Of t-SNE.
        axes : array-like of matplotlib Axes, default=None
            One for each panel; None makes a new figure.

        Returns
        -------
        SourceEmbeddingDisplay
            Drawn.

        Raises
        ------
        ValueError
            If there are fewer than 3 series, or the estimator has no view
            ``"replicas"``.
        """
        labels = np.asarray(y)
        check_consistent_length(X, labels)
        if len(labels) < 3:
            raise ValueError(f"X has {len(labels)} series; t-SNE needs at least 3.")
        found = represent_series(estimator, X, transfer=transfer, output=output)
        if perplexity is None:
            perplexity = min(_PERPLEXITY, (len(labels) - 1) / 3)
        projected = [_project(each, perplexity, random_state) for each in found]
        return cls(
            [each.name for each in found],
            projected,
            [_silhouette(each, labels) for each in found],
            labels,
        ).plot(axes=axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw a panel for each representation.

        Parameters
        ----------
        axes : array-like of matplotlib Axes, default=None
            One for each panel; None makes a new figure.

        Returns
        -------
        SourceEmbeddingDisplay
            This display.
        """
        count = len(self.names)
        figure, found = get_axes(axes, count, (1, count), (4.0 * count, 4.2))
        classes = np.unique(self.labels)
        styles = class_styles(len(classes))
        for each, name, points, silhouette in zip(
            found, self.names, self.points, self.silhouettes, strict=True
        ):
            for label, style in zip(classes, styles, strict=True):
                each.scatter(
                    *points[self.labels == label].T,
                    s=22,
                    alpha=0.75,
                    linewidths=0.3,
                    edgecolors="white",
                    label=str(label),
                    **style,
                )
            each.set(xticks=[], yticks=[], title=f"{name}\nsilhouette {silhouette:.2f}")
        handles, names = found[0].get_legend_handles_labels()
        if axes is None:
            # Beside the panels, where it hides no point.
            figure.legend(handles, names, title="class", loc="outside right center")
        else:
            found[-1].legend(handles, names, title="class")
        self.figure_, self.axes_ = figure, found
        return self


def _project(found: Representation, perplexity: float, random_state: Any) -> np.ndarray:
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    standardised = StandardScaler().fit_transform(found.points)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
    return tsne.fit_transform(standardised)


def _silhouette(found: Representation, labels: np.ndarray) -> float:
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    if not 1 < len(np.unique(labels)) < len(labels):
        return float("nan")
    standardised = StandardScaler().fit_transform(found.points)
    return float(silhouette_score(standardised, labels))
