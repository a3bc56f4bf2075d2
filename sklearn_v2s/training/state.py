# SPDX-License-Identifier: Apache-2.0
"""The state of a training between two epochs, as arrays and JSON."""

import copy
import math
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

__all__ = ["PLAIN", "callbacks_by_name", "collect_state", "restore_state"]

#: Kinds of values that JSON gives back as they were.
PLAIN = (str, int, float, bool, type(None))

# What changes in a schedule from step to step.
_MOVING = ("last_epoch", "_step_count", "_last_lr")


def callbacks_by_name(net: NeuralNet) -> dict[str, Any]:
    """Return the callbacks of a running training by name."""
    return dict(net.callbacks_)


def _generators(net: Any) -> dict[str, torch.Generator]:
    """Return all random generators of a training."""
    groups = net.module_.reprogrammed.perturbation.generators
    return {
        "train": net.iterator_train__generator,
        "valid": net.iterator_valid__generator,
        **{f"perturbation{group}": generator for group, generator in enumerate(groups)},
    }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def collect_state(net: NeuralNet) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the state of a training between two epochs.

    Parameters
    ----------
    net : NeuralNet
        As `sklearn_v2s.training.net.build_v2s_net` makes it, at the end of an epoch.

    Returns
    -------
    tensors : dict of str to ndarray
        Parameters, the optimiser's moments, random generators, the state to keep; on
        a CPU the training's own memory, to be written before it goes on.
    header : dict
        JSON: learning rates, the history, what has no array.
    """
    own = callbacks_by_name(net)
    keep = own["keep_state"]
    tensors = {
        f"module/{name}": _array(tensor) for name, tensor in net.learned_state().items()
    }
    if keep.n_iter_no_change is not None:
        # Without a validation part the kept state is the present one.
        for name, tensor in keep.state_.items():
            tensors[f"kept/{name}"] = _array(tensor)
    optimizer = net.optimizer_.state_dict()
    for index, moments in optimizer["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer/{index}/{name}"] = _array(torch.as_tensor(value))
    for name, generator in _generators(net).items():
        tensors[f"generator/{name}"] = _array(generator.get_state())
    header: dict[str, Any] = {
        "kept_epoch": net.kept_epoch_,
        # JSON has no infinity: null means that there is no best loss yet.
        "best_loss": float(keep.best_loss_) if np.isfinite(keep.best_loss_) else None,
        "learning_rates": [group["lr"] for group in optimizer["param_groups"]],
        "history": [
            {
                name: value.item() if isinstance(value, np.generic) else value
                for name, value in row.items()
                if isinstance(value, (*PLAIN, np.generic))
            }
            for row in net.history
        ],
    }
    if "lr_schedule" in own:
        schedule = own["lr_schedule"].lr_scheduler_.state_dict()
        header["schedule"] = {
            name: value
            for name, value in schedule.items()
            if isinstance(value, (*PLAIN, list))
        }
    if "refit_mapping" in own:
        header["mapping"] = {}
        for name, value in own["refit_mapping"].fitted_[net.kept_epoch_].items():
            if isinstance(value, np.ndarray):
                tensors[f"mapping/{name}"] = value
            elif name.endswith("_"):
                plain = value.item() if isinstance(value, np.generic) else value
                header["mapping"][name] = plain
    return tensors, header


def _like(present: Any, kept: Any) -> Any:
    """Return a value of a file, which must be of the kind of the present one."""
    if isinstance(present, list):
        return [_like(*pair) for pair in zip(present, kept, strict=True)]
    if type(kept) is not type(present) or not math.isfinite(kept) or kept < 0:
        raise ValueError(f"the schedule holds {kept!r}, where {present!r} is expected")
    return kept


def _under(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def restore_state(
    net: NeuralNet, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> None:
    """Restore the state of a training that `collect_state` returned.

    Parameters
    ----------
    net : NeuralNet
        With the same settings, at the beginning of its training; changed in place.
    tensors, header : dict
        What `collect_state` returned.

    Raises
    ------
    Exception
        Of any kind, if they are of another network or lack a part.
    """
    own = callbacks_by_name(net)
    present = net.learned_state()

    def on_device(prefix: str) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(value).to(present[name])
            for name, value in _under(tensors, prefix).items()
        }

    net.load_learned_state(on_device("module/"))
    optimizer = net.optimizer_.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer/").items():
        index, key = name.split("/")
        moments.setdefault(int(index), {})[key] = torch.from_numpy(value)
    shapes = [
        parameter.shape
        for group in net.optimizer_.param_groups
        for parameter in group["params"]
    ]
    for number, of_parameter in moments.items():
        for kind, moment in of_parameter.items():
            expected = torch.Size() if kind == "step" else shapes[number]
            # PyTorch takes over any shape, and stumbles over it in a later step.
            if moment.shape != expected:
                raise ValueError(
                    f"optimizer/{number}/{kind} has shape {tuple(moment.shape)}, "
                    f"expected {tuple(expected)}"
                )
    for group, rate in zip(
        optimizer["param_groups"], header["learning_rates"], strict=True
    ):
        # No schedule goes beyond the rate that it began with.
        if not 0.0 <= rate <= group["lr"]:
            raise ValueError(f"learning_rates has {rate!r}, beyond {group['lr']}")
        group["lr"] = rate
    net.optimizer_.load_state_dict({**optimizer, "state": moments})
    if "lr_schedule" in own:
        scheduler = own["lr_schedule"].lr_scheduler_
        # Where it is; what it is follows from the settings.
        moving = {
            name: _like(value, header["schedule"][name])
            for name, value in scheduler.state_dict().items()
            if name in _MOVING
        }
        scheduler.load_state_dict(moving)
    for name, generator in _generators(net).items():
        generator.set_state(torch.from_numpy(tensors[f"generator/{name}"]))
    keep = own["keep_state"]
    kept = on_device("kept/") or copy.deepcopy(net.learned_state())
    keep.state_, net.kept_epoch_ = kept, header["kept_epoch"]
    best = header["best_loss"]
    keep.best_loss_ = np.inf if best is None else best
    if "refit_mapping" in own:
        refit = own["refit_mapping"]
        fitted = header["mapping"] | _under(tensors, "mapping/")
        refit.fitted_ = {net.kept_epoch_: vars(refit.mapping) | fitted}
    for row in header["history"]:
        net.history.new_epoch()
        for name, value in row.items():
            if not isinstance(value, int | float):
                raise ValueError(f"the history holds {value!r} as {name}")
            net.history.record(name, value)
    if "progress" in own:
        own["progress"].bar_.update(len(header["history"]))
