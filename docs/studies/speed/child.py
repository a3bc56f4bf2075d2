# SPDX-License-Identifier: Apache-2.0
"""Measures that need a process of their own: peak memory and time of the import.

A child gets a JSON request as its argument and prints a JSON answer.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np

from docs.studies.speed.measure import (
    Found,
    Measure,
    Setting,
    Target,
    make_waves,
)

__all__ = ["import_measures", "measure_import", "measure_memory", "memory_measures"]

_SERIES, _LENGTH = 10_000, 500
_MEMORY_MIB = 2048.0
_IMPORT_SECONDS = 0.3
_ROUNDS = 7

# Not in a function of this module: it imports what is to be timed.
_IMPORT = """
import time
start = time.perf_counter()
import torch, sklearn
between = time.perf_counter()
{statement}
print(time.perf_counter() - between, between - start)
"""

_MEMORY = """
import json, sys
from docs.studies.speed.child import measure_memory
print(json.dumps(measure_memory(json.loads(sys.argv[1]))))
"""


def _run(arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        last = (done.stderr.splitlines() or [""])[-1][:300]
        raise RuntimeError(f"the process ended with code {done.returncode} {last}")
    return done.stdout


def _memory(setting: Setting) -> Found:
    conditions: dict[str, Any] = {
        "n": setting.sized(_SERIES, 8),
        "length": _LENGTH,
        "threads": setting.threads,
        "beyond": "what the process holds after all imports and making the series",
    }
    request = {
        **conditions,
        "seed": setting.seed,
        "device": str(setting.device),
    }
    answer = _run(["-c", _MEMORY, json.dumps(request)])
    found = json.loads(answer.splitlines()[-1])
    conditions["seconds"] = found["seconds"]
    return Found(found["mib"], unit="MiB", conditions=conditions)


def measure_memory(request: dict[str, Any]) -> dict[str, float]:
    """Return peak memory (``"mib"``) and time (``"seconds"``) of a default fit.

    Parameters
    ----------
    request : dict
        ``"n"``, ``"length"``, ``"seed"``, ``"threads"`` and ``"device"``.

    Returns
    -------
    dict of str to float
        Memory is what comes on top of all that the process held before.
    """
    import time

    import torch

    from sklearn_v2s.benchmark.memory import PeakMemory
    from sklearn_v2s.classifier import V2SClassifier

    torch.set_num_threads(request["threads"])
    X, y = make_waves(request["n"], request["length"], request["seed"])
    classifier = V2SClassifier(device=request["device"], random_state=request["seed"])
    memory = PeakMemory()
    memory.restart()
    start = time.perf_counter()
    classifier.fit(X, y)
    seconds = time.perf_counter() - start
    return {"mib": round(memory.peak_mib(), 1), "seconds": round(seconds, 2)}


def measure_import(statement: str, rounds: int) -> Found:
    """Return the seconds of an import beyond torch and scikit-learn, and of these."""
    ours, other = [], []
    # The first fills the caches of the file system and writes bytecode.
    for number in range(1 + rounds):
        printed = _run(["-c", _IMPORT.format(statement=statement)])
        beyond, before = map(float, printed.split()[-2:])
        if number > 0:
            ours.append(beyond)
            other.append(before)
    conditions = {"statement": statement, "other": "import torch, sklearn"}
    return Found(
        float(np.median(ours)),
        float(np.median(other)),
        conditions={**conditions, "runs": rounds},
    )


def memory_measures(setting: Setting) -> list[Measure]:
    """Return the measure of the peak memory of a large fit."""
    return [
        Measure(
            "peak memory of a default fit",
            lambda rows: _memory(setting),
            Target("ours", _MEMORY_MIB, at_least=False),
        )
    ]


def import_measures(setting: Setting) -> list[Measure]:
    """Return the measures of the import, beyond torch and scikit-learn."""
    target = Target("ours", _IMPORT_SECONDS, at_least=False)
    statements = ("import sklearn_v2s", "from sklearn_v2s import V2SClassifier")
    found = []
    for text in statements:

        def run(rows: dict[str, dict[str, str]], text: str = text) -> Found:
            return measure_import(text, setting.sized(_ROUNDS, 1))

        found.append(Measure(text, run, target))
    return found
