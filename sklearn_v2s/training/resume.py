# SPDX-License-Identifier: Apache-2.0
"""Trainings that write checkpoints and can be taken up again."""

import copy
import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_v2s.label_mapping.fitting import LABEL_MAPPINGS
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    remove_unfinished,
    write_tensor_file,
)
from sklearn_v2s.training.net import epoch_rows
from sklearn_v2s.training.state import (
    PLAIN,
    callbacks_by_name,
    collect_state,
    restore_state,
)

if TYPE_CHECKING:
    from sklearn_v2s.classifier import V2SClassifier

__all__ = ["fit_with_checkpoints", "state_path"]

_KIND = "V2SClassifier training state"
# Settings that a training has to go on with, and where skorch keeps them.
_SETTINGS = ("max_epochs", "batch_size", "lr", "l2")


def state_path(path: str | os.PathLike[str]) -> Path:
    """Return the name of the file that a training is taken up again from.

    Parameters
    ----------
    path : path-like
        File of the classifier, ``NAME.safetensors``.

    Returns
    -------
    Path
        ``NAME.state.safetensors``, in the same folder.
    """
    path = Path(path)
    return path.with_name(f"{path.stem}.state{path.suffix}")


def fit_with_checkpoints(
    classifier: "V2SClassifier",
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    every: int | None = None,
    resume: bool = False,
    sample_weight: Any = None,
) -> "V2SClassifier":
    """Fit a classifier and write it each few epochs of its training.

    A checkpoint is two files, each replaced in one step. `path` holds the classifier
    as the last epoch left it, which `V2SClassifier.load` reads; a linear label mapping
    is in it as the gradient made it, while the one of the complete training is fitted
    in closed form at the end. The file of `state_path` holds what the training needs
    to go on: parameters, the optimiser's moments, the learning rate, the state of all
    random generators, the best epoch so far, the losses. It is removed when the
    training is complete.

    A training that is taken up again on the same machine ends in the same numbers as
    one that was never interrupted. What it does not go on with is the state of
    callbacks of the user.

    Parameters
    ----------
    classifier : V2SClassifier
        Fitted here; it needs ``max_epochs`` of 1 or more, ``warm_start=False`` and,
        with a linear label mapping, ``cross_fit=1``.
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
        Series.
    y : array-like of shape (n,)
        Labels.
    path : path-like
        Of the classifier, usually ``*.safetensors``.
    every : int, default=None
        Epochs from one checkpoint to the next. None takes that of the checkpoint to go
        on from, or 1.
    resume : bool, default=False
        Go on from the checkpoint beside `path`; without one, start at the beginning.
    sample_weight : array-like of shape (n,), default=None
        Weights.

    Returns
    -------
    V2SClassifier
        The classifier, fitted and saved in `path`. If its training was interrupted
        (Ctrl-C), the state file is still there.

    Raises
    ------
    FileExistsError
        If there is a checkpoint and `resume` is False.
    ValueError
        If there is nothing to train, or if data or settings are not those of the
        checkpoint.
    TensorFileError
        If the checkpoint is damaged or was written by another version.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.training.resume import fit_with_checkpoints
    >>> from sklearn_v2s.datasets import make_control_charts
    >>> X, y = make_control_charts(12, random_state=0)
    >>> classifier = V2SClassifier.from_paper(max_epochs=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.safetensors"
    ...     _ = fit_with_checkpoints(classifier, X, y, path)
    ...     V2SClassifier.load(path).n_iter_
    2
    """
    if every is not None and every < 1:
        raise ValueError(f"every={every!r} must be 1 or more epochs.")
    if classifier.max_epochs == 0 or classifier.warm_start:
        raise ValueError(
            f"checkpoints need a training that begins: max_epochs is "
            f"{classifier.max_epochs!r} and warm_start={classifier.warm_start}. Set "
            "max_epochs to 'auto' or 1 or more, and warm_start=False."
        )
    state = state_path(path)
    if state.is_file() and not resume:
        raise FileExistsError(
            f"{state} is the checkpoint of an unfinished training. Go on with it by "
            "resume=True (--resume), or remove it to begin anew."
        )
    mapping = classifier.label_mapping
    if classifier.cross_fit > 1 and not classifier.fine_tune and mapping == "linear":
        raise ValueError(
            f"checkpoints are of one training, but cross_fit={classifier.cross_fit} "
            "trains once for each part of the data. Set cross_fit=1."
        )
    for target in (path, state):
        remove_unfinished(target)
    before = classifier.callbacks
    writer = _CheckpointWriter(path, every, _read(state))
    try:
        classifier.set_params(callbacks=[*(before or []), writer])
        classifier.fit(X, y, sample_weight)
    finally:
        classifier.set_params(callbacks=before)
    _without_callbacks(classifier).save(path)
    if not classifier.net_.interrupted_:
        state.unlink(missing_ok=True)
    return classifier


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Return the checkpoint of a training, None where there is none."""
    if not path.is_file():
        return None
    try:
        tensors, header, _ = read_tensor_file(path)
    except TensorFileError as error:
        # What the reader advises is for files that can be had again.
        raise TensorFileError(
            f"the checkpoint {path} is damaged: nothing can go on from it. Remove the "
            "file to begin anew."
        ) from error
    if header.get("kind") != _KIND:
        raise TensorFileError(
            f"{path} holds a {header.get('kind')!r}, not a {_KIND!r}. Move it away, or "
            "write the classifier under another name."
        )
    return tensors, header


class _CheckpointWriter(Callback):
    """Write a checkpoint each few epochs; begin with the one that is there.

    Parameters
    ----------
    path : path-like
        Of the classifier.
    every : int or None
        Epochs from one checkpoint to the next; see `fit_with_checkpoints`.
    begin_with : tuple of (dict, dict) or None
        Arrays and header of the checkpoint to go on from.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int | None,
        begin_with: tuple[dict[str, np.ndarray], dict[str, Any]] | None,
    ) -> None:
        self.path = path
        self.every = every
        self.begin_with = begin_with

    def bind(self, classifier: "V2SClassifier") -> None:
        """Get the classifier that is being fitted, aside from the user's object."""
        self.classifier_ = classifier

    def on_train_begin(
        self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any
    ) -> None:
        """Take up the training that is on file."""
        self.about_ = _describe(self.classifier_, net, X, y)
        self.every_ = self.every or 1
        if self.begin_with is None:
            return
        tensors, header = self.begin_with
        path = state_path(self.path)
        try:
            kept = _with_later_parameters(header["about"], self.about_)
            different = _differences(kept, self.about_)
            if not different:
                restore_state(net, tensors, header)
                self.every_ = self.every or int(header["every"])
        except MemoryError:
            raise
        except Exception as error:
            # The SHA-256 is right, so this is what was written; what it makes of the
            # parts of a training may be any error.
            raise TensorFileError(
                f"{path} holds a checkpoint that this version of sklearn-v2s cannot "
                f"read ({error!r}). Go on with the version that wrote it, or remove "
                "the file to begin anew."
            ) from error
        if different:
            raise ValueError(
                f"{path} is the checkpoint of another training; different now: "
                f"{', '.join(different)}. Give the data and settings of that training, "
                "or remove the file to begin anew."
            )

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write a checkpoint; end when no epoch is left."""
        done = len(net.history)
        if done >= net.max_epochs:
            # skorch would train all epochs once more from where it was taken up.
            net.stopped_early_ = True
            raise KeyboardInterrupt
        if done % self.every_ == 0:
            self._save_classifier(net)
            tensors, header = collect_state(net)
            header |= {"kind": _KIND, "about": self.about_, "every": self.every_}
            write_tensor_file(state_path(self.path), tensors, header)

    def _save_classifier(self, net: NeuralNet) -> None:
        snapshot = _without_callbacks(self.classifier_)
        snapshot.model_ = snapshot.model_.snapshot(net.module_)
        snapshot.model_.history = epoch_rows(net.history)
        snapshot.save(self.path)


def _without_callbacks(classifier: "V2SClassifier") -> "V2SClassifier":
    """Return the same classifier without callbacks, which no file can hold."""
    return copy.copy(classifier).set_params(callbacks=None)


def _describe(
    classifier: "V2SClassifier", net: NeuralNet, X: dict[str, np.ndarray], y: np.ndarray
) -> dict[str, Any]:
    """Return what has to be the same where a training is taken up again."""
    module = net.module_
    perturbation = module.reprogrammed.perturbation
    own = callbacks_by_name(net)
    mapping = classifier.label_mapping_
    source = classifier.model_.source_reference
    return {
        "settings": {
            **{name: getattr(net, name) for name in _SETTINGS},
            "source_lr": net.optimizer__param_groups[0][1]["lr"],
            "lr_schedule": "cosine" if "lr_schedule" in own else "constant",
            "n_iter_no_change": own["keep_state"].n_iter_no_change,
            "dropout": perturbation.dropout,
            "mask": perturbation.mask is not None,
            "train_gain": perturbation.log_gain.requires_grad,
            "fine_tune": module.reprogrammed.owns_source,
        },
        "source": None if source is None else source.sha256,
        # The initial values are drawn on the CPU: the same on every machine.
        "initial perturbation (n_views, init_scale, random_state)": _digest(
            perturbation.delta.detach().cpu().numpy()
        ),
        "label mapping": {
            "kind": type(mapping).__name__,
            "parameters": {
                name: value
                for name, value in mapping.get_params().items()
                if isinstance(value, PLAIN)
            },
            **{
                name: list(tensor.shape)
                for name, tensor in module.head.state_dict().items()
            },
        },
        "labels": _digest(np.asarray(y, dtype=np.int64)),
        "series": {
            name: _summary(X[name])
            for name in ("series", "sample_weight", "fixed", "offset")
            if name in X
        },
    }


def _digest(values: np.ndarray) -> str:
    content = repr(values.shape).encode() + np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(content).hexdigest()


def _summary(values: np.ndarray) -> list[float]:
    """Return numbers that tell data apart and are nearly the same on all machines."""
    flat = np.ravel(values).astype(np.float64)
    norm = float(np.linalg.norm(flat))
    # Standardised data have the same norm, but not the same order of values.
    waves = np.cos(np.arange(len(flat)))
    return [*np.shape(values), norm, float(flat @ waves) / (norm or 1.0)]


def _with_later_parameters(kept: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says of its training, with parameters of later versions.

    Where a label mapping has got a parameter since, it did what the default does.
    """
    mapping, present = kept["label mapping"], now["label mapping"]
    if mapping["kind"] != present["kind"]:
        return kept
    defaults = {**_defaults(mapping["kind"]), **mapping["parameters"]}
    parameters = {name: defaults.get(name) for name in present["parameters"]}
    return {**kept, "label mapping": {**mapping, "parameters": parameters}}


def _defaults(kind: str) -> dict[str, Any]:
    """Return the default parameters of a label mapping of the package."""
    for mapping in LABEL_MAPPINGS.values():
        if mapping.__name__ == kind:
            return mapping().get_params()
    return {}


def _differences(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what is not the same in a checkpoint and now, for the error."""
    different = []
    for part, value in now.items():
        before: Any = kept[part]
        if part == "settings":
            different += [
                f"{name}={value[name]!r} (it was {before.get(name)!r})"
                for name in value
                if value[name] != before.get(name)
            ]
        elif not _same(before, value):
            different.append(part)
    return different


def _same(before: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return before.keys() == value.keys() and all(
            _same(before[name], value[name]) for name in value
        )
    if isinstance(value, list):
        return len(before) == len(value) and all(map(_same, before, value))
    if isinstance(value, float):
        return math.isclose(before, value, rel_tol=1e-5, abs_tol=1e-5)
    return before == value
