# SPDX-License-Identifier: Apache-2.0
"""A log-mel front end and a network, put together to a source model."""

from collections.abc import Sequence

from torch import nn

from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.front_end import FrontEndConfig, LogMelFrontEnd

__all__ = ["assemble_source"]


def assemble_source(
    front_end: FrontEndConfig,
    network: nn.Module,
    classes: Sequence[str],
    architecture: str = "custom",
) -> SourceModel:
    """Return a source that reads log-mel features.

    Parameters
    ----------
    front_end : FrontEndConfig
        Configuration of the front end.
    network : nn.Module
        Features of shape (batch, n_frames, n_mels) to `SourceOutputs`.
    classes : sequence of str
        Names of the source classes.
    architecture : str, default="custom"
        Name under which a checkpoint rebuilds the network.

    Returns
    -------
    SourceModel
        Not frozen.

    Examples
    --------
    >>> from sklearn_v2s.sources import FRONT_ENDS
    >>> from sklearn_v2s.sources.assembly import assemble_source
    >>> from sklearn_v2s.sources.networks.resnet import ResNet
    >>> source = assemble_source(FRONT_ENDS["kapre"], ResNet(2, width=4), ["a", "b"])
    >>> source.input_length, source.embedding_size
    (16000, 64)
    """
    return SourceModel(
        LogMelFrontEnd(front_end),
        network,
        classes,
        sample_rate=front_end.sample_rate,
        input_length=front_end.input_length,
        architecture=architecture,
    )
