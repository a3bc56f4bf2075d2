# SPDX-License-Identifier: Apache-2.0
"""YAMNet: a recogniser of the 521 AudioSet classes on depthwise convolutions."""

import csv
from collections.abc import Sequence
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig

__all__ = ["N_STEPS", "YAMNet", "audioset_classes", "build_yamnet"]

_PATCH_FRAMES = 96
_PATCH_HOP = 48
_BATCH_NORM_EPS = 1e-4
# Stride and width of each layer: one convolution, then 13 separable ones.
_LAYERS = (
    *((2, 32), (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *((1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024)),
)
#: Convolutions of the network: a separable one is two, one for each map and one across.
N_STEPS = 2 * len(_LAYERS) - 1


def audioset_classes() -> tuple[str, ...]:
    """Return the names of the classes of the published YAMNet, in their order.

    Returns
    -------
    tuple of str
        521 names, from the class map of YAMNet (Apache-2.0, the TensorFlow authors).

    Examples
    --------
    >>> from sklearn_v2s.sources.networks.yamnet import audioset_classes
    >>> names = audioset_classes()
    >>> len(names), names[0], names[132]
    (521, 'Speech', 'Music')
    """
    table = files("sklearn_v2s.sources.networks").joinpath("audioset_classes.csv")
    lines = table.read_text(encoding="utf-8").splitlines()
    return tuple(row["display_name"] for row in csv.DictReader(lines))


class _Norm(nn.BatchNorm2d):
    """Batch normalisation that shifts but does not scale."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_BATCH_NORM_EPS)
        self.register_parameter("weight", None)


class _Step(nn.Module):
    """Convolution with TensorFlow's ``SAME`` padding, normalisation, ReLU."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, groups=groups, bias=False)
        self.norm = _Norm(n_out)

    def forward(self, maps: Tensor) -> Tensor:
        padding: list[int] = []
        for length in (maps.shape[3], maps.shape[2]):
            n_steps = -(-length // self.stride)
            total = max((n_steps - 1) * self.stride + self.kernel - length, 0)
            # The odd zero goes to the end.
            padding += [total // 2, total - total // 2]
        return torch.relu(self.norm(self.conv(functional.pad(maps, padding))))


class YAMNet(nn.Module):
    """The network of YAMNet, from log-mel features to source outputs.

    Features are cut into patches of 96 frames, 48 frames apart. Each goes through a
    convolution and 13 depthwise separable ones (MobileNet), is averaged over time and
    frequency, and read by a dense layer. Patches are averaged at the end: logits and
    embedding.

    Parameters
    ----------
    n_classes : int, default=521
        K, the number of source classes.

    Attributes
    ----------
    embedding_size : int
        1024.

    Notes
    -----
    The classes of the published network exclude no other (it ends in a sigmoid). Its
    logits are read here like those of any other source.

    References
    ----------
    Plakal, Ellis. YAMNet. The TensorFlow model garden, research/audioset/yamnet.

    Howard et al. MobileNets: efficient convolutional neural networks for mobile vision
    applications. arXiv:1704.04861, 2017.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.yamnet import YAMNet
    >>> network = YAMNet().eval()
    >>> count_parameters(network)
    3729481
    >>> network(torch.zeros(1, 144, 64)).logits.shape
    torch.Size([1, 521])
    """

    def __init__(self, n_classes: int = 521) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        n_in = 1
        for stride, width in _LAYERS:
            if not steps:
                steps.append(_Step(n_in, width, 3, stride))
            else:
                steps.append(_Step(n_in, n_in, 3, stride, groups=n_in))
                steps.append(_Step(n_in, width, 1))
            n_in = width
        self.steps = nn.Sequential(*steps)
        self.output = nn.Linear(n_in, n_classes)
        self.embedding_size = n_in

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        patches = features.unfold(1, _PATCH_FRAMES, _PATCH_HOP).transpose(2, 3)
        maps = self.steps(patches.flatten(0, 1).unsqueeze(1))
        embedding = maps.mean((2, 3)).unflatten(0, patches.shape[:2]).mean(1)
        # A linear layer of the mean is the mean of the linear layer.
        return SourceOutputs(self.output(embedding), embedding)

    def join_patches(self, maps: Tensor, n_clips: int) -> Tensor:
        """Return what was computed for each patch as one map over all frames.

        Parameters
        ----------
        maps : Tensor of shape (n_clips * n_patches, n_steps, ...)
            A value, or some, for each step of the patches.
        n_clips : int
            How many clips the patches are of.

        Returns
        -------
        Tensor of shape (n_clips, n_frames, ...)
            Where patches overlap, their mean. Frames after the last patch, which the
            network does not read, are left out.
        """
        n_patches = len(maps) // n_clips
        patches = maps.repeat_interleave(_PATCH_FRAMES // maps.shape[1], dim=1)
        patches = patches.unflatten(0, (n_clips, n_patches))
        n_read = (n_patches - 1) * _PATCH_HOP + _PATCH_FRAMES
        joined = patches.new_zeros(n_clips, n_read, *patches.shape[3:])
        count = joined.new_zeros(n_read, *[1] * (patches.dim() - 3))
        for number in range(n_patches):
            frames = slice(number * _PATCH_HOP, number * _PATCH_HOP + _PATCH_FRAMES)
            joined[:, frames] += patches[:, number]
            count[frames] += 1
        return joined / count


def build_yamnet(front_end: FrontEndConfig, classes: Sequence[str]) -> SourceModel:
    """Return an untrained YAMNet source; see `Architecture.build`.

    Raises
    ------
    ValueError
        If the front end has too few frames for a patch.
    """
    if front_end.n_frames < _PATCH_FRAMES:
        raise ValueError(
            f"YAMNet reads patches of {_PATCH_FRAMES} frames, but the front end has "
            f"only {front_end.n_frames}. Use front_end='yamnet'."
        )
    return assemble_source(front_end, YAMNet(len(classes)), classes, "yamnet")
