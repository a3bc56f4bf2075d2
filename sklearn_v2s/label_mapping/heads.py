# SPDX-License-Identifier: Apache-2.0
"""Label mappings as torch modules, for trainings of the perturbation."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_v2s.label_mapping.contract import LabelMapping, MatrixMapping
from sklearn_v2s.label_mapping.linear import LinearLabelMapping
from sklearn_v2s.label_mapping.standard_rows import (
    long_blocks,
    standardise,
)

__all__ = ["LinearHead", "MatrixHead", "head_for"]


class MatrixHead(nn.Module):
    """Label mappings that are a matrix of source by target classes, in torch.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : MatrixMapping
        Fitted.
    """

    weights: Tensor

    def __init__(self, mapping: MatrixMapping) -> None:
        super().__init__()
        self.register_buffer("weights", torch.empty(0, dtype=torch.float64))
        self.read(mapping)

    def read(self, mapping: MatrixMapping) -> None:
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
        # log sum exp keeps equation 4 finite where all source classes are unlikely.
        return torch.logsumexp(
            log_probabilities.unsqueeze(2) + self.weights.log(), dim=1
        )

    def penalty(self) -> Tensor:
        """Return nothing to add to the loss: the matrix is not learned by gradient."""
        return self.weights.new_zeros(())

    def write_to(self, mapping: LabelMapping) -> None:
        """Leave a mapping as it is: the gradient does not change the matrix."""


class LinearHead(nn.Module):
    """The learned label mapping in torch, trained together with the perturbation.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : LabelMapping
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
        self,
        mapping: LabelMapping,
        n_features: int,
        n_classes: int,
        weight_decay: float = 1e-3,
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
        rows = standardise(
            features, self.mean, self.scale, self.bound, self.long_blocks, xp=torch
        )
        return torch.log_softmax(functional.linear(rows, self.weight, self.bias), dim=1)

    def penalty(self) -> Tensor:
        """Return the squared size of the weights, times the weight decay."""
        return self.weight_decay * self.weight.square().sum()

    def write_to(self, mapping: LabelMapping) -> None:
        """Give a `LinearLabelMapping` the coefficients that the gradient has made.

        Other mappings are left as they are.
        """
        if not isinstance(mapping, LinearLabelMapping):
            return
        # On the CPU first: not every device has float64.
        mapping.coef_, mapping.intercept_ = (
            value.detach().cpu().double().numpy().copy()
            for value in (self.weight, self.bias)
        )
        mapping.temperature_ = 1.0


def head_for(
    mapping: LabelMapping, n_features: int, n_classes: int
) -> MatrixHead | LinearHead:
    """Return a label mapping in torch.

    Parameters
    ----------
    mapping : LabelMapping
        Fitted.
    n_features, n_classes : int
        Size of a learned head.

    Returns
    -------
    MatrixHead or LinearHead
        A fixed matrix for mappings of source classes, else a learned head.
    """
    if isinstance(mapping, MatrixMapping):
        return MatrixHead(mapping)
    return LinearHead(mapping, n_features, n_classes)
