# SPDX-License-Identifier: Apache-2.0
"""The one way in which perturbations are trained by gradient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.training.module import TargetModule
from sklearn_v2s.training.net import TrainingSettings, V2SNet, build_v2s_net

__all__ = ["Rows", "balanced_folds", "stratified_validation_rows", "train"]


@dataclass(frozen=True)
class Rows:
    """Series to train on and to validate on.

    Attributes
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        Normalised series.
    codes : ndarray of shape (n,)
        Encoded classes.
    weight : ndarray of shape (n,)
        Positive sample weights.
    fixed : ndarray of shape (n, n_fixed), default=None
        Features of the views that no gradient changes.
    offset : ndarray of shape (n, n_classes), default=None
        Scores of these views, instead of their features.
    """

    series: np.ndarray
    codes: np.ndarray
    weight: np.ndarray
    fixed: np.ndarray | None = None
    offset: np.ndarray | None = None

    def batch(self, rows: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return ``X`` and ``y`` of some rows as `V2SNet` takes them."""
        weight = self.weight[rows]
        X = {
            "series": self.series[rows],
            "row": rows,
            # Of mean 1, so that the loss is a mean and lr keeps its meaning.
            "sample_weight": weight / weight.mean(),
            "count": weight,
        }
        if self.fixed is not None and self.fixed.shape[1]:
            X["fixed"] = self.fixed[rows]
        if self.offset is not None:
            X["offset"] = self.offset[rows]
        return X, self.codes[rows]

    def some(self, rows: np.ndarray) -> "Rows":
        """Return some of the rows."""
        return Rows(
            self.series[rows],
            self.codes[rows],
            self.weight[rows],
            None if self.fixed is None else self.fixed[rows],
            None if self.offset is None else self.offset[rows],
        )

    def split(self, validation_rows: np.ndarray | None) -> tuple[np.ndarray, Any]:
        """Return the rows to train on, and the batch to validate on or None."""
        rows = np.arange(len(self.codes))
        if validation_rows is None:
            return rows, None
        return np.setdiff1d(rows, validation_rows), self.batch(validation_rows)


def train(
    module: TargetModule,
    mapping: LabelMapping,
    data: Rows,
    settings: TrainingSettings,
    device: torch.device,
    *,
    validation_rows: np.ndarray | None = None,
    epochs: int | None = None,
    previous: V2SNet | None = None,
) -> V2SNet:
    """Train a perturbation, and a head that is learned along, by gradient.

    Parameters
    ----------
    module : TargetModule
        On the CPU; changed in place.
    mapping : estimator
        Its fitted label mapping; changed in place if it is fitted again in each epoch.
    data : Rows
        Series with their classes.
    settings : TrainingSettings
        How to train.
    device : torch.device
        Where to train.
    validation_rows : ndarray of int, default=None
        Rows of `data` that choose the epoch whose state is kept; the others are trained
        on. None trains on all and keeps the last epoch.
    epochs : int, default=None
        Epochs of this call; None takes those of the settings.
    previous : V2SNet, default=None
        Net of an earlier training to go on from.

    Returns
    -------
    V2SNet
        The trained net, on the CPU.

    Raises
    ------
    ValueError
        If the training diverges.
    """
    on_device = module.on(device)
    rows, validation = data.split(validation_rows)
    net = build_v2s_net(
        on_device,
        mapping,
        len(rows),
        validation,
        settings,
        refits_mapping=previous is None,
    )
    if previous is not None:
        net.continue_from(previous)
    before = len(net.history)
    epochs = settings.max_epochs if epochs is None else epochs
    with on_device.reprogrammed.training_on(data.series):
        net.partial_fit(*data.batch(rows), epochs=epochs)
    net.warn_if_interrupted(len(net.history) - before, epochs)
    delta = on_device.reprogrammed.perturbation.delta
    if not torch.isfinite(delta).all():
        precision = str(delta.dtype).removeprefix("torch.")
        raise ValueError(
            "the training diverged: the perturbation has NaN or infinity after "
            f"{len(net.history)} epochs with lr={settings.lr!r}, l2={settings.l2!r} "
            f"and precision={precision!r}. Use a smaller lr."
        )
    net.finish(module)
    return net


def balanced_folds(y: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the part that each row is held out in.

    scikit-learn's `StratifiedKFold` refuses classes with fewer rows than parts, which
    are usual here; a single row of a class is simply held out once.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Encoded classes.
    n_folds : int
        Number of parts.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to ``n_folds - 1``; parts, and each class in them, differ by at most one
        row in size.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s.training.train import balanced_folds
    >>> folds = balanced_folds(np.array([0, 1, 0, 1]), 2, np.random.default_rng(0))
    >>> sorted(folds[[0, 2]].tolist()), sorted(folds[[1, 3]].tolist())
    ([0, 1], [0, 1])
    """
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    folds = np.empty(len(y), dtype=np.intp)
    folds[order] = np.arange(len(y)) % n_folds
    return folds


def stratified_validation_rows(
    y: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose rows of the training data to validate on.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Encoded classes.
    fraction : float
        Share of each class; every class keeps at least one row to train on.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    ndarray of shape (n_validation,)
        Row numbers, sorted.

    Raises
    ------
    ValueError
        If no class has a row to spare.
    """
    chosen: list[np.ndarray] = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen.append(rng.permutation(rows)[:count])
    validation = np.sort(np.concatenate(chosen))
    if len(validation) == 0:
        raise ValueError(
            "early_stopping=True needs a class with at least 2 samples to validate on; "
            "every class has 1. Set early_stopping=False."
        )
    return validation
