# SPDX-License-Identifier: Apache-2.0
"""Pretraining of source models on speech corpora."""

from sklearn_v2s.pretraining.corpora import SpeechCorpus, join_corpora, read_corpus
from sklearn_v2s.pretraining.trainer import PretrainingSettings, pretrain

__all__ = [
    "PretrainingSettings",
    "SpeechCorpus",
    "join_corpora",
    "pretrain",
    "read_corpus",
]
