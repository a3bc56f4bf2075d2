# SPDX-License-Identifier: Apache-2.0
"""One epoch of the paper's preset on data of the size of FordA."""

import time
from typing import Any

import numpy as np

from sklearn_v2s.benchmark.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    make_waves,
    time_in_turns,
)
from sklearn_v2s.benchmark.speed.search import stacked_search
from sklearn_v2s.classifier import V2SClassifier

__all__ = ["measures"]

_SERIES, _LENGTH = 3601, 500
_EPOCHS = 3
# What the public release takes on its graphics card.
_RELEASE_SECONDS = 4.4
_STACKED_SECONDS = 0.1
_FOLDS, _DROPOUTS = 5, [0.0, 0.1, 0.2, 0.3, 0.4]


def _preset(setting: Setting, max_epochs: int) -> V2SClassifier:
    return V2SClassifier.from_paper(
        max_epochs=max_epochs,
        early_stopping=False,
        device=str(setting.device),
        random_state=setting.seed,
    )


def _data(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    # Of two classes, with a series of each in every fold.
    return make_waves(setting.sized(_SERIES, 2 * _FOLDS), _LENGTH, setting.seed)


def _single(setting: Setting) -> Found:
    X, y = _data(setting)
    fitted = _preset(setting, 1 + _EPOCHS).fit(X, y)
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


def _stacked(setting: Setting) -> Found:
    if setting.device.type == "cpu":
        raise Unavailable(f"stacked runs are for accelerators, not {setting.device}")
    X, y = _data(setting)
    n_runs = _FOLDS * len(_DROPOUTS)

    def fit(max_epochs: int) -> float:
        search = stacked_search(_preset(setting, max_epochs), _FOLDS, dropout=_DROPOUTS)
        start = time.perf_counter()
        search.fit(X, y)
        # The final fit to all data is no part of the stack.
        return time.perf_counter() - start - float(search.refit_time_)

    # What happens once in a fit falls out of the difference.
    def both() -> None:
        differences.append(fit(1 + _EPOCHS) - fit(1))

    differences: list[float] = []
    _, runs = time_in_turns([both], setting.device, most_runs=3)
    seconds = float(np.median(differences[1:])) / _EPOCHS / n_runs
    conditions = {
        "n": len(X),
        "n of a fold": len(X) * (_FOLDS - 1) // _FOLDS,
        "length": _LENGTH,
        "stacked runs": n_runs,
        "runs": runs,
        "threads": setting.threads,
    }
    return Found(seconds, conditions=conditions)


def measures(setting: Setting) -> list[Measure]:
    """Return the measures of an epoch alone and, on an accelerator, of one in a stack.

    Parameters
    ----------
    setting : Setting
        Of the benchmark.

    Returns
    -------
    list of Measure
        Two.
    """
    return [
        Measure(
            "epoch of the paper's preset",
            lambda rows: _single(setting),
            Target("ours", _RELEASE_SECONDS, at_least=False),
        ),
        Measure(
            "epoch of the paper's preset, each of many stacked runs",
            lambda rows: _stacked(setting),
            Target("ours", _STACKED_SECONDS, at_least=False),
        ),
    ]
