# SPDX-License-Identifier: Apache-2.0
"""Views through the whole source model: replicas with a perturbation, and the tone."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource, collect_outputs
from sklearn_v2s.placement import TonePlacement
from sklearn_v2s.runtime.output_cache import OutputMemo, cached
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.views.base import View

__all__ = ["SourceOutput", "SourceView", "read_outputs", "tone_view"]

SourceOutput = Literal["logits", "embedding", "both"]


def read_outputs(
    outputs: SourceOutputs,
    source_output: SourceOutput,
    mean_logits: bool = False,
) -> Any:
    """Return the features that a label mapping reads of source outputs.

    Parameters
    ----------
    outputs : SourceOutputs
        Logits (n, G, K) and embedding (n, G, d), as tensors or arrays.
    source_output : {"logits", "embedding", "both"}
        Which of them.
    mean_logits : bool, default=False
        Take the mean of the logits over the G perturbations, (n, K), as mappings of
        source classes need it; otherwise the G are concatenated.

    Returns
    -------
    Tensor or ndarray of shape (n, n_features)
        Of the type of `outputs`.
    """
    if mean_logits:
        return outputs.logits.mean(1)
    chosen = {
        "logits": [outputs.logits],
        "embedding": [outputs.embedding],
        "both": [outputs.logits, outputs.embedding],
    }[source_output]
    flat = [output.reshape(len(output), -1) for output in chosen]
    if isinstance(flat[0], np.ndarray):
        return np.concatenate(flat, axis=1)
    return torch.cat(flat, dim=1)


class SourceView(View):
    """Outputs of a reprogrammed source.

    Parameters
    ----------
    module : ReprogrammedSource
        On the CPU.
    source_output : {"logits", "embedding", "both"}
        What is read.
    mean_logits : bool, default=False
        As in `read_outputs`.
    n_folds : int, default=1
        Neighbouring perturbations that were trained on parts of the data each: the
        features are those of the first, `outputs` has all.
    """

    def __init__(
        self,
        module: ReprogrammedSource,
        source_output: SourceOutput,
        mean_logits: bool = False,
        n_folds: int = 1,
    ) -> None:
        self.module = module
        self.source_output: SourceOutput = source_output
        self.mean_logits = mean_logits
        self.n_folds = n_folds
        sizes = {
            "logits": len(module.source.classes),
            "embedding": int(module.source.embedding_size),
        }
        names = list(sizes) if source_output == "both" else [source_output]
        n_groups = 1 if mean_logits else len(module.perturbation.delta) // n_folds
        self.block_sizes = [n_groups * sum(sizes[name] for name in names)]

    def outputs(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> SourceOutputs:
        """Return the source outputs of normalised series.

        Parameters
        ----------
        series : ndarray of shape (n, n_channels, n_timepoints)
            Normalised series.
        device : torch.device
            Where to compute.
        memory : str, object with the interface of joblib.Memory or None, default=None
            Where source outputs are cached.

        Returns
        -------
        SourceOutputs
            Logits of shape (n, G, K) and embedding of shape (n, G, d), as arrays.
        """
        compute = partial(collect_outputs, self.module.on(device))
        identity = self.module.identity(by_content=isinstance(memory, OutputMemo))
        arrays: Sequence[np.ndarray] = cached(memory, identity, series, device, compute)
        return SourceOutputs(*arrays)

    def features(
        self, series: np.ndarray, device: torch.device, memory: Any = None
    ) -> np.ndarray:
        """Return the features of normalised series; see `View.features`."""
        first = self.module.fold(0, self.n_folds)
        outputs = SourceView(first, self.source_output).outputs(series, device, memory)
        return read_outputs(outputs, self.source_output, self.mean_logits)

    def compute(self, series: np.ndarray, device: torch.device) -> np.ndarray:
        """Return what `features` does, not cached."""
        return self.features(series, device)


def tone_view(
    source: Any, source_output: SourceOutput, n_channels: int, dtype: torch.dtype
) -> SourceView:
    """Return the view of a series as the pitch of a tone, without a perturbation.

    Parameters
    ----------
    source : SourceModel
        Frozen source.
    source_output : {"logits", "embedding", "both"}
        What is read.
    n_channels : int
        Channels of a series.
    dtype : torch.dtype
        Precision.

    Returns
    -------
    SourceView
        The view.
    """
    silence = Perturbation(source.input_length, [torch.Generator()], init_scale=0.0)
    placement = TonePlacement(source.input_length, source.sample_rate, n_channels)
    module = ReprogrammedSource(source, placement, silence.to(dtype)).eval()
    return SourceView(module, source_output)
