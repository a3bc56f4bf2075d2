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
from torch import Tensor, nn
from torch.utils.data import Sampler

from sklearn_v2s.baselines.modules import Head, Trained
from sklearn_v2s.runtime.devices import resolve_device
from sklearn_v2s.runtime.sklearn_compat import Interval, StrOptions, fit_context
from sklearn_v2s.series.estimator import SeriesClassifier
from sklearn_v2s.training.net import NetSettings, SeriesNet, build_net, epoch_rows
from sklearn_v2s.training.train import Rows, stratified_validation_rows

__all__ = ["EvenBatches", "NetworkClassifier", "seeded"]

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
def seeded(seed: int, device: torch.device) -> Iterator[None]:
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

    Subclasses return the parts from `_new_parts` and `_new_head`. The parameters are
    those of a network from scratch, which needs no further ones.
    """

    _parameter_constraints: dict[str, Any] = {
        **SeriesClassifier._parameter_constraints,
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
        ],
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
        if self.batch_size == "auto":
            return min(max(2, n_train // 10), 16)
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
        init_seed, split_seed, shuffle_seed, dropout_seed = fitted._seeds(4)
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
        settings = NetSettings(
            max_epochs=self.max_epochs,
            lr=self.lr,
            lr_schedule=self.lr_schedule,
            n_iter_no_change=self.n_iter_no_change,
            shuffle_seed=shuffle_seed,
            verbose=self.verbose,
        )
        with seeded(dropout_seed, device):
            rows = Rows(inputs, data.codes, data.weight)
            fitted._train(module, rows, split_seed, settings)
        parts = OrderedDict(fixed=fixed, encoder=encoder, head=head)
        fitted.module_ = nn.Sequential(parts).to("cpu").eval()
        return self._assign_fitted(fitted)

    def _train(
        self, module: nn.Module, data: Rows, split_seed: int, settings: NetSettings
    ) -> None:
        """Train a module in place and set ``history_`` and ``n_iter_``."""
        held_out = None
        if self.early_stopping:
            rng = np.random.default_rng(split_seed)
            held_out = stratified_validation_rows(
                data.codes, self.validation_fraction, rng
            )
        train, validation = data.split(held_out)
        batches = EvenBatches(
            len(train), self._batch_size(len(train)), settings.shuffle_seed
        )
        net = build_net(
            BaselineNet,
            module,
            settings,
            next(module.parameters()),
            steps_per_epoch=len(batches),
            validation=validation,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__param_groups=self._parameter_groups(),
            iterator_train__batch_sampler=batches,
            # What torch requires beside a sampler of whole batches.
            iterator_train__batch_size=1,
            iterator_valid__batch_size=_BATCH,
        )
        net.partial_fit(*data.batch(train))
        self.history_ = epoch_rows(net.history)
        self.n_iter_ = len(self.history_)
        net.warn_if_interrupted(self.n_iter_, self.max_epochs)
        losses = [value for row in self.history_ for value in row.values()]
        tensors = [*losses, *module.state_dict().values()]
        if not all(torch.isfinite(torch.as_tensor(value)).all() for value in tensors):
            raise ValueError(
                f"the training diverged: NaN or infinity within {self.n_iter_} epochs "
                f"with lr={self.lr!r}, normalization={self.normalization!r} and "
                f"precision={self.precision!r}, for values up to "
                f"{np.abs(data.series).max():.3g}. Use a smaller lr, and normalization="
                "'global' or 'series' for large values."
            )

    def _forward(self, module: nn.Module, rows: np.ndarray) -> np.ndarray:
        """Return the output of a module in evaluation mode for many rows."""
        device = resolve_device(self.device)
        with torch.inference_mode():
            parts = [
                module(torch.from_numpy(rows[i : i + _BATCH]).to(device, self._dtype))
                for i in range(0, len(rows), _BATCH)
            ]
            return torch.cat(parts).cpu().numpy()

    def _scores(self, X: Any) -> np.ndarray:
        series = self._normalized_series(X)
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
        return np.exp(logits - logits.max(axis=1, keepdims=True))
