# SPDX-License-Identifier: Apache-2.0
"""What is trained: a reprogrammed source and a differentiable label mapping."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_v2s.label_mapping.linear import (
    SHORTEST,
    LinearLabelMapping,
    long_blocks,
)
from sklearn_v2s.reprogramming import ReprogrammedSource
from sklearn_v2s.sources.contract import SourceOutputs

__all__ = [
    "LinearHead",
    "MatrixHead",
    "SourceOutput",
    "TargetModule",
    "mapping_input",
]

SourceOutput = Literal["logits", "embedding", "both"]


def mapping_input(
    outputs: SourceOutputs, source_output: SourceOutput, reads_logits: bool
) -> Any:
    """Return what a label mapping reads of the source outputs of all views.

    Parameters
    ----------
    outputs : SourceOutputs
        Logits (n, G, K) and embedding (n, G, d), as tensors or arrays.
    source_output : {"logits", "embedding", "both"}
        Which of them.
    reads_logits : bool
        Whether the mapping reads the scores of words. It then gets the mean over the
        views, (n, K); other mappings get all views side by side.

    Returns
    -------
    Tensor or ndarray of shape (n, n_features)
        Of the kind that came in.
    """
    if reads_logits:
        return outputs.logits.mean(1)
    chosen = {
        "logits": [outputs.logits],
        "embedding": [outputs.embedding],
        "both": [outputs.logits, outputs.embedding],
    }[source_output]
    flat = [output.reshape(len(output), -1) for output in chosen]
    if isinstance(flat[0], np.ndarray):
        return np.concatenate(flat, axis=1)
    return torch.cat(flat, dim=1)


class MatrixHead(nn.Module):
    """Torch twin of the label mappings that are a matrix of source by target classes.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : estimator
        Fitted, with ``weights_`` of shape (K, C) and ``aggregation``.
    """

    weights: Tensor

    def __init__(self, mapping: Any) -> None:
        super().__init__()
        self.register_buffer("weights", torch.empty(0, dtype=torch.float64))
        self.read(mapping)

    def read(self, mapping: Any) -> None:
        """Take over the matrix of a mapping that was fitted again."""
        self.aggregation = mapping.aggregation
        # A copy: restoring a state writes into it.
        self.weights = torch.tensor(
            mapping.weights_, dtype=self.weights.dtype, device=self.weights.device
        )

    def forward(self, logits: Tensor) -> Tensor:
        """Return logarithms of the target-class scores, of shape (batch, C)."""
        if self.aggregation == "logit":
            return torch.log_softmax(logits @ self.weights, dim=1)
        log_probabilities = torch.log_softmax(logits, dim=1)
        # log sum exp keeps equation 4 finite where all words of a class are unlikely.
        return torch.logsumexp(
            log_probabilities.unsqueeze(2) + self.weights.log(), dim=1
        )

    def penalty(self) -> Tensor:
        """Return nothing to add to the loss: the matrix is not learned by gradient."""
        return self.weights.new_zeros(())


class LinearHead(nn.Module):
    """Torch twin of the learned label mapping, trained together with the perturbation.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : estimator
        Fitted. A `LinearLabelMapping` gives the starting point; beside any other
        mapping the head starts at zero.
    n_features, n_classes : int
        Size.
    weight_decay : float, default=1e-3
        Factor of the squared weights in the loss.
    """

    mean: Tensor
    scale: Tensor
    bound: Tensor

    def __init__(
        self, mapping: Any, n_features: int, n_classes: int, weight_decay: float = 1e-3
    ) -> None:
        super().__init__()
        self.weight_decay = weight_decay
        double = torch.float64
        self.register_buffer("mean", torch.zeros(n_features, dtype=double))
        self.register_buffer("scale", torch.ones(n_features, dtype=double))
        bound = torch.full((n_features,), torch.inf, dtype=double)
        self.register_buffer("bound", bound)
        self.weight = nn.Parameter(torch.zeros(n_classes, n_features, dtype=double))
        self.bias = nn.Parameter(torch.zeros(n_classes, dtype=double))
        self.long_blocks: list[slice] = []
        if isinstance(mapping, LinearLabelMapping):
            self.long_blocks = long_blocks(mapping.block_sizes)
            with torch.no_grad():
                self.mean.copy_(torch.as_tensor(mapping.mean_))
                self.scale.copy_(torch.as_tensor(mapping.scale_))
                self.bound.copy_(torch.as_tensor(mapping.bound_))
                factor = float(mapping.temperature_)
                self.weight.copy_(torch.as_tensor(mapping.coef_ * factor))
                self.bias.copy_(torch.as_tensor(mapping.intercept_ * factor))

    def forward(self, features: Tensor) -> Tensor:
        """Return logarithms of the target-class probabilities, of shape (batch, C)."""
        standardised = (features - self.mean) / self.scale
        standardised = torch.clamp(standardised, -self.bound, self.bound)
        if self.long_blocks:
            standardised = self._bring_to_length(standardised)
        return torch.log_softmax(
            functional.linear(standardised, self.weight, self.bias), dim=1
        )

    def _bring_to_length(self, rows: Tensor) -> Tensor:
        parts, start = [], 0
        for block in self.long_blocks:
            part = rows[:, block]
            # The slope of a square root is infinite at zero.
            square = part.square().mean(1, keepdim=True).clamp_min(SHORTEST**2)
            parts += [rows[:, start : block.start], part / square.sqrt()]
            start = block.stop
        return torch.cat([*parts, rows[:, start:]], dim=1)

    def penalty(self) -> Tensor:
        """Return the squared size of the weights, times the weight decay."""
        return self.weight_decay * self.weight.square().sum()


class TargetModule(nn.Module):
    """Reprogrammed source and head: series to target-class log-scores.

    Parameters
    ----------
    reprogrammed : ReprogrammedSource
        Series to source outputs.
    head : MatrixHead or LinearHead
        Source outputs to log-scores.
    source_output : {"logits", "embedding", "both"}
        What a linear head reads.
    hears_replicas : bool, default=True
        Whether the view of the reprogrammed source is read at all.
    """

    def __init__(
        self,
        reprogrammed: ReprogrammedSource,
        head: MatrixHead | LinearHead,
        source_output: SourceOutput,
        hears_replicas: bool = True,
    ) -> None:
        super().__init__()
        self.reprogrammed = reprogrammed
        self.head = head
        self.source_output: SourceOutput = source_output
        self.hears_replicas = hears_replicas

    def forward(
        self,
        series: Tensor,
        fixed: Tensor | None = None,
        row: Tensor | None = None,
    ) -> Tensor:
        """Return logarithms of the target-class scores, of shape (batch, C).

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series.
        fixed : Tensor of shape (batch, n_fixed), default=None
            Features of the views that no gradient changes.
        row : Tensor of shape (batch,), default=None
            Which of the series of `ReprogrammedSource.keep_spectra` they are.
        """
        outputs = self.reprogrammed(series, row) if self.hears_replicas else None
        return self.read(outputs, fixed)

    def read(self, outputs: SourceOutputs | None, fixed: Tensor | None) -> Tensor:
        """Return what `forward` does, of what the source said about the series."""
        parts = [] if fixed is None else [fixed]
        if outputs is not None:
            reads_logits = isinstance(self.head, MatrixHead)
            heard = mapping_input(outputs, self.source_output, reads_logits)
            parts.insert(0, heard)
        return self.head(torch.cat(parts, dim=1))
