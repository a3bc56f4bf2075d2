# SPDX-License-Identifier: Apache-2.0
"""Accuracy of methods on the official splits of datasets.

Each method on each dataset is served by a child process of its own, one seed after the
other. Before the clock starts the child fits the method once on eight made-up series,
so that the time of compilers (numba's for aeon) does not count, for no method. Memory
is the peak of fit and prediction beyond what the child held after imports, data and
that warm-up. Test labels are used for scores only.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sklearn_v2s.benchmark.methods import resolve_method
from sklearn_v2s.benchmark.results import read_rows, write_rows
from sklearn_v2s.datasets import list_datasets

__all__ = ["COLUMNS", "run_accuracy"]

COLUMNS = (
    "method", "dataset", "seed", "n_train", "n_test", "length", "n_classes", "accuracy",
    "balanced_accuracy", "log_loss", "ece", "fit_seconds", "predict_seconds",
    "calibration_seconds", "peak_memory_mib", "threads", "versions", "machine", "date",
    "error",
)  # fmt: skip

_DIGITS = {
    "accuracy": 6,
    "balanced_accuracy": 6,
    "log_loss": 6,
    "ece": 6,
    "fit_seconds": 4,
    "predict_seconds": 4,
    "calibration_seconds": 4,
    "peak_memory_mib": 1,
}

# Each library reads its own when it is loaded, hence a process and not a function.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class _Children:
    """Child processes, which end when the benchmark is broken off."""

    def __init__(self, threads: int) -> None:
        self._environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()

    def serve(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a row for each seed, also when the child dies of it."""
        left = list(request["seeds"])
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            with self._lock:
                if self._stopped:
                    return
                child = subprocess.Popen(
                    [sys.executable, "-m", "sklearn_v2s.benchmark.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=printed,
                    env=self._environment,
                    encoding="utf-8",
                )
                self._running.add(child)
            try:
                with child:
                    assert child.stdin is not None and child.stdout is not None
                    # A child that ended already is reported by its exit code.
                    with contextlib.suppress(BrokenPipeError):
                        json.dump(request, child.stdin)
                        child.stdin.close()
                    for line in child.stdout:
                        row = json.loads(line)
                        left.remove(row["seed"])
                        yield row
            finally:
                with self._lock:
                    self._running.discard(child)
            if self._stopped or not left:
                return
            printed.seek(0)
            last = (printed.read().splitlines() or [""])[-1][:300]
        for seed in left:
            yield {
                **{key: request[key] for key in ("method", "dataset", "threads")},
                "seed": seed,
                "error": f"the process ended with exit code {child.returncode} {last}",
            }


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["method"], row["dataset"], int(row["seed"])


def _as_written(row: dict[str, Any]) -> dict[str, Any]:
    written = dict.fromkeys(COLUMNS, "") | {
        name: "" if value is None else value for name, value in row.items()
    }
    for name, digits in _DIGITS.items():
        if written[name] != "":
            written[name] = round(written[name], digits)
    if written["versions"]:
        written["versions"] = json.dumps(written["versions"], sort_keys=True)
    return {name: str(value) for name, value in written.items()}


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1.")


def run_accuracy(
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    output: Path,
    folder: Path | None = None,
    n_jobs: int = 1,
    threads: int = 1,
    progress: bool = True,
) -> list[dict[str, str]]:
    r"""Measure methods on datasets.

    Parameters
    ----------
    methods : sequence of str
        As `resolve_method` reads them.
    datasets : sequence of str
        Names; empty means all in `folder`.
    seeds : sequence of int
        Seeds. A method that has no use for one is run with the first only.
    output : Path
        CSV file with the columns `COLUMNS`, written after each run. Runs that are
        already there are kept and not computed again; those that failed are tried
        again. One benchmark at a time may write a file.
    folder : Path, default=None
        As in `load_dataset`.
    n_jobs : int, default=1
        Child processes at the same time.
    threads : int, default=1
        Threads of each child.
    progress : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    list of dict of str to str
        The rows of the file. A run that raised has a text in ``error`` and no scores.

    Raises
    ------
    ValueError
        If a method is unknown, no run is selected, or `output` is another table.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.benchmark.accuracy import run_accuracy
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "Two").mkdir()
    ...     for part in ("TRAIN", "TEST"):
    ...         path = Path(folder) / "Two" / f"Two_{part}.tsv"
    ...         _ = path.write_text("0 1 2\n0 3 1\n1 2 2\n".replace(" ", "\t"))
    ...     rows = run_accuracy(
    ...         ["majority"],
    ...         ["Two"],
    ...         [0],
    ...         Path(folder) / "results.csv",
    ...         Path(folder),
    ...         progress=False,
    ...     )
    >>> rows[0]["accuracy"]
    '0.666667'
    """
    _check_at_least_one("n_jobs", n_jobs)
    _check_at_least_one("threads", threads)
    resolved = {name: resolve_method(name) for name in methods}
    if not datasets:
        if folder is None:
            raise ValueError("datasets is empty; name some, or give a folder of them.")
        datasets = list_datasets(folder)
    if not (resolved and datasets and seeds):
        raise ValueError(
            f"{len(resolved)} methods, {len(datasets)} datasets and {len(seeds)} seeds "
            "leave nothing to run; give at least one of each."
        )
    rows = {_key(row): row for row in read_rows(output, COLUMNS)}
    requests: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(datasets):
        for name, method in resolved.items():
            wanted = list(dict.fromkeys(seeds))[: None if method.uses_seed else 1]
            todo = [
                seed
                for seed in wanted
                if rows.get((name, dataset, seed), {"error": "none"})["error"]
            ]
            if todo:
                requests.append(
                    {
                        "method": name,
                        "dataset": dataset,
                        "folder": None if folder is None else str(folder),
                        "seeds": todo,
                        "threads": threads,
                    }
                )
    children = _Children(threads)
    lock = threading.Lock()
    bar = tqdm(
        total=sum(len(request["seeds"]) for request in requests),
        desc="accuracy",
        disable=not progress,
    )

    def serve(request: dict[str, Any]) -> None:
        for row in children.serve(request):
            with lock:
                rows[_key(row)] = _as_written(row)
                write_rows(output, COLUMNS, list(rows.values()))
                bar.update()

    with bar, ThreadPoolExecutor(n_jobs) as pool:
        futures = [pool.submit(serve, request) for request in requests]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            # Rows that are written stay; the next call goes on from there.
            children.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return list(rows.values())
