# SPDX-License-Identifier: Apache-2.0
"""Gradient training of the perturbation, driven by skorch."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import unpack_data
from skorch.helper import predefined_split
from skorch.utils import is_dataset
from torch import Tensor, nn
from torch.utils.data import Dataset

from sklearn_v2s.label_mapping.contract import LabelMapping, MatrixMapping
from sklearn_v2s.label_mapping.heads import LinearHead, MatrixHead
from sklearn_v2s.runtime.devices import to_device
from sklearn_v2s.runtime.row_parts import one_thread
from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.training.callbacks import (
    EpochAccuracy,
    EpochProgress,
    KeepState,
    RefitMapping,
)
from sklearn_v2s.training.module import SOURCE_PARAMETERS, TargetModule

__all__ = [
    "NetSettings",
    "RowsOnDevice",
    "SeriesNet",
    "TrainingSettings",
    "V2SNet",
    "build_net",
    "build_v2s_net",
    "epoch_rows",
    "keep_batch",
    "mean_history",
    "mean_loss",
]


@dataclass(frozen=True, kw_only=True)
class NetSettings:
    """How to train any net; see the parameters of `sklearn_v2s.V2SClassifier`.

    Attributes
    ----------
    shuffle_seed : int
        Of the order of the batches.
    """

    max_epochs: int
    lr: float
    lr_schedule: Literal["constant", "cosine"]
    n_iter_no_change: int
    shuffle_seed: int
    verbose: int = 0
    callbacks: Sequence[Any] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(NetSettings):
    """How to train a perturbation."""

    batch_size: int
    source_lr: float
    l2: float


_HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "valid_loss",
    "train_accuracy",
    "valid_accuracy",
    "sliced_wasserstein",
    "dur",
)


def epoch_rows(history: Any) -> list[dict[str, float]]:
    """Return losses, accuracies and seconds of each epoch of a skorch history."""
    return [
        {key: float(row[key]) for key in _HISTORY_COLUMNS if key in row}
        for row in history
    ]


def mean_history(histories: Sequence[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Return one history of several trainings: of each epoch the mean over them.

    Parameters
    ----------
    histories : sequence of list of dict
        As `epoch_rows` returns them; some may be shorter than others.

    Returns
    -------
    list of dict
        As long as the longest; seconds are added up.
    """
    rows = []
    for number in range(max(map(len, histories))):
        there = [history[number] for history in histories if number < len(history)]
        row = {key: sum(each[key] for each in there) / len(there) for key in there[0]}
        row["dur"] = sum(each["dur"] for each in there)
        rows.append(row)
    return rows


def mean_loss(log_scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of -log P(y|x) of a batch (equation 3)."""
    loss = -log_scores.gather(1, target.unsqueeze(1)).squeeze(1)
    return (loss * weight).mean()


class RowsOnDevice(Dataset[Any]):
    """Training data as tensors on the device.

    A batch is one indexing operation there. Only its row numbers come from the host, in
    pinned memory, so that the host need not wait for the device.

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
    >>> from sklearn_v2s.training.net import RowsOnDevice
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
        """Return a batch; torch's loader prefers this to single rows."""
        index = to_device(torch.tensor(rows), self._device)
        return {name: values[index] for name, values in self._X.items()}, self._y[index]


def keep_batch(batch: Any) -> Any:
    """Return a batch of `RowsOnDevice`, which is collated already."""
    return batch


class SeriesNet(NeuralNet):
    """A skorch net with a weighted loss and a clean interruption.

    It takes ``X`` as a dictionary of arrays, with ``sample_weight`` among them, and
    ``y`` as encoded classes.
    """

    def __init__(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(module, *args, criterion=nn.NLLLoss, **kwargs)

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Return the rows, on the device."""
        if is_dataset(X):
            return X
        _, like = next(iter(self.get_all_learnable_params()))
        return RowsOnDevice(X, y, like)

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what the optimiser changes."""
        yield from self.module_.named_parameters()

    def learned_state(self) -> dict[str, Tensor]:
        """Return the state of the module that a training may change."""
        return self.module_.state_dict()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `learned_state` returned."""
        self.module_.load_state_dict(state)

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

    def penalty(self) -> Tensor | float:
        """Return what is added to the loss in training."""
        return 0.0

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

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **params: Any
    ) -> Self:
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

    def warn_if_interrupted(self, done: int, epochs: int) -> None:
        """Warn if the user stopped the training after `done` of its `epochs`."""
        if self.interrupted_:
            warn_user(
                f"the training was interrupted after {done} complete epochs of "
                f"{epochs}; the estimator keeps the best state so far."
            )


class V2SNet(SeriesNet):
    """The skorch net of Voice2Series.

    It takes ``X`` as a dictionary of ``series``, ``row`` (their numbers),
    ``sample_weight`` and, where there are views that no gradient changes, ``fixed``
    (their features) or ``offset`` (their scores), and ``y`` as encoded classes. The
    loss is equation 3 with weights, plus `l2` times the squared perturbation and the
    penalty of the head; the history has it without these. A further entry ``count``
    holds the weights as they were given, for label mappings that count them.
    """

    module_: TargetModule

    def __init__(
        self, module: TargetModule, *args: Any, l2: float = 0.0, **kwargs: Any
    ) -> None:
        self.l2 = l2
        super().__init__(module, *args, **kwargs)

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield what the optimiser changes."""
        yield from self.module_.learned_parameters()

    def learned_state(self) -> dict[str, Tensor]:
        """Return the state of the module without a shared source."""
        return self.module_.learned_state()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `learned_state` returned."""
        self.module_.load_learned_state(state)

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        """Return the log-scores of a batch; the weights are for the loss alone."""
        names = ("series", "fixed", "offset")
        inputs = {name: x[name] for name in names if name in x}
        return self.module_(**inputs, row=x["row"])

    def penalty(self) -> Tensor:
        """Return `l2` times the squared perturbation, and the penalty of the head."""
        delta = self.module_.reprogrammed.perturbation.effective()
        return self.l2 * delta.square().sum() + self.module_.head.penalty()

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Make a step; the cores are for the threads that have rows of their own."""
        with one_thread():
            return super().train_step(batch, **fit_params)

    def continue_from(self, previous: "V2SNet") -> None:
        """Take over head, optimiser, random state and history of an earlier training.

        All of it is copied: `previous` stays as it is, whatever becomes of this net.
        """
        self.module_.head.load_state_dict(previous.module_.head.state_dict())
        moments = copy.deepcopy(previous.optimizer_.state_dict()["state"])
        groups = self.optimizer_.state_dict()["param_groups"]
        self.optimizer_.load_state_dict({"state": moments, "param_groups": groups})
        for name in ("iterator_train__generator", "iterator_valid__generator"):
            getattr(self, name).set_state(getattr(previous, name).get_state())
        for row in previous.history:
            self.history.new_epoch()
            self.history[-1].update(row)

    def replace_head(self, head: LinearHead | MatrixHead) -> None:
        """Take over a head that was fitted again in closed form.

        It may read other features than the trained one did; there are no moments of
        theirs then, for a training that goes on.

        Parameters
        ----------
        head : LinearHead or MatrixHead
            On the CPU.
        """
        moments = self.optimizer_.state_dict()["state"]
        self.module_.head = head
        self.initialize_optimizer()
        state = self.optimizer_.state_dict()
        parameters = [
            parameter
            for group in self.optimizer_.param_groups
            for parameter in group["params"]
        ]
        state["state"] = {
            number: of_one
            for number, of_one in moments.items()
            if of_one["exp_avg"].shape == parameters[number].shape
        }
        self.optimizer_.load_state_dict(state)

    def finish(self, module: TargetModule) -> None:
        """End the training: bring all to the CPU, drop what only the training needed.

        What is dropped would be pickled with the net: the validation rows, the
        callbacks with their references to the optimiser, the losses of single batches,
        and the second reference to the module.

        Parameters
        ----------
        module : TargetModule
            On the CPU; it receives the result of a training on another device.
        """
        if self.module_ is not module:
            module.load_learned_state(self.learned_state())
            state = self.optimizer_.state_dict()
            self.module_ = module
            self.initialize_optimizer()
            self.optimizer_.load_state_dict(state)
        # Predictions never switch modes, which would reach into other threads.
        module.eval()
        for row in self.history:
            row["batches"] = []
        self.train_split = None
        self.module = type(module)
        # The callbacks are the user's.
        self.set_params(callbacks=None)
        # skorch takes over the parameter after it has used the one before.
        self.initialize_callbacks()
        # Unpickling would bring the net to the device that is named here.
        self.device = "cpu"


Net = TypeVar("Net", bound=SeriesNet)


def build_net(
    net_class: type[Net],
    module: nn.Module,
    settings: NetSettings,
    like: Tensor,
    *,
    steps_per_epoch: int,
    validation: tuple[dict[str, np.ndarray], np.ndarray] | None,
    first_callbacks: Sequence[tuple[str, Callback]] = (),
    **parameters: Any,
) -> Net:
    """Return an initialised net with the loaders and callbacks that all trainings have.

    Parameters
    ----------
    net_class : type
        Its class.
    module : nn.Module
        What is trained; it is used itself, not a copy.
    settings : NetSettings
        How to train.
    like : Tensor
        Whose device and precision to train in.
    steps_per_epoch : int
        Batches of the training part.
    validation : tuple of (dict, ndarray) or None
        ``X`` and ``y`` of the rows to validate on.
    first_callbacks : sequence of (str, Callback), default=()
        Callbacks that see an epoch before its learning rate and the kept state change.
    **parameters
        Further parameters of the net.

    Returns
    -------
    SeriesNet
        Ready for ``partial_fit``.
    """
    callbacks = [("accuracy", EpochAccuracy()), *first_callbacks]
    if settings.lr_schedule == "cosine" and settings.max_epochs > 0:
        scheduler = LRScheduler(
            torch.optim.lr_scheduler.CosineAnnealingLR,
            T_max=settings.max_epochs * steps_per_epoch,
            step_every="batch",
        )
        callbacks.append(("lr_schedule", scheduler))
    if settings.verbose:
        callbacks.append(("progress", EpochProgress()))
    # Last, for it ends the training, and the bar is to show that epoch. Before the
    # callbacks of the user, which may interrupt at an epoch's end: that epoch counts.
    patience = None if validation is None else settings.n_iter_no_change
    callbacks.append(("keep_state", KeepState(patience)))
    split = None
    if validation is not None:
        split = predefined_split(RowsOnDevice(*validation, like))
    net = net_class(
        module,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        iterator_train__collate_fn=keep_batch,
        iterator_valid__collate_fn=keep_batch,
        # Both loaders draw a seed when they start; without a generator of their own
        # they would move torch's global one.
        iterator_train__generator=torch.Generator().manual_seed(settings.shuffle_seed),
        iterator_valid__generator=torch.Generator().manual_seed(settings.shuffle_seed),
        train_split=split,
        callbacks=[*callbacks, *settings.callbacks],
        verbose=0,
        device=like.device,
        **parameters,
    )
    return net.initialize()


def _head_group(module: TargetModule, lr: float) -> list[tuple[str, dict[str, float]]]:
    """Return the parameter group of a head that adds to an offset.

    It reads hundreds of standardised features, and Adam moves the weight of each by the
    learning rate: at that of the perturbation the scores would jump.
    """
    if not (module.adds_to_offset and isinstance(module.head, LinearHead)):
        return []
    n_features = module.head.weight.shape[1]
    return [("head.*", {"lr": lr / math.sqrt(n_features)})]


def build_v2s_net(
    module: TargetModule,
    mapping: LabelMapping,
    n_train: int,
    validation: tuple[dict[str, np.ndarray], np.ndarray] | None,
    settings: TrainingSettings,
    *,
    refits_mapping: bool,
) -> V2SNet:
    """Return an initialised net that trains a perturbation.

    Parameters
    ----------
    module : TargetModule
        What is trained; it is used itself, not a copy.
    mapping : estimator
        Fitted label mapping; changed in place if it is fitted again in each epoch.
    n_train : int
        Number of rows to train on.
    validation : tuple of (dict, ndarray) or None
        ``X`` and ``y`` of the rows to validate on.
    settings : TrainingSettings
        How to train.
    refits_mapping : bool
        Fit a mapping with ``refit_each_epoch`` again in each epoch.

    Returns
    -------
    V2SNet
        Ready for ``partial_fit``.
    """
    for callback in settings.callbacks:
        # With a name of its own or without, as skorch takes them.
        each = callback[1] if isinstance(callback, tuple) else callback
        callback_class = each if isinstance(each, type) else type(each)
        if not issubclass(callback_class, Callback):
            raise TypeError(
                f"callbacks holds {callback!r}; allowed are skorch callbacks, alone or "
                "as (name, callback)."
            )
    first: list[tuple[str, Callback]] = []
    follows = getattr(mapping, "refit_each_epoch", False)
    if refits_mapping and follows and isinstance(mapping, MatrixMapping):
        first.append(("refit_mapping", RefitMapping(mapping)))
    return build_net(
        V2SNet,
        module,
        settings,
        module.reprogrammed.perturbation.delta,
        steps_per_epoch=-(-n_train // settings.batch_size),
        validation=validation,
        first_callbacks=first,
        optimizer=torch.optim.Adam,
        # skorch makes no group where no name fits, that is, without fine-tuning.
        optimizer__param_groups=[
            (f"{SOURCE_PARAMETERS}*", {"lr": settings.source_lr}),
            *_head_group(module, settings.lr),
        ],
        batch_size=settings.batch_size,
        iterator_train__shuffle=True,
        l2=settings.l2,
    )
