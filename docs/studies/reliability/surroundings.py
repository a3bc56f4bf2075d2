# SPDX-License-Identifier: Apache-2.0
"""The same bits in threads, in other processes and under other settings of Python."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from joblib import Parallel, delayed, hash

from docs.studies.reliability.children import count
from sklearn_v2s import V2SClassifier
from sklearn_v2s.datasets import make_cylinder_bell_funnel

__all__ = ["SURROUNDINGS", "predict_some", "try_surrounding"]

RIGHT = ("same bits", "no warning")

_MODULE = "docs.studies.reliability.surroundings"
_SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_epochs": 0},
    {"views": "replicas", "max_epochs": 2, "batch_size": 4},
    {
        "views": "replicas",
        "source_output": "logits",
        "label_mapping": "random",
        "max_epochs": 1,
    },
)
_THREADS, _ROUNDS = 8, 2


def predict_some(seed: int) -> str:
    """Return a digest of predictions after fits with some settings."""
    X, y = make_cylinder_bell_funnel(12, random_state=seed)
    found = []
    for setting in _SETTINGS:
        fitted = V2SClassifier(source="tc-resnet", random_state=seed, **setting)
        found.append(fitted.fit(X, y).predict_proba(X))
    return str(hash(np.array(found)))


def _compared(found: Any, expected: Any) -> tuple[str, str]:
    return ("same bits", "") if found == expected else ("other bits", f"{found}")


def _threads() -> Iterator[tuple[str, str]]:
    seeds = [number % 3 for number in range(_THREADS * _ROUNDS)]
    expected = {seed: predict_some(seed) for seed in set(seeds)}
    with ThreadPoolExecutor(_THREADS) as pool:
        for seed, found in zip(seeds, pool.map(predict_some, seeds), strict=True):
            yield _compared(found, expected[seed])


def _one_estimator() -> Iterator[tuple[str, str]]:
    """Predict with one estimator in all threads."""
    X, y = make_cylinder_bell_funnel(12, random_state=0)
    fitted = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    expected = hash(fitted.predict_proba(X))
    with ThreadPoolExecutor(_THREADS) as pool:
        tasks = [
            pool.submit(lambda: hash(fitted.predict_proba(X)))
            for _ in range(_THREADS * _ROUNDS)
        ]
        for task in tasks:
            yield _compared(task.result(), expected)


def _processes(method: str) -> Iterator[tuple[str, str]]:
    # The parent has computed before: a forked child gets its threads' state.
    expected = [predict_some(seed) for seed in range(2)]
    with get_context(method).Pool(2) as pool:
        for pair in zip(pool.map(predict_some, range(2)), expected, strict=True):
            yield _compared(*pair)


def _loky() -> Iterator[tuple[str, str]]:
    expected = [predict_some(seed) for seed in range(2)]
    found = Parallel(n_jobs=2)(delayed(predict_some)(seed) for seed in range(2))
    for pair in zip(found, expected, strict=True):
        yield _compared(*pair)


def _python(options: list[str], **variables: str) -> Iterator[tuple[str, str]]:
    done = subprocess.run(
        [sys.executable, *options, "-m", _MODULE],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )
    if done.returncode:
        yield "failed", (done.stderr.splitlines() or [""])[-1]
    else:
        yield _compared(done.stdout.strip(), predict_some(0))


def _warnings_as_errors() -> Iterator[tuple[str, str]]:
    """Make a default fit, in which any warning is an error."""
    code = (
        "import warnings\n"
        "from sklearn_v2s import V2SClassifier\n"
        "from sklearn_v2s.datasets import make_cylinder_bell_funnel\n"
        "X, y = make_cylinder_bell_funnel(12, random_state=0)\n"
        # What other packages say when they are imported is not ours.
        "V2SClassifier(max_epochs=1, random_state=0).fit(X, y)\n"
        "warnings.simplefilter('error')\n"
        "classifier = V2SClassifier(random_state=0).fit(X, y)\n"
        "classifier.predict_proba(X)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    last = (done.stderr.splitlines() or [""])[-1]
    yield ("failed", last) if done.returncode else ("no warning", "")


#: The surroundings by name, each an iterator of outcomes.
SURROUNDINGS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "8 threads that fit and predict": _threads,
    "8 threads that predict with one estimator": _one_estimator,
    "fork": partial(_processes, "fork"),
    "spawn": partial(_processes, "spawn"),
    "loky": _loky,
    "warnings as errors in a default fit": _warnings_as_errors,
    "python -O": partial(_python, ["-O"]),
    "PYTHONHASHSEED=0": partial(_python, [], PYTHONHASHSEED="0"),
    "PYTHONHASHSEED=12345": partial(_python, [], PYTHONHASHSEED="12345"),
    "LC_ALL=C": partial(_python, [], LC_ALL="C"),
    "LC_ALL=C.UTF-8": partial(_python, [], LC_ALL="C.UTF-8"),
    "LC_ALL=C, without UTF-8": partial(
        _python, ["-X", "utf8=0"], LC_ALL="C", PYTHONCOERCECLOCALE="0"
    ),
}


def try_surrounding(name: str) -> dict[str, Any]:
    """Compare predictions in one of `SURROUNDINGS` with those of this process.

    Parameters
    ----------
    name : str
        Which.

    Returns
    -------
    dict
        Outcomes, counted.
    """
    return count(SURROUNDINGS[name](), RIGHT)


if __name__ == "__main__":
    print(predict_some(0))
