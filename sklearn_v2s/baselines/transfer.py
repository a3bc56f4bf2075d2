# SPDX-License-Identifier: Apache-2.0
"""The baseline of transfer learning: a copy of the source, fine-tuned."""

import copy
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from sklearn_v2s.baselines.modules import Embedding, Head, Placed, Standardised
from sklearn_v2s.baselines.network import NetworkClassifier
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.runtime.sklearn_compat import Interval, StrOptions
from sklearn_v2s.sources.contract import SourceModel, independent_copy
from sklearn_v2s.sources.registry import load_source

__all__ = ["TransferClassifier"]


class TransferClassifier(NetworkClassifier):
    """Fine-tune a copy of the source model: the baseline of transfer learning.

    A series is placed in one second of sound as V2S places it, but nothing is added to
    it: the weights of the recogniser are trained instead, and a new linear layer reads
    its embedding. The paper calls this baseline TFa; what it prints for it is the share
    of a single class on most data sets.

    Parameters
    ----------
    source : str, path-like or nn.Module, default="attrnn"
        Source model: a shipped or registered name, a ``.safetensors`` checkpoint, or a
        module that meets the source contract. A copy is trained; it is never changed.
    n_segments : int or "auto", default="auto"
        Number of replicas of a series in the waveform; ``"auto"`` takes 8, or as many
        as fit.
    freeze_source : bool, default=False
        Train the linear layer alone: a linear probe by gradient.
    max_epochs : int, default=40
        Passes over the training data.
    batch_size : int, default=16
        Series for a step, at most; an epoch has steps of equal size. Batch
        normalisation needs 2 or more.
    lr : float, default=0.01
        Learning rate of the linear layer.
    source_lr : float, default=0.001
        Learning rate of the weights of the source, which are to change less.
    lr_schedule : {"constant", "cosine"}, default="cosine"
        Schedule of both learning rates.
    weight_decay : float, default=0.01
        Of AdamW.
    early_stopping : bool, default=False
        Hold out a stratified part of the training data and return the epoch with the
        least loss there.
    validation_fraction : float, default=0.1
        Share of each class to hold out.
    n_iter_no_change : int, default=20
        Stop after so many epochs without a better validation loss.
    class_weight : dict, "balanced" or None, default=None
        Factors of the sample weights by class.
    normalization : {"global", "series"} or None, default="global"
        Remove mean and scale of the training data, of each series, or nothing.
    missing : {"error", "interpolate"}, default="error"
        What to do with NaN.
    precision : {"float32", "float64"}, default="float32"
        Arithmetic of the network.
    device : str or torch.device, default="auto"
        Where to compute; ``"auto"`` takes CUDA, XPU, MPS or CPU, the first there is.
    random_state : int, RandomState instance or None, default=None
        Of order, validation part, and dropout if the source has any.
    verbose : int, default=0
        1 shows a progress bar over the epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    module_ : nn.Sequential
        Normalised series to logits, on the CPU.
    history_ : list of dict
        Losses, accuracies and seconds of each epoch.
    n_iter_ : int
        Epochs trained.
    n_features_in_ : int
        Values of a series, over all channels.
    n_timepoints_in_, n_channels_in_ : int
        Shape of a series.
    unequal_length_ : bool
        Whether `fit` saw series of unequal length; shorter ones are then allowed.

    See Also
    --------
    V2SClassifier : Changes the input of the source and leaves its weights alone.
    FCNClassifier : Has no source.

    Notes
    -----
    A front end without weights, such as a log-mel spectrogram, is computed once. A
    pickle holds the weights of the copy.

    References
    ----------
    Yang, Tsai, Chen. Voice2Series: reprogramming acoustic models for time series
    classification. ICML 2021, section 5.3. arXiv:2106.09296.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import TransferClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = TransferClassifier(max_epochs=1, random_state=0).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    _parameter_constraints: dict[str, Any] = {
        **NetworkClassifier._parameter_constraints,
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "source": "no_validation",
        "n_segments": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "freeze_source": ["boolean"],
        "source_lr": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        source: Any = "attrnn",
        *,
        n_segments: int | Literal["auto"] = "auto",
        freeze_source: bool = False,
        max_epochs: int = 40,
        batch_size: int = 16,
        lr: float = 0.01,
        source_lr: float = 1e-3,
        lr_schedule: Literal["constant", "cosine"] = "cosine",
        weight_decay: float = 0.01,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 20,
        class_weight: Any = None,
        normalization: Literal["global", "series"] | None = "global",
        missing: Literal["error", "interpolate"] = "error",
        precision: Literal["float32", "float64"] = "float32",
        device: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            class_weight=class_weight,
            normalization=normalization,
            missing=missing,
            precision=precision,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.source = source
        self.n_segments = n_segments
        self.freeze_source = freeze_source
        self.source_lr = source_lr

    def _new_parts(self, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
        source: Any = independent_copy(load_source(self.source, self._dtype))
        placement = ReplicaPlacement(
            source.input_length,
            n_channels=self.n_channels_in_,
            n_timepoints=self.n_timepoints_in_,
            n_segments=self.n_segments,
        )
        placement.warn_if_resampling()
        placed = Placed(placement)
        if self.freeze_source:
            return nn.Sequential(placed, Embedding(source)), nn.Identity()
        source.requires_grad_(True)
        if isinstance(source, SourceModel) and not any(source.front_end.parameters()):
            return (
                nn.Sequential(placed, source.front_end),
                Embedding(source.network),
            )
        return placed, Embedding(source)

    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> Head:
        # Zero at the start: no random layer sends its gradients into the source.
        linear = nn.utils.skip_init(nn.Linear, features.shape[1], len(self.classes_))
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return Head(linear, Standardised(features, weight, not self.freeze_source))

    def _parameter_groups(self) -> list[tuple[str, dict[str, float]]]:
        if self.freeze_source:
            return []
        return [("encoder.*", {"lr": self.source_lr})]

    def embed(self, X: Any) -> np.ndarray:
        """Return the embeddings of the fine-tuned source.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, embedding_size)
            One for each series.
        """
        series = self._normalized_series(X)
        parts: Any = self.module_
        encoder = nn.Sequential(parts.fixed, parts.encoder)
        device = resolve_device(self.device)
        if device.type != "cpu":
            encoder = copy.deepcopy(encoder).to(device)
        return self._forward(encoder, series)
