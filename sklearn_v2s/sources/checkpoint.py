# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of source models: safetensors with a JSON header, checked at load."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.front_end import FRONT_ENDS, FrontEndConfig
from sklearn_v2s.sources.kernel_bank import KernelBankConfig
from sklearn_v2s.sources.networks import resnet, tcn, vggish
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.sources.networks.tc_resnet import build_tc_resnet
from sklearn_v2s.sources.networks.unet_attrnn import build_unet_attrnn
from sklearn_v2s.sources.networks.wavebank import build_wavebank
from sklearn_v2s.sources.networks.yamnet import build_yamnet

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "CheckpointError",
    "load_checkpoint",
    "save_checkpoint",
]


class Architecture(NamedTuple):
    """How a source model is built.

    Attributes
    ----------
    build : callable
        ``build(front_end_config, classes)`` returns an untrained `SourceModel` with
        these names of source classes. Its weights are from torch's global generator;
        fork it where the state of that generator matters.
    front_end : type
        Class of the configuration of its front end.
    front_ends : dict
        Configurations of that class that have a name.
    usual : str
        The one of them that its authors used.
    """

    build: Callable[..., SourceModel]
    front_end: type
    front_ends: dict[str, Any]
    usual: str


def _log_mel(
    build: Callable[..., SourceModel], usual: str = "kapre", **sizes: Any
) -> Architecture:
    made = partial(build, **sizes) if sizes else build
    return Architecture(made, FrontEndConfig, FRONT_ENDS, usual)


# The sizes of the paper have names of their own: those without are for a CPU.
ARCHITECTURES = {
    "attrnn": _log_mel(build_attrnn),
    "unet-attrnn": _log_mel(build_unet_attrnn),
    "resnet": _log_mel(resnet.build_resnet),
    "resnet-paper": _log_mel(
        resnet.build_resnet, width=resnet.PAPER_WIDTH, architecture="resnet-paper"
    ),
    "tc-resnet": _log_mel(build_tc_resnet, "mel-64"),
    "tcn": _log_mel(tcn.build_tcn),
    "tcn-paper": _log_mel(
        tcn.build_tcn, width=tcn.PAPER_WIDTH, architecture="tcn-paper"
    ),
    "vggish": _log_mel(vggish.build_vggish, "vggish"),
    "vggish-paper": _log_mel(
        vggish.build_vggish,
        "vggish",
        width=vggish.PAPER_WIDTH,
        dense=True,
        architecture="vggish-paper",
    ),
    "yamnet": _log_mel(build_yamnet, "yamnet"),
    "wavebank": Architecture(
        build_wavebank,
        KernelBankConfig,
        {"kernel-bank": KernelBankConfig()},
        "kernel-bank",
    ),
}

_KIND = "source model"
_HEADER = ("architecture", "front_end", "classes", "card")


class CheckpointError(ValueError):
    """A checkpoint is damaged, or its tensors do not fit its header."""


def save_checkpoint(
    path: str | os.PathLike[str], source: SourceModel, card: dict[str, Any]
) -> str:
    """Write a source model.

    Parameters
    ----------
    path : path-like
        Target, ends in ``.safetensors``.
    source : SourceModel
        Its architecture must be one of `ARCHITECTURES`.
    card : dict
        What a user must know: corpus, licence, accuracy, command, seeds.

    Returns
    -------
    str
        SHA-256 of the file.
    """
    if source.architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"architecture {source.architecture!r} cannot be rebuilt from a "
            f"checkpoint; known ones: {sorted(ARCHITECTURES)}."
        )
    tensors = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in source.state_dict().items()
    }
    header = {
        "kind": _KIND,
        "architecture": source.architecture,
        "front_end": source.front_end.config.to_dict(),  # type: ignore[union-attr,operator]
        "classes": list(source.classes),
        "card": card,
    }
    return write_tensor_file(path, tensors, header)


def load_checkpoint(
    path: str | os.PathLike[str], sha256: str | None = None
) -> tuple[SourceModel, dict[str, Any], str]:
    """Read a source model.

    Parameters
    ----------
    path : path-like
        A checkpoint that `save_checkpoint` wrote.
    sha256 : str, default=None
        The SHA-256 that the file must have.

    Returns
    -------
    source : SourceModel
        In float32 on the CPU, not yet frozen.
    card : dict
        What was given to `save_checkpoint`.
    sha256 : str
        SHA-256 of the file.

    Raises
    ------
    CheckpointError
        If a byte was changed, the file was cut off, its SHA-256 is not the one asked
        for, its header is not that of a source model of this version, or its tensors
        do not have the shapes of its architecture.
    FileNotFoundError
        If there is no such file.
    """
    try:
        tensors, header, found = read_tensor_file(path)
    except TensorFileError as error:
        raise CheckpointError(str(error)) from error
    if sha256 is not None and found != sha256:
        raise CheckpointError(
            f"checkpoint {path} has SHA-256 {found}, expected {sha256}: it is not the "
            "file that was asked for. Reinstall or download it again."
        )
    if header.get("kind") != _KIND:
        raise CheckpointError(
            f"{path} holds a {header.get('kind')!r}, not a {_KIND!r}."
        )
    missing = [key for key in _HEADER if key not in header]
    if missing:
        raise CheckpointError(f"the header of checkpoint {path} has no {missing}.")
    architecture = header["architecture"]
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"checkpoint {path} has the architecture {architecture!r}; this version "
            f"has {sorted(ARCHITECTURES)}. Update sklearn-v2s."
        )
    try:
        front_end = ARCHITECTURES[architecture].front_end(**header["front_end"])
    except (ArithmeticError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} has a front end that this version does not have "
            f"({error}). Update sklearn-v2s."
        ) from error
    try:
        # Building draws random weights that the checkpoint replaces at once; torch's
        # global generator must not notice.
        with torch.random.fork_rng(devices=[]):
            source = ARCHITECTURES[architecture].build(front_end, header["classes"])
    except MemoryError:
        raise
    except Exception as error:
        # The SHA-256 is right, so this is what was written: values that no source can
        # be built from may raise any error.
        raise CheckpointError(
            f"checkpoint {path} has values that this version cannot build a source "
            f"model from ({error!r}). Update sklearn-v2s."
        ) from error
    expected = source.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {tensors[name].shape}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tuple(tensor.shape)
    ]
    if problems:
        raise CheckpointError(
            f"checkpoint {path} does not fit the architecture {architecture!r}: "
            + "; ".join(problems)
            + "."
        )
    source.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    )
    return source, header["card"], found
