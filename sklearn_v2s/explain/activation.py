# SPDX-License-Identifier: Apache-2.0
"""The input of the source for a series, and a class activation map of a layer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.explain.differentiable import (
    DifferentiableViews,
    class_number,
    one_series,
    source_outputs,
)
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig, LogMelFrontEnd
from sklearn_v2s.sources.inspection import (
    Activations,
    as_maps,
    candidate_layers,
    explainable_layers,
    record_activations,
    unfrozen_copy,
)

__all__ = ["SourceExplanation", "explain_source"]


@dataclass(frozen=True)
class SourceExplanation:
    """The input of a source model for a series, and which parts mattered for a class.

    Attributes
    ----------
    waveform : ndarray of shape (input_length,)
        The input of the source.
    perturbation : ndarray of shape (input_length,)
        The part of it that is not the series.
    segments : list of tuple of (int, int)
        First sample and the one after the last of each replica; empty for ``"tone"``.
    sample_rate : int
        In Hz.
    spectrogram : ndarray of shape (n_frames, n_mels)
        Log-mel spectrogram, standardised: that of the source's front end, or where it
        has another one, of the package's default.
    spectrogram_span : tuple of float
        Where its first frame begins and its last one ends, in seconds. A front end that
        adds zeros covers more than the waveform.
    frequencies : ndarray of shape (n_mels,)
        Where each mel band is strongest, in Hz.
    attention : ndarray of shape (n_steps,) or None
        Weights of the source's attention over time; None if it has none.
    activation_map : ndarray of shape (n_steps,) or (n_steps, n_bands), or None
        Class activation map of the layer, from 0 to 1; None if no layer of the source
        has a time axis.
    map_span : tuple of float
        Where the first step of `attention` and `activation_map` begins and the last one
        ends, in seconds.
    layer : str or None
        Name of the mapped layer in ``named_modules`` of the source.
    target : object
        The class, as in ``classes_``.
    probability : float
        Of that class, by all views together.
    view : {"replicas", "tone"}
        The view that is explained.
    """

    waveform: np.ndarray
    perturbation: np.ndarray
    segments: list[tuple[int, int]]
    sample_rate: int
    spectrogram: np.ndarray
    spectrogram_span: tuple[float, float]
    frequencies: np.ndarray
    attention: np.ndarray | None
    activation_map: np.ndarray | None
    map_span: tuple[float, float]
    layer: str | None
    target: Any
    probability: float
    view: str


def explain_source(
    classifier: V2SClassifier,
    series: Any,
    *,
    target: Any = None,
    layer: str | None = None,
    view: Literal["replicas", "tone"] | None = None,
    perturbation: int = 0,
    cam: Literal["grad-cam", "hires-cam"] = "grad-cam",
) -> SourceExplanation:
    """Explain a prediction by the input of the source and an activation map.

    Parameters
    ----------
    classifier : V2SClassifier
        Fitted, with the view ``"replicas"`` or ``"tone"``.
    series : array-like of shape (n_timepoints,) or (n_channels, n_timepoints)
        One series, as a row of ``X``; a single row ``(1, ...)`` is taken as well.
    target : object, default=None
        A class of ``classes_``; None takes the predicted one.
    layer : str, default=None
        Layer of the source to map, one of `explainable_layers`. None takes the last
        convolution, or block of convolutions, with more than one map, that the class
        depends on.
    view : {"replicas", "tone"}, default=None
        The view to explain; None takes ``"replicas"`` where the classifier has it.
    perturbation : int, default=0
        Which of the perturbations of the view ``"replicas"``.
    cam : {"grad-cam", "hires-cam"}, default="grad-cam"
        ``"grad-cam"``, the paper's, weights each map of the layer by the mean slope of
        the class's log-odds; in an early layer that shows what kind of sound matters
        rather than where. ``"hires-cam"`` weights each point by its own slope and shows
        where. Positive sums are kept, divided by their maximum.

    Returns
    -------
    SourceExplanation
        Waveform, spectrogram, attention and class activation map.

    Raises
    ------
    TypeError
        If the classifier is of another kind.
    ValueError
        If a parameter cannot be used.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, figure 4. Selvaraju et al. Grad-CAM: visual explanations
    from deep networks via gradient-based localization. ICCV 2017. Draelos, Carin. Use
    HiResCAM instead of Grad-CAM for faithful explanations. arXiv:2011.08891, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.explain import explain_source
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier("attrnn", max_epochs=0, random_state=0)
    >>> classifier = classifier.fit(X, np.arange(20) % 2)
    >>> explanation = explain_source(classifier, X[0])
    >>> explanation.layer, explanation.activation_map.shape
    ('network.conv1', (125, 80))
    """
    if cam not in ("grad-cam", "hires-cam"):
        raise ValueError(f"cam={cam!r} is not allowed: 'grad-cam' or 'hires-cam'.")
    row = one_series(series)
    differentiable = DifferentiableViews(classifier, row)
    if not differentiable.modules:
        raise ValueError(
            f"the classifier has the views {list(classifier.views_)}; an input of the "
            "source is there for 'replicas' and 'tone' only. Fit it with one "
            "of these, or use attribute_series with method='occlusion', which "
            "explains all views."
        )
    if view is None:
        view = "replicas" if "replicas" in differentiable.modules else "tone"
    if view not in differentiable.modules:
        raise ValueError(
            f"view={view!r} cannot be explained: of the views "
            f"{list(classifier.views_)} of the classifier, allowed are "
            f"{list(differentiable.modules)}."
        )
    module = differentiable.modules[view]
    waveforms = module.waveforms(differentiable.series)[0].detach()
    if not 0 <= perturbation < len(waveforms):
        raise ValueError(
            f"perturbation={perturbation} is not there: the view {view!r} has "
            f"{len(waveforms)}."
        )
    source = module.source
    proba = classifier.predict_proba(row[None])[0]
    code = class_number(classifier.classes_, proba, target)
    activations = record_activations(unfrozen_copy(source), waveforms.requires_grad_())
    if layer is not None and layer not in activations.maps:
        raise ValueError(
            f"layer={layer!r} has no activation that can be mapped; those of the "
            f"source are {list(explainable_layers(source))}."
        )
    with torch.no_grad():
        outputs = {
            other: source_outputs(of_view, differentiable.series)
            for other, of_view in differentiable.modules.items()
            if other != view
        }
    outputs[view] = SourceOutputs(*(part[None] for part in activations.outputs))
    names = candidate_layers(source, activations) if layer is None else [layer]
    name, slope = _layer_and_slope(
        activations, names, differentiable.log_odds(outputs, code)
    )
    activation = None
    if name is not None:
        activation = _activation_map(
            source,
            name,
            activations.layers[name],
            slope,
            len(waveforms),
            cam == "grad-cam",
        )[perturbation]
    attention = activations.attention()
    waveform = waveforms.detach()[perturbation]
    front_end, own = _log_mel_front_end(source, waveform.dtype)
    with torch.no_grad():
        spectrogram = front_end(waveform[None])[0].double().numpy()
    span = front_end.config.span
    segments = []
    placement = module.placement
    if isinstance(placement, ReplicaPlacement):
        segments = [
            (start, start + placement.segment_length) for _, start in placement.spans()
        ]
    added = module.perturbation.effective()[perturbation].detach()
    return SourceExplanation(
        waveform=waveform.double().numpy(),
        perturbation=added.double().numpy().copy(),
        segments=segments,
        sample_rate=source.sample_rate,
        spectrogram=spectrogram,
        spectrogram_span=span,
        frequencies=_band_frequencies(front_end),
        attention=None
        if attention is None
        else attention[perturbation].detach().double().numpy(),
        activation_map=activation,
        map_span=span if own else (0.0, len(waveform) / source.sample_rate),
        layer=name,
        target=classifier.classes_[code],
        probability=float(proba[code]),
        view=view,
    )


def _layer_and_slope(
    activations: Activations, names: list[str], score: Tensor
) -> tuple[str | None, Tensor | None]:
    """Return the first of some layers that a score depends on, and its slope there.

    The class may be read from an embedding that a layer has no part in. If no layer
    has, it is the first one without a slope; without layers there is nothing.
    """
    if not names:
        return None, None
    outputs = [activations.layers[name] for name in names]
    slopes = torch.autograd.grad(score, outputs, allow_unused=True)
    for name, slope in zip(names, slopes, strict=True):
        if slope is not None:
            return name, slope
    return names[0], None


def _activation_map(
    source: Any,
    name: str,
    output: Tensor,
    slope: Tensor | None,
    n_clips: int,
    pooled: bool,
) -> np.ndarray:
    """Return maps of shape (n_clips, n_steps) or (n_clips, n_steps, n_bands)."""
    module = dict(source.named_modules())[name]
    maps = as_maps(module, output.detach())
    slopes = as_maps(module, torch.zeros_like(output) if slope is None else slope)
    assert maps is not None and slopes is not None
    if pooled:
        slopes = slopes.mean(tuple(range(2, slopes.dim())), keepdim=True)
    found = (slopes * maps).sum(1).clamp_min(0.0)
    if len(found) > n_clips:
        # A network that cuts clips into patches has a method to join them; without it
        # they are superimposed.
        network = getattr(source, "network", None)
        join = getattr(network, "join_patches", None)
        if join is None:
            found = found.unflatten(0, (n_clips, -1)).amax(1)
        else:
            found = join(found, n_clips)
    highest = found.flatten(1).amax(1).reshape(-1, *[1] * (found.dim() - 1))
    scaled = found / torch.where(highest > 0, highest, torch.ones_like(highest))
    return scaled.double().numpy()


def _log_mel_front_end(source: Any, dtype: torch.dtype) -> tuple[LogMelFrontEnd, bool]:
    """Return a front end to draw, and whether it is the source's own."""
    front_end = getattr(source, "front_end", None)
    if isinstance(front_end, LogMelFrontEnd):
        return front_end, True
    # The input of a source without one is drawn with the front end of the others.
    rate = source.sample_rate
    config = FrontEndConfig(
        sample_rate=rate, input_length=source.input_length, f_max=min(8000.0, rate / 2)
    )
    return LogMelFrontEnd(config).to(dtype), False


def _band_frequencies(front_end: LogMelFrontEnd) -> np.ndarray:
    """Return where each mel band is strongest, in Hz."""
    bins = front_end.filter_bank.argmax(1).double().numpy()
    return bins * front_end.config.sample_rate / front_end.config.n_fft
