# SPDX-License-Identifier: Apache-2.0
"""What the baselines share: training and prediction of a network."""

import copy
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import Sampler

from sklearn_v2s.baselines.modules import Head, Trained
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.runtime.sklearn_compat import Interval, StrOptions, fit_context
from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.series import SeriesNormalizer
from sklearn_v2s.series.estimator import SeriesClassifier
from sklearn_v2s.training.callbacks import EpochAccuracy, EpochProgress, KeepState
from sklearn_v2s.training.net import RowsOnDevice, SeriesNet, epoch_rows, keep_batch
from sklearn_v2s.training.train import stratified_validation_rows

__all__ = ["EvenBatches", "NetworkClassifier"]

# Series in a forward pass without gradients.
_BATCH = 128


class EvenBatches(Sampler[list[int]]):
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


class BaselineNet(SeriesNet):
    """The net of the baselines, whose module returns logits.

    It takes ``X`` as a dictionary of ``series``, what the trained part reads, and
    ``sample_weight``.
    """

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        """Return the logarithms of the probabilities of a batch."""
        scores = self.module_(x["series"], x["sample_weight"])
        return torch.log_softmax(scores, dim=1)


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
            torch.random.fork_rng(devices=[device], device_type=device.type),
            backend.device(device),
        ):
            backend.manual_seed(seed)
            yield


class NetworkClassifier(SeriesClassifier):
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
    _normalizer: SeriesNormalizer
    history_: list[dict[str, float]]
    module_: nn.Sequential
    n_iter_: int

    @abstractmethod
    def _new_parts(self, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """Return what series pass through untrained, and the encoder after it."""

    @abstractmethod
    def _new_head(
        self, features: np.ndarray, weight: np.ndarray, generator: torch.Generator
    ) -> Head:
        """Return the layer from the features of the training series to the classes."""

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
        fitted = self._unfitted_copy()
        data = fitted._check_training_data(X, y, sample_weight)
        fitted._normalizer = fitted._fit_normalizer(data.series, data.weight)
        series = fitted._normalizer.transform(data.series)
        init_seed, split_seed, *seeds = fitted._seeds(4)
        generator = torch.Generator().manual_seed(init_seed)
        device = resolve_device(self.device)
        fixed, encoder = (
            part.to(device, self._dtype).eval() for part in fitted._new_parts(generator)
        )
        # What no training changes is computed once.
        inputs = self._forward(fixed, series)
        features = self._forward(encoder, inputs)
        head = fitted._new_head(features, data.weight, generator)
        module = Trained(encoder, head).to(device, self._dtype)
        rng = np.random.default_rng(split_seed)
        fitted._train(module, inputs, data.codes, data.weight, rng, *seeds)
        parts = OrderedDict(fixed=fixed, encoder=encoder, head=head)
        fitted.module_ = nn.Sequential(parts).to("cpu").eval()
        return self._assign_fitted(fitted)

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
        """Train a module in place and set ``history_`` and ``n_iter_``."""
        train, validation = np.arange(len(codes)), None
        if self.early_stopping:
            rows = stratified_validation_rows(codes, self.validation_fraction, rng)
            train = np.setdiff1d(train, rows)
            like = next(module.parameters())
            validation = RowsOnDevice(*_rows(inputs, codes, weight, rows), like)
        device = next(module.parameters()).device
        net = self._new_net(module, len(train), validation, shuffle_seed, device)
        with _seeded(dropout_seed, device):
            net.partial_fit(*_rows(inputs, codes, weight, train))
        self.history_ = epoch_rows(net.history)
        self.n_iter_ = len(self.history_)
        if net.interrupted_:
            warn_user(
                f"the training was interrupted after {self.n_iter_} complete epochs of "
                f"{self.max_epochs}; the estimator keeps the best state so far.",
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
        validation: RowsOnDevice | None,
        seed: int,
        device: torch.device,
    ) -> BaselineNet:
        batches = EvenBatches(n_train, self._batch_size(n_train), seed)
        callbacks: list[Any] = [("accuracy", EpochAccuracy())]
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
        net = BaselineNet(
            module,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__param_groups=self._parameter_groups(),
            lr=self.lr,
            max_epochs=self.max_epochs,
            iterator_train__batch_sampler=batches,
            # What torch asks for beside a sampler of whole batches.
            iterator_train__batch_size=1,
            iterator_valid__batch_size=_BATCH,
            iterator_train__collate_fn=keep_batch,
            iterator_valid__collate_fn=keep_batch,
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

    def _forward(self, module: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Return the output of a module in evaluation mode for many rows."""
        device = resolve_device(self.device)
        with torch.inference_mode():
            parts = [
                module(torch.from_numpy(rows[i : i + _BATCH]).to(device, self._dtype))
                for i in range(0, len(rows), _BATCH)
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
        series = self._checked_series(X)
        series = self._normalizer.transform(series)
        device = resolve_device(self.device)
        module = self.module_
        if device.type != "cpu":
            module = copy.deepcopy(module).to(device)
        logits = self._forward(module, series).astype(np.float64, copy=False)
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
