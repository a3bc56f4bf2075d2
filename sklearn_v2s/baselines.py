# SPDX-License-Identifier: Apache-2.0
"""Neural baselines: the source model fine-tuned, and a convolutional net from scratch.

They answer what Voice2Series is to be measured against: whether it pays to change the
weights of the source instead of its input, and whether it pays to have a source at all.
"""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import Sampler

from sklearn_v2s._compat import Interval, StrOptions, fit_context
from sklearn_v2s.devices import resolve_device
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.series_estimator import SeriesClassifier, epoch_rows
from sklearn_v2s.sources.contract import SourceModel, copy_source
from sklearn_v2s.sources.registry import load_source
from sklearn_v2s.training import (
    EpochProgress,
    KeepState,
    V2SNet,
    stratified_validation_rows,
)

__all__ = ["FCNClassifier", "TransferClassifier"]

# Series for each pass that needs no gradient.
_PASS = 128
# Of the statistics of standardised features, as in nn.BatchNorm1d.
_MOMENTUM = 0.1
_LEAST_VARIANCE = 1e-5
# Filters and their lengths in the three layers of the FCN.
_FCN_LAYERS = ((128, 8), (256, 5), (128, 3))


class _EvenBatches(Sampler[list[int]]):
    """Batches in random order, of one size give or take one, and never of one row.

    Batch normalisation cannot learn from a single row, which a last batch may be.
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows = n_rows
        self.n_batches = max(1, min(-(-n_rows // batch_size), n_rows // 2))
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[list[int]]:
        # The only row there is, if class_weight left no other, comes twice.
        order = torch.randperm(max(2, self.n_rows), generator=self.generator)
        for batch in (order % self.n_rows).tensor_split(self.n_batches):
            yield batch.tolist()


class _BaselineNet(V2SNet):
    """The net of the baselines: the same weighted loss, on logits and without penalty.

    It takes ``X`` as a dictionary of ``series``, what the trained part reads, and
    ``sample_weight``.
    """

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        """Return the logarithms of the probabilities of a batch."""
        parameter = next(self.module_.parameters())
        inputs, weight = (x[name].to(parameter) for name in ("series", "sample_weight"))
        return torch.log_softmax(self.module_(inputs, weight), dim=1)

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        X: dict[str, Tensor] | None = None,
        training: bool = False,
    ) -> Tensor:
        """Return the weighted mean of -log P(y|x); AdamW decays the weights itself."""
        return super().get_loss(y_pred, y_true, X, training=False)


class _Placed(nn.Module):
    """Series to waveforms."""

    def __init__(self, placement: ReplicaPlacement) -> None:
        super().__init__()
        self.placement = placement

    def forward(self, series: Tensor) -> Tensor:
        return self.placement.place(series)


class _Embedding(nn.Module):
    """The embedding alone of what a source, or the network of one, returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, heard: Tensor) -> Tensor:
        return self.network(heard).embedding


class _Standardised(nn.Module):
    """Bring each feature to mean 0 and variance 1, from the first step on.

    Replicas fill a small part of the second: the embeddings of different series are
    nearly the same at first, and a layer on the bare embedding would learn little but
    its bias.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Of the training series, before any training.
    weight : ndarray of shape (n,)
        Sample weights.
    follows : bool
        Whether the statistics follow the training, as those of batch normalisation do.
        They must where the features are trained: these soon vary a hundred times more.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: np.ndarray, weight: np.ndarray, follows: bool) -> None:
        super().__init__()
        self.follows = follows
        statistics = _mean_and_variance(
            torch.from_numpy(features).double(), torch.from_numpy(weight)
        )
        for name, values in zip(("mean", "variance"), statistics, strict=True):
            self.register_buffer(name, values)

    def forward(self, features: Tensor, weight: Tensor | None) -> Tensor:
        mean, variance = self.mean, self.variance
        if self.training and self.follows:
            assert weight is not None
            # nn.BatchNorm1d knows no weights. With class weights it would centre on
            # series that hardly count, and so push them away from those that do.
            mean, variance = _mean_and_variance(features, weight)
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.variance.lerp_(variance.detach(), _MOMENTUM)
        return (features - mean) / torch.sqrt(variance + _LEAST_VARIANCE)


def _mean_and_variance(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    share = weight / weight.sum()
    mean = share @ features
    return mean, share @ (features - mean).square()


class _Head(nn.Module):
    """A linear layer, behind standardised features or not."""

    def __init__(self, linear: nn.Module, standardised: _Standardised | None = None):
        super().__init__()
        self.standardised = standardised
        self.linear = linear

    def forward(self, features: Tensor, weight: Tensor | None = None) -> Tensor:
        if self.standardised is not None:
            features = self.standardised(features, weight)
        return self.linear(features)


class _Trained(nn.Module):
    """Encoder and head, as they are trained."""

    def __init__(self, encoder: nn.Module, head: _Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: Tensor, weight: Tensor) -> Tensor:
        return self.head(self.encoder(inputs), weight)


class _TimeMean(nn.Module):
    """Global average pooling."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(2)


def _glorot(kind: Any, *sizes: int, generator: torch.Generator) -> nn.Module:
    """Return a layer with Glorot uniform weights and no bias, as Keras begins."""
    # torch's own beginning would draw from the global generator.
    layer = nn.utils.skip_init(kind, *sizes)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let dropout inside a source draw from a seed, and nothing else notice it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if device.type not in ("cuda", "xpu"):
            yield
            return
        backend = getattr(torch, device.type)
        with (
            torch.random.fork_rng(devices=[device.index], device_type=device.type),
            backend.device(device),
        ):
            backend.manual_seed(seed)
            yield


class _NetworkClassifier(SeriesClassifier):
    """Base of the baselines: a fixed part, an encoder and a head, trained by AdamW.

    Subclasses return the parts from `_new_parts` and `_new_head`.
    """

    _parameter_constraints: dict[str, Any] = {
        **SeriesClassifier._parameter_constraints,
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"constant", "cosine"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        max_epochs: int,
        batch_size: Any,
        lr: float,
        lr_schedule: Literal["constant", "cosine"],
        weight_decay: float,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        class_weight: Any,
        normalization: Literal["global", "series"] | None,
        missing: Literal["error", "interpolate"],
        precision: Literal["float32", "float64"],
        device: Any,
        random_state: Any,
        verbose: int,
    ) -> None:
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.normalization = normalization
        self.missing = missing
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # Set by fit; declared here for type checkers.
    history_: list[dict[str, float]]
    module_: nn.Sequential
    n_iter_: int

    def _new_parts(self, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """Return what series pass through untrained, and the encoder after it."""
        raise NotImplementedError

    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> _Head:
        """Return the layer from the features of the training series to the classes."""
        raise NotImplementedError

    def _parameter_groups(self) -> list[tuple[str, dict[str, float]]]:
        """Return patterns of parameter names and what the optimiser does with them."""
        return []

    def _batch_size(self, n_train: int) -> int:
        return self.batch_size

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, or a list of series ``(t,)`` or ``(n_channels, t)`` of unequal
            length.
        y : array-like of shape (n,)
            Labels of any kind.
        sample_weight : array-like of shape (n,), default=None
            Factors of the loss; a weight of 0 counts as the absence of the series.

        Returns
        -------
        self
            The fitted classifier.

        Raises
        ------
        ValueError
            If X, y or a parameter cannot be used; the text names it, the value seen and
            what is allowed.
        """
        with self._unchanged_on_failure():
            given, codes, weight = self._check_training_data(X, y, sample_weight)
            self._fit_normalizer(given, weight)
            series = self._normalizer.transform(given)
            init_seed, split_seed, *seeds = self._seeds(4)
            generator = torch.Generator().manual_seed(init_seed)
            device = resolve_device(self.device)
            fixed, encoder = (
                part.to(device, self._dtype).eval()
                for part in self._new_parts(generator)
            )
            # What no training changes is computed once.
            inputs = self._pass(fixed, series)
            head = self._new_head(self._pass(encoder, inputs), weight, generator)
            module = _Trained(encoder, head).to(device, self._dtype)
            rng = np.random.default_rng(split_seed)
            self._train(module, inputs, codes, weight, rng, *seeds)
            whole = OrderedDict(fixed=fixed, encoder=encoder, head=head)
            self.module_ = nn.Sequential(whole).to("cpu").eval()
        return self

    def _train(
        self,
        module: nn.Module,
        inputs: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
        rng: np.random.Generator,
        shuffle_seed: int,
        dropout_seed: int,
    ) -> None:
        """Train a module in place and set the attributes that tell its course."""
        train, validation = np.arange(len(codes)), None
        if self.early_stopping:
            rows = stratified_validation_rows(codes, self.validation_fraction, rng)
            train = np.setdiff1d(train, rows)
            validation = Dataset(*_rows(inputs, codes, weight, rows))
        device = next(module.parameters()).device
        net = self._new_net(module, len(train), validation, shuffle_seed, device)
        with _seeded(dropout_seed, device):
            net.partial_fit(*_rows(inputs, codes, weight, train))
        self.history_ = epoch_rows(net.history)
        self.n_iter_ = len(self.history_)
        if net.interrupted_:
            warnings.warn(
                f"the training was interrupted after {self.n_iter_} complete epochs of "
                f"{self.max_epochs}; the estimator keeps the best state so far.",
                UserWarning,
                stacklevel=3,
            )
        losses = [value for row in self.history_ for value in row.values()]
        tensors = [*losses, *module.state_dict().values()]
        if not all(torch.isfinite(torch.as_tensor(value)).all() for value in tensors):
            raise ValueError(
                f"the training diverged: NaN or infinity within {self.n_iter_} epochs "
                f"with lr={self.lr!r}, normalization={self.normalization!r} and "
                f"precision={self.precision!r}, for values up to "
                f"{np.abs(inputs).max():.3g}. Use a smaller lr, and normalization="
                "'global' or 'series' for large values."
            )

    def _new_net(
        self,
        module: Any,
        n_train: int,
        validation: Dataset | None,
        seed: int,
        device: torch.device,
    ) -> _BaselineNet:
        batches = _EvenBatches(n_train, self._batch_size(n_train), seed)
        callbacks: list[Any] = []
        if self.lr_schedule == "cosine":
            scheduler = LRScheduler(
                torch.optim.lr_scheduler.CosineAnnealingLR,
                T_max=self.max_epochs * len(batches),
                step_every="batch",
            )
            callbacks.append(("lr_schedule", scheduler))
        if self.verbose:
            callbacks.append(("progress", EpochProgress()))
        # Last, for it ends the training, and the bar is to show that epoch.
        patience = None if validation is None else self.n_iter_no_change
        callbacks.append(("keep_state", KeepState(patience)))
        net = _BaselineNet(
            module,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__param_groups=self._parameter_groups(),
            lr=self.lr,
            max_epochs=self.max_epochs,
            iterator_train__batch_sampler=batches,
            # What torch asks for beside a sampler of whole batches.
            iterator_train__batch_size=1,
            iterator_valid__batch_size=_PASS,
            # Both loaders draw a seed when they start; without a generator of their
            # own they would move torch's global one.
            iterator_train__generator=torch.Generator().manual_seed(seed),
            iterator_valid__generator=torch.Generator().manual_seed(seed),
            train_split=None if validation is None else predefined_split(validation),
            callbacks=callbacks,
            verbose=0,
            device=device,
        )
        return net.initialize()

    def _pass(self, module: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Return what a module in evaluation mode makes of many rows."""
        device = resolve_device(self.device)
        with torch.inference_mode():
            parts = [
                module(torch.from_numpy(rows[i : i + _PASS]).to(device, self._dtype))
                for i in range(0, len(rows), _PASS)
            ]
            return torch.cat(parts).cpu().numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of the target classes.

        Parameters
        ----------
        X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
            Series, as in `fit`.

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`; rows sum to 1.
        """
        series = self._series(X)
        device = resolve_device(self.device)
        module = self.module_
        if device.type != "cpu":
            module = copy.deepcopy(module).to(device)
        logits = self._pass(module, series).astype(np.float64, copy=False)
        if not np.isfinite(logits).all():
            raise ValueError(
                "the network returned NaN or infinity for series with values up to "
                f"{np.abs(series).max():.3g} after normalization="
                f"{self.normalization!r}, in precision={self.precision!r}. Series must "
                "be of the scale that they had in fit; normalization='series' allows "
                "any."
            )
        return self._distributions(np.exp(logits - logits.max(axis=1, keepdims=True)))


def _rows(
    inputs: np.ndarray, codes: np.ndarray, weight: np.ndarray, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return rows as a net takes them."""
    # Weights of mean 1, so that the loss is a mean and lr keeps its meaning.
    part = weight[rows] / weight[rows].mean()
    return {"series": inputs[rows], "sample_weight": part}, codes[rows]


class TransferClassifier(_NetworkClassifier):
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
        Course of both learning rates.
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
        Losses and seconds of each epoch.
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
        **_NetworkClassifier._parameter_constraints,
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
        source: Any = copy_source(load_source(self.source, self._dtype))
        for module in source.modules():
            if isinstance(module, SourceModel):
                # It would be pickled by the name of the checkpoint that it came from.
                module.reference = None
        placement = ReplicaPlacement(
            source.input_length,
            n_channels=self.n_channels_in_,
            n_timepoints=self.n_timepoints_in_,
            n_segments=self.n_segments,
        )
        placement.warn_if_resampling()
        placed = _Placed(placement)
        if self.freeze_source:
            return nn.Sequential(placed, _Embedding(source)), nn.Identity()
        source.requires_grad_(True)
        if isinstance(source, SourceModel) and not any(source.front_end.parameters()):
            return (
                nn.Sequential(placed, source.front_end),
                _Embedding(source.network),
            )
        return placed, _Embedding(source)

    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> _Head:
        # Zero at the start: no random layer sends its gradients into the source.
        linear = nn.utils.skip_init(nn.Linear, features.shape[1], len(self.classes_))
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return _Head(linear, _Standardised(features, weight, not self.freeze_source))

    def _parameter_groups(self) -> list[tuple[str, dict[str, float]]]:
        if self.freeze_source:
            return []
        return [("encoder.*", {"lr": self.source_lr})]


class FCNClassifier(_NetworkClassifier):
    """Fully convolutional network, trained from scratch: the baseline without a source.

    Three convolutions along time (128 filters of length 8, 256 of length 5, 128 of
    length 3), each with batch normalisation and ReLU, the mean over time, and a linear
    layer.

    Parameters
    ----------
    max_epochs : int, default=50
        Passes over the training data.
    batch_size : int or "auto", default="auto"
        Series for a step, at most; an epoch has steps of equal size. Batch
        normalisation needs 2 or more. ``"auto"`` takes a tenth of the series, but 2 at
        least and 16 at most, as the publication does.
    lr : float, default=0.001
        Learning rate.
    lr_schedule : {"constant", "cosine"}, default="cosine"
        Course of the learning rate.
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
        Of initial weights, order and validation part.
    verbose : int, default=0
        1 shows a progress bar over the epochs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The target classes.
    module_ : nn.Sequential
        Normalised series to logits, on the CPU.
    history_ : list of dict
        Losses and seconds of each epoch.
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
    TransferClassifier : Fine-tunes a source.

    Notes
    -----
    Series of unequal length are padded with the mean of the training data. The mean
    over time takes the padding in. Adam with a cosine schedule needs fewer epochs than
    the 2000 of the publication, whose learning rate falls when the loss stands still.

    References
    ----------
    Wang, Yan, Oates. Time series classification from scratch with deep neural
    networks: a strong baseline. IJCNN 2017. arXiv:1611.06455.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_v2s import FCNClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 50)).cumsum(axis=1)
    >>> y = np.where(X[:, -1] > 0, "up", "down")
    >>> classifier = FCNClassifier(max_epochs=1, random_state=0).fit(X, y)
    >>> classifier.predict_proba(X).shape
    (20, 2)
    """

    _parameter_constraints: dict[str, Any] = {
        **_NetworkClassifier._parameter_constraints,
        "batch_size": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
        ],
    }

    def __init__(
        self,
        *,
        max_epochs: int = 50,
        batch_size: int | Literal["auto"] = "auto",
        lr: float = 1e-3,
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

    def _new_parts(self, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
        layers: list[nn.Module] = []
        n_channels = self.n_channels_in_
        for n_filters, length in _FCN_LAYERS:
            layers += [
                # As many time points come out as go in, be it a single one.
                nn.ZeroPad1d(((length - 1) // 2, length // 2)),
                _glorot(nn.Conv1d, n_channels, n_filters, length, generator=generator),
                nn.BatchNorm1d(n_filters),
                nn.ReLU(),
            ]
            n_channels = n_filters
        return nn.Identity(), nn.Sequential(*layers, _TimeMean())

    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> _Head:
        sizes = features.shape[1], len(self.classes_)
        return _Head(_glorot(nn.Linear, *sizes, generator=generator))

    def _batch_size(self, n_train: int) -> int:
        if self.batch_size == "auto":
            return min(max(2, n_train // 10), 16)
        return self.batch_size
