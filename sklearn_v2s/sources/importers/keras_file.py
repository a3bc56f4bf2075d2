# SPDX-License-Identifier: Apache-2.0
"""Reading of Keras HDF5 files as data: arrays and JSON, never code, never links.

A Keras file may hold Python functions as marshalled byte code. Nothing here runs,
unpickles or unmarshals anything: the arrays are read with h5py, the description of the
model with `json.loads`, and only objects that are stored inside the file are opened.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sklearn_v2s.sources.checkpoint import CheckpointError

__all__ = [
    "DescribedLayer",
    "KerasFile",
    "KerasLayer",
    "import_h5py",
    "read_keras_file",
    "reading",
]

# The largest array of the published files is a DFT kernel of 2**19 numbers; a larger
# claim would only be there to fill the memory.
_LARGEST_ARRAY = 1 << 24


class KerasLayer(NamedTuple):
    """A layer with weights.

    Attributes
    ----------
    name : str
        Its name in the file.
    weights : dict of str to ndarray
        Under their own names, such as ``"kernel"``; those of a bidirectional layer
        with the direction before it, such as ``"forward kernel"``.
    """

    name: str
    weights: dict[str, np.ndarray]


class DescribedLayer(NamedTuple):
    """A layer as the JSON description of a whole model names it.

    Attributes
    ----------
    kind : str
        Class of Keras.
    config : dict
        What its constructor was given.
    arguments : dict
        What the function of a ``TFOpLambda`` was given.
    """

    kind: str
    config: dict[str, Any]
    arguments: dict[str, Any]


class KerasFile(NamedTuple):
    """What was read from a file.

    Attributes
    ----------
    layers : list of KerasLayer
        The layers that have weights, in the order of the model.
    described : list of DescribedLayer or None
        All layers, those of nested models included; None in a weights-only file.
    keras_version : str
        Version that wrote the file, or an empty string.
    """

    layers: list[KerasLayer]
    described: list[DescribedLayer] | None
    keras_version: str


def import_h5py() -> Any:
    """Return the module h5py, or say how to install it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "reading a Keras file needs the package h5py, which is not installed. "
            'Install it with: pip install "sklearn-v2s[keras]"'
        ) from error
    return h5py


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file leads to into a `CheckpointError` with its path."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        # It can fail anywhere below HDF5, JSON and the walk through both.
        raise CheckpointError(
            f"{path} is not an intact Keras HDF5 file of weights: {error!r}. "
            "Expected what Keras 2 writes with save or save_weights to a .h5 file; "
            "get the file again from where it came."
        ) from error


def _child(group: Any, path: str) -> Any:
    """Open what is stored under a path, without following a link out of the file."""
    hard = import_h5py().h5l.TYPE_HARD
    for name in path.split("/"):
        try:
            # Asked of the link itself: `name in group` would already follow it.
            kind = group.id.links.get_info(name.encode()).type
        except KeyError as error:
            raise CheckpointError(
                f"there is no {name!r} in the group {group.name!r}, which the file "
                "itself names; it is damaged or was changed."
            ) from error
        if kind != hard:
            raise CheckpointError(
                f"{name!r} in the group {group.name!r} is a soft or external link. "
                "Links can lead to other files and are not followed; save the model "
                "again as one plain file."
            )
        group = group[name]
    return group


def _array(group: Any, path: str) -> np.ndarray:
    dataset = _child(group, path)
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(
            f"{path!r} keeps its numbers in other files, which are not opened; save "
            "the model again as one plain file."
        )
    if dataset.dtype.kind != "f" or dataset.size > _LARGEST_ARRAY:
        raise CheckpointError(
            f"{path!r} has the type {dataset.dtype} and the shape {dataset.shape}; "
            f"weights are floating-point numbers, at most {_LARGEST_ARRAY} of them."
        )
    with np.errstate(over="ignore"):
        array = dataset[()].astype(np.float32)
    if not np.isfinite(array).all():
        raise CheckpointError(f"{path!r} has values that are NaN or infinite.")
    return array


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _names(group: Any, attribute: str) -> list[str]:
    if attribute not in group.attrs:
        raise CheckpointError(
            f"the group {group.name!r} has no attribute {attribute!r}, which Keras 2 "
            "writes into every .h5 file. Is this another kind of HDF5 file?"
        )
    return [_text(name) for name in group.attrs[attribute]]


def _weight_name(path: str) -> str:
    # Such as bidirectional_1/forward_lstm_1/lstm_cell_4/kernel:0; where the cell is
    # named, and how, depends on the version.
    *folders, name = path.split("/")
    name = name.split(":")[0]
    for direction in ("forward", "backward"):
        if any(folder.startswith(f"{direction}_") for folder in folders):
            return f"{direction} {name}"
    return name


def _described_layers(model: dict[str, Any]) -> Iterator[DescribedLayer]:
    for layer in model["config"]["layers"]:
        config = layer["config"]
        if "layers" in config:
            yield from _described_layers(layer)
            continue
        arguments: dict[str, Any] = {}
        if layer["class_name"] == "TFOpLambda":
            arguments = layer["inbound_nodes"][0][3]
        yield DescribedLayer(layer["class_name"], config, arguments)
        if layer["class_name"] == "Bidirectional":
            inner = config["layer"]
            yield DescribedLayer(inner["class_name"], inner["config"], {})


def read_keras_file(path: Path) -> KerasFile:
    """Read a whole model or a weights-only file.

    Parameters
    ----------
    path : Path
        The ``.h5`` file.

    Returns
    -------
    KerasFile
        Weights and description. Errors of a damaged file are those of h5py and json:
        call it within `reading`.
    """
    with import_h5py().File(path, "r") as file:
        whole = file.id.links.exists(b"model_weights")
        root = _child(file, "model_weights") if whole else file
        layers = []
        for name in _names(root, "layer_names"):
            group = _child(root, name)
            weights = {
                _weight_name(weight): _array(group, weight)
                for weight in _names(group, "weight_names")
            }
            if weights:
                layers.append(KerasLayer(name, weights))
        described = None
        if "model_config" in file.attrs:
            model = json.loads(_text(file.attrs["model_config"]))
            described = list(_described_layers(model))
        version = _text(root.attrs.get("keras_version", ""))
    return KerasFile(layers, described, version)
