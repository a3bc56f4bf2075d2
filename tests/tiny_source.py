# SPDX-License-Identifier: Apache-2.0
"""A source model that is small enough to train a perturbation through in a moment."""

import torch
from torch import Tensor, nn

from sklearn_v2s.sources import SourceOutputs


class TinySource(nn.Module):
    """Convolution, batch normalisation and an LSTM, with fixed random weights.

    It meets the source contract, and pickles by the name of its module, so that worker
    processes can use it.
    """

    def __init__(
        self,
        input_length: int = 400,
        n_classes: int = 12,
        embedding_size: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sample_rate = 16000
        self.input_length = input_length
        self.classes = tuple(f"word{position}" for position in range(n_classes))
        self.embedding_size = embedding_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv1d(1, 8, kernel_size=40, stride=20)
            self.norm = nn.BatchNorm1d(8)
            self.lstm = nn.LSTM(8, embedding_size, batch_first=True)
            self.output = nn.Linear(embedding_size, n_classes)
            with torch.no_grad():
                # As if it had been trained: larger weights, and other statistics than
                # at the beginning. So it does not answer the same word to everything.
                self.norm.running_mean.uniform_(-0.2, 0.2)
                self.norm.running_var.uniform_(0.05, 0.2)
                self.conv.weight.mul_(3.0)
                self.lstm.weight_ih_l0.mul_(3.0)
                self.lstm.weight_hh_l0.mul_(3.0)
                self.output.weight.mul_(20.0)

    def forward(self, waveform: Tensor) -> SourceOutputs:
        maps = torch.tanh(self.norm(self.conv(waveform.unsqueeze(1))))
        states, _ = self.lstm(maps.transpose(1, 2))
        embedding = states.mean(1)
        return SourceOutputs(self.output(embedding), embedding)


def draw_parameters(network: nn.Module) -> None:
    """Draw parameters and statistics of an AttRNN, so that no part of it is idle."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.3, 2.0)
        elif name.endswith(("running_mean", "norm1.weight", "norm2.weight")):
            tensor.normal_(0.5, 0.5)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.25)
