# SPDX-License-Identifier: Apache-2.0
"""How a source model represents series before, with and after reprogramming."""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sklearn_v2s.base import BaseV2S
from sklearn_v2s.baselines import TransferClassifier
from sklearn_v2s.devices import resolve_device
from sklearn_v2s.reprogramming import ReprogrammedSource

__all__ = ["Representation", "represent_series"]


@dataclass(frozen=True)
class Representation:
    """Series as points of a source's own space.

    Attributes
    ----------
    name : str
        Such as ``"before reprogramming"``.
    points : ndarray of shape (n, d)
        One for each series.
    """

    name: str
    points: np.ndarray


def represent_series(
    estimator: BaseV2S,
    X: Any,
    *,
    transfer: TransferClassifier | None = None,
    output: Literal["embedding", "logits"] = "embedding",
) -> list[Representation]:
    """Return the source's representations of series, as in the paper's t-SNE figures.

    Parameters
    ----------
    estimator : V2SClassifier or V2STransformer
        Fitted, with the view ``"replicas"``.
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
        Series, as in `fit`.
    transfer : TransferClassifier, default=None
        Fitted; its fine-tuned copy of the source is asked too, for its embedding.
    output : {"embedding", "logits"}, default="embedding"
        What the source says.

    Returns
    -------
    list of Representation
        Before reprogramming (the placed series alone), fine-tuned (if asked for), and
        after reprogramming (with the perturbation). Several perturbations stand side by
        side.

    Raises
    ------
    ValueError
        If the estimator does not hear replicas, or `output` is unknown.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, figure 5 and D.3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.explain import represent_series
    >>> X = np.random.default_rng(0).normal(size=(20, 40))
    >>> classifier = V2SClassifier(random_state=0).fit(X, np.arange(20) % 2)
    >>> [(each.name, each.points.shape) for each in represent_series(classifier, X)]
    [('before reprogramming', (20, 512)), ('after reprogramming', (20, 512))]
    """
    if output not in ("embedding", "logits"):
        raise ValueError(
            f"output={output!r} is not allowed: give 'embedding' or 'logits'."
        )
    if not isinstance(estimator, BaseV2S):
        raise TypeError(
            "estimator must be a V2SClassifier or V2STransformer, got "
            f"{type(estimator).__name__}. A TransferClassifier is handed over as "
            "transfer."
        )
    if transfer is not None and not isinstance(transfer, TransferClassifier):
        raise TypeError(
            f"transfer must be a TransferClassifier, got {type(transfer).__name__}."
        )
    estimator._check_reprogrammed()
    series = estimator._series(X)
    module = estimator._on_device()
    found = [
        Representation(name, _points(estimator, heard, series, output))
        for name, heard in (
            ("before reprogramming", _without_perturbation(module)),
            ("after reprogramming", module),
        )
    ]
    if transfer is not None:
        check_is_fitted(transfer)
        parts: Any = transfer.module_
        encoder = nn.Sequential(parts.fixed, parts.encoder)
        device = resolve_device(transfer.device)
        points = transfer._pass(copy.deepcopy(encoder).to(device), transfer._series(X))
        found.insert(1, Representation("fine-tuned source", points))
    return found


def _without_perturbation(module: ReprogrammedSource) -> ReprogrammedSource:
    silent = ReprogrammedSource(
        module.source, module.placement, copy.deepcopy(module.perturbation)
    ).eval()
    with torch.no_grad():
        silent.perturbation.delta.zero_()
    return silent


def _points(
    estimator: BaseV2S, module: ReprogrammedSource, series: np.ndarray, output: str
) -> np.ndarray:
    found = getattr(estimator._collect(module, series), output)
    return found.reshape(len(found), -1)
