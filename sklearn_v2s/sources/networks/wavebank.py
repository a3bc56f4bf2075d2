# SPDX-License-Identifier: Apache-2.0
"""WaveBank: a convolutional keyword recogniser on a learned kernel bank."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.kernel_bank import KernelBankConfig, KernelBankFrontEnd

__all__ = ["WaveBank", "build_wavebank"]

_WIDTH = 64
_KERNEL_LENGTH = 9
# Dilations of the separable convolutions along time, in frames.
_DILATIONS = (1, 1, 2, 2, 4, 4)


class _SeparableBlock(nn.Module):
    """Depthwise convolution along time, then across channels, with a residual."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width,
            width,
            _KERNEL_LENGTH,
            padding=_KERNEL_LENGTH // 2 * dilation,
            dilation=dilation,
            groups=width,
            bias=False,
        )
        self.pointwise = nn.Conv1d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.norm(self.pointwise(self.depthwise(maps))))


class WaveBank(nn.Module):
    """The network of WaveBank, from kernel-bank features to source outputs.

    A convolution of width one, six separable convolutions along time with residuals,
    mean and maximum over time, and a dense layer.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    n_channels : int
        Features of a frame.

    Attributes
    ----------
    embedding_size : int
        128, mean and maximum over time of the last layer.

    References
    ----------
    Majumdar, Ginsburg. MatchboxNet: 1D time-channel separable convolutional neural
    network architecture for speech commands recognition. Interspeech 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.wavebank import WaveBank
    >>> network = WaveBank(n_classes=43, n_channels=672).eval()
    >>> network(torch.zeros(1, 125, 672)).logits.shape
    torch.Size([1, 43])
    """

    def __init__(self, n_classes: int, n_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_channels)
        self.mix = nn.Conv1d(n_channels, _WIDTH, 1, bias=False)
        self.mix_norm = nn.BatchNorm1d(_WIDTH)
        self.blocks = nn.Sequential(
            *(_SeparableBlock(_WIDTH, dilation) for dilation in _DILATIONS)
        )
        self.embedding_size = 2 * _WIDTH
        self.output = nn.Linear(self.embedding_size, n_classes)

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features (batch, n_frames, n_channels)."""
        maps = self.mix(self.norm(features.transpose(1, 2)))
        maps = self.blocks(torch.relu(self.mix_norm(maps)))
        embedding = torch.cat([maps.mean(2), maps.amax(2)], dim=1)
        return SourceOutputs(self.output(embedding), embedding)


def build_wavebank(front_end: KernelBankConfig, classes: Sequence[str]) -> SourceModel:
    """Return an untrained WaveBank source; see `Architecture.build`."""
    return SourceModel(
        KernelBankFrontEnd(front_end),
        WaveBank(len(classes), front_end.n_channels),
        classes,
        sample_rate=front_end.sample_rate,
        input_length=front_end.input_length,
        architecture="wavebank",
    )
