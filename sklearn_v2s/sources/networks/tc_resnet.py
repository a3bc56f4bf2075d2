# SPDX-License-Identifier: Apache-2.0
"""TC-ResNet: a keyword recogniser of convolutions along time, small and quick."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig

__all__ = ["TCResNet", "build_tc_resnet"]

_STEM_CHANNELS = 32
_CHANNELS = (48, 64, 96)
_STEM_LENGTH, _KERNEL_LENGTH = 3, 9


class _Block(nn.Module):
    """Two convolutions along time, the first with stride 2, and a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        padding = _KERNEL_LENGTH // 2
        self.conv1 = nn.Conv1d(
            n_in, n_out, _KERNEL_LENGTH, stride=2, padding=padding, bias=False
        )
        self.norm1 = nn.BatchNorm1d(n_out)
        self.conv2 = nn.Conv1d(
            n_out, n_out, _KERNEL_LENGTH, padding=padding, bias=False
        )
        self.norm2 = nn.BatchNorm1d(n_out)
        self.shortcut = nn.Sequential(
            nn.Conv1d(n_in, n_out, 1, stride=2, bias=False), nn.BatchNorm1d(n_out)
        )

    def forward(self, maps: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(maps)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


class TCResNet(nn.Module):
    """A temporal convolutional ResNet, from log-mel features to source outputs.

    The mel bands are the channels of the first convolution, so that each later one sees
    all frequencies; three residual blocks of stride 2 follow. With about a quarter of
    the operations of AttRNN it is the quicker source to train a perturbation with.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    n_mels : int, default=64
        Number of mel bands of the features.

    Attributes
    ----------
    embedding_size : int
        480: mean and maximum over time of the stem and of each block. The logits read
        the mean of the last block.

    References
    ----------
    Choi, Seo, Shin, Byun, Kersner, Kim, Kim, Ha. Temporal convolution for real-time
    keyword spotting on mobile devices. Interspeech 2019, figure 2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.tc_resnet import TCResNet
    >>> network = TCResNet(n_classes=36).eval()
    >>> count_parameters(network)
    259012
    >>> network(torch.zeros(1, 100, 64)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(self, n_classes: int, n_mels: int = 64) -> None:
        super().__init__()
        self.stem = nn.Conv1d(
            n_mels, _STEM_CHANNELS, _STEM_LENGTH, padding=_STEM_LENGTH // 2, bias=False
        )
        self.stem_norm = nn.BatchNorm1d(_STEM_CHANNELS)
        widths = (_STEM_CHANNELS, *_CHANNELS)
        self.blocks = nn.ModuleList(
            _Block(n_in, n_out) for n_in, n_out in pairwise(widths)
        )
        self.output = nn.Linear(widths[-1], n_classes)
        self.embedding_size = 2 * sum(widths)

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        maps = torch.relu(self.stem_norm(self.stem(features.transpose(1, 2))))
        pooled = [maps.mean(2), maps.amax(2)]
        for block in self.blocks:
            maps = block(maps)
            pooled += [maps.mean(2), maps.amax(2)]
        return SourceOutputs(self.output(pooled[-2]), torch.cat(pooled, dim=1))


def build_tc_resnet(front_end: FrontEndConfig, classes: Sequence[str]) -> SourceModel:
    """Return an untrained TC-ResNet source.

    Parameters
    ----------
    front_end : FrontEndConfig
        Its front end.
    classes : sequence of str
        Names of the source classes.

    Returns
    -------
    SourceModel
        With random weights from torch's global generator; fork it where the state of
        that generator matters.
    """
    network = TCResNet(len(classes), front_end.n_mels)
    return assemble_source(front_end, network, classes, "tc-resnet")
