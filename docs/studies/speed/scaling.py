# SPDX-License-Identifier: Apache-2.0
"""Cost of the default fit against the number and the length of series."""

import json
from typing import Any

import numpy as np
from sklearn.base import clone

from docs.studies.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    make_waves,
    time_in_turns,
)
from sklearn_v2s.benchmark.figures import MISSING, as_png
from sklearn_v2s.classifier import V2SClassifier

__all__ = ["draw_scaling", "measures"]

_N, _N_LENGTH = (100, 300, 1000, 3000, 10_000), 200
_L, _L_SERIES = (24, 100, 500, 2000, 8000, 16_000), 100
# Seconds grow with this power of the size, at most; 1 is proportional.
_STEEPEST = 1.1

_KINDS = {"series": "n", "time points": "length"}


def _name(kind: str, size: int) -> str:
    return f"default fit, {size} {kind}"


def _fit(setting: Setting, n: int, n_timepoints: int) -> Found:
    X, y = make_waves(n, n_timepoints, setting.seed)
    classifier = V2SClassifier(device=str(setting.device), random_state=setting.seed)
    clone(classifier).fit(*make_waves(8, n_timepoints, setting.seed))
    (seconds,), runs = time_in_turns(
        [lambda: classifier.fit(X, y)], setting.device, most_runs=5, warm_up=False
    )
    conditions = {
        "n": n,
        "length": n_timepoints,
        "runs": runs,
        "threads": setting.threads,
    }
    return Found(seconds, conditions=conditions)


def _points(
    rows: dict[str, dict[str, str]], kind: str, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    done = [rows[name] for name in names if name in rows and not rows[name]["error"]]
    sizes = [json.loads(row["conditions"])[_KINDS[kind]] for row in done]
    return np.array(sizes), np.array([float(row["ours"]) for row in done])


def _slope(rows: dict[str, dict[str, str]], kind: str, names: list[str]) -> Found:
    sizes, seconds = _points(rows, kind, names)
    if len(sizes) < 2:
        raise Unavailable(f"{len(sizes)} of {len(names)} sizes are measured")
    steps = np.diff(np.log(seconds)) / np.diff(np.log(sizes))
    conditions: dict[str, Any] = {
        "sizes": sizes.tolist(),
        "between neighbours": steps.round(3).tolist(),
    }
    fitted = np.polyfit(np.log(sizes), np.log(seconds), 1)
    return Found(float(fitted[0]), unit="slope", conditions=conditions)


def measures(setting: Setting) -> list[Measure]:
    """Return the measures of single sizes and of the slopes through them."""
    found: list[Measure] = []
    for kind, sizes in (("series", _N), ("time points", _L)):
        names = []
        for size in dict.fromkeys(setting.sized(size, 8) for size in sizes):

            def run(
                rows: dict[str, dict[str, str]], kind: str = kind, size: int = size
            ) -> Found:
                of_n = kind == "series"
                fewer = setting.sized(_L_SERIES, 8)
                return _fit(
                    setting, size if of_n else fewer, _N_LENGTH if of_n else size
                )

            names.append(_name(kind, size))
            found.append(Measure(names[-1], run))

        def slope(
            rows: dict[str, dict[str, str]], kind: str = kind, names: list[str] = names
        ) -> Found:
            return _slope(rows, kind, names)

        found.append(
            Measure(
                f"default fit, growth with {kind}",
                slope,
                Target("ours", _STEEPEST, at_least=False),
                derived=True,
            )
        )
    return found


def draw_scaling(setting: Setting, rows: dict[str, dict[str, str]]) -> bytes | None:
    """Draw seconds against number and length of series.

    Parameters
    ----------
    setting : Setting
        Of the benchmark.
    rows : dict of str to dict
        Rows of the file by name.

    Returns
    -------
    bytes or None
        PNG; None before two sizes of both kinds are measured.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    listed = [measure.name for measure in measures(setting) if not measure.derived]
    panels = []
    for kind in _KINDS:
        names = [name for name in listed if name.endswith(f" {kind}")]
        panels.append((kind, *_points(rows, kind, names)))
    if any(len(sizes) < 2 for _, sizes, _ in panels):
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error
    figure = Figure(figsize=(9, 4))
    for axes, (kind, sizes, seconds), title in zip(
        figure.subplots(1, 2),
        panels,
        (f"series of {_N_LENGTH} time points", f"{_L_SERIES} series"),
        strict=True,
    ):
        axes.loglog(sizes, seconds, "o-", label="default fit")
        straight = seconds[0] * sizes / sizes[0]
        axes.loglog(sizes, straight, color="grey", linestyle=":", label="proportional")
        axes.set(xlabel=f"number of {kind}", ylabel="seconds", title=title)
        axes.legend()
    return as_png(figure)
