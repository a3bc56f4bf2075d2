# SPDX-License-Identifier: Apache-2.0
"""What a source model says about real speech, kept beside its checkpoint.

Distances between speech and reprogrammed series need the logits of some speech. A few
hundred rows are shipped with each checkpoint, so that no user needs a corpus.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from sklearn_v2s.pretraining.corpora import SpeechCorpus, Split, read_corpus
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.registry import load_source, shipped_checkpoint

__all__ = ["SourceLogits", "load_source_logits", "save_source_logits"]

_KIND = "source logits"
_SUFFIX = "-logits.safetensors"
_PCM_SCALE = 1.0 / 32768.0
_BATCH = 64


@dataclass(frozen=True)
class SourceLogits:
    """Logits of a source model for clips of real speech.

    Attributes
    ----------
    logits : ndarray of shape (n_clips, n_source_classes)
        Scores of the source classes before the softmax.
    labels : ndarray of shape (n_clips,)
        The word that was said, as a position in `classes`.
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
        """Share of the clips whose word was named."""
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


def save_source_logits(
    source: str | os.PathLike[str],
    corpus_folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: Sequence[Split] = ("test",),
    clips_of_each: int = 10,
    command: str = "",
) -> SourceLogits:
    """Play clips of a speech corpus to a source model and keep its logits.

    Parameters
    ----------
    source : str or path-like
        A shipped name or a ``.safetensors`` checkpoint.
    corpus_folder : path-like
        As for `sklearn_v2s.pretraining.read_corpus`. Words that the source does not
        know are left out.
    output : path-like
        Target, usually ``<name>-logits.safetensors`` beside the checkpoint, where
        `load_source_logits` looks for it.
    splits : sequence of {"train", "validation", "test"}, default=("test",)
        Lists of the corpus to play; those that the source was not trained on.
    clips_of_each : int, default=10
        Clips of each word, spread evenly over its list and so over its speakers.
    command : str, default=""
        What the header names as the command that made the file.

    Returns
    -------
    SourceLogits
        What was written, after rounding to float16.

    Raises
    ------
    ValueError
        If the source has no checkpoint or knows no word of the corpus.

    Examples
    --------
    >>> from sklearn_v2s.sources.logits import save_source_logits
    >>> save_source_logits(
    ...     "attrnn", "speech_commands", "attrnn-logits.safetensors"
    ... )  # doctest: +SKIP
    """
    model = load_source(source)
    if not isinstance(model, SourceModel) or model.reference is None:
        raise ValueError(
            f"source={source!r} has no checkpoint that its logits could be tied to. "
            "Give a shipped name or a .safetensors file."
        )
    if clips_of_each < 1:
        raise ValueError(f"clips_of_each={clips_of_each} must be at least 1.")
    corpus = read_corpus(corpus_folder)
    rows, labels = _choose(corpus, model.classes, splits, clips_of_each)
    if len(rows) == 0:
        raise ValueError(
            f"{corpus_folder}: no clip of the lists {list(splits)} says a word that "
            f"the source knows. Words of the corpus: {list(corpus.classes)}; classes "
            f"of the source: {list(model.classes)}."
        )
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            clips = corpus.read(batch, model.input_length, model.sample_rate)
            waveforms = torch.from_numpy(clips.astype(np.float32) * _PCM_SCALE)
            parts.append(model(waveforms).logits.numpy())
    logits = np.concatenate(parts).astype(np.float16)
    card = {
        "corpus": corpus.name,
        "licence": corpus.licence,
        "splits": list(splits),
        "n_speakers": len(np.unique(corpus.speakers[rows])),
        "checkpoint_sha256": model.reference.sha256,
        "command": command,
    }
    header = {"kind": _KIND, "classes": list(model.classes), "card": card}
    tensors = {"logits": logits, "labels": labels.astype(np.int64)}
    write_tensor_file(output, tensors, header)
    return SourceLogits(logits.astype(np.float32), labels, model.classes, card)


def _choose(
    corpus: SpeechCorpus,
    classes: tuple[str, ...],
    splits: Sequence[Split],
    clips_of_each: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return clips, and the positions of their words among the source classes."""
    chosen = corpus.select(*splits)
    rows, labels = [], []
    for position, name in enumerate(classes):
        if name not in corpus.classes:
            continue
        word = corpus.classes.index(name)
        said = chosen[corpus.labels[chosen] == word]
        # Files are sorted by speaker: even steps reach all speakers.
        count = min(clips_of_each, len(said))
        found = said[np.arange(count) * len(said) // max(1, count)]
        rows.append(found)
        labels.append(np.full(count, position, dtype=np.int64))
    if not rows:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(rows), np.concatenate(labels)


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
        if header.get("kind") != _KIND:
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
