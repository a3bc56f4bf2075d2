# SPDX-License-Identifier: Apache-2.0
"""Logits of a source model for clips of a speech corpus, written to a file."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np

from sklearn_v2s.pretraining.clips import logits_of_clips
from sklearn_v2s.pretraining.corpora import SpeechCorpus, Split, read_corpus
from sklearn_v2s.runtime.tensor_file import write_tensor_file
from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.logits import KIND, SourceLogits
from sklearn_v2s.sources.registry import load_source

__all__ = ["save_source_logits"]

_BATCH = 64


def save_source_logits(
    source: str | os.PathLike[str],
    corpus_folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: Sequence[Split] = ("test",),
    clips_of_each: int = 10,
    command: str = "",
) -> SourceLogits:
    """Run a source model on clips of a speech corpus and keep its logits.

    Parameters
    ----------
    source : str or path-like
        A shipped name or a ``.safetensors`` checkpoint.
    corpus_folder : path-like
        As for `sklearn_v2s.pretraining.read_corpus`. Words that are no source
        class are left out.
    output : path-like
        Target, usually ``<name>-logits.safetensors`` beside the checkpoint, where
        `load_source_logits` looks for it.
    splits : sequence of {"train", "validation", "test"}, default=("test",)
        Lists of the corpus to take; those that the source was not trained on.
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
        If the source has no checkpoint, or no word of the corpus is a source class.

    Examples
    --------
    >>> from sklearn_v2s.pretraining.source_logits import save_source_logits
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
            f"{corpus_folder}: no clip of the lists {list(splits)} has a word that "
            f"is a source class. Words of the corpus: {list(corpus.classes)}; classes "
            f"of the source: {list(model.classes)}."
        )
    read = partial(
        corpus.read, length=model.input_length, sample_rate=model.sample_rate
    )
    logits = logits_of_clips(model, read, rows, _BATCH).astype(np.float16)
    card = {
        "corpus": corpus.name,
        "licence": corpus.licence,
        "splits": list(splits),
        "n_speakers": len(np.unique(corpus.speakers[rows])),
        "checkpoint_sha256": model.reference.sha256,
        "command": command,
    }
    header = {"kind": KIND, "classes": list(model.classes), "card": card}
    tensors: dict[str, np.ndarray] = {
        "logits": logits,
        "labels": labels.astype(np.int64),
    }
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
        clips = chosen[corpus.labels[chosen] == word]
        # Files are sorted by speaker: even steps reach all speakers.
        count = min(clips_of_each, len(clips))
        rows.append(clips[np.arange(count) * len(clips) // max(1, count)])
        labels.append(np.full(count, position, dtype=np.int64))
    if not rows:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(rows), np.concatenate(labels)
