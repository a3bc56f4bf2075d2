# SPDX-License-Identifier: Apache-2.0
"""VGGish on log-mel features (the source of V2Sv)."""

from collections.abc import Sequence

from torch import Tensor, nn

from sklearn_v2s.sources.assembly import assemble_source
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs
from sklearn_v2s.sources.front_end import FrontEndConfig

__all__ = ["PAPER_WIDTH", "VGGish", "build_vggish"]

#: Width of the published network.
PAPER_WIDTH = 64

# Frames of the patch that the dense layers were made for.
_PATCH_FRAMES = 96
# For each block the widths of its convolutions, in units of the first; a pooling
# follows each block.
_BLOCKS = ((1,), (2,), (4, 4), (8, 8))


class VGGish(nn.Module):
    """VGGish, from log-mel features to source outputs.

    Six 3x3 convolutions with ReLU in four blocks, each followed by 2x2 pooling; then
    either three dense layers, as published, or the mean over time and frequency, as in
    the released code of Voice2Series for the network trained from scratch.

    Parameters
    ----------
    n_classes : int
        K, the number of source classes.
    n_mels : int, default=64
        Number of mel bands of the features; matters for the dense layers.
    width : int, default=64
        Maps of the first convolution. 64 is that of the published network.
    dense : bool, default=True
        Whether there are dense layers of ``64 * width``, ``64 * width`` and
        ``2 * width`` units. They read the first 96 frames.

    Attributes
    ----------
    embedding_size : int
        ``2 * width`` with the dense layers, else ``8 * width``.

    Notes
    -----
    Up to its embedding the published network has 72,141,184 parameters, and 4,499,712
    without dense layers. The 62 million of table 4 are what Hershey et al. report for
    a larger VGG (configuration E) with an output layer for 3,087 classes.

    References
    ----------
    Hershey et al. CNN architectures for large-scale audio classification. ICASSP 2017.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.networks.attrnn import count_parameters
    >>> from sklearn_v2s.sources.networks.vggish import VGGish
    >>> network = VGGish(n_classes=36, dense=False).eval()
    >>> count_parameters(network)
    4518180
    >>> network(torch.zeros(1, 98, 64)).logits.shape
    torch.Size([1, 36])
    """

    def __init__(
        self,
        n_classes: int,
        n_mels: int = 64,
        width: int = PAPER_WIDTH,
        dense: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in, n_rows, n_columns = 1, _PATCH_FRAMES, n_mels
        for block in _BLOCKS:
            for factor in block:
                layers += [nn.Conv2d(n_in, factor * width, 3, padding=1), nn.ReLU()]
                n_in = factor * width
            # Rounding up is what TensorFlow's padding does.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            n_rows, n_columns = -(-n_rows // 2), -(-n_columns // 2)
        self.convolutions = nn.Sequential(*layers)
        self.dense: nn.Sequential | None = None
        self.embedding_size = n_in
        if dense:
            self.embedding_size = 2 * width
            self.dense = nn.Sequential(
                *(nn.Linear(n_in * n_rows * n_columns, 64 * width), nn.ReLU()),
                *(nn.Linear(64 * width, 64 * width), nn.ReLU()),
                *(nn.Linear(64 * width, self.embedding_size), nn.ReLU()),
            )
        self.output = nn.Linear(self.embedding_size, n_classes)

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features of shape (batch, n_frames, n_mels)."""
        maps = self.convolutions(features.unsqueeze(1)[:, :, :_PATCH_FRAMES])
        if self.dense is None:
            embedding = maps.mean((2, 3))
        else:
            # TensorFlow keeps the channels last.
            embedding = self.dense(maps.permute(0, 2, 3, 1).flatten(1))
        return SourceOutputs(self.output(embedding), embedding)


def build_vggish(
    front_end: FrontEndConfig,
    classes: Sequence[str],
    width: int = 16,
    dense: bool = False,
    architecture: str = "vggish",
) -> SourceModel:
    """Return an untrained VGGish source; see `Architecture.build`.

    Parameters
    ----------
    width : int, default=16
        Maps of the first convolution. 16 trains on a CPU; `PAPER_WIDTH` is published.
    dense : bool, default=False
        Whether there are dense layers.
    architecture : str, default="vggish"
        Name of this network in `sklearn_v2s.sources.checkpoint.ARCHITECTURES`.

    Raises
    ------
    ValueError
        If the front end has too few frames for the dense layers.
    """
    if dense and front_end.n_frames < _PATCH_FRAMES:
        raise ValueError(
            f"the dense layers of VGGish read {_PATCH_FRAMES} frames, but the front "
            f"end has {front_end.n_frames}. Use another front end, or dense=False."
        )
    network = VGGish(len(classes), front_end.n_mels, width, dense)
    return assemble_source(front_end, network, classes, architecture)
