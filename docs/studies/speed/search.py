# SPDX-License-Identifier: Apache-2.0
"""Cross-validated settings: `V2SClassifierCV` against scikit-learn's `GridSearchCV`."""

from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from docs.studies.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    make_waves,
    time_in_turns,
)
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.search import V2SClassifierCV

__all__ = ["measures"]

_SERIES, _LENGTH, _SEGMENTS, _FOLDS, _EPOCHS = 100, 150, 3, 5, 5
_GRID: dict[str, list[Any]] = {
    "mapping_size": [1, 5, 10],
    "dropout": [0.0, 0.1, 0.2, 0.4],
}


def _search(setting: Setting, max_epochs: int) -> Found:
    X, y = make_waves(setting.sized(_SERIES, 20), _LENGTH, setting.seed)
    classifier = V2SClassifier.from_paper(
        n_segments=_SEGMENTS,
        max_epochs=setting.sized(max_epochs, 1) if max_epochs else 0,
        # Under the paper's penalty so few epochs lead nowhere: all settings would be
        # guesses, and which of them wins an accident.
        l2=0.0,
        # Without training a random mapping is no better than chance.
        label_mapping="random" if max_epochs else "frequency",
        early_stopping=False,
        device=str(setting.device),
        random_state=setting.seed,
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=setting.seed)
    ours = V2SClassifierCV(classifier, **_GRID, cv=folds)
    theirs = GridSearchCV(classifier, _GRID, cv=folds)
    # The sources are loaded, and all code has run once, before a clock starts.
    classifier.fit(X, y)
    (mine, other), runs = time_in_turns(
        [lambda: ours.fit(X, y), lambda: theirs.fit(X, y)],
        setting.device,
        warm_up=max_epochs == 0,
    )
    same = ours.best_params_ == theirs.best_params_
    scores = (search.cv_results_["mean_test_score"] for search in (ours, theirs))
    conditions = {
        "n": len(X),
        "length": _LENGTH,
        "n_segments": _SEGMENTS,
        "max_epochs": classifier.max_epochs,
        "grid": _GRID,
        "folds": _FOLDS,
        "runs": runs,
        "threads": setting.threads,
        "same_winner": bool(same),
        "winner": theirs.best_params_,
        "score_of_winner": float(theirs.best_score_),
        "largest_difference_of_scores": float(
            np.abs(np.subtract(*(np.sort(score) for score in scores))).max()
        ),
    }
    return Found(mine, other, conditions=conditions, valid=bool(same))


def measures(setting: Setting) -> list[Measure]:
    """Return the measures of a search with and without training."""
    on_cpu = setting.device == torch.device("cpu")
    return [
        Measure(
            "search with training",
            lambda rows: _search(setting, _EPOCHS),
            Target("ratio", 2.5 if on_cpu else 10.0, at_least=True),
        ),
        Measure(
            "search without training",
            lambda rows: _search(setting, 0),
            Target("ratio", 20.0, at_least=True) if on_cpu else None,
        ),
    ]
