# SPDX-License-Identifier: Apache-2.0
"""Logits of a source model for real speech, kept beside its checkpoint.

Distances between speech and reprogrammed series need the logits of some speech. A few
hundred rows are shipped with each checkpoint, so that no user needs a corpus.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from sklearn_v2s.runtime.moved_modules import moved_name
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
)
from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.registry import load_source, shipped_checkpoint

__all__ = ["KIND", "SourceLogits", "load_source_logits"]

#: What the header of such a file calls it.
KIND = "source logits"
_SUFFIX = "-logits.safetensors"


def __getattr__(name: str) -> Any:
    return moved_name(__name__, name)


@dataclass(frozen=True)
class SourceLogits:
    """Logits of a source model for clips of real speech.

    Attributes
    ----------
    logits : ndarray of shape (n_clips, n_source_classes)
        Scores of the source classes before the softmax.
    labels : ndarray of shape (n_clips,)
        The spoken word, as a position in `classes`.
    classes : tuple of str
        The source classes.
    card : dict
        Corpus, licence, SHA-256 of the checkpoint, command.
    """

    logits: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    card: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Share of the clips whose word was predicted."""
        return float((self.logits.argmax(axis=1) == self.labels).mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, the source loss of the paper's Table 3."""
        rows = np.arange(len(self.labels))
        log_proba = log_softmax(self.logits.astype(np.float64), axis=1)
        return float(-log_proba[rows, self.labels].mean())

    @property
    def risk(self) -> float:
        """Mean distance of the probabilities to the truth, the risk of Theorem 1."""
        proba = softmax(self.logits.astype(np.float64), axis=1)
        truth = np.eye(len(self.classes))[self.labels]
        return float(np.linalg.norm(proba - truth, axis=1).mean())


def load_source_logits(source: str | os.PathLike[str]) -> SourceLogits:
    """Return the logits of real speech that were kept with a checkpoint.

    Parameters
    ----------
    source : str or path-like
        A shipped name, or the path of a checkpoint with ``<name>-logits.safetensors``
        beside it.

    Returns
    -------
    SourceLogits
        A few hundred rows, in float32.

    Raises
    ------
    FileNotFoundError
        If no logits were kept with the checkpoint.
    CheckpointError
        If the file is damaged or belongs to another checkpoint.

    Examples
    --------
    >>> from sklearn_v2s.sources.logits import load_source_logits
    >>> load_source_logits("attrnn").logits.shape
    (400, 43)
    """
    name = os.fspath(source)
    try:
        checkpoint, sha256 = shipped_checkpoint(name)
    except KeyError:
        checkpoint = Path(name)
        reference = load_source(name).reference
        if reference is None:
            raise FileNotFoundError(
                f"source {name!r} has no checkpoint and so no logits kept with it; "
                "compute logits of speech and hand them in."
            ) from None
        sha256 = reference.sha256
    path = checkpoint.with_name(checkpoint.stem + _SUFFIX)
    if not path.is_file():
        raise FileNotFoundError(
            f"source {name!r}: there is no {path.name} beside its checkpoint. Make it "
            f"with: v2s sources logits {name} --corpus DIR --output {path.name}"
        )
    try:
        tensors, header, _ = read_tensor_file(path)
        if header.get("kind") != KIND:
            raise TensorFileError(f"{path} holds a {header.get('kind')!r}")
        card = header["card"]
        classes = tuple(header["classes"])
        logits, labels = tensors["logits"], tensors["labels"]
    except (TensorFileError, KeyError) as error:
        raise CheckpointError(
            f"{path} does not hold logits of a source: {error}."
        ) from error
    if card["checkpoint_sha256"] != sha256:
        raise CheckpointError(
            f"{path} was made with the checkpoint {card['checkpoint_sha256']}, but "
            f"source {name!r} is {sha256}. Make it again with: v2s sources logits "
            f"{name} --corpus DIR --output {path.name}"
        )
    return SourceLogits(logits.astype(np.float32), labels, classes, card)
