# SPDX-License-Identifier: Apache-2.0
"""A temporal convolutional network on log-mel features (the source of V2St)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig

__all__ = ["PAPER_WIDTH", "TCN", "build_tcn"]

#: Width with about the million parameters of table 4.
PAPER_WIDTH = 143

_KERNEL_LENGTH = 5
# A frame sees the 248 before it, more than a second has.
_DILATIONS = (1, 2, 4, 8, 16)


class _Block(nn.Module):
    """Two dilated convolutions that see no later frame, with a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, dilation: int) -> None:
        super().__init__()
        self.reach = (_KERNEL_LENGTH - 1) * dilation
        self.conv1 = nn.Conv1d(
            n_in, n_out, _KERNEL_LENGTH, dilation=dilation, bias=False
        )
        self.norm1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(
            n_out, n_out, _KERNEL_LENGTH, dilation=dilation, bias=False
        )
        self.norm2 = nn.BatchNorm1d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out:
            self.shortcut = nn.Conv1d(n_in, n_out, 1)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.conv1(functional.pad(maps, (self.reach, 0)))
        inner = torch.relu(self.norm1(inner))
        inner = self.conv2(functional.pad(inner, (self.reach, 0)))
        inner = torch.relu(self.norm2(inner))
        return torch.relu(inner + self.shortcut(maps))


class TCN(nn.Module):
    """A temporal convolutional network, from log-mel features to source outputs.

    Causal convolutions along time with residuals, the mel bands as channels; mean and
    maximum over time; a dense layer. Batch normalisation stands where the reference
    has weight normalisation and dropout.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    n_mels : int, default=80
        Number of mel bands of the features.
    width : int, default=143
        Channels of each layer. 143 gives the million parameters of the paper.

    Attributes
    ----------
    embedding_size : int
        ``2 * width``, mean and maximum over time of the last layer.

    References
    ----------
    Bai, Kolter, Koltun. An empirical evaluation of generic convolutional and recurrent
    networks for sequence modeling. arXiv:1803.01271, 2018, figure 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.tcn import TCN
    >>> network = TCN(n_classes=36).eval()
    >>> count_parameters(network)
    1002180
    >>> network(torch.zeros(1, 125, 80)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(
        self, n_classes: int, n_mels: int = 80, width: int = PAPER_WIDTH
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                _Block(width if number else n_mels, width, dilation)
                for number, dilation in enumerate(_DILATIONS)
            )
        )
        self.embedding_size = 2 * width
        self.output = nn.Linear(self.embedding_size, n_classes)

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        maps = self.blocks(features.transpose(1, 2))
        embedding = torch.cat([maps.mean(2), maps.amax(2)], dim=1)
        return SourceOutputs(self.output(embedding), embedding)


def build_tcn(
    front_end: FrontEndConfig,
    classes: Sequence[str],
    width: int = 64,
    architecture: str = "tcn",
) -> SourceModel:
    """Return an untrained temporal convolutional source; see `Architecture.build`.

    Parameters
    ----------
    width : int, default=64
        Channels of each layer. 64 trains on a CPU; `PAPER_WIDTH` is that of the paper.
    architecture : str, default="tcn"
        Name of this width in `sklearn_v2s.sources.checkpoint.ARCHITECTURES`.
    """
    network = TCN(len(classes), front_end.n_mels, width)
    return assemble_source(front_end, network, classes, architecture)
