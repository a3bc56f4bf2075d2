# SPDX-License-Identifier: Apache-2.0
"""Gradient training of the perturbation, driven by skorch."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import unpack_data
from skorch.helper import predefined_split
from skorch.utils import is_dataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from sklearn_v2s.devices import send
from sklearn_v2s.row_parts import one_thread
from sklearn_v2s.target_module import MatrixHead, TargetModule
from sklearn_v2s.training_callbacks import (
    EpochAccuracy,
    EpochProgress,
    KeepState,
    RefitMapping,
)

__all__ = [
    "RowsOnDevice",
    "V2SNet",
    "build_net",
    "keep_batch",
    "mean_loss",
    "stratified_validation_rows",
]

# How the names of the weights of a source that is fine-tuned begin.
SOURCE_PARAMETERS = "reprogrammed.source."


def mean_loss(log_scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of -log P(y|x) of a batch (equation 3)."""
    loss = -log_scores.gather(1, target.unsqueeze(1)).squeeze(1)
    return (loss * weight).mean()


class RowsOnDevice(Dataset[Any]):
    """Rows to train on as tensors, where they are computed with.

    A batch is one indexing on the device. Only the numbers of its rows come from the
    host, in pinned memory, so that it need not wait for the device.

    Parameters
    ----------
    X : dict of str to ndarray
        As `V2SNet` takes it.
    y : ndarray of shape (n,) or None
        Encoded classes; None where they are not known, as in prediction.
    like : Tensor
        Whose device and precision to take.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_v2s.training import RowsOnDevice
    >>> rows = RowsOnDevice({"series": np.eye(3)}, np.arange(3), torch.zeros(1))
    >>> rows.__getitems__([2, 0])
    ({'series': tensor([[0., 0., 1.],
            [1., 0., 0.]])}, tensor([2, 0]))
    """

    def __init__(
        self, X: dict[str, np.ndarray], y: np.ndarray | None, like: Tensor
    ) -> None:
        self._device = like.device
        self._X = {
            name: torch.from_numpy(values).to(
                like.device, like.dtype if values.dtype.kind == "f" else None
            )
            for name, values in X.items()
        }
        if y is None:
            # As skorch's own dataset has it.
            y = np.zeros(len(X["series"]), dtype=np.int64)
        self._y = torch.from_numpy(y).to(like.device)

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], Tensor]:
        return {name: values[row] for name, values in self._X.items()}, self._y[row]

    def __getitems__(self, rows: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Return a batch; the loader of torch asks for it where it is there."""
        index = send(torch.tensor(rows), self._device)
        return {name: values[index] for name, values in self._X.items()}, self._y[index]


def keep_batch(batch: Any) -> Any:
    """Return a batch of `RowsOnDevice`, which a loader would take for single rows."""
    return batch


class V2SNet(NeuralNet):
    """The skorch net of Voice2Series: weighted loss, penalty, and a clean interruption.

    It takes ``X`` as a dictionary of ``series``, ``row`` (their numbers), and
    ``sample_weight`` and, where there are such views, ``fixed`` (features that no
    gradient changes), and ``y`` as encoded classes. The loss is equation 3 with
    weights, plus `l2` times the squared perturbation and the penalty of the head; the
    history has it without these. A further entry ``count`` holds the weights as they
    were given, for label mappings that count them.
    """

    def __init__(
        self, module: TargetModule, *args: Any, l2: float = 0.0, **kwargs: Any
    ):
        self.l2 = l2
        super().__init__(module, *args, criterion=nn.NLLLoss, **kwargs)

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what the optimiser changes."""
        yield from self.module_.named_parameters()

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Return the rows, on the device."""
        if is_dataset(X):
            return X
        return RowsOnDevice(X, y, next(self.module_.parameters()))

    def run_single_epoch(
        self,
        iterator: Any,
        training: bool,
        prefix: str,
        step_fn: Any,
        **fit_params: Any,
    ) -> None:
        """Pass over the batches as skorch does, without reading the loss of each.

        The host would wait for the device at every step. Callbacks find a tensor as the
        loss of a batch, and numbers when the pass is over.
        """
        if iterator is None:
            return
        losses = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            self.history.record_batch(f"{prefix}_loss", losses[-1])
            self.history.record_batch(f"{prefix}_batch_size", len(batch[1]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(f"{prefix}_batch_count", len(losses))
        rows = [row for row in self.history[-1]["batches"] if f"{prefix}_loss" in row]
        for row, loss in zip(rows, torch.stack(losses).tolist(), strict=True):
            row[f"{prefix}_loss"] = loss

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        """Return the log-scores of a batch; the weights are for the loss alone."""
        heard = {name: x[name] for name in ("series", "fixed") if name in x}
        return self.module_(**heard, row=x["row"])

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        X: dict[str, Tensor] | None = None,
        training: bool = False,
    ) -> Tensor:
        """Return the weighted mean of -log P(y|x), in training with the penalties."""
        assert X is not None
        loss = mean_loss(y_pred, y_true, X["sample_weight"])
        return loss + self.penalty() if training else loss

    def penalty(self) -> Tensor:
        """Return `l2` times the squared perturbation, and the penalty of the head."""
        delta = self.module_.reprogrammed.perturbation.effective()
        return self.l2 * delta.square().sum() + self.module_.head.penalty()

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Make a step; the cores are for the threads that have rows of their own."""
        with one_thread():
            return super().train_step(batch, **fit_params)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Make the gradients of the loss with the penalties; return that without.

        So the curves of training and validation are of the same loss.
        """
        self._set_training(True)
        X, y = unpack_data(batch)
        y_pred = self.infer(X, **fit_params)
        loss = self.get_loss(y_pred, y, X=X)
        (loss + self.penalty()).backward()
        return {"loss": loss, "y_pred": y_pred}

    def forget_training(self) -> None:
        """Let go of what only the training needed; it would be pickled with the net.

        These are the validation rows, the callbacks with their references to the
        optimiser, the losses of single batches, and the second reference to the module.
        """
        # Prediction finds the module as it needs it and never switches modes, which
        # would reach into predictions in other threads.
        self.module_.eval()
        for row in self.history:
            row["batches"] = []
        own = {"accuracy", "keep_state", "refit_mapping", "lr_schedule", "progress"}
        self.callbacks_: list[Any] = [
            row for row in self.callbacks_ if row[0] not in own
        ]
        self.callbacks = None
        self.train_split = None
        self.module = type(self.module_)

    def hold_optimizer_on(self, device: str | torch.device) -> None:
        """Move the optimiser's moments to where the module's parameters are."""
        for state in self.optimizer_.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim() > 0:
                    state[name] = value.to(device)

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **params: Any
    ) -> "V2SNet":
        """Train; remember whether the user stopped it, and count whole epochs only."""
        self.interrupted_ = False
        self.stopped_early_ = False
        try:
            return super().fit_loop(X, y, epochs=epochs, **params)
        except KeyboardInterrupt:
            self.interrupted_ = not self.stopped_early_
            if self.history and "train_loss" not in self.history[-1]:
                del self.history[-1]
            raise


def stratified_validation_rows(
    y: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose rows of the training data to validate on.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Encoded classes.
    fraction : float
        Share of each class; every class keeps at least one row to train on.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    ndarray of shape (n_validation,)
        Row numbers, sorted.

    Raises
    ------
    ValueError
        If no class has a row to spare.
    """
    chosen: list[np.ndarray] = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        chosen.append(rng.permutation(rows)[:count])
    validation = np.sort(np.concatenate(chosen))
    if len(validation) == 0:
        raise ValueError(
            "early_stopping=True needs a class with at least 2 samples to validate on; "
            "every class has 1. Set early_stopping=False."
        )
    return validation


def build_net(
    module: TargetModule,
    mapping: Any,
    n_train: int,
    validation: tuple[dict[str, np.ndarray], np.ndarray] | None,
    *,
    n_iter_no_change: int,
    max_epochs: int,
    batch_size: int,
    lr: float,
    source_lr: float,
    lr_schedule: Literal["constant", "cosine"],
    l2: float,
    seed: int,
    device: torch.device,
    verbose: int,
    callbacks: list[Any] | None,
) -> V2SNet:
    """Return an initialised net.

    Parameters
    ----------
    module : TargetModule
        What is trained; it is used itself, not a copy.
    mapping : estimator
        Fitted label mapping; changed in place if it follows the training.
    n_train : int
        Number of rows to train on.
    validation : tuple of (dict, ndarray) or None
        ``X`` and ``y`` of the rows to validate on.
    n_iter_no_change, max_epochs, batch_size, lr, source_lr, lr_schedule, l2, verbose
        See `sklearn_v2s.V2SClassifier`.
    callbacks : list of skorch callbacks or None
        Of the user.
    seed : int
        Of the order of the batches.
    device : torch.device
        Where to train.

    Returns
    -------
    V2SNet
        Ready for ``partial_fit``.
    """
    for callback in callbacks or []:
        # With a name of its own or without, as skorch takes them.
        each = callback[1] if isinstance(callback, tuple) else callback
        kind = each if isinstance(each, type) else type(each)
        if not issubclass(kind, Callback):
            raise TypeError(
                f"callbacks holds {callback!r}; allowed are skorch callbacks, alone or "
                "as (name, callback)."
            )
    own: list[Any] = [("accuracy", EpochAccuracy())]
    refit = getattr(mapping, "refit_each_epoch", False)
    if refit and isinstance(module.head, MatrixHead):
        own.append(("refit_mapping", RefitMapping(mapping)))
    if lr_schedule == "cosine" and max_epochs > 0:
        steps = max_epochs * -(-n_train // batch_size)
        scheduler = LRScheduler(
            torch.optim.lr_scheduler.CosineAnnealingLR, T_max=steps, step_every="batch"
        )
        own.append(("lr_schedule", scheduler))
    if verbose:
        own.append(("progress", EpochProgress()))
    # Last, for it ends the training, and the bar is to show that epoch. Before the
    # callbacks of the user, which may interrupt at an epoch's end: that epoch counts.
    patience = None if validation is None else n_iter_no_change
    own.append(("keep_state", KeepState(patience)))
    net = V2SNet(
        module,
        optimizer=torch.optim.Adam,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        # Both loaders draw a seed when they start; without a generator of their own
        # they would move torch's global one.
        iterator_train__shuffle=True,
        iterator_train__collate_fn=keep_batch,
        iterator_valid__collate_fn=keep_batch,
        iterator_train__generator=torch.Generator().manual_seed(seed),
        iterator_valid__generator=torch.Generator().manual_seed(seed),
        train_split=None
        if validation is None
        else predefined_split(
            RowsOnDevice(*validation, module.reprogrammed.perturbation.delta)
        ),
        callbacks=[*own, *(callbacks or [])],
        # skorch makes no group where no name fits, that is, without fine-tuning.
        optimizer__param_groups=[(f"{SOURCE_PARAMETERS}*", {"lr": source_lr})],
        l2=l2,
        verbose=0,
        device=device,
    )
    return net.initialize()
