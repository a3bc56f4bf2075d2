# SPDX-License-Identifier: Apache-2.0
"""Torch modules that the baselines are made of."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_v2s.placement import ReplicaPlacement

__all__ = [
    "Embedding",
    "Head",
    "Placed",
    "Standardised",
    "TimeMean",
    "Trained",
    "glorot",
]

# Of the statistics of standardised features, as in nn.BatchNorm1d.
_MOMENTUM = 0.1
_LEAST_VARIANCE = 1e-5


class Placed(nn.Module):
    """Series to waveforms."""

    def __init__(self, placement: ReplicaPlacement) -> None:
        super().__init__()
        self.placement = placement

    def forward(self, series: Tensor) -> Tensor:
        """Return waveforms of shape (batch, input_length)."""
        return self.placement.place(series)


class Embedding(nn.Module):
    """The embedding of a source model, or of its network, without the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return embeddings of shape (batch, embedding_size)."""
        return self.network(inputs).embedding


class Standardised(nn.Module):
    """Bring each feature to mean 0 and variance 1, from the first step on.

    Replicas fill a small part of the second: the embeddings of different series are
    nearly the same at first, and a layer on the bare embedding would learn little but
    its bias.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Of the training series, before any training.
    weight : ndarray of shape (n,)
        Sample weights.
    follows : bool
        Whether the statistics follow the training, as those of batch normalisation do.
        They must where the features are trained: these soon vary a hundred times more.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: np.ndarray, weight: np.ndarray, follows: bool) -> None:
        super().__init__()
        self.follows = follows
        statistics = _mean_and_variance(
            torch.from_numpy(features).double(), torch.from_numpy(weight)
        )
        for name, values in zip(("mean", "variance"), statistics, strict=True):
            self.register_buffer(name, values)

    def forward(self, features: Tensor, weight: Tensor | None) -> Tensor:
        """Return standardised features of the same shape."""
        mean, variance = self.mean, self.variance
        if self.training and self.follows:
            assert weight is not None
            # nn.BatchNorm1d has no weights of samples. With class weights it would
            # centre on series that hardly count, and so push them away from those that
            # do.
            mean, variance = _mean_and_variance(features, weight)
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.variance.lerp_(variance.detach(), _MOMENTUM)
        return (features - mean) / torch.sqrt(variance + _LEAST_VARIANCE)


def _mean_and_variance(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    share = weight / weight.sum()
    mean = share @ features
    return mean, share @ (features - mean).square()


class Head(nn.Module):
    """A linear layer, behind standardised features or not."""

    def __init__(self, linear: nn.Module, standardised: Standardised | None = None):
        super().__init__()
        self.standardised = standardised
        self.linear = linear

    def forward(self, features: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return logits of shape (batch, n_classes)."""
        if self.standardised is not None:
            features = self.standardised(features, weight)
        return self.linear(features)


class Trained(nn.Module):
    """Encoder and head, as they are trained."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return logits of shape (batch, n_classes)."""
        return self.head(self.encoder(inputs), weight)


class TimeMean(nn.Module):
    """Global average pooling."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the mean over time, of shape (batch, n_filters)."""
        return maps.mean(2)


def glorot(layer_class: Any, *sizes: int, generator: torch.Generator) -> nn.Module:
    """Return a layer with Glorot uniform weights and no bias, as Keras begins."""
    # torch's own beginning would draw from the global generator.
    layer = nn.utils.skip_init(layer_class, *sizes)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
