# SPDX-License-Identifier: Apache-2.0
"""Gradient training of the perturbation, driven by skorch."""

import copy
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
from torch.nn import functional
from torch.utils.data import Dataset
from tqdm import tqdm

from sklearn_v2s.devices import send
from sklearn_v2s.label_mapping.linear import (
    SHORTEST,
    LinearLabelMapping,
    long_blocks,
)
from sklearn_v2s.reprogramming import ReprogrammedSource, collect_outputs
from sklearn_v2s.sources.contract import SourceOutputs

__all__ = [
    "EpochAccuracy",
    "EpochProgress",
    "KeepState",
    "LinearHead",
    "MatrixHead",
    "RowsOnDevice",
    "TargetModule",
    "V2SNet",
    "build_net",
    "keep_batch",
    "mapping_input",
    "mean_loss",
    "stratified_validation_rows",
]

SourceOutput = Literal["logits", "embedding", "both"]

# How the names of the weights of a source that is fine-tuned begin.
SOURCE_PARAMETERS = "reprogrammed.source."


def mapping_input(
    outputs: SourceOutputs, source_output: SourceOutput, reads_logits: bool
) -> Any:
    """Return what a label mapping reads of the source outputs of all views.

    Parameters
    ----------
    outputs : SourceOutputs
        Logits (n, G, K) and embedding (n, G, d), as tensors or arrays.
    source_output : {"logits", "embedding", "both"}
        Which of them.
    reads_logits : bool
        Whether the mapping reads the scores of words. It then gets the mean over the
        views, (n, K); other mappings get all views side by side.

    Returns
    -------
    Tensor or ndarray of shape (n, n_features)
        Of the kind that came in.
    """
    if reads_logits:
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


class MatrixHead(nn.Module):
    """Torch twin of the label mappings that are a matrix of source by target classes.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : estimator
        Fitted, with ``weights_`` of shape (K, C) and ``aggregation``.
    """

    weights: Tensor

    def __init__(self, mapping: Any) -> None:
        super().__init__()
        self.register_buffer("weights", torch.empty(0, dtype=torch.float64))
        self.read(mapping)

    def read(self, mapping: Any) -> None:
        """Take over the matrix of a mapping that was fitted again."""
        self.aggregation = mapping.aggregation
        # A copy: restoring a state writes into it.
        self.weights = torch.tensor(
            mapping.weights_, dtype=self.weights.dtype, device=self.weights.device
        )

    def forward(self, logits: Tensor) -> Tensor:
        """Return logarithms of the target-class scores, of shape (batch, C)."""
        if self.aggregation == "logit":
            return torch.log_softmax(logits @ self.weights, dim=1)
        log_probabilities = torch.log_softmax(logits, dim=1)
        # log sum exp keeps equation 4 finite where all words of a class are unlikely.
        return torch.logsumexp(
            log_probabilities.unsqueeze(2) + self.weights.log(), dim=1
        )

    def penalty(self) -> Tensor:
        """Return nothing to add to the loss: the matrix is not learned by gradient."""
        return self.weights.new_zeros(())


class LinearHead(nn.Module):
    """Torch twin of the learned label mapping, trained together with the perturbation.

    It is made in float64, as mappings are, and loses nothing until it is moved with
    ``to``.

    Parameters
    ----------
    mapping : estimator
        Fitted. A `LinearLabelMapping` gives the starting point; beside any other
        mapping the head starts at zero.
    n_features, n_classes : int
        Size.
    weight_decay : float, default=1e-3
        Factor of the squared weights in the loss.
    """

    mean: Tensor
    scale: Tensor
    bound: Tensor

    def __init__(
        self, mapping: Any, n_features: int, n_classes: int, weight_decay: float = 1e-3
    ) -> None:
        super().__init__()
        self.weight_decay = weight_decay
        double = torch.float64
        self.register_buffer("mean", torch.zeros(n_features, dtype=double))
        self.register_buffer("scale", torch.ones(n_features, dtype=double))
        bound = torch.full((n_features,), torch.inf, dtype=double)
        self.register_buffer("bound", bound)
        self.weight = nn.Parameter(torch.zeros(n_classes, n_features, dtype=double))
        self.bias = nn.Parameter(torch.zeros(n_classes, dtype=double))
        self.long_blocks: list[slice] = []
        if isinstance(mapping, LinearLabelMapping):
            self.long_blocks = long_blocks(mapping.block_sizes)
            with torch.no_grad():
                self.mean.copy_(torch.as_tensor(mapping.mean_))
                self.scale.copy_(torch.as_tensor(mapping.scale_))
                self.bound.copy_(torch.as_tensor(mapping.bound_))
                factor = float(mapping.temperature_)
                self.weight.copy_(torch.as_tensor(mapping.coef_ * factor))
                self.bias.copy_(torch.as_tensor(mapping.intercept_ * factor))

    def forward(self, features: Tensor) -> Tensor:
        """Return logarithms of the target-class probabilities, of shape (batch, C)."""
        standardised = (features - self.mean) / self.scale
        standardised = torch.clamp(standardised, -self.bound, self.bound)
        if self.long_blocks:
            standardised = self._bring_to_length(standardised)
        return torch.log_softmax(
            functional.linear(standardised, self.weight, self.bias), dim=1
        )

    def _bring_to_length(self, rows: Tensor) -> Tensor:
        parts, start = [], 0
        for block in self.long_blocks:
            part = rows[:, block]
            # The slope of a square root is infinite at zero.
            square = part.square().mean(1, keepdim=True).clamp_min(SHORTEST**2)
            parts += [rows[:, start : block.start], part / square.sqrt()]
            start = block.stop
        return torch.cat([*parts, rows[:, start:]], dim=1)

    def penalty(self) -> Tensor:
        """Return the squared size of the weights, times the weight decay."""
        return self.weight_decay * self.weight.square().sum()


class TargetModule(nn.Module):
    """Reprogrammed source and head: series to target-class log-scores.

    Parameters
    ----------
    reprogrammed : ReprogrammedSource
        Series to source outputs.
    head : MatrixHead or LinearHead
        Source outputs to log-scores.
    source_output : {"logits", "embedding", "both"}
        What a linear head reads.
    hears_replicas : bool, default=True
        Whether the view of the reprogrammed source is read at all.
    """

    def __init__(
        self,
        reprogrammed: ReprogrammedSource,
        head: MatrixHead | LinearHead,
        source_output: SourceOutput,
        hears_replicas: bool = True,
    ) -> None:
        super().__init__()
        self.reprogrammed = reprogrammed
        self.head = head
        self.source_output: SourceOutput = source_output
        self.hears_replicas = hears_replicas

    def forward(
        self,
        series: Tensor,
        fixed: Tensor | None = None,
        row: Tensor | None = None,
    ) -> Tensor:
        """Return logarithms of the target-class scores, of shape (batch, C).

        Parameters
        ----------
        series : Tensor of shape (batch, n_channels, n_timepoints)
            Normalised series.
        fixed : Tensor of shape (batch, n_fixed), default=None
            Features of the views that no gradient changes.
        row : Tensor of shape (batch,), default=None
            Which of the series of `ReprogrammedSource.keep_spectra` they are.
        """
        outputs = self.reprogrammed(series, row) if self.hears_replicas else None
        return self.read(outputs, fixed)

    def read(self, outputs: SourceOutputs | None, fixed: Tensor | None) -> Tensor:
        """Return what `forward` does, of what the source said about the series."""
        parts = [] if fixed is None else [fixed]
        if outputs is not None:
            reads_logits = isinstance(self.head, MatrixHead)
            heard = mapping_input(outputs, self.source_output, reads_logits)
            parts.insert(0, heard)
        return self.head(torch.cat(parts, dim=1))


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


class KeepState(Callback):
    """Keep the best epoch by validation loss, or else the last complete one.

    Parameters
    ----------
    n_iter_no_change : int or None
        Stop after that many epochs without a better validation loss. None: there is no
        validation part, and the state is only needed after an interruption.
    """

    def __init__(self, n_iter_no_change: int | None) -> None:
        self.n_iter_no_change = n_iter_no_change

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start with the state before the first step."""
        self.best_loss_ = np.inf
        self._keep(net, len(net.history))

    def _keep(self, net: NeuralNet, epoch: int) -> None:
        self.state_ = copy.deepcopy(net.module_.state_dict())
        net.kept_epoch_ = epoch

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the state if it is the one to return so far; stop when patience ends."""
        epoch = len(net.history)
        if self.n_iter_no_change is None:
            self._keep(net, epoch)
            return
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_loss_:
            self.best_loss_ = loss
            self._keep(net, epoch)
        elif epoch - net.kept_epoch_ >= self.n_iter_no_change:
            net.stopped_early_ = True
            # The way in which skorch's own callbacks end a training.
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Put the kept state back."""
        net.module_.load_state_dict(self.state_)
        del self.state_


class RefitMapping(Callback):
    """Fit a label mapping again at the beginning of each epoch, without dropout.

    Parameters
    ----------
    mapping : estimator
        With ``refit_each_epoch``; changed in place.
    """

    def __init__(self, mapping: Any) -> None:
        self.mapping = mapping

    def on_train_begin(
        self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any
    ) -> None:
        """Hold the training data as long as the training lasts."""
        self.data_ = X, y
        # By epoch, counted over all trainings of the net.
        self.fitted_ = {len(net.history): copy.deepcopy(vars(self.mapping))}

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Fit the mapping on the present source outputs and hand it to the head."""
        X, y = self.data_
        outputs = collect_outputs(net.module_.reprogrammed, X["series"], rows=X["row"])
        scores = mapping_input(outputs, "logits", reads_logits=True)
        # Weights of mean 1 suit the loss; a mapping may need to count.
        weight = X.get("count", X["sample_weight"])
        n_classes = net.module_.head.weights.shape[1]
        # Only our own mappings know `classes`; others are asked to do without.
        absent = len(np.unique(y[weight > 0])) < n_classes
        classes = {"classes": np.arange(n_classes)} if absent else {}
        self.mapping.fit(scores, y, sample_weight=weight, **classes)
        net.module_.head.read(self.mapping)
        self.fitted_[len(net.history)] = copy.deepcopy(vars(self.mapping))

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Make the mapping the one of the state that is kept, and let the data go."""
        vars(self.mapping).update(self.fitted_[net.kept_epoch_])
        net.module_.head.read(self.mapping)
        del self.data_, self.fitted_


class EpochAccuracy(Callback):
    """Record the weighted accuracy of each epoch, from the batches as they pass.

    That of the training part is of batches seen with dropout and while the parameters
    change, as its loss is.
    """

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin to count."""
        self.sums_: dict[str, Any] = {}

    def on_batch_end(
        self,
        net: NeuralNet,
        batch: Any = None,
        training: bool | None = None,
        y_pred: Any = None,
        **kwargs: Any,
    ) -> None:
        """Count a batch, where it was computed: no device has to be waited for."""
        X, y = batch
        weight = X["sample_weight"]
        right = weight * (y_pred.detach().argmax(1) == y)
        name = "train_accuracy" if training else "valid_accuracy"
        before = self.sums_.get(name, 0.0)
        self.sums_[name] = before + torch.stack([right.sum(), weight.sum()])

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the shares."""
        for name, sums in self.sums_.items():
            right, total = sums.tolist()
            net.history.record(name, right / total)
        del self.sums_


class EpochProgress(Callback):
    """A progress bar over the epochs, on standard error."""

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, desc="epochs of training")

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Show the losses of the epoch."""
        row = net.history[-1]
        shown = {key: row[key] for key in ("train_loss", "valid_loss") if key in row}
        self.bar_.set_postfix({key: f"{value:.4f}" for key, value in shown.items()})
        self.bar_.update()

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close the bar; an open one cannot be pickled."""
        self.bar_.close()
        del self.bar_


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
