# SPDX-License-Identifier: Apache-2.0
"""Names of source models, and the one place where they are loaded."""

import copy
import hashlib
import json
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sklearn_v2s.sources.checkpoint import (
    ARCHITECTURES,
    CheckpointError,
    load_checkpoint,
)
from sklearn_v2s.sources.contract import (
    SourceModel,
    SourceReference,
    check_source,
    freeze,
)
from sklearn_v2s.sources.networks.yamnet import audioset_classes
from sklearn_v2s.sources.torchaudio_bundle import PREFIX, bundle_file, read_bundle

__all__ = [
    "list_sources",
    "load_reference",
    "load_source",
    "pack_source",
    "register_source",
    "shipped_checkpoint",
    "source_on",
    "unpack_source",
]

_CHECKPOINTS = Path(__file__).parent / "checkpoints"
# Ends the name of an architecture with random weights.
_UNTRAINED = ":untrained"
_FACTORIES: dict[str, Callable[[], nn.Module]] = {}
# Frozen models are shared by all estimators of a process: nothing ever changes them.
# The name is part of the key, for the reference that a pickle carries names it.
_LOADED: dict[tuple[str, str, torch.dtype], SourceModel] = {}
# Their copies on other devices, and those of the user's modules.
_ON_DEVICE: WeakKeyDictionary[nn.Module, dict[torch.device, nn.Module]] = (
    WeakKeyDictionary()
)
_LOCK = threading.RLock()


def _manifest() -> dict[str, dict[str, str]]:
    return json.loads((_CHECKPOINTS / "manifest.json").read_text(encoding="utf-8"))


def list_sources() -> dict[str, str]:
    """Return the names that `load_source` takes.

    Returns
    -------
    dict of str to str
        Name to one line of description.

    Examples
    --------
    >>> from sklearn_v2s.sources import list_sources
    >>> "attrnn" in list_sources()
    True
    """
    shipped = {name: entry["description"] for name, entry in _manifest().items()}
    return shipped | {name: "registered by the user" for name in _FACTORIES}


def shipped_checkpoint(name: str) -> tuple[Path, str]:
    """Return path and SHA-256 of a checkpoint that ships with the package.

    Parameters
    ----------
    name : str
        One of the shipped names.

    Returns
    -------
    tuple of (Path, str)
        The file and the SHA-256 that it must have.
    """
    entry = _manifest()[name]
    return _CHECKPOINTS / entry["file"], entry["sha256"]


def register_source(name: str, factory: Callable[[], nn.Module]) -> None:
    """Give a name to a source model of the user's own.

    Parameters
    ----------
    name : str
        Not one of the shipped names.
    factory : callable
        Returns a module that meets the source contract (see `SourceModel`). It is
        called each time an estimator is fitted, also in worker processes, where the
        registration must have run too.

    Examples
    --------
    >>> from sklearn_v2s.sources import load_source, register_source
    >>> register_source("my-recogniser", lambda: load_source("attrnn"))
    >>> len(load_source("my-recogniser").classes)
    43
    """
    if name in _manifest():
        raise ValueError(
            f"source name {name!r} belongs to a shipped checkpoint; choose another."
        )
    _FACTORIES[name] = factory


def _load_file(name: str, path: Path, sha256: str | None) -> SourceModel:
    if name.startswith(PREFIX):
        assert sha256 is not None
        source, found = read_bundle(name, path), sha256
    else:
        source, _, found = load_checkpoint(path, sha256)
    source.reference = SourceReference(name, found)
    return source


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    # Bundles are as large as gigabytes: hashed once for each state of the file.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_source(source: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Return a frozen source model.

    Parameters
    ----------
    source : str, path-like or nn.Module
        A name of `list_sources`, that of an architecture with ``":untrained"`` behind
        it for random weights, always the same ones (a control),
        ``"torchaudio:NAME"`` or ``"torchaudio:NAME:LAYER"`` for a bundle of
        ``torchaudio.pipelines`` and a layer of it, the path of a ``.safetensors``
        checkpoint, or a module that meets the source contract. A module is copied, the
        copy is frozen.
    dtype : torch.dtype, default=torch.float32
        Precision of the weights.

    Returns
    -------
    nn.Module
        Frozen, on the CPU. Models that came from a checkpoint are shared: do not change
        them.

    Raises
    ------
    ValueError
        If the name is unknown.
    CheckpointError
        If the checkpoint is damaged.
    SourceContractError
        If the object does not meet the contract.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if name in _FACTORIES:
            # The weights of a factory may be random: that is no one else's business.
            with torch.random.fork_rng(devices=[]):
                made = _FACTORIES[name]()
            return _frozen_copy(made, dtype)
        if name in _manifest():
            path, sha256 = shipped_checkpoint(name)
            return _load_shared(name, path, sha256, dtype)
        if name.endswith(_UNTRAINED):
            return _frozen_copy(_untrained(name.removesuffix(_UNTRAINED)), dtype)
        if name.startswith(PREFIX):
            path = bundle_file(name)
            about = path.stat()
            sha256 = _digest(path, about.st_size, about.st_mtime_ns)
            return _load_shared(name, path, sha256, dtype)
        path = Path(name)
        if path.suffix == ".safetensors":
            if not path.is_file():
                raise FileNotFoundError(
                    f"source {name!r}: there is no such checkpoint file."
                )
            return _load_shared(name, path, None, dtype)
        raise ValueError(
            f"unknown source {name!r}. Choose one of {sorted(list_sources())}, give "
            "'torchaudio:NAME' for a bundle of torchaudio, the path of a .safetensors "
            "checkpoint, or hand in a torch.nn.Module."
        )
    if isinstance(source, SourceModel) and source.reference is not None:
        name, sha256 = source.reference
        return load_reference(name, sha256, str(dtype).removeprefix("torch."))
    return _frozen_copy(source, dtype)


def _untrained(name: str) -> SourceModel:
    """Return an architecture with random weights, always the same ones.

    A shipped one has front end and classes as it is shipped; others have the front end
    of their authors and the classes of the published YAMNet or of the shipped AttRNN.
    """
    if name in _manifest():
        trained = load_source(name)
        architecture = ARCHITECTURES[trained.architecture]
        config, classes = trained.front_end.config, trained.classes
    elif name in ARCHITECTURES:
        architecture = ARCHITECTURES[name]
        config = architecture.front_ends[architecture.usual]
        is_yamnet = name == "yamnet"
        classes = audioset_classes() if is_yamnet else load_source("attrnn").classes
    else:
        raise ValueError(
            f"unknown source {name + _UNTRAINED!r}: without a checkpoint there are the "
            f"architectures {sorted(ARCHITECTURES)}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return architecture.build(config, classes)


def _frozen_copy(source: Any, dtype: torch.dtype) -> nn.Module:
    if not isinstance(source, nn.Module):
        return check_source(source)
    # The copy is what will be used: check that one.
    return check_source(freeze(copy.deepcopy(source).to("cpu", dtype)))


def _load_shared(
    name: str, path: Path, sha256: str | None, dtype: torch.dtype
) -> SourceModel:
    with _LOCK:
        if sha256 is None:
            # A file outside the package may change between two calls: read it again.
            fresh = _load_file(name, path, None)
            assert fresh.reference is not None
            sha256 = fresh.reference.sha256
        else:
            fresh = None
        key = (name, sha256, dtype)
        if key not in _LOADED:
            loaded = fresh if fresh is not None else _load_file(name, path, sha256)
            _LOADED[key] = freeze(loaded.to(dtype))  # type: ignore[assignment]
        return _LOADED[key]


def load_reference(name: str, sha256: str, dtype: str) -> SourceModel:
    """Find a source model again by name and SHA-256.

    Parameters
    ----------
    name : str
        Shipped name or path.
    sha256 : str
        What the checkpoint must have.
    dtype : {"float32", "float64"}
        Precision.

    Returns
    -------
    SourceModel
        Frozen and shared.

    Raises
    ------
    CheckpointError
        If the checkpoint found under that name is another one.
    FileNotFoundError
        If it was a file that is no longer there.
    """
    precision = getattr(torch, dtype)
    with _LOCK:
        if (name, sha256, precision) in _LOADED:
            return _LOADED[name, sha256, precision]
    source = load_source(name, precision)
    reference = getattr(source, "reference", None)
    found = reference.sha256 if isinstance(reference, SourceReference) else None
    if found != sha256:
        raise CheckpointError(
            f"source {name!r} has SHA-256 {found} here, but the model was fitted with "
            f"{sha256}. Install the version of sklearn-v2s that it was fitted with, or "
            "fit again."
        )
    return source


def source_on(source: Any, device: torch.device) -> Any:
    """Return a frozen source on a device, with no weights copied twice.

    Parameters
    ----------
    source : nn.Module
        Frozen source on the CPU, as `load_source` returns it.
    device : torch.device
        Where to compute.

    Returns
    -------
    nn.Module
        The source itself on the CPU; elsewhere the one copy there, which lives as long
        as the source.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.registry import load_source, source_on
    >>> source = load_source("attrnn")
    >>> source_on(source, torch.device("cpu")) is source
    True
    """
    if device.type == "cpu":
        return source
    with _LOCK:
        copies = _ON_DEVICE.setdefault(source, {})
        if device not in copies:
            copies[device] = copy.deepcopy(source).to(device)
        return copies[device]


def pack_source(source: Any) -> Any:
    """Return a source as a pickle holds it: one from a checkpoint as its reference.

    So fitted estimators stay small and carry no source weights.

    Parameters
    ----------
    source : object
        Anything that a parameter ``source`` may be.

    Returns
    -------
    object
        A `SourceReference`, or the same object.
    """
    if isinstance(source, SourceModel) and source.reference is not None:
        return source.reference
    return source


def unpack_source(packed: Any, dtype: torch.dtype) -> Any:
    """Return the source that `pack_source` was given.

    Parameters
    ----------
    packed : object
        What `pack_source` returned.
    dtype : torch.dtype
        Precision of the weights.

    Returns
    -------
    object
        The shared model of a `SourceReference`, or the same object.

    Raises
    ------
    CheckpointError
        If the checkpoint found under that name is another one.
    """
    if not isinstance(packed, SourceReference):
        return packed
    return load_reference(*packed, str(dtype).removeprefix("torch."))
