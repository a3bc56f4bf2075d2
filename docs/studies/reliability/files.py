# SPDX-License-Identifier: Apache-2.0
"""Damaged files: is each refused by an error that names it, or read as it stands?

A child process reads one file after the other and prints what became of each. It may
take so many seconds of CPU time for a file, and so much more memory than it had; the
parent sees if it dies, and goes on behind the file that killed it.
"""

import argparse
import ast
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from docs.studies.reliability.damage import ANEW, damages, marker_path
from sklearn_v2s import V2SClassifier
from sklearn_v2s.datasets import load_file
from sklearn_v2s.sources import FrontEndConfig, save_checkpoint
from sklearn_v2s.sources.checkpoint import ARCHITECTURES, load_checkpoint
from sklearn_v2s.training.resume import fit_with_checkpoints, state_path

__all__ = ["FORMATS", "RIGHT", "WRONG", "damage_files", "write_small_source"]

#: Outcomes that are as they should be, and those that are not.
RIGHT = ("refused by name", "read as it stands")
WRONG = (
    "accepted wrongly",
    "error without a name",
    "other exception",
    "took too long",
    "took too much memory",
    "crash",
)

_SECONDS = 5
_MEMORY = 64 * 2**20
_MOST_EXAMPLES = 5
_SERIES = np.random.default_rng(0).normal(size=(12, 16)).round(3)
_LABELS = np.arange(12) % 2


class Format(NamedTuple):
    """A kind of files.

    Attributes
    ----------
    suffix : str
        End of their names.
    write : callable
        Writes an intact one.
    read : callable
        Reads one.
    is_right : callable
        Whether what `read` returned is what the file, with this content, says.
    """

    suffix: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    is_right: Callable[[Any, bytes], bool]


def write_small_source(path: Path) -> None:
    """Write the checkpoint of a source that takes no time."""
    front_end = FrontEndConfig(
        input_length=512, n_fft=64, hop_length=32, pad_left=16, pad_right=16, n_mels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = [f"word{number}" for number in range(12)]
        source = ARCHITECTURES["tc-resnet"].build(front_end, words)
    save_checkpoint(path, source, {"corpus": "none", "accuracy": [0.5, {"a": 1}]})


def _is_usable_source(loaded: Any, content: bytes) -> bool:
    source = loaded[0].eval()
    with torch.no_grad():
        outputs = source(torch.zeros(1, source.input_length))
    return outputs.logits.shape == (1, len(source.classes))


def _write_classifier(path: Path) -> None:
    V2SClassifier(max_epochs=0, random_state=0).fit(_SERIES, _LABELS).save(path)


def _is_usable_classifier(loaded: V2SClassifier, content: bytes) -> bool:
    found = loaded.predict_proba(_SERIES)
    return found.shape == (12, 2) and bool(np.isfinite(found).all())


class _Stop(RuntimeError):
    """Ends a training after its second checkpoint."""


def _classifier_to_resume(source: Path, **parameters: Any) -> V2SClassifier:
    return V2SClassifier(
        str(source),
        views="replicas",
        source_output="logits",
        label_mapping="random",
        max_epochs=3,
        n_segments=2,
        device="cpu",
        random_state=0,
        **parameters,
    )


def _source_beside(path: Path) -> Path:
    return path.with_name("source.safetensors")


def _write_checkpoint(path: Path) -> None:
    from skorch.callbacks import Callback

    class StopAfterTwo(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            if len(net.history) == 3:
                raise _Stop

    write_small_source(_source_beside(path))
    model = path.with_name("model.safetensors")
    classifier = _classifier_to_resume(_source_beside(path), callbacks=[StopAfterTwo()])
    try:
        fit_with_checkpoints(classifier, _SERIES, _LABELS, model)
    except _Stop:
        state_path(model).replace(path)


def _resume(path: Path) -> V2SClassifier:
    model = path.with_name("model.safetensors")
    state = state_path(model)
    # A complete training removes its checkpoint.
    path.replace(state)
    classifier = _classifier_to_resume(_source_beside(path))
    return fit_with_checkpoints(classifier, _SERIES, _LABELS, model, resume=True)


def _write_npy(path: Path) -> None:
    np.save(path, np.column_stack([_LABELS, _SERIES]))


def _same_array(loaded: Any, content: bytes) -> bool:
    size = 2 if content[6] == 1 else 4
    length = int.from_bytes(content[8 : 8 + size], "little")
    begin = 8 + size + length
    header = ast.literal_eval(content[begin - length : begin].decode("latin1"))
    values = np.frombuffer(content[begin:], np.dtype(header["descr"]))
    order = "F" if header["fortran_order"] else "C"
    values = values.reshape(header["shape"], order=order)
    return np.array_equal(loaded[0], values, equal_nan=True)


def _write_table(path: Path) -> None:
    delimiter = {".csv": ",", ".tsv": "\t"}[path.suffix]
    lines = [
        delimiter.join([("up", "down")[label], *map(str, series)])
        for label, series in zip(_LABELS, _SERIES, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _same_labels(found: np.ndarray, expected: list[str]) -> bool:
    if found.dtype.kind == "i":
        return [float(label) for label in expected] == found.tolist()
    # numpy's strings do not keep zero bytes at their end.
    stripped = [label.strip().rstrip("\0") for label in expected]
    return [label.strip() for label in found.tolist()] == stripped


def _lines(content: bytes) -> list[str]:
    """Return the lines of a text that are not blank."""
    # str.splitlines also breaks lines where no file has an end of line.
    lines = re.split("\r\n|\n|\r", content.decode("utf-8-sig"))
    return [line for line in lines if line.strip()]


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else np.nan


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _same_table(delimiter: str) -> Callable[[Any, bytes], bool]:
    def is_right(loaded: Any, content: bytes) -> bool:
        X, y = loaded
        rows = [line.split(delimiter) for line in _lines(content)]
        if len(rows) > 1 and not any(map(_is_number, rows[0][1:])):
            del rows[0]
        values = [[_number(cell) for cell in row[1:]] for row in rows]
        labels = [row[0] for row in rows]
        return np.array_equal(X, values, equal_nan=True) and _same_labels(y, labels)

    return is_right


_TS_HEADER = """# noise
@problemName Noise
@timeStamps false
@missing false
@univariate true
@equalLength true
@seriesLength 16
@classLabel true up down
@data
"""


def _write_ts(path: Path) -> None:
    lines = [
        f"{','.join(map(str, series))}:{('up', 'down')[label]}\n"
        for label, series in zip(_LABELS, _SERIES, strict=True)
    ]
    path.write_text(_TS_HEADER + "".join(lines), encoding="utf-8")


def _same_ts(loaded: Any, content: bytes) -> bool:
    X, y = loaded
    lines = [line.strip().lower() for line in _lines(content)]
    begin = lines.index("@data")
    header = "\n".join(lines[:begin])
    declared = re.search(r"@classlabel\s+true\s+(.*)", header)
    rows = [line.split(":") for line in lines[begin + 1 :]]
    if y is not None and len(y):
        labels = [row.pop().strip() for row in rows]
        known = labels if declared is None else declared[1].split()
        if y.tolist() != labels or not set(labels) <= set(known):
            return False
    if not rows or not rows[0]:
        return False
    values = [
        [
            [float(cell.replace("?", "nan")) for cell in channel.split(",")]
            for channel in row
        ]
        for row in rows
    ]
    return len(X) == len(values) and all(
        np.array_equal(one, other, equal_nan=True)
        for one, other in zip(X, values, strict=True)
    )


def _load_unlabelled(path: Path) -> Any:
    return load_file(path, labelled=False)


#: The formats by name.
FORMATS = {
    "saved classifier": Format(
        ".safetensors", _write_classifier, V2SClassifier.load, _is_usable_classifier
    ),
    "source checkpoint": Format(
        ".safetensors", write_small_source, load_checkpoint, _is_usable_source
    ),
    "training checkpoint": Format(
        ".safetensors", _write_checkpoint, _resume, _is_usable_classifier
    ),
    "series .npy": Format(".npy", _write_npy, _load_unlabelled, _same_array),
    "series .csv": Format(".csv", _write_table, load_file, _same_table(",")),
    "series .tsv": Format(".tsv", _write_table, load_file, _same_table("\t")),
    "series .ts": Format(".ts", _write_ts, load_file, _same_ts),
}


def _virtual_size() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _outcome(kind: Format, path: Path, content: bytes, damage: str) -> tuple[str, str]:
    """Read a file; return what became of it, and the error."""
    # What is there is not counted, what is taken in addition is.
    most = _virtual_size() + 2 * len(content) + _MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        loaded = kind.read(path)
    except MemoryError as error:
        return "took too much memory", repr(error)
    except ValueError as error:
        # A checkpoint lies beside the classifier, under a name that follows from it.
        names = path.name, state_path(path.with_name("model.safetensors")).name
        named = any(name in str(error) for name in names)
        return ("refused by name" if named else "error without a name"), repr(error)
    except Exception as error:
        return "other exception", repr(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        signal.setitimer(signal.ITIMER_PROF, 0)
    if kind.suffix == ".safetensors" and damage != "value of the header changed" + ANEW:
        return "accepted wrongly", "tensors or bytes are not those that were written"
    try:
        right = kind.is_right(loaded, content)
    except Exception as error:
        return "accepted wrongly", f"and then {error!r}"
    return (
        ("read as it stands", "") if right else ("accepted wrongly", "read otherwise")
    )


def _read_damaged(name: str, numbers: range, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what became of each damaged file; the same for the same seed."""
    kind = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged{kind.suffix}"
        kind.write(path)
        intact = path.read_bytes()
        # What is read first loads sources, which then stay.
        if not kind.is_right(kind.read(path), intact):
            raise RuntimeError(f"the intact file of {name} is not read.")
        ways = damages(kind.suffix, Path(folder))
        for number in numbers:
            rng = random.Random(f"{name} {seed} {number}")
            damage = list(ways)[number % len(ways)]
            content = intact
            while content == intact:
                content = ways[damage](intact, rng)
            # Some file systems flush a file that is emptied to be written anew.
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            outcome, error = _outcome(kind, path, content, damage)
            if marker_path(Path(folder)).exists():
                marker_path(Path(folder)).rmdir()
                outcome, error = "accepted wrongly", "a pickle was loaded"
            yield {
                "number": number,
                "damage": damage,
                "outcome": outcome,
                "error": error.replace(f"{folder}/", "")[:300],
            }


def _run_child(
    name: str, first: int, count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the outcomes of a child until it ends; one that killed it is the last."""
    module = "docs.studies.reliability.files"
    command = [sys.executable, "-m", module, name, str(first), str(count), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        number = first
        for line in child.stdout:
            yield json.loads(line)
            number += 1
        code = child.wait()
    if number < count:
        if code >= 0:
            raise RuntimeError(f"the reader of {name} ended with code {code}.")
        outcome = "took too long" if code == -signal.SIGPROF else "crash"
        yield {
            "number": number,
            "damage": "not known",
            "outcome": outcome,
            "error": signal.Signals(-code).name,
        }


def damage_files(name: str, count: int, seed: int) -> dict[str, Any]:
    """Damage files of one format and read them.

    Parameters
    ----------
    name : str
        One of `FORMATS`.
    count : int
        How many files.
    seed : int
        Of the damages.

    Returns
    -------
    dict
        Outcomes counted, in all and by damage, and some examples of wrong ones.
    """
    outcomes: Counter[str] = Counter()
    by_damage: dict[str, Counter[str]] = {}
    examples: list[dict[str, Any]] = []
    number = 0
    while number < count:
        for row in _run_child(name, number, count, seed):
            number = row["number"] + 1
            outcomes[row["outcome"]] += 1
            by_damage.setdefault(row["damage"], Counter())[row["outcome"]] += 1
            if row["outcome"] in WRONG and outcomes[row["outcome"]] <= _MOST_EXAMPLES:
                examples.append(row)
    return {
        "files": count,
        "seed": seed,
        "outcomes": dict(outcomes),
        "wrong": sum(outcomes[outcome] for outcome in WRONG),
        "by_damage": {damage: dict(found) for damage, found in by_damage.items()},
        "examples": examples,
    }


def _main() -> None:
    """Read damaged files, as a child; print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=FORMATS)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    # Of casts and the like in files that are wrong on purpose.
    warnings.simplefilter("ignore")
    for row in _read_damaged(
        options.name, range(options.first, options.count), options.seed
    ):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    _main()
