# SPDX-License-Identifier: Apache-2.0
"""Import of published Keras weights: AttRNN, U-Net AttRNN and YAMNet."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.contract import SourceModel, freeze
from sklearn_v2s.sources.front_end import FRONT_ENDS, FrontEndConfig
from sklearn_v2s.sources.importers.keras_file import (
    DescribedLayer,
    KerasLayer,
    import_h5py,
    read_keras_file,
    reading,
)
from sklearn_v2s.sources.importers.keras_front_end import read_front_end
from sklearn_v2s.sources.importers.keras_layers import (
    CONVOLUTION,
    DENSE,
    DEPTHWISE,
    LSTM,
    NORM,
    convert_layer,
    is_cudnn,
    layer_kind,
    match_layers,
)
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.sources.networks.unet_attrnn import build_unet_attrnn
from sklearn_v2s.sources.networks.yamnet import N_STEPS, audioset_classes, build_yamnet

__all__ = ["SPEECH_COMMANDS_CLASSES", "import_keras_h5"]

#: Label order of the published weights with 36 outputs (Google Speech Commands v2).
SPEECH_COMMANDS_CLASSES: tuple[str, ...] = (
    *("unknown/silence", "nine", "yes", "no", "up", "down", "left", "right", "on"),
    *("off", "stop", "go", "zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "backward", "bed", "bird", "cat", "dog", "follow", "forward"),
    *("happy", "house", "learn", "marvin", "sheila", "tree", "visual", "wow"),
)


class _Layout(NamedTuple):
    """How a network is stored in a file.

    Attributes
    ----------
    title : str
        What errors call it.
    build : callable
        As of `sklearn_v2s.sources.checkpoint.Architecture`.
    modules : dict
        For each kind of layer the modules of that kind, in their order.
    absent : frozenset of str
        Weights of such layers that it has not.
    settings : dict
        Settings that a described layer must have, where its description has them.
    dense_activations : tuple of str
        Of the dense layers, in their order.
    """

    title: str
    build: Callable[[FrontEndConfig, Sequence[str]], SourceModel]
    modules: dict[str, tuple[str, ...]]
    absent: frozenset[str]
    settings: dict[str, dict[str, Any]]
    dense_activations: tuple[str, ...]


_LSTM_SETTINGS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "return_sequences": True,
    "go_backwards": False,
}
_CONVOLUTION_SETTINGS = {
    "padding": "same",
    "dilation_rate": [1, 1],
    "data_format": "channels_last",
}
_ATTRNN = _Layout(
    title="an AttRNN",
    build=build_attrnn,
    modules={
        CONVOLUTION: ("conv1", "conv2"),
        NORM: ("norm1", "norm2"),
        LSTM: ("lstm1", "lstm2"),
        DENSE: ("query", "dense1", "dense2", "output"),
    },
    absent=frozenset(),
    settings={
        "Conv2D": {**_CONVOLUTION_SETTINGS, "activation": "relu", "strides": [1, 1]},
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
    },
    dense_activations=("linear", "relu", "linear", "softmax"),
)
_UNET_ATTRNN = _ATTRNN._replace(
    title="a U-Net AttRNN",
    build=build_unet_attrnn,
    modules=_ATTRNN.modules
    | {
        CONVOLUTION: ("conv1", "conv2", "conv3", "conv4"),
        NORM: ("norm1", "norm2", "norm3", "norm4"),
    },
    settings=_ATTRNN.settings | {"Concatenate": {"axis": 3}},
)
_YAMNET = _Layout(
    title="a YAMNet",
    build=build_yamnet,
    modules={
        # The first convolution is a full one; then those for each map and across maps
        # take turns.
        CONVOLUTION: tuple(f"steps.{step}.conv" for step in range(0, N_STEPS, 2)),
        DEPTHWISE: tuple(f"steps.{step}.conv" for step in range(1, N_STEPS, 2)),
        NORM: tuple(f"steps.{step}.norm" for step in range(N_STEPS)),
        DENSE: ("output",),
    },
    absent=frozenset({f"{CONVOLUTION} bias", f"{NORM} gamma"}),
    settings={
        "Conv2D": _CONVOLUTION_SETTINGS | {"activation": "linear"},
        "DepthwiseConv2D": _CONVOLUTION_SETTINGS | {"activation": "linear"},
        "BatchNormalization": {"epsilon": 1e-4},
    },
    dense_activations=("linear",),
)


def _find_layout(layers: list[KerasLayer]) -> _Layout:
    kinds = Counter(layer_kind(layer) for layer in layers)
    if kinds[DEPTHWISE]:
        return _YAMNET
    n_convolutions = len(_UNET_ATTRNN.modules[CONVOLUTION])
    return _UNET_ATTRNN if kinds[CONVOLUTION] == n_convolutions else _ATTRNN


def _check_described(described: list[DescribedLayer], layout: _Layout) -> None:
    dense = [layer for layer in described if layer.kind == "Dense"]
    wanted = [(layer, layout.settings.get(layer.kind, {})) for layer in described]
    wanted += [
        (layer, {"activation": activation})
        for layer, activation in zip(dense, layout.dense_activations, strict=False)
    ]
    for layer, settings in wanted:
        for key, expected in settings.items():
            seen = layer.config.get(key, expected)
            if seen != expected:
                raise CheckpointError(
                    f"layer {layer.config.get('name')!r} ({layer.kind}) has "
                    f"{key}={seen!r}. This package computes {key}={expected!r} "
                    f"for {layout.title} and would give other results with these "
                    "weights; they cannot be imported."
                )


def _check_undescribed(lstm: KerasLayer, keras_version: str) -> None:
    # Until Keras 2.3 the default of LSTM, unlike that of CuDNNLSTM, was the hard
    # sigmoid, and a weights-only file does not say what was used.
    if not keras_version or is_cudnn(lstm):
        return
    major, minor = keras_version.split("-")[0].split(".")[:2]
    if (int(major), int(minor)) < (2, 3):
        raise CheckpointError(
            f"it holds LSTM weights of Keras {keras_version} and no description of the "
            "model. Before Keras 2.3 the LSTM used recurrent_activation="
            "'hard_sigmoid' by default, which cannot be imported. Import a file "
            "written with model.save, which says what was used."
        )


def _check_yamnet_front_end(config: FrontEndConfig | None) -> FrontEndConfig:
    # The file does not hold it, or only as TensorFlow's operations in a description.
    own = FRONT_ENDS["yamnet"]
    if config not in (None, own):
        raise CheckpointError(
            "it holds the weights of a YAMNet, whose front end is another one than "
            "was asked for. Leave front_end out, or give 'yamnet'."
        )
    return own


def _check_classes(classes: Sequence[str] | None, n_outputs: int) -> list[str]:
    if classes is None:
        known = {
            len(names): names for names in (SPEECH_COMMANDS_CLASSES, audioset_classes())
        }
        if n_outputs not in known:
            raise ValueError(
                f"the file has {n_outputs} outputs and does not name them; only the "
                f"order of {' and of '.join(map(str, known))} outputs is known. Give "
                f"classes, {n_outputs} names in the order of the outputs."
            )
        return list(known[n_outputs])
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
    """Read published Keras weights of AttRNN, U-Net AttRNN or YAMNet.

    Known are ``model-attRNN.h5`` of the later release of AttRNN by its author, with
    the mel matrix in its description; ``pr_attRNN.h5`` and ``pr_UattRNN.h5`` of the
    Voice2Series release, with a layer of kapre 0.2.0; and ``yamnet.h5`` of the
    TensorFlow model garden. Each may be a whole model or weights only. Layers are
    matched by kind, order and shape.

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
        Commands v2 in both releases, for 36 outputs, and that of AudioSet in YAMNet,
        for 521.
    front_end : FrontEndConfig or str, default=None
        The front end that the network was trained with, or its name in `FRONT_ENDS`.
        None means the one that the file holds; weights alone may hold none. What the
        file says about its front end must agree with it, and its mel matrix is used.
        A YAMNet has the front end ``"yamnet"`` and no other.

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
    >>> from sklearn_v2s.sources.importers.keras_h5 import import_keras_h5
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
        layout = _find_layout(file.layers)
        layers = match_layers(file.layers, layout.title, layout.modules, layout.absent)
        if file.described is not None:
            _check_described(file.described, layout)
        elif LSTM in layout.modules:
            _check_undescribed(layers["lstm1"], file.keras_version)
        mel_matrix = None
        if layout is _YAMNET:
            config = _check_yamnet_front_end(config)
        else:
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
        source = layout.build(config, names)
    state = source.state_dict()
    with reading(path):
        for module, layer in layers.items():
            convert_layer(layer, module, layout.absent, state)
    if mel_matrix is not None:
        state["front_end.filter_bank"].copy_(torch.from_numpy(mel_matrix.T))
    return freeze(source)  # type: ignore[return-value]
