# SPDX-License-Identifier: Apache-2.0
"""How a source model represents series before, with and after reprogramming."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sklearn_v2s.base import ReprogrammedEstimator, check_replicas
from sklearn_v2s.baselines import TransferClassifier
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.series import check_series

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
    estimator: ReprogrammedEstimator,
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
        Fitted; adds the embeddings of its fine-tuned copy of the source.
    output : {"embedding", "logits"}, default="embedding"
        Which source output.

    Returns
    -------
    list of Representation
        Before reprogramming (the placed series alone), fine-tuned (if given), and
        after reprogramming (with the perturbation). Several perturbations stand side by
        side.

    Raises
    ------
    ValueError
        If the estimator has no view ``"replicas"``, or `output` is unknown.

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
    >>> classifier = V2SClassifier("attrnn", max_epochs=0, random_state=0)
    >>> classifier = classifier.fit(X, np.arange(20) % 2)
    >>> [(each.name, each.points.shape) for each in represent_series(classifier, X)]
    [('before reprogramming', (20, 512)), ('after reprogramming', (20, 512))]
    """
    if output not in ("embedding", "logits"):
        raise ValueError(
            f"output={output!r} is not allowed: give 'embedding' or 'logits'."
        )
    if not isinstance(estimator, ReprogrammedEstimator):
        raise TypeError(
            "estimator must be a V2SClassifier or V2STransformer, got "
            f"{type(estimator).__name__}. A TransferClassifier is handed over as "
            "transfer."
        )
    if transfer is not None and not isinstance(transfer, TransferClassifier):
        raise TypeError(
            f"transfer must be a TransferClassifier, got {type(transfer).__name__}."
        )
    check_replicas(estimator)
    model, device = estimator.model_, resolve_device(estimator.device)
    series, _ = check_series(estimator, X, reset=False, missing=estimator.missing)
    normalised = model.normalizer.transform(series)
    silent = model.reprogrammed.without_perturbation().on(device)
    outputs = {
        "before reprogramming": collect_outputs(silent, normalised),
        "after reprogramming": model.source_outputs(
            normalised, device, estimator.memory
        ),
    }
    representations = [
        Representation(name, getattr(each, output).reshape(len(series), -1))
        for name, each in outputs.items()
    ]
    if transfer is not None:
        points = transfer.embed(X)
        representations.insert(1, Representation("fine-tuned source", points))
    return representations
