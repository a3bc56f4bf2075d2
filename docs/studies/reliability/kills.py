# SPDX-License-Identifier: Apache-2.0
"""Trainings that are killed at random times and taken up again."""

import contextlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.studies.reliability.children import count, start_child
from docs.studies.reliability.files import write_small_source
from sklearn_v2s import V2SClassifier
from sklearn_v2s.cli import main as v2s
from sklearn_v2s.datasets import make_cylinder_bell_funnel
from sklearn_v2s.runtime.tensor_file import read_tensor_file
from sklearn_v2s.training.resume import state_path

__all__ = ["kill_trainings"]

RIGHT = ("killed, files intact", "resumed to the same bits")

_EPOCHS = 12
# Of the time that a training takes alone.
_LONGEST = 1.1


def _command(folder: Path, model: Path) -> list[str]:
    return [
        "train", "--dataset", str(folder / "data.csv"), "--output", str(model),
        "--source", str(folder / "source.safetensors"), "--views", "replicas",
        "--epochs", str(_EPOCHS), "--checkpoint-every", "1", "--resume", "--quiet",
        "--seed", "0",
    ]  # fmt: skip


def _learned(model: Path) -> tuple[dict[str, bytes], list[dict[str, float]]]:
    """Return all that a saved classifier has learned, without the seconds."""
    tensors, header, _ = read_tensor_file(model)
    history = [
        {name: value for name, value in row.items() if name != "dur"}
        for row in header["history"]
    ]
    return {name: array.tobytes() for name, array in tensors.items()}, history


def _problem(model: Path) -> str:
    """Return what is wrong with the files that a killed training leaves."""
    allowed = {model.name, state_path(model).name}
    for path in model.parent.iterdir():
        # A file that was being written has a name of its own, which nobody reads; the
        # next training removes it.
        if path.name not in allowed and not path.name.startswith("."):
            return f"{path.name} was left"
    try:
        if model.is_file():
            V2SClassifier.load(model)
        if state_path(model).is_file():
            read_tensor_file(state_path(model))
    except ValueError as error:
        return repr(error)
    return ""


def _train(command: list[str], seconds: float | None) -> int | None:
    """Train in a process of its own; return its wait status, None if it was killed."""
    child = start_child(lambda: v2s(command))
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return None if os.WIFSIGNALED(status) else status


def _import_beforehand(command: list[str]) -> None:
    """Import what a training imports on its way, which else each child would do."""
    reader, writer = os.pipe()

    def work() -> list[str]:
        if v2s(command) != 0:
            raise RuntimeError("the training that nobody kills failed.")
        return sorted(sys.modules)

    child = start_child(work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    for name in json.loads(text):
        # Some modules are made by others, under names that cannot be imported.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _kill(folder: Path, kills: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    X, y = make_cylinder_bell_funnel(24, random_state=0)
    rows = [[label, *map(str, row)] for label, row in zip(y, X, strict=True)]
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (folder / "data.csv").write_text(text, encoding="utf-8")
    write_small_source(folder / "source.safetensors")
    (folder / "whole").mkdir()
    whole = folder / "whole" / "model.safetensors"
    _import_beforehand(_command(folder, whole))
    whole.unlink()
    start = time.perf_counter()
    if _train(_command(folder, whole), None) != 0:
        raise RuntimeError("the training that nobody kills failed.")
    longest = _LONGEST * (time.perf_counter() - start)
    expected = _learned(whole)
    killed = number = 0
    while killed < kills:
        number += 1
        place = folder / str(number)
        place.mkdir()
        model = place / "model.safetensors"
        # Some are killed once, some again and again.
        left, status = rng.randint(1, 6), None
        while status is None and left and killed < kills:
            status = _train(_command(folder, model), rng.uniform(0, longest))
            if status is None:
                killed += 1
                left -= 1
                problem = _problem(model)
                yield ("half or foreign file" if problem else RIGHT[0]), problem
        if status is None:
            status = _train(_command(folder, model), None)
        if status != 0:
            yield "not resumed", f"wait status {status}"
        elif sorted(path.name for path in place.iterdir()) != [model.name]:
            yield "files left at the end", str(list(place.iterdir()))
        else:
            same = _learned(model) == expected
            yield (RIGHT[1] if same else "resumed to other bits"), ""


def kill_trainings(kills: int, seed: int) -> dict[str, Any]:
    """Kill trainings that write checkpoints, and take them up again.

    Parameters
    ----------
    kills : int
        How many kills in all; a training gets one to six.
    seed : int
        Of the times.

    Returns
    -------
    dict
        Outcomes of kills and of complete trainings, counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        outcomes = _kill(Path(folder), kills, random.Random(seed))
        found = count(outcomes, RIGHT)
    return {**found, "kills": kills, "epochs": _EPOCHS, "seed": seed}
