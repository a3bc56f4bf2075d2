# SPDX-License-Identifier: Apache-2.0
"""AttRNN: the attention recurrent keyword recogniser (the source of V2Sa)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig
from sklearn_v2s.sources.networks.lstm import lstm_forward
from sklearn_v2s.sources.networks.time_convolutions import (
    convolve_frozen,
    frozen_on_cpu,
)

__all__ = ["AttRNN", "build_attrnn", "count_parameters"]

# Keras' default; the published weights were trained with it.
BATCH_NORM_EPS = 1e-3


class AttRNN(nn.Module):
    """The network of AttRNN, from log-mel features to source outputs.

    Two convolutions along time (10 filters and 1 filter of width 5, each followed by
    ReLU and *then* batch normalisation), two bidirectional LSTM layers of 64 units,
    attention with the last time step as query, and three dense layers.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    n_mels : int, default=80
        Number of mel bands of the features.
    hidden_size : int, default=64
        Units of each LSTM direction.

    Attributes
    ----------
    embedding_size : int
        ``8 * hidden_size``: mean and maximum over time of both LSTM layers.

    References
    ----------
    de Andrade, Leo, Viana, Bernkopf. A neural attention model for speech command
    recognition. arXiv:1808.08929, 2018.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import AttRNN, count_parameters
    >>> network = AttRNN(n_classes=36)
    >>> count_parameters(network), count_parameters(network, single_bias=True)
    (202249, 201225)
    >>> network.eval()(torch.zeros(1, 125, 80)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(self, n_classes: int, n_mels: int = 80, hidden_size: int = 64) -> None:
        super().__init__()
        width = 2 * hidden_size
        self.conv1 = nn.Conv2d(1, 10, (5, 1), padding=(2, 0))
        self.norm1 = nn.BatchNorm2d(10, eps=BATCH_NORM_EPS)
        self.conv2 = nn.Conv2d(10, 1, (5, 1), padding=(2, 0))
        self.norm2 = nn.BatchNorm2d(1, eps=BATCH_NORM_EPS)
        self.lstm1 = nn.LSTM(n_mels, hidden_size, batch_first=True, bidirectional=True)
        self.lstm2 = nn.LSTM(width, hidden_size, batch_first=True, bidirectional=True)
        self.query = nn.Linear(width, width)
        self.dense1 = nn.Linear(width, 64)
        self.dense2 = nn.Linear(64, 32)
        # A module, so that explanations can read the weights.
        self.attention = nn.Softmax(dim=-1)
        self.output = nn.Linear(32, n_classes)
        self.embedding_size = 4 * width

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        return self.classify(self.convolve(features))

    def convolve(self, features: Tensor) -> Tensor:
        """Return features after both convolutions, of the same shape."""
        layers = self.conv1, self.norm1, self.conv2, self.norm2
        if frozen_on_cpu(*layers):
            return convolve_frozen(features, *layers)
        # Channels last: the convolutions have so few channels that on a CPU this
        # layout more than halves their time, with the same result.
        layout = torch.channels_last
        maps = features.unsqueeze(1).contiguous(memory_format=layout)
        maps = self.norm1(torch.relu(self.conv1(maps)))
        maps = torch.relu(self.conv2(maps.contiguous(memory_format=layout)))
        return self.norm2(maps).squeeze(1)

    def classify(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of what comes out of the convolutions."""
        states1 = lstm_forward(features, self.lstm1)
        states2 = lstm_forward(states1, self.lstm2)
        query = self.query(states2[:, -1])
        attention = self.attention((states2 @ query.unsqueeze(-1)).squeeze(-1))
        context = (attention.unsqueeze(1) @ states2).squeeze(1)
        hidden = self.dense2(torch.relu(self.dense1(context)))
        embedding = torch.cat(
            [states1.mean(1), states1.amax(1), states2.mean(1), states2.amax(1)], dim=1
        )
        return SourceOutputs(self.output(hidden), embedding)


def count_parameters(module: nn.Module, single_bias: bool = False) -> int:
    """Count trainable parameters.

    Parameters
    ----------
    module : nn.Module
        The network.
    single_bias : bool, default=False
        Count one bias for each LSTM gate, as Keras has it. torch holds two that are
        added up.

    Returns
    -------
    int
        Number of parameters.
    """
    return sum(
        parameter.numel()
        for name, parameter in module.named_parameters()
        if not (single_bias and ".bias_hh_" in f".{name}")
    )


def build_attrnn(front_end: FrontEndConfig, classes: Sequence[str]) -> SourceModel:
    """Return an untrained AttRNN source; see `Architecture.build`."""
    network = AttRNN(len(classes), n_mels=front_end.n_mels)
    return assemble_source(front_end, network, classes, "attrnn")
