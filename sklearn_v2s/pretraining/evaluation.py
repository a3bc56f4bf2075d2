# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a source model on a speech corpus."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sklearn_v2s.pretraining.clips import logits_of_clips
from sklearn_v2s.pretraining.corpora import SPLITS, Split, read_corpus
from sklearn_v2s.sources.registry import load_source

__all__ = ["SourceEvaluation", "evaluate_source"]


@dataclass(frozen=True)
class SourceEvaluation:
    """Accuracy of a source model, in clips.

    Attributes
    ----------
    n_right : int
        Clips whose word was predicted.
    n_clips : int
        Clips that the source was run on.
    n_left_out : int
        Clips that it was not run on, because it has no class for their word.
    unknown_words : tuple of str
        Words of the corpus that are no source class.
    unknown_class : str or None
        The class that stands for them; None if they are left out.
    """

    n_right: int
    n_clips: int
    n_left_out: int
    unknown_words: tuple[str, ...]
    unknown_class: str | None

    @property
    def accuracy(self) -> float:
        """Share of the clips whose word was predicted."""
        return self.n_right / self.n_clips


def evaluate_source(
    source: Any,
    corpus_folder: str | os.PathLike[str],
    splits: Sequence[Split] = SPLITS,
    batch_size: int = 64,
) -> SourceEvaluation:
    """Measure the accuracy of a source model on a folder of spoken words.

    Parameters
    ----------
    source : str, path-like or nn.Module
        As for `sklearn_v2s.sources.load_source`. A word that is not among its classes
        counts as its class whose name starts with ``"unknown"``; a source without such
        a class is not run on it.
    corpus_folder : path-like
        As for `sklearn_v2s.pretraining.read_corpus`.
    splits : sequence of {"train", "validation", "test"}, default=all
        The lists of the corpus to take. A source is measured honestly only on lists
        that it was not trained on.
    batch_size : int, default=64
        Clips for each call of the source.

    Returns
    -------
    SourceEvaluation
        Numbers of clips, and the words that are no source class.

    Raises
    ------
    ValueError
        If no clip of the corpus has a word that is a source class.

    Examples
    --------
    >>> from sklearn_v2s.pretraining.evaluation import evaluate_source
    >>> evaluate_source("attrnn", "speech_commands").accuracy  # doctest: +SKIP
    0.92
    """
    source = load_source(source)
    if source.sample_rate != 16000:
        raise ValueError(
            f"corpora are read at 16000 Hz, the source at {source.sample_rate} Hz. "
            "Only sources at 16000 Hz can be evaluated."
        )
    corpus = read_corpus(corpus_folder)
    position = {name: index for index, name in enumerate(source.classes)}
    unknown_class = next(
        (name for name in source.classes if name.startswith("unknown")), None
    )
    unknown_words = tuple(word for word in corpus.classes if word not in position)
    if unknown_class is not None:
        position |= dict.fromkeys(unknown_words, position[unknown_class])
    # The source class of each word of the corpus; -1 where there is none.
    targets = np.array([position.get(word, -1) for word in corpus.classes])
    chosen = corpus.select(*splits)
    labels = targets[corpus.labels]
    rows = chosen[labels[chosen] >= 0]
    if len(rows) == 0:
        raise ValueError(
            f"{corpus_folder}: none of the {len(chosen)} clips of the lists "
            f"{list(splits)} has a word that is a source class. Words of the corpus: "
            f"{list(corpus.classes)}; classes of the source: {list(source.classes)}."
        )
    read = partial(corpus.read, length=source.input_length)
    predicted = logits_of_clips(source, read, rows, batch_size).argmax(axis=1)
    return SourceEvaluation(
        n_right=int((predicted == labels[rows]).sum()),
        n_clips=len(rows),
        n_left_out=len(chosen) - len(rows),
        unknown_words=unknown_words,
        unknown_class=unknown_class,
    )
