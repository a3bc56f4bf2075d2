# SPDX-License-Identifier: Apache-2.0
"""ResNet34 on log-mel features (the source of V2Sr)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig

__all__ = ["PAPER_WIDTH", "ResNet", "build_resnet"]

#: Width with about the million parameters of table 4; ResNet34 for images has 64.
PAPER_WIDTH = 14

# Residual blocks of each of the four stages of ResNet34.
_BLOCKS = (3, 4, 6, 3)


class _Block(nn.Module):
    """Two convolutions with a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(maps)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


class ResNet(nn.Module):
    """ResNet34, narrowed, from log-mel features to source outputs.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    width : int, default=14
        Maps of the first stage; each later stage has twice as many as the one before.
        14 gives the million parameters of the paper.

    Attributes
    ----------
    embedding_size : int
        ``16 * width``: mean and maximum of the last maps. The logits read the mean.

    References
    ----------
    He, Zhang, Ren, Sun. Deep residual learning for image recognition. CVPR 2016,
    table 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.resnet import ResNet
    >>> network = ResNet(n_classes=36).eval()
    >>> count_parameters(network)
    1025718
    >>> network(torch.zeros(1, 125, 80)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(self, n_classes: int, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks, n_in = [], width
        for stage, count in enumerate(_BLOCKS):
            n_out = width * 2**stage
            for number in range(count):
                stride = 2 if stage and not number else 1
                blocks.append(_Block(n_in, n_out, stride))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(n_in, n_classes)
        self.embedding_size = 2 * n_in

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        maps = torch.relu(self.stem_norm(self.stem(features.unsqueeze(1))))
        maps = self.blocks(self.pool(maps)).flatten(2)
        mean = maps.mean(2)
        return SourceOutputs(self.output(mean), torch.cat([mean, maps.amax(2)], dim=1))


def build_resnet(
    front_end: FrontEndConfig,
    classes: Sequence[str],
    width: int = 8,
    architecture: str = "resnet",
) -> SourceModel:
    """Return an untrained ResNet34 source; see `Architecture.build`.

    Parameters
    ----------
    width : int, default=8
        Maps of the first stage. 8 trains on a CPU; `PAPER_WIDTH` is that of the paper.
    architecture : str, default="resnet"
        Name of this width in `sklearn_v2s.sources.checkpoint.ARCHITECTURES`.
    """
    network = ResNet(len(classes), width)
    return assemble_source(front_end, network, classes, architecture)
