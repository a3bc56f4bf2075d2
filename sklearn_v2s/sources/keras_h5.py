# SPDX-License-Identifier: Apache-2.0
"""Import of published Keras weights of AttRNN."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_v2s.sources.attrnn import build_attrnn
from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.contract import SourceModel, freeze
from sklearn_v2s.sources.front_end import FRONT_ENDS, FrontEndConfig
from sklearn_v2s.sources.keras_file import (
    DescribedLayer,
    KerasLayer,
    import_h5py,
    read_keras_file,
    reading,
)
from sklearn_v2s.sources.keras_front_end import is_mel_layer, read_front_end

__all__ = ["SPEECH_COMMANDS_CLASSES", "import_keras_h5"]

#: Label order of the published weights with 36 outputs (Google Speech Commands v2).
SPEECH_COMMANDS_CLASSES: tuple[str, ...] = (
    *("unknown/silence", "nine", "yes", "no", "up", "down", "left", "right", "on"),
    *("off", "stop", "go", "zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "backward", "bed", "bird", "cat", "dog", "follow", "forward"),
    *("happy", "house", "learn", "marvin", "sheila", "tree", "visual", "wow"),
)

_N_GATES = 4
_CONVOLUTION = "convolution"
_NORM = "batch normalisation"
_LSTM = "bidirectional LSTM"
_DENSE = "dense"
_MEL = "mel spectrogram"

# Names in a file carry arbitrary numbers: layers are matched by kind and order.
_MODULES: dict[str, tuple[str, ...]] = {
    _CONVOLUTION: ("conv1", "conv2"),
    _NORM: ("norm1", "norm2"),
    _LSTM: ("lstm1", "lstm2"),
    _DENSE: ("query", "dense1", "dense2", "output"),
}
# Parameter of torch: its name in Keras, and the axes of the Keras array in the order of
# torch. Keras orders the LSTM gates i, f, c, o and torch i, f, g, o: that is the same.
_VECTOR, _MATRIX, _KERNEL = (0,), (1, 0), (3, 2, 0, 1)
_RULES: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    _CONVOLUTION: {"weight": ("kernel", _KERNEL), "bias": ("bias", _VECTOR)},
    _NORM: {
        "weight": ("gamma", _VECTOR),
        "bias": ("beta", _VECTOR),
        "running_mean": ("moving_mean", _VECTOR),
        "running_var": ("moving_variance", _VECTOR),
    },
    _LSTM: {
        f"{parameter}{suffix}": (f"{direction} {name}", axes)
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for parameter, name, axes in (
            ("weight_ih_l0", "kernel", _MATRIX),
            ("weight_hh_l0", "recurrent_kernel", _MATRIX),
            ("bias_ih_l0", "bias", _VECTOR),
        )
    },
    _DENSE: {"weight": ("kernel", _MATRIX), "bias": ("bias", _VECTOR)},
}

# What a described layer must say, as far as it says anything about it.
_LSTM_SETTINGS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "return_sequences": True,
    "go_backwards": False,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "Conv2D": {
        "activation": "relu",
        "padding": "same",
        "strides": [1, 1],
        "dilation_rate": [1, 1],
        "data_format": "channels_last",
    },
    "BatchNormalization": {"epsilon": 1e-3},
    "Bidirectional": {"merge_mode": "concat"},
    "LSTM": _LSTM_SETTINGS,
    "CuDNNLSTM": _LSTM_SETTINGS,
    "Melspectrogram": {
        "padding": "same",
        "power_spectrogram": 2.0,
        "power_melgram": 1.0,
        "return_decibel_melgram": True,
    },
    "Normalization2D": {"int_axis": 0},
}
_DENSE_ACTIVATIONS = ("linear", "relu", "linear", "softmax")


def _kind(layer: KerasLayer) -> str:
    names = layer.weights.keys()
    if any(name.endswith("recurrent_kernel") for name in names):
        return _LSTM
    if "moving_variance" in names:
        return _NORM
    if "kernel" in names:
        return _CONVOLUTION if layer.weights["kernel"].ndim == 4 else _DENSE
    if is_mel_layer(layer):
        return _MEL
    raise CheckpointError(
        f"layer {layer.name!r} with the weights {sorted(names)} is of no kind that an "
        f"AttRNN has: {[*_MODULES, _MEL]}. Only AttRNN models can be imported."
    )


def _match_layers(layers: list[KerasLayer]) -> dict[str, KerasLayer]:
    """Return the layers under the names of the modules of `AttRNN`."""
    matched: dict[str, KerasLayer] = {}
    for kind, modules in _MODULES.items():
        found = [layer for layer in layers if _kind(layer) == kind]
        if len(found) != len(modules):
            names = ", ".join(layer.name for layer in found) or "none"
            raise CheckpointError(
                f"it has {len(found)} {kind} layers ({names}), an AttRNN has "
                f"{len(modules)}."
            )
        wanted = {name for name, _ in _RULES[kind].values()}
        for layer in found:
            if layer.weights.keys() != wanted:
                raise CheckpointError(
                    f"layer {layer.name!r} ({kind}) has the weights "
                    f"{sorted(layer.weights)}, expected {sorted(wanted)}."
                )
        matched |= dict(zip(modules, found, strict=True))
    return matched


def _check_described(described: list[DescribedLayer]) -> None:
    dense = [layer for layer in described if layer.kind == "Dense"]
    wanted = [(layer, _SETTINGS.get(layer.kind, {})) for layer in described]
    wanted += [
        (layer, {"activation": activation})
        for layer, activation in zip(dense, _DENSE_ACTIVATIONS, strict=False)
    ]
    for layer, settings in wanted:
        for key, expected in settings.items():
            seen = layer.config.get(key, expected)
            if seen != expected:
                raise CheckpointError(
                    f"layer {layer.config.get('name')!r} ({layer.kind}) has "
                    f"{key}={seen!r}. The AttRNN of this package computes "
                    f"{key}={expected!r} and would give other results with these "
                    "weights; they cannot be imported."
                )


def _is_cudnn(layer: KerasLayer) -> bool:
    # CuDNNLSTM keeps a bias of the input and one of the state, LSTM their sum.
    units = layer.weights["forward recurrent_kernel"].shape[0]
    return layer.weights["forward bias"].shape == (2 * _N_GATES * units,)


def _check_undescribed(lstm: KerasLayer, keras_version: str) -> None:
    # Until Keras 2.3 the default of LSTM, unlike that of CuDNNLSTM, was the hard
    # sigmoid, and a weights-only file does not say what was used.
    if not keras_version or _is_cudnn(lstm):
        return
    major, minor = keras_version.split("-")[0].split(".")[:2]
    if (int(major), int(minor)) < (2, 3):
        raise CheckpointError(
            f"it holds LSTM weights of Keras {keras_version} and no description of the "
            "model. Before Keras 2.3 the LSTM used recurrent_activation="
            "'hard_sigmoid' by default, which cannot be imported. Import a file "
            "written with model.save, which says what was used."
        )


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


def _convert(layer: KerasLayer, module: str, state: dict[str, Tensor]) -> None:
    """Put the weights of a layer into a state dictionary of `SourceModel`."""
    kind = _kind(layer)
    if kind == _LSTM and _is_cudnn(layer):
        layer = _without_cudnn(layer)
    for parameter, (name, axes) in _RULES[kind].items():
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


def _check_classes(classes: Sequence[str] | None, n_outputs: int) -> list[str]:
    if classes is None:
        if n_outputs != len(SPEECH_COMMANDS_CLASSES):
            raise ValueError(
                f"the file has {n_outputs} outputs and does not name them; only the "
                f"order of {len(SPEECH_COMMANDS_CLASSES)} outputs is known. Give "
                f"classes, {n_outputs} names in the order of the outputs."
            )
        return list(SPEECH_COMMANDS_CLASSES)
    if isinstance(classes, str) or not (len(set(classes)) == len(classes) == n_outputs):
        raise ValueError(
            f"classes must be {n_outputs} different names, one for each output of the "
            f"file in their order, got {classes!r}."
        )
    return list(classes)


def import_keras_h5(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    front_end: FrontEndConfig | str | None = None,
) -> SourceModel:
    """Read published Keras weights of AttRNN.

    Two kinds of files are known: ``model-attRNN.h5`` of the later release of the
    network by its author, with the mel matrix in its description, and the
    ``pr_attRNN.h5`` of the Voice2Series release, with a layer of kapre 0.2.0. Both may
    be a whole model or weights only. Layers are matched by kind, order and shape.

    Nothing in the file is executed. The functions that a whole model carries as byte
    code, above all the one that chooses the time step of the attention's query, are
    therefore not looked at: the last step is taken, as in both releases. Still, HDF5
    is a large library in C that a forged file can stop or crash; check the SHA-256 of
    a file before you trust it.

    Parameters
    ----------
    path : path-like
        The ``.h5`` file.
    classes : sequence of str, default=None
        Names of the outputs, in their order. None means the order of Google Speech
        Commands v2 in both releases, for 36 outputs.
    front_end : FrontEndConfig or str, default=None
        The front end that the network was trained with, or its name in `FRONT_ENDS`.
        None means the one that the file holds; weights alone may hold none. What the
        file says about its front end must agree with it, and its mel matrix is used.

    Returns
    -------
    SourceModel
        Frozen, in float32 on the CPU. Its features are standardised for each clip;
        Keras does that over the whole batch in ``model-attRNN.h5``.

    Raises
    ------
    CheckpointError
        If the file is no HDF5 file, is cut off, lacks a layer, has weights of other
        shapes or layers that compute something else, or has links to other files.
    ValueError
        If `classes` or `front_end` do not fit, or must be given.
    ImportError
        If h5py is not installed.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from sklearn_v2s.sources.keras_h5 import import_keras_h5
    >>> source = import_keras_h5("model-attRNN.h5")  # doctest: +SKIP
    >>> source.classes[:3]  # doctest: +SKIP
    ('unknown/silence', 'nine', 'yes')
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Keras weights {str(path)!r}: there is no such file.")
    if isinstance(front_end, str) and front_end not in FRONT_ENDS:
        raise ValueError(
            f"unknown front end {front_end!r}. Choose one of {sorted(FRONT_ENDS)}, or "
            "give a FrontEndConfig."
        )
    config = FRONT_ENDS[front_end] if isinstance(front_end, str) else front_end
    import_h5py()
    with reading(path):
        file = read_keras_file(path)
        layers = _match_layers(file.layers)
        if file.described is None:
            _check_undescribed(layers["lstm1"], file.keras_version)
        else:
            _check_described(file.described)
        config, mel_matrix = read_front_end(file, config)
    if config is None:
        raise ValueError(
            f"{path} holds weights only and no front end. Give front_end, a "
            f"FrontEndConfig or one of {sorted(FRONT_ENDS)}."
        )
    names = _check_classes(classes, layers["output"].weights["bias"].size)
    # Building draws random weights that are replaced at once; torch's global generator
    # must not notice.
    with torch.random.fork_rng(devices=[]):
        source = build_attrnn(config, names)
    state = source.state_dict()
    with reading(path):
        for module, layer in layers.items():
            _convert(layer, module, state)
    if mel_matrix is not None:
        state["front_end.filter_bank"].copy_(torch.from_numpy(mel_matrix.T))
    return freeze(source)  # type: ignore[return-value]
