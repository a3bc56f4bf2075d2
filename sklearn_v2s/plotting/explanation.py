# SPDX-License-Identifier: Apache-2.0
"""The figure of a prediction: the input of the source, and what mattered in it."""

from typing import Any, Literal, Self

import numpy as np

from sklearn_v2s.explain import (
    SeriesAttribution,
    SourceExplanation,
    attribute_series,
    explain_source,
)
from sklearn_v2s.plotting.axes import COLOURS, get_axes

__all__ = ["V2SExplanationDisplay"]

_SERIES, _PERTURBATION, _ATTENTION = COLOURS[1], "0.6", COLOURS[0]
# Blue to orange by way of white.
_SIGNED_MAP = "PuOr_r"
_MAP = "viridis"
# Of an inch: a further channel of a series in a row of its own.
_CHANNEL_HEIGHT = 0.25
_PANELS = 5
# Views that put the series into a second of sound.
_IN_THE_SECOND = {"replicas", "tone"}
# In points: a title over a legend that stands over the panel.
_ABOVE_LEGEND = 18


class V2SExplanationDisplay:
    """Waveform, attention, spectrogram, activation map and attribution of a prediction.

    The first four panels are the paper's figure 4; the last shows the series itself,
    and behind it which time points spoke for the class (orange) or against it (purple).

    Parameters
    ----------
    explanation : SourceExplanation or None
        What `sklearn_v2s.explain.explain_source` returned. None draws the last panel
        alone.
    attribution : SeriesAttribution
        What `sklearn_v2s.explain.attribute_series` returned.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after `plot`.
    axes_ : ndarray of matplotlib Axes of shape (n_panels,)
        Its panels, from top to bottom.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, figure 4; the release's ``cam_v2s.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.plotting import V2SExplanationDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier(random_state=0).fit(X, np.arange(20) % 2)
    >>> display = V2SExplanationDisplay.from_estimator(classifier, X[0])
    >>> [axes.get_ylabel() for axes in display.axes_][:2]
    ['Amplitude', 'log10 of weight']
    """

    figure_: Any
    axes_: np.ndarray

    def __init__(
        self, explanation: SourceExplanation | None, attribution: SeriesAttribution
    ) -> None:
        self.explanation = explanation
        self.attribution = attribution

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        layer: str | None = None,
        view: Literal["replicas", "tone"] | None = None,
        perturbation: int = 0,
        cam: Literal["grad-cam", "hires-cam"] = "grad-cam",
        method: Literal["occlusion", "gradient"] = "occlusion",
        window: int | Literal["auto"] = "auto",
        stride: int | Literal["auto"] = "auto",
        scale: Literal["log-odds", "log-probability"] = "log-odds",
        axes: Any = None,
    ) -> Self:
        """Explain a prediction and draw it.

        Of a classifier with neither replicas nor a tone, only the attribution to
        time points is drawn: of the others there is no second to show.

        Parameters
        ----------
        estimator : V2SClassifier
            Fitted.
        X : array-like of shape (n_timepoints,) or (n_channels, n_timepoints)
            One series.
        target : object, default=None
            A class of ``classes_``; None takes the predicted one.
        layer : str, default=None
            See `sklearn_v2s.explain.explain_source`.
        view : {"replicas", "tone"}, default=None
            The same.
        perturbation : int, default=0
            The same.
        cam : {"grad-cam", "hires-cam"}, default="grad-cam"
            The same.
        method : {"occlusion", "gradient"}, default="occlusion"
            See `sklearn_v2s.explain.attribute_series`.
        window : int or "auto", default="auto"
            The same.
        stride : int or "auto", default="auto"
            The same.
        scale : {"log-odds", "log-probability"}, default="log-odds"
            The same.
        axes : array-like of 5 matplotlib Axes, default=None
            To draw on; None makes a new figure. One, where one panel is drawn.

        Returns
        -------
        V2SExplanationDisplay
            Drawn.
        """
        explanation = None
        views = getattr(estimator, "views_", _IN_THE_SECOND)
        if view is not None or not _IN_THE_SECOND.isdisjoint(views):
            explanation = explain_source(
                estimator,
                X,
                target=target,
                layer=layer,
                view=view,
                perturbation=perturbation,
                cam=cam,
            )
            target = explanation.target
        attribution = attribute_series(
            estimator,
            X,
            target=target,
            method=method,
            window=window,
            stride=stride,
            scale=scale,
        )
        return cls(explanation, attribution).plot(axes=axes)

    def plot(self, axes: Any = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        axes : array-like of matplotlib Axes of shape (n_panels,), default=None
            To draw on; None makes a new figure.

        Returns
        -------
        V2SExplanationDisplay
            This display.
        """
        extra = _CHANNEL_HEIGHT * (len(self.attribution.values) - 1)
        shown = self.explanation
        n_panels = 1 if shown is None else _PANELS
        figure, found = get_axes(
            axes,
            n_panels,
            (n_panels, 1),
            (8.0, 0.5 + 2.0 * n_panels + extra),
            gridspec_kw={"height_ratios": [2] * (n_panels - 1) + [2 + extra]},
        )
        if shown is not None:
            self._draw_waveform(found[0], shown)
            self._draw_attention(found[1], shown)
            self._draw_spectrogram(found[2], shown)
            self._draw_activation(found[3], shown)
            for each in found[:-1]:
                each.set_xlim(0, len(shown.waveform) / shown.sample_rate)
                each.set_xlabel("Time in the waveform (s)")
        self._draw_attribution(found[-1])
        self.figure_, self.axes_ = figure, found
        return self

    @staticmethod
    def _draw_waveform(axes: Any, shown: SourceExplanation) -> None:
        times = np.arange(len(shown.waveform)) / shown.sample_rate
        sounding = np.zeros(len(times), dtype=bool)
        for start, stop in shown.segments:
            sounding[start:stop] = True
        if shown.segments:
            rest = np.where(sounding, np.nan, shown.waveform)
            axes.plot(
                times, rest, color=_PERTURBATION, linewidth=0.6, label="perturbation"
            )
            axes.plot(
                times,
                np.where(sounding, shown.waveform, np.nan),
                color=_SERIES,
                linewidth=0.8,
                label="target series with perturbation",
            )
        else:
            axes.plot(times, shown.waveform, color=_SERIES, linewidth=0.5, label="tone")
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
            frameon=False,
            borderaxespad=0.1,
            fontsize="small",
        )
        axes.set_ylabel("Amplitude")
        axes.set_title(
            f"Class {shown.target}, probability {shown.probability:.3f}",
            loc="left",
            pad=_ABOVE_LEGEND,
        )

    @staticmethod
    def _draw_attention(axes: Any, shown: SourceExplanation) -> None:
        axes.set_title("Attention over the waveform", loc="left")
        axes.set_ylabel("log10 of weight")
        if shown.attention is None:
            _note(axes, "this source has no attention", "black")
            axes.set_yticks([])
            return
        start, end = shown.map_span
        n_steps = len(shown.attention)
        middles = start + (np.arange(n_steps) + 0.5) * (end - start) / n_steps
        # A weight may be too small for a float and so be 0.
        weights = np.maximum(shown.attention, np.finfo(np.float32).tiny)
        axes.plot(middles, np.log10(weights), color=_ATTENTION)

    def _draw_spectrogram(self, axes: Any, shown: SourceExplanation) -> None:
        image = self._draw_map(axes, shown.spectrogram, shown.spectrogram_span)
        axes.set_ylabel("Frequency (kHz)")
        bands = np.linspace(0, len(shown.frequencies) - 1, 5).round().astype(int)
        axes.set_yticks(
            bands + 0.5, [f"{shown.frequencies[band] / 1000:.1f}" for band in bands]
        )
        axes.set_title(f"Log-mel spectrogram of the view {shown.view}", loc="left")
        self._draw_scale(axes, image, "standardised")

    def _draw_activation(self, axes: Any, shown: SourceExplanation) -> None:
        from matplotlib.colors import PowerNorm

        activation = shown.activation_map
        if activation is None:
            axes.set_title("Class activation map", loc="left")
            _note(axes, "no layer of this source has a time axis", "black")
            axes.set_yticks([])
            return

        # A few cells often outshine all others: the root lets these be seen.
        scale = PowerNorm(0.5, vmin=0.0, vmax=1.0)
        image = self._draw_map(axes, activation, shown.map_span, norm=scale)
        if not activation.any():
            _note(axes, "nothing in this layer speaks for the class", "white")
        axes.set_ylabel("Band" if activation.ndim == 2 else "")
        if activation.ndim == 1:
            axes.set_yticks([])
        axes.set_title(f"Class activation map of {shown.layer}", loc="left")
        self._draw_scale(axes, image, "share of maximum")

    @staticmethod
    def _draw_map(
        axes: Any, values: np.ndarray, span: tuple[float, float], **scale: Any
    ) -> Any:
        """Draw a map of shape (n_steps,) or (n_steps, n_bands), time to the right."""
        rows = values[:, None] if values.ndim == 1 else values
        return axes.imshow(
            rows.T,
            origin="lower",
            aspect="auto",
            cmap=_MAP,
            extent=(*span, 0, rows.shape[1]),
            **scale,
        )

    def _draw_attribution(self, axes: Any) -> None:
        shown = self.attribution
        n_channels, n_timepoints = shown.series.shape
        limit = float(np.abs(shown.values).max()) or 1.0
        image = axes.imshow(
            shown.values,
            aspect="auto",
            cmap=_SIGNED_MAP,
            vmin=-limit,
            vmax=limit,
            # Channel 0 on top, each in a row of height 1.
            extent=(-0.5, n_timepoints - 0.5, n_channels, 0),
        )
        for channel, values in enumerate(shown.series):
            low, high = np.nanmin(values), np.nanmax(values)
            height = (values - low) / (high - low) if high > low else 0 * values + 0.5
            axes.plot(
                np.arange(n_timepoints),
                channel + 0.9 - 0.8 * height,
                color="black",
                linewidth=1.2,
            )
        axes.set_xlabel("Time point of the series")
        if n_channels == 1:
            low, high = np.nanmin(shown.series), np.nanmax(shown.series)
            axes.set_yticks([0.9, 0.1], [f"{low:.3g}", f"{high:.3g}"])
            axes.set_ylabel("Value")
        else:
            axes.set_yticks(np.arange(n_channels) + 0.5, range(n_channels))
            axes.set_ylabel("Channel")
        held = f", without {', '.join(shown.held)}" if shown.held else ""
        axes.set_title(
            f"What speaks for class {shown.target} ({shown.method}{held})", loc="left"
        )
        label = (
            "fall of " + shown.scale
            if shown.method == "occlusion"
            else "gradient × input"
        )
        self._draw_scale(axes, image, label)

    @staticmethod
    def _draw_scale(axes: Any, image: Any, label: str) -> None:
        """Draw a colour bar next to the axes, which keep their width."""
        beside = axes.inset_axes((1.01, 0.0, 0.015, 1.0))
        axes.figure.colorbar(image, cax=beside, label=label)


def _note(axes: Any, text: str, colour: str) -> None:
    """Write a line in the middle of a panel that has nothing else to show."""
    axes.text(
        0.5,
        0.5,
        text,
        color=colour,
        transform=axes.transAxes,
        horizontalalignment="center",
        verticalalignment="center",
    )
