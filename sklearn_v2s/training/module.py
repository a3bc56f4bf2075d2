# SPDX-License-Identifier: Apache-2.0
"""What is trained: a reprogrammed source and a differentiable label mapping."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_v2s.label_mapping.heads import LinearHead, MatrixHead
from sklearn_v2s.perturbation import ReprogrammedSource
from sklearn_v2s.views.source_views import SourceOutput, read_outputs

__all__ = ["SOURCE_PARAMETERS", "TargetModule"]

# How the names of the weights of the source begin.
SOURCE_PARAMETERS = "reprogrammed.source."


class TargetModule(nn.Module):
    """Series to logarithms of target-class scores.

    Parameters
    ----------
    reprogrammed : ReprogrammedSource
        Series to source outputs.
    head : MatrixHead or LinearHead
        Source outputs to logarithms of scores.
    source_output : {"logits", "embedding", "both"}
        What a linear head reads.
    reads_replicas : bool, default=True
        Whether the head reads the reprogrammed source at all.
    adds_to_offset : bool, default=False
        Whether the scores of other views are given to `forward`, and the head reads the
        reprogrammed source alone.
    n_folds : int, default=1
        How many neighbouring perturbations were trained on parts of the data each: the
        head reads each of them, and the scores are averaged.
    """

    def __init__(
        self,
        reprogrammed: ReprogrammedSource,
        head: MatrixHead | LinearHead,
        source_output: SourceOutput,
        reads_replicas: bool = True,
        adds_to_offset: bool = False,
        n_folds: int = 1,
    ) -> None:
        super().__init__()
        self.reprogrammed = reprogrammed
        self.head = head
        self.source_output: SourceOutput = source_output
        self.reads_replicas = reads_replicas
        self.adds_to_offset = adds_to_offset
        self.n_folds = n_folds

    def forward(
        self,
        series: Tensor,
        fixed: Tensor | None = None,
        row: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> Tensor:
        """Return logarithms of the target-class scores, of shape (batch, C).

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series.
        fixed : Tensor of shape (batch, n_fixed), default=None
            Features of the views that no gradient changes.
        row : Tensor of shape (batch,), default=None
            Which of the series of `ReprogrammedSource.training_on` they are.
        offset : Tensor of shape (batch, C), default=None
            Scores of other views, which the head adds its own to.
        """
        if not self.reads_replicas:
            assert fixed is not None
            return self.log_scores([fixed], offset)
        outputs = self.reprogrammed(series, row)
        return self.log_scores(self.read(outputs, fixed), offset)

    def read(self, outputs: Any, fixed: Tensor | None = None) -> list[Tensor]:
        """Return what the head reads, once for each part of the training data.

        Parameters
        ----------
        outputs : SourceOutputs
            Of the reprogrammed source.
        fixed : Tensor of shape (batch, n_fixed), default=None
            Features of the views that no gradient changes.

        Returns
        -------
        list of Tensor of shape (batch, n_features)
            Features.
        """
        mean_logits = isinstance(self.head, MatrixHead)
        folds = []
        for number in range(self.n_folds):
            part = type(outputs)(*(x[:, number :: self.n_folds] for x in outputs))
            learned = read_outputs(part, self.source_output, mean_logits)
            folds.append(learned if fixed is None else torch.cat([learned, fixed], 1))
        return folds

    def log_scores(self, folds: list[Tensor], offset: Tensor | None = None) -> Tensor:
        """Return logarithms of the mean of the scores that the head gives each part.

        Parameters
        ----------
        folds : list of Tensor of shape (batch, n_features)
            What `read` returned.
        offset : Tensor of shape (batch, C), default=None
            As in `forward`.
        """
        logs = [
            self.head(features) if offset is None else self.head(features, offset)
            for features in folds
        ]
        if len(logs) == 1:
            return logs[0]
        return torch.logsumexp(torch.stack(logs), dim=0) - math.log(len(logs))

    def on(self, device: torch.device) -> "TargetModule":
        """Return this module if it is on that device, else a copy there."""
        reprogrammed = self.reprogrammed.on(device)
        if reprogrammed is self.reprogrammed:
            return self
        moved = TargetModule(
            reprogrammed,
            copy.deepcopy(self.head).to(device),
            self.source_output,
            self.reads_replicas,
            self.adds_to_offset,
            self.n_folds,
        )
        return moved.train(self.training)

    def learned_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what an optimiser changes, with names."""
        for name, parameter in self.named_parameters():
            if self._is_learned(name):
                yield name, parameter

    def learned_state(self) -> dict[str, Tensor]:
        """Return the part of ``state_dict()`` that is not a shared source."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if self._is_learned(name)
        }

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `learned_state` returned.

        Raises
        ------
        RuntimeError
            If it is of another module or lacks a part.
        """
        keys = self.load_state_dict(state, strict=False)
        missing = [name for name in keys.missing_keys if self._is_learned(name)]
        if missing or keys.unexpected_keys:
            raise RuntimeError(
                f"the state lacks {missing} and has in excess {keys.unexpected_keys}"
            )

    def _is_learned(self, name: str) -> bool:
        shared = not self.reprogrammed.owns_source
        return not (shared and name.startswith(SOURCE_PARAMETERS))
