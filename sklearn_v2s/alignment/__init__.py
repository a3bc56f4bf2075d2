# SPDX-License-Identifier: Apache-2.0
"""How far reprogrammed series are from the speech that a source was trained on."""

from sklearn_v2s.alignment.distances import (
    LARGEST_RISK,
    AlignmentCallback,
    AlignmentScores,
    SourceRank,
    alignment_scores,
    rank_sources,
    risk_bound,
    sliced_wasserstein,
    wasserstein1,
)

__all__ = [
    "LARGEST_RISK",
    "AlignmentCallback",
    "AlignmentScores",
    "SourceRank",
    "alignment_scores",
    "rank_sources",
    "risk_bound",
    "sliced_wasserstein",
    "wasserstein1",
]
