# SPDX-License-Identifier: Apache-2.0
"""Callbacks of a training: states kept, mappings refitted, accuracy, progress."""

import copy
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from tqdm import tqdm

from sklearn_v2s.label_mapping.contract import MatrixMapping
from sklearn_v2s.label_mapping.fitting import fit_mapping
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.views.source_views import read_outputs

__all__ = [
    "EpochAccuracy",
    "EpochProgress",
    "KeepState",
    "RefitMapping",
]


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
        self.state_ = copy.deepcopy(net.learned_state())
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
        net.load_learned_state(self.state_)
        del self.state_


class RefitMapping(Callback):
    """Fit a label mapping again at the beginning of each epoch, without dropout.

    Parameters
    ----------
    mapping : MatrixMapping
        With ``refit_each_epoch``; changed in place.
    """

    def __init__(self, mapping: MatrixMapping) -> None:
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
        scores = read_outputs(outputs, "logits", mean_logits=True)
        # Weights of mean 1 suit the loss; a mapping may need to count.
        weight = X.get("count", X["sample_weight"])
        n_classes = net.module_.head.weights.shape[1]
        fit_mapping(self.mapping, scores, y, weight, n_classes)
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
