# SPDX-License-Identifier: Apache-2.0
"""Limits: memory, disk, folders that cannot be written to, caches that others write."""

import ctypes
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import sklearn_v2s
from docs.studies.reliability.children import count, in_child, start_child
from sklearn_v2s import V2SClassifier
from sklearn_v2s.datasets import make_cylinder_bell_funnel
from sklearn_v2s.runtime.tensor_file import TensorFileError, read_tensor_file

__all__ = ["LIMITS", "try_limit"]

#: Outcomes that are as they should be.
RIGHT = (
    "clear error, all as before",
    "done, result right",
    "enough",
    "not allowed here",
)

_WRONG = "error of another kind"
_CHANGED = "estimator or file changed"
# A user without any rights and without a home.
_NOBODY = 54_321
_ROOT = 0
# CLONE_NEWNS; os.unshare is there from Python 3.12 on.
_NEW_MOUNTS = 0x20000


def _virtual_size() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _names_memory(error: BaseException) -> bool:
    # PyTorch has no MemoryError for the memory of the host.
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _quick(**parameters: Any) -> V2SClassifier:
    return V2SClassifier(**{"max_epochs": 0, "random_state": 0, **parameters})


def _limited(
    work: Callable[[], Any], kind: int, most: int, is_clear: Callable[[Any], bool]
) -> tuple[str, str] | None:
    """Do some work under a limit; None: it was done."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, hard))
    try:
        work()
    except Exception as error:
        outcome = RIGHT[0] if is_clear(error) else _WRONG
        return outcome, f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(kind, (hard, hard))
    return None


def _memory(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Fit and predict with so many bytes of address space beyond those held."""
    X, y = make_cylinder_bell_funnel(300, random_state=0)
    fitted = _quick().fit(X[:30], y[:30])
    expected = fitted.predict_proba(X[:30])
    large = np.tile(X, (20, 1))

    def work(parameters: dict[str, Any], most: int) -> tuple[str, str]:
        fitted.set_params(**parameters)
        before = dict(vars(fitted))
        ended = _limited(
            (lambda: fitted.fit(large, np.tile(y, 20)))
            if rng.random() < 0.7
            else (lambda: fitted.predict_proba(large)),
            resource.RLIMIT_AS,
            _virtual_size() + most,
            _names_memory,
        )
        if ended is None:
            return RIGHT[1], ""
        same = vars(fitted).keys() == before.keys() and all(
            vars(fitted)[name] is before[name] for name in before
        )
        if not same or not np.array_equal(fitted.predict_proba(X[:30]), expected):
            return _CHANGED, ended[1]
        return ended

    while True:
        views = rng.choice(("auto", "replicas", ["wave", "level"]))
        # From nothing to what nearly suffices, evenly on the scale of orders.
        most = int(2 ** rng.uniform(12, 29))
        yield in_child(partial(work, {"views": views}, most))


def _is_system(error: Exception) -> bool:
    """Return whether an error is one of the system that names the file."""
    return isinstance(error, OSError) and "model.safetensors" in str(error)


def _check_files(path: Path, content: bytes, ended: tuple[str, str]) -> tuple[str, str]:
    """Return how a save ended, unless the file before it is gone or half of a new."""
    if [file.name for file in path.parent.iterdir()] != [path.name]:
        return _CHANGED, "a file was left behind"
    if path.read_bytes() != content:
        return _CHANGED, "the file that was there changed"
    return ended


def _two_classifiers() -> tuple[V2SClassifier, V2SClassifier]:
    X, y = make_cylinder_bell_funnel(12, random_state=0)
    return _quick().fit(X, y), _quick(random_state=1).fit(X, y)


def _file_size(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Save with a limit of the size of files, as where a disk is full."""
    first, second = _two_classifiers()
    path = folder / "model.safetensors"
    first.save(path)
    content = path.read_bytes()

    def work(most: int) -> tuple[str, str]:
        ended = _limited(
            lambda: second.save(path), resource.RLIMIT_FSIZE, most, _is_system
        )
        if ended is None:
            return "enough", ""
        return _check_files(path, content, ended)

    while True:
        yield in_child(partial(work, rng.randrange(len(content))))


def _full_disk(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Save to a file system of less than twice the file, in which it is already."""
    first, second = _two_classifiers()
    path = folder / "model.safetensors"
    first.save(path)
    size = len(path.read_bytes())

    def work(most: int) -> tuple[str, str]:
        if ctypes.CDLL(None).unshare(_NEW_MOUNTS):
            return "not allowed here", "unshare"
        mount = ["mount", "-t", "tmpfs", "-o", f"size={most}", "none", str(folder)]
        # Else the mount would be seen by others.
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(mount, check=True)
        first.save(path)
        content = path.read_bytes()
        try:
            second.save(path)
        except Exception as error:
            ended = RIGHT[0] if _is_system(error) else _WRONG, str(error)
        else:
            return "enough", ""
        return _check_files(path, content, ended)

    while True:
        yield in_child(partial(work, rng.randint(size + 4096, 2 * size - 8192)))


def _read_only(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Save to a folder that one may only read."""
    first, second = _two_classifiers()
    path = folder / "model.safetensors"
    first.save(path)
    content = path.read_bytes()
    folder.chmod(0o555)

    def work() -> tuple[str, str]:
        if os.getuid() == _ROOT:
            # Permissions do not stop root.
            os.setuid(_NOBODY)
        try:
            second.save(path)
        except Exception as error:
            ended = RIGHT[0] if isinstance(error, PermissionError) else _WRONG
            return _check_files(path, content, (ended, str(error)))
        return _CHANGED, "saved"

    while True:
        yield in_child(work)


_TRAINING = """
from sklearn_v2s import V2SClassifier
from sklearn_v2s.datasets import make_cylinder_bell_funnel
X, y = make_cylinder_bell_funnel(12, random_state=0)
classifier = V2SClassifier("attrnn", views="replicas", max_epochs=1, random_state=0)
print(classifier.fit(X, y).predict_proba(X).tobytes().hex())
"""


def _train_without_home(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Train, which compiles code, where nothing of it can be kept."""
    package = Path(sklearn_v2s.__file__).parent
    read_only = f"mount --bind -o ro '{package}' '{package}' && exec \"$@\""
    python = [sys.executable, "-c", _TRAINING]
    while True:
        expected, found = (
            subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            for command, environment in (
                (python, os.environ),
                (
                    ["unshare", "-m", "sh", "-c", read_only, "sh", *python],
                    {**os.environ, "HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
                ),
            )
        )
        if found.stderr.startswith(("unshare:", "mount:")):
            yield RIGHT[3], found.stderr
        elif found.returncode:
            yield _WRONG, found.stderr[-300:]
        else:
            yield (RIGHT[1] if found.stdout == expected.stdout else _CHANGED), ""


def _no_home(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Fit, save and load as a user without a home, a name or a place to write."""
    X, y = make_cylinder_bell_funnel(12, random_state=0)
    expected = _quick().fit(X, y).predict_proba(X)
    folder.chmod(0o777)

    def work(home: str | None) -> tuple[str, str]:
        for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"):
            os.environ.pop(name, None)
        if home is not None:
            os.environ["HOME"] = home
        if os.getuid() == _ROOT:
            os.setuid(_NOBODY)
        os.chdir("/")
        path = folder / f"{os.getpid()}.safetensors"
        try:
            _quick().fit(X, y).save(path)
            found = V2SClassifier.load(path).predict_proba(X)
        except Exception as error:
            return _WRONG, repr(error)
        return (RIGHT[1], "") if np.array_equal(found, expected) else (_CHANGED, "")

    while True:
        yield in_child(partial(work, rng.choice((None, "", "/nowhere", "/proc"))))


def _cache(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Fit in two processes that write the same folder of `memory` at once."""
    X, y = make_cylinder_bell_funnel(12, random_state=0)
    expected = {
        seed: _quick(random_state=seed).fit(X, y).predict_proba(X) for seed in range(3)
    }

    def fit(memory: Path, seed: int) -> bool:
        found = _quick(random_state=seed, memory=str(memory)).fit(X, y)
        if not np.array_equal(found.predict_proba(X), expected[seed]):
            raise AssertionError("another result than without a cache")
        return True

    number = 0
    while True:
        number += 1
        memory = folder / str(number)
        if rng.random() < 0.3:
            fit(memory, 0)
            _damage_cache(memory, rng)
        # The same seed: the same entries of the cache.
        children = [
            start_child(partial(fit, memory, seed)) for seed in (0, rng.randrange(3))
        ]
        codes = [os.waitpid(child, 0)[1] for child in children]
        yield (RIGHT[1], "") if codes == [0, 0] else (_WRONG, f"wait status {codes}")


def _damage_cache(memory: Path, rng: random.Random) -> None:
    """Cut off one file of a cache, as a process that is killed can leave it."""
    path = rng.choice(sorted(memory.rglob("output.pkl")))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def _two_writers(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Read a file while two processes write it again and again."""
    path = folder / "model.safetensors"
    classifiers = _two_classifiers()
    classifiers[0].save(path)
    deadline = time.monotonic() + 1.0

    def write(classifier: V2SClassifier) -> None:
        while time.monotonic() < deadline:
            classifier.save(path)

    while True:
        deadline = time.monotonic() + 1.0
        writers = [start_child(partial(write, one)) for one in classifiers]
        outcome = RIGHT[1], ""
        while time.monotonic() < deadline:
            try:
                read_tensor_file(path)
            except (TensorFileError, OSError) as error:
                outcome = _WRONG, repr(error)
        codes = [os.waitpid(writer, 0)[1] for writer in writers]
        if codes != [0, 0]:
            outcome = _WRONG, f"wait status {codes}"
        left = [file.name for file in folder.iterdir()]
        yield outcome if left == [path.name] else (_CHANGED, f"{left} are left")


#: The limits by name, each an iterator of outcomes without an end, and the share of the
#: count of tries that it gets.
LIMITS: dict[str, tuple[Callable[[random.Random, Path], Iterator[Any]], float]] = {
    "memory": (_memory, 1.0),
    "size of files": (_file_size, 1.0),
    "full disk": (_full_disk, 0.3),
    "read-only folder": (_read_only, 0.1),
    "no home": (_no_home, 0.2),
    "training without a home": (_train_without_home, 0.0),
    "cache written by two": (_cache, 0.5),
    "file written by two": (_two_writers, 0.1),
}


def try_limit(name: str, tries: int, seed: int) -> dict[str, Any]:
    """Try one of `LIMITS`.

    Parameters
    ----------
    name : str
        Which.
    tries : int
        How often; slow ones are tried less often.
    seed : int
        Of what is drawn.

    Returns
    -------
    dict
        Outcomes, counted.
    """
    limit, share = LIMITS[name]
    rng = random.Random(f"{name} {seed}")
    # Readable for the user without rights.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "place"
        place.mkdir()
        attempts = limit(rng, place)
        found = count(
            (next(attempts) for _ in range(max(1, round(share * tries)))), RIGHT
        )
        place.chmod(0o755)
        # The folder was another one each time, and is gone.
        for example in found["examples"]:
            example[1] = example[1].replace(f"{place}/", "")
    return {**found, "seed": seed}
