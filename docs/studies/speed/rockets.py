# SPDX-License-Identifier: Apache-2.0
"""Fit and prediction over datasets, against aeon's Rocket and MiniRocket."""

import cProfile
import inspect
import json
import pstats
from collections.abc import Callable
from typing import Any, NamedTuple

from docs.studies.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    time_in_turns,
)
from sklearn_v2s.benchmark.methods import resolve_method
from sklearn_v2s.benchmark.worker import Dataset, as_accepted, pad_series, warm_up
from sklearn_v2s.datasets import list_datasets
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.perturbation import collect_outputs
from sklearn_v2s.training.train import train
from sklearn_v2s.views.wave import WaveView

__all__ = ["measures", "profile_parts"]


class _Pair(NamedTuple):
    """A method of ours, a rival, and how many times ours may be as quick at least."""

    ours: str
    title: str
    rival: str
    label: str
    bound: float


_PAIRS = (
    _Pair("v2s", "default", "rocket", "Rocket", 1.0),
    _Pair("v2s-quick", "quick mode", "minirocket", "MiniRocket", 0.13),
    _Pair("v2s-quick", "quick mode", "rocket", "Rocket", 4.0),
)
# Of each side; the largest datasets take minutes.
_MOST_RUNS, _ENOUGH_SECONDS = 3, 10.0

# Where a part of the time is spent, in functions with all that they call.
_PARTS: dict[str, list[Callable[..., Any]]] = {
    "source passes": [collect_outputs],
    "kernel bank": [WaveView.fit, WaveView.features],
    "training": [train],
    "label mapping": [LinearLabelMapping._fit, LinearLabelMapping._transform],
}


def profile_parts(run: Callable[[], Any]) -> dict[str, float]:
    """Return the shares of time that parts of the estimator take.

    Parameters
    ----------
    run : callable
        What to run, once.

    Returns
    -------
    dict of str to float
        Part to share; ``"rest"`` is what is in none.
    """
    profile = cProfile.Profile()
    profile.runcall(run)
    stats: Any = pstats.Stats(profile)
    taken = dict.fromkeys(_PARTS, 0.0)
    for part, functions in _PARTS.items():
        for function in functions:
            code = inspect.unwrap(function).__code__
            place = code.co_filename, code.co_firstlineno, code.co_name
            if place in stats.stats:
                taken[part] += stats.stats[place][3]
    taken["rest"] = stats.total_tt - sum(taken.values())
    return {part: round(time / stats.total_tt, 4) for part, time in taken.items()}


def _fit_and_predict(name: str, data: Dataset, setting: Setting) -> Callable[[], Any]:
    method = resolve_method(name)

    def run() -> Any:
        estimator = method.make(setting.seed, setting.threads)
        if name.startswith("v2s"):
            estimator.set_params(device=str(setting.device))
        X_train, X_test = (
            as_accepted(estimator, pad_series(X, method.min_length))
            for X in (data.X_train, data.X_test)
        )
        return estimator.fit(X_train, data.y_train).predict(X_test)

    return run


def _dataset(setting: Setting, name: str, pair: _Pair) -> Found:
    data = Dataset(name, str(setting.data))
    methods = pair.ours, pair.rival
    ours, other = (_fit_and_predict(key, data, setting) for key in methods)
    for key in methods:
        warm_up(resolve_method(key), data, setting.threads)
    (mine, theirs), runs = time_in_turns(
        [ours, other], setting.device, _ENOUGH_SECONDS, _MOST_RUNS, warm_up=False
    )
    conditions = {
        "n_train": len(data.y_train),
        "n_test": len(data.y_test),
        "length": data.length,
        "runs": runs,
        "threads": setting.threads,
        "shares of ours": profile_parts(ours),
    }
    return Found(mine, theirs, conditions=conditions)


def _total(
    rows: dict[str, dict[str, str]], names: list[str], conditions: dict[str, Any]
) -> Found:
    done = [rows[name] for name in names if name in rows and not rows[name]["error"]]
    if len(done) < len(names):
        raise Unavailable(f"{len(names) - len(done)} of {len(names)} datasets lack")
    ours = sum(float(row["ours"]) for row in done)
    other = sum(float(row["other"]) for row in done)
    shares: dict[str, float] = {}
    for row in done:
        for part, share in json.loads(row["conditions"])["shares of ours"].items():
            weighed = share * float(row["ours"]) / ours
            shares[part] = shares.get(part, 0.0) + weighed
    shares = {part: round(share, 4) for part, share in shares.items()}
    return Found(ours, other, conditions={**conditions, "shares of ours": shares})


def measures(setting: Setting) -> list[Measure]:
    """Return the measures by dataset and in total, for each rival."""
    if setting.data is None:

        def unavailable(rows: dict[str, dict[str, str]]) -> Found:
            raise Unavailable("give the folder of datasets by --data")

        return [Measure(_name(pair, "total"), unavailable) for pair in _PAIRS]
    datasets = list(setting.datasets) or list_datasets(setting.data)
    found: list[Measure] = []
    for pair in _PAIRS:
        names = [_name(pair, dataset) for dataset in datasets]
        for name, dataset in zip(names, datasets, strict=True):

            def run(
                rows: dict[str, dict[str, str]],
                dataset: str = dataset,
                pair: _Pair = pair,
            ) -> Found:
                return _dataset(setting, dataset, pair)

            found.append(Measure(name, run))

        def total(rows: dict[str, dict[str, str]], names: list[str] = names) -> Found:
            conditions = {"datasets": len(names), "threads": setting.threads}
            return _total(rows, names, conditions)

        found.append(
            Measure(
                _name(pair, "total"),
                total,
                Target("ratio", pair.bound, at_least=True),
                derived=True,
            )
        )
    return found


def _name(pair: _Pair, what: str) -> str:
    return f"{pair.title} fit and predict, {what}, {pair.label}"
