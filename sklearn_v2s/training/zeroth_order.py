# SPDX-License-Identifier: Apache-2.0
"""Training of a perturbation by queries alone.

It has no epochs, no module and no backward pass, so the skorch net of the other
trainings has no place in it: a step estimates the gradient from values and hands it to
Adam.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from sklearn_v2s.label_mapping.contract import LabelMapping
from sklearn_v2s.label_mapping.fitting import fit_mapping
from sklearn_v2s.perturbation.reprogrammed_black_box import ReprogrammedBlackBox
from sklearn_v2s.perturbation.zeroth_order import zeroth_order_gradient

__all__ = ["OrderedRows", "Solution", "ZerothOrderTraining", "refit_interval"]

# Smallest probability that a logarithm is taken of.
_TINY = np.finfo(np.float64).tiny


class Solution(NamedTuple):
    """A perturbation, the mapping that reads what it makes, and their loss."""

    loss: float
    mapping: LabelMapping
    perturbation: np.ndarray


class OrderedRows(NamedTuple):
    """Normalised series, encoded classes and weights, in an order by content."""

    series: np.ndarray
    codes: np.ndarray
    weight: np.ndarray

    @classmethod
    def sort(
        cls,
        given: np.ndarray,
        series: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
    ) -> "OrderedRows":
        """Sort by class and by the values as given: no order of rows matters."""
        order = np.lexsort((*given.reshape(len(given), -1).T, codes))
        return cls(series[order], codes[order], weight[order])

    def draw(self, size: int, rng: np.random.Generator) -> "OrderedRows":
        """Draw series by weight; the weights become how often each was drawn.

        One draw for each of `size` equal parts of the total weight: every class has
        its share, and a weight of 2 is the same as the series twice.
        """
        ends = np.cumsum(self.weight)
        marks = (np.arange(size) + rng.random(size)) / size * ends[-1]
        drawn = np.searchsorted(ends, marks, side="right").clip(max=len(ends) - 1)
        rows, counts = np.unique(drawn, return_counts=True)
        return OrderedRows(self.series[rows], self.codes[rows], counts)

    def loss(self, mapping: LabelMapping, logits: np.ndarray) -> float:
        """Return the weighted mean of -log P(y|x) (equation 3)."""
        scores = np.asarray(mapping.transform(logits), dtype=np.float64)
        own = scores[np.arange(len(scores)), self.codes]
        losses = -np.log(np.maximum(own, _TINY))
        return float(np.average(losses, weights=self.weight))


def refit_interval(mapping: LabelMapping, n: int, batch_size: int) -> int | None:
    """Return after how many steps a mapping is fitted again, if it is to be."""
    if not getattr(mapping, "refit_each_epoch", False):
        return None
    return -(-n // batch_size)


@dataclass(kw_only=True)
class ZerothOrderTraining:
    """Training of the coefficients of a perturbation of low rank.

    Attributes
    ----------
    source : ReprogrammedBlackBox
        What is queried.
    data : OrderedRows
        What to train on.
    n_classes : int
        Number of target classes.
    basis : ndarray of shape (input_length, rank)
        The perturbation is a combination of its columns.
    batch_size : int
        Series that are drawn for a step.
    lr : float
        Learning rate of Adam at the start; it falls to zero as a cosine.
    n_directions : int
        Directions that a step tries.
    smoothing : float
        How far it goes in each.
    rng : numpy.random.Generator
        Draws batches and directions.
    history : list of dict
        For each step ``loss``, that of its batch before the step, and ``n_queries``,
        the queries until then.
    """

    source: ReprogrammedBlackBox
    data: OrderedRows
    n_classes: int
    basis: np.ndarray
    batch_size: int
    lr: float
    n_directions: int
    smoothing: float
    rng: np.random.Generator
    history: list[dict[str, float]] = field(default_factory=list)

    def evaluate(
        self, mapping: LabelMapping, coefficients: np.ndarray, refit: bool = True
    ) -> Solution:
        """Query all series, fit a mapping to the outputs, and compute the loss."""
        data, perturbation = self.data, self.basis @ coefficients
        logits = self.source.logits(data.series, perturbation[None])[0]
        if refit:
            mapping = clone(mapping)
            fit_mapping(mapping, logits, data.codes, data.weight, self.n_classes)
        return Solution(data.loss(mapping, logits), mapping, perturbation)

    def run(self, mapping: LabelMapping, start: np.ndarray, n_steps: int) -> Solution:
        """Train the coefficients from `start` on, with a mapping that is fitted."""
        point = nn.Parameter(torch.from_numpy(start))
        coefficients = point.detach().numpy()
        optimizer = torch.optim.Adam([point], lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        every = refit_interval(mapping, len(self.data.codes), self.batch_size)
        for step in range(1, n_steps + 1):
            batch = self.data.draw(self.batch_size, self.rng)
            value, gradient = zeroth_order_gradient(
                partial(self._losses, batch, mapping),
                coefficients,
                n_directions=self.n_directions,
                smoothing=self.smoothing,
                rng=self.rng,
            )
            point.grad = torch.from_numpy(gradient)
            optimizer.step()
            schedule.step()
            n_queries = self.source.black_box.n_queries
            self.history.append({"loss": value, "n_queries": n_queries})
            if every and step % every == 0 and step < n_steps:
                mapping = self.evaluate(mapping, coefficients).mapping
        # A mapping of source classes stays the one that the perturbation was trained
        # for.
        refit = bool(every) or not getattr(mapping, "reads_logits", False)
        return self.evaluate(mapping, coefficients, refit)

    def _losses(
        self, batch: OrderedRows, mapping: LabelMapping, points: np.ndarray
    ) -> np.ndarray:
        """Return the loss of a batch with each of several coefficients."""
        outputs = self.source.logits(batch.series, points @ self.basis.T)
        return np.array([batch.loss(mapping, logits) for logits in outputs])
