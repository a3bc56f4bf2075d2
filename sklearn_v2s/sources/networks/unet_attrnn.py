# SPDX-License-Identifier: Apache-2.0
"""U-Net AttRNN: AttRNN with four convolutions and a skip (the source of V2Su)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.front_end import FrontEndConfig
from sklearn_v2s.sources.networks.attrnn import BATCH_NORM_EPS, AttRNN

__all__ = ["UNetAttRNN", "build_unet_attrnn"]


class UNetAttRNN(AttRNN):
    """The network of U-Net AttRNN, from log-mel features to source outputs.

    Four convolutions along time (width 5, each followed by ReLU and *then* batch
    normalisation) with 16, 32, 16 and 1 filters; the last one reads the first and the
    third concatenated. What follows is `AttRNN`.

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

    Notes
    -----
    With 36 classes it has 206,647 parameters, counted as Keras counts them; table 4 of
    the paper says 0.3 million.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, section 5.1 and its released code.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.unet_attrnn import UNetAttRNN
    >>> network = UNetAttRNN(n_classes=36).eval()
    >>> count_parameters(network, single_bias=True)
    206647
    >>> network(torch.zeros(1, 125, 80)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(self, n_classes: int, n_mels: int = 80, hidden_size: int = 64) -> None:
        super().__init__(n_classes, n_mels, hidden_size)
        # The merging convolution reads 16 + 16 maps.
        sizes = ((1, 16), (16, 32), (32, 16), (32, 1))
        for number, (n_in, n_out) in enumerate(sizes, start=1):
            self.add_module(
                f"conv{number}", nn.Conv2d(n_in, n_out, (5, 1), padding=(2, 0))
            )
            self.add_module(f"norm{number}", nn.BatchNorm2d(n_out, eps=BATCH_NORM_EPS))

    def convolve(self, features: Tensor) -> Tensor:
        """Return features after the four convolutions, of the same shape."""
        up = self._step(1, features.unsqueeze(1))
        down = self._step(3, self._step(2, up))
        return self._step(4, torch.cat([up, down], dim=1)).squeeze(1)

    def _step(self, number: int, maps: Tensor) -> Tensor:
        convolution = self.get_submodule(f"conv{number}")
        norm = self.get_submodule(f"norm{number}")
        return norm(torch.relu(convolution(maps)))


def build_unet_attrnn(front_end: FrontEndConfig, classes: Sequence[str]) -> SourceModel:
    """Return an untrained U-Net AttRNN source; see `Architecture.build`."""
    network = UNetAttRNN(len(classes), n_mels=front_end.n_mels)
    return assemble_source(front_end, network, classes, "unet-attrnn")
