# SPDX-License-Identifier: Apache-2.0
"""Layers of a Keras file: which is which, and their weights in the order of torch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.importers.keras_file import KerasLayer
from sklearn_v2s.sources.importers.keras_front_end import is_mel_layer

__all__ = [
    "CONVOLUTION",
    "DENSE",
    "DEPTHWISE",
    "LSTM",
    "MEL",
    "NORM",
    "Rule",
    "convert_layer",
    "is_cudnn",
    "layer_kind",
    "match_layers",
]

CONVOLUTION = "convolution"
DEPTHWISE = "depthwise convolution"
NORM = "batch normalisation"
LSTM = "bidirectional LSTM"
DENSE = "dense"
MEL = "mel spectrogram"

_N_GATES = 4


class Rule(NamedTuple):
    """Where a parameter of torch comes from.

    Attributes
    ----------
    name : str
        Name of the weight in Keras.
    axes : tuple of int
        Axes of the Keras array in the order of torch.
    """

    name: str
    axes: tuple[int, ...]


_VECTOR, _MATRIX = (0,), (1, 0)
# Keras orders the LSTM gates i, f, c, o and torch i, f, g, o: that is the same.
_RULES: dict[str, dict[str, Rule]] = {
    CONVOLUTION: {"weight": Rule("kernel", (3, 2, 0, 1)), "bias": Rule("bias", (0,))},
    DEPTHWISE: {"weight": Rule("depthwise_kernel", (2, 3, 0, 1))},
    NORM: {
        "weight": Rule("gamma", _VECTOR),
        "bias": Rule("beta", _VECTOR),
        "running_mean": Rule("moving_mean", _VECTOR),
        "running_var": Rule("moving_variance", _VECTOR),
    },
    LSTM: {
        f"{parameter}{suffix}": Rule(f"{direction} {name}", axes)
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for parameter, name, axes in (
            ("weight_ih_l0", "kernel", _MATRIX),
            ("weight_hh_l0", "recurrent_kernel", _MATRIX),
            ("bias_ih_l0", "bias", _VECTOR),
        )
    },
    DENSE: {"weight": Rule("kernel", _MATRIX), "bias": Rule("bias", _VECTOR)},
}


def layer_kind(layer: KerasLayer) -> str:
    """Tell by its weights what a layer is.

    Parameters
    ----------
    layer : KerasLayer
        A layer with weights.

    Returns
    -------
    str
        One of the kinds that this module names.

    Raises
    ------
    CheckpointError
        If it is none of them.
    """
    names = layer.weights.keys()
    if any(name.endswith("recurrent_kernel") for name in names):
        return LSTM
    if "moving_variance" in names:
        return NORM
    if "depthwise_kernel" in names:
        return DEPTHWISE
    if "kernel" in names:
        return CONVOLUTION if layer.weights["kernel"].ndim == 4 else DENSE
    if is_mel_layer(layer):
        return MEL
    raise CheckpointError(
        f"layer {layer.name!r} with the weights {sorted(names)} is of no kind that an "
        f"AttRNN has, nor a YAMNet: {[*_RULES, MEL]}. Only such models can be imported."
    )


def _rules(kind: str, absent: frozenset[str]) -> dict[str, Rule]:
    return {
        parameter: rule
        for parameter, rule in _RULES[kind].items()
        if f"{kind} {rule.name}" not in absent
    }


def match_layers(
    layers: list[KerasLayer],
    title: str,
    modules: dict[str, tuple[str, ...]],
    absent: frozenset[str],
) -> dict[str, KerasLayer]:
    """Return the layers of a file under the names of the modules of a network.

    Names in a file carry arbitrary numbers: layers are matched by kind and order.

    Parameters
    ----------
    layers : list of KerasLayer
        In the order of the model.
    title : str
        What errors call the network.
    modules : dict of str to tuple of str
        For each kind the modules of that kind, in their order.
    absent : frozenset of str
        Weights that this network has not, such as ``"convolution bias"``.

    Returns
    -------
    dict of str to KerasLayer
        One for each module.

    Raises
    ------
    CheckpointError
        If there are more or fewer layers of a kind, or other weights in one of them.
    """
    matched: dict[str, KerasLayer] = {}
    for kind, names in modules.items():
        found = [layer for layer in layers if layer_kind(layer) == kind]
        if len(found) != len(names):
            listed = ", ".join(layer.name for layer in found) or "none"
            raise CheckpointError(
                f"it has {len(found)} {kind} layers ({listed}), {title} has "
                f"{len(names)}."
            )
        wanted = {rule.name for rule in _rules(kind, absent).values()}
        for layer in found:
            if layer.weights.keys() != wanted:
                raise CheckpointError(
                    f"layer {layer.name!r} ({kind}) has the weights "
                    f"{sorted(layer.weights)}, expected {sorted(wanted)}."
                )
        matched |= dict(zip(names, found, strict=True))
    return matched


def is_cudnn(layer: KerasLayer) -> bool:
    """Tell whether a bidirectional layer wraps CuDNNLSTM and not LSTM."""
    # CuDNNLSTM keeps a bias of the input and one of the state, LSTM their sum.
    units = layer.weights["forward recurrent_kernel"].shape[0]
    return layer.weights["forward bias"].shape == (2 * _N_GATES * units,)


def _without_cudnn(layer: KerasLayer) -> KerasLayer:
    """Return CuDNNLSTM weights in the layout of the plain LSTM."""
    weights = dict(layer.weights)
    for direction in ("forward", "backward"):
        # For each gate CuDNN stores (units, inputs) row by row, and Keras writes the
        # transposed shape over it.
        for name in (f"{direction} kernel", f"{direction} recurrent_kernel"):
            gates = np.split(weights[name], _N_GATES, axis=1)
            weights[name] = np.hstack(
                [gate.reshape(gate.shape[::-1]).T for gate in gates]
            )
        bias = weights[f"{direction} bias"]
        weights[f"{direction} bias"] = bias.reshape(2, -1).sum(axis=0)
    return KerasLayer(layer.name, weights)


def convert_layer(
    layer: KerasLayer, module: str, absent: frozenset[str], state: dict[str, Tensor]
) -> None:
    """Put the weights of a layer into a state dictionary of `SourceModel`.

    Parameters
    ----------
    layer : KerasLayer
        As `match_layers` found it.
    module : str
        Name of its module in the network.
    absent : frozenset of str
        As for `match_layers`.
    state : dict of str to Tensor
        Changed in place.

    Raises
    ------
    CheckpointError
        If a weight has another shape.
    """
    kind = layer_kind(layer)
    if kind == LSTM and is_cudnn(layer):
        layer = _without_cudnn(layer)
    for parameter, (name, axes) in _rules(kind, absent).items():
        array = layer.weights[name]
        target = state[f"network.{module}.{parameter}"]
        expected = tuple(target.shape[axes.index(axis)] for axis in range(len(axes)))
        if array.shape != expected:
            raise CheckpointError(
                f"{name} of layer {layer.name!r} ({kind}) has the shape "
                f"{array.shape}, expected {expected}."
            )
        target.copy_(torch.from_numpy(np.ascontiguousarray(array.transpose(axes))))
        if parameter.startswith("bias_ih"):
            # torch adds up two biases, of which Keras has the sum.
            state[f"network.{module}.{parameter.replace('_ih', '_hh')}"].zero_()
