# SPDX-License-Identifier: Apache-2.0
"""What trainings side by side are given: their rows, and all series that they hear."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sklearn_v2s.reprogramming import ReprogrammedSource
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.target_module import TargetModule

__all__ = ["Part", "PartOnDevice", "Run", "SeriesPool", "TrainingPlan"]


@dataclass(frozen=True)
class Part:
    """Rows of a run to train or to validate on.

    Parameters
    ----------
    series : ndarray of shape (n, n_channels, n_timepoints)
        Normalised series.
    fixed : ndarray of shape (n, n_fixed)
        Features of the views that no gradient changes.
    codes : ndarray of shape (n,)
        Positions of their target classes.
    weight : ndarray of shape (n,)
        Factors in the loss, of mean 1.
    """

    series: np.ndarray
    fixed: np.ndarray
    codes: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Run:
    """One training among others.

    Parameters
    ----------
    module : TargetModule
        Its parameters are the starting point and receive the result.
    train : Part
        Rows to train on.
    validation : Part or None
        Rows that choose the epoch to return.
    seed : int
        Of the order of the batches.

    Attributes
    ----------
    history : list of dict
        Epoch, ``train_loss`` and ``valid_loss``; `train_stacked` fills it.
    """

    module: TargetModule
    train: Part
    validation: Part | None
    seed: int
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingPlan:
    """What all runs have in common; see `sklearn_v2s.V2SClassifier`."""

    max_epochs: int
    batch_size: int
    lr: float
    lr_schedule: Literal["constant", "cosine"]
    l2: float
    n_iter_no_change: int


class SeriesPool:
    """All series that the runs hear, each once, and how they are heard.

    Parameters
    ----------
    runs : sequence of Run
        On one device, of one source and one placement.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        position: dict[bytes, int] = {}
        distinct: list[np.ndarray] = []
        # By identity: runs over the same rows may share their parts.
        self._parts: dict[int, PartOnDevice] = {}
        reprogrammed = runs[0].module.reprogrammed
        like = reprogrammed.perturbation.delta
        for run in runs:
            for part in (run.train, run.validation):
                if part is None or id(part) in self._parts:
                    continue
                rows = np.empty(len(part), dtype=np.int64)
                for index, series in enumerate(part.series):
                    key = series.tobytes()
                    if key not in position:
                        position[key] = len(distinct)
                        distinct.append(series)
                    rows[index] = position[key]
                self._parts[id(part)] = PartOnDevice(part, rows, like)
        stacked = np.stack(distinct)
        self._series = torch.from_numpy(stacked).to(like)
        self._listener = ReprogrammedSource(
            reprogrammed.source, reprogrammed.placement, reprogrammed.perturbation
        ).to(like.device)
        self._listener.keep_spectra(stacked)

    def part(self, part: Part) -> "PartOnDevice":
        """Return a part of a run as tensors."""
        return self._parts[id(part)]

    def hear(self, rows: Tensor, added: Tensor, gain: Tensor) -> SourceOutputs:
        """Return the source outputs of series, each with the perturbation beside it.

        Parameters
        ----------
        rows : Tensor of shape (batch, G)
            Series that each group hears.
        added : Tensor of shape (G, input_length)
            Perturbations.
        gain : Tensor of shape (G,)
            Factors of the series.

        Returns
        -------
        SourceOutputs
            Logits of shape (batch, G, K) and embedding of shape (batch, G, d).
        """
        return self._listener.hear(self._series[rows], rows, added, gain)


class PartOnDevice:
    """A `Part` as tensors.

    Parameters
    ----------
    part : Part
        What it is made of.
    rows : ndarray of shape (n,)
        Which series of a `SeriesPool` they are.
    like : Tensor
        Whose device and precision to take.
    """

    def __init__(self, part: Part, rows: np.ndarray, like: Tensor) -> None:
        self.rows = torch.from_numpy(rows).to(like.device)
        self.codes = torch.from_numpy(part.codes).to(like.device)
        self.weight = torch.from_numpy(part.weight).to(like)
        self.fixed = torch.from_numpy(part.fixed).to(like)
