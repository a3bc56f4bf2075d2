# SPDX-License-Identifier: Apache-2.0
"""One epoch of the paper's preset on data of the size of FordA."""

from typing import Any

import numpy as np

from docs.studies.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    make_waves,
)
from sklearn_v2s.classifier import V2SClassifier

__all__ = ["measures"]

_SERIES, _LENGTH = 3601, 500
_EPOCHS = 3
# What the public release takes on its graphics card.
_RELEASE_SECONDS = 4.4


def _epoch(setting: Setting) -> Found:
    X, y = make_waves(setting.sized(_SERIES, 10), _LENGTH, setting.seed)
    fitted = V2SClassifier.from_paper(
        max_epochs=1 + _EPOCHS,
        early_stopping=False,
        device=str(setting.device),
        random_state=setting.seed,
    ).fit(X, y)
    # The first epoch warms up.
    seconds = [row["dur"] for row in fitted.history_[1:]]
    conditions: dict[str, Any] = {
        "n": len(X),
        "length": _LENGTH,
        "runs": _EPOCHS,
        "threads": setting.threads,
        "other": "the public release of the paper, on its graphics card, as its "
        "authors report it",
    }
    return Found(float(np.median(seconds)), _RELEASE_SECONDS, conditions=conditions)


def measures(setting: Setting) -> list[Measure]:
    """Return the measure of an epoch."""
    return [
        Measure(
            "epoch of the paper's preset",
            lambda rows: _epoch(setting),
            Target("ours", _RELEASE_SECONDS, at_least=False),
        ),
    ]
