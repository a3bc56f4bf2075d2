# SPDX-License-Identifier: Apache-2.0
"""Published source weights, downloaded once on request and checked by SHA-256.

Nothing else in the package calls this: no import, no ``fit`` and no unpickling ever
opens a connection. pooch downloads and checks; it has no lock between processes, which
filelock adds.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sklearn_v2s.sources.checkpoint import CheckpointError

__all__ = [
    "CACHE_VARIABLE",
    "PUBLISHED",
    "DownloadError",
    "PublishedWeights",
    "cached_file",
    "default_cache_dir",
    "fetch_source",
    "file_sha256",
]

#: Environment variable that names the cache folder.
CACHE_VARIABLE = "SKLEARN_V2S_CACHE"

_TIMEOUT = 30.0
# A second process waits for the download of the first one, not for ever.
_LOCK_TIMEOUT = 600.0


class PublishedWeights(NamedTuple):
    """A file of weights that its authors offer for download.

    Attributes
    ----------
    url : str
        Where it is; names one commit, so that the bytes behind it stay the same.
    file : str
        Name under which it is kept.
    size : int
        In bytes.
    sha256 : str
        What it must have.
    n_classes : int
        Number of source classes.
    licence : str
        Licence and attribution.
    description : str
        One line.
    """

    url: str
    file: str
    size: int
    sha256: str
    n_classes: int
    licence: str
    description: str


#: What `fetch_source` can download.
PUBLISHED: dict[str, PublishedWeights] = {
    "attrnn-gsc": PublishedWeights(
        url=(
            "https://raw.githubusercontent.com/douglas125/SpeechCmdRecognition/"
            "e965a72a8d1dedf490d4eba1996b2f3bb74eacdf/model-attRNN.h5"
        ),
        file="model-attRNN.h5",
        size=2775136,
        sha256="c73134a09bbc72d169a7d8e875297e72142c3d11f2dc0d95570303c67bdca4d0",
        n_classes=36,
        licence=(
            "MIT, de Andrade, Leo, Viana, Bernkopf: A neural attention model for "
            "speech command recognition, arXiv:1808.08929, 2018"
        ),
        description="AttRNN of its authors, Google Speech Commands v2, Keras weights",
    ),
}


class DownloadError(OSError):
    """Weights could not be downloaded or kept."""


def default_cache_dir() -> Path:
    """Return the folder for downloads.

    Returns
    -------
    Path
        The value of the environment variable ``SKLEARN_V2S_CACHE``, or the folder of
        the system for caches.

    Examples
    --------
    >>> import os
    >>> from sklearn_v2s.sources.download import default_cache_dir
    >>> "v2s" in str(default_cache_dir()) or "SKLEARN_V2S_CACHE" in os.environ
    True
    """
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sklearn-v2s"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / (
        "sklearn-v2s"
    )


def cached_file(name: str, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return where downloaded weights are kept, whether they are there or not.

    Parameters
    ----------
    name : str
        One of `PUBLISHED`.
    cache_dir : path-like, default=None
        The cache folder; None means `default_cache_dir`.

    Returns
    -------
    Path
        The file.
    """
    if name not in PUBLISHED:
        raise ValueError(
            f"unknown published source {name!r}. Choose one of {sorted(PUBLISHED)}."
        )
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    return folder / PUBLISHED[name].file


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, as the command ``sha256sum`` prints it.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _import_downloaders() -> tuple[Any, Any]:
    try:
        import filelock
        import pooch
    except ImportError as error:
        raise ImportError(
            f"downloading needs the package {error.name}, which is not installed. "
            'Install it with: pip install "sklearn-v2s[download]"'
        ) from error
    return pooch, filelock


def _download(pooch: Any, weights: PublishedWeights, path: Path) -> None:
    try:
        # pooch writes to a temporary name and keeps only what has this hash.
        pooch.retrieve(
            weights.url,
            known_hash=f"sha256:{weights.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
        )
    except ValueError as error:
        raise CheckpointError(
            f"what {weights.url} gave is not the file that was asked for, and was not "
            f"kept: {error} Try again, or get the right file and put it at {path}."
        ) from error
    except OSError as error:
        raise DownloadError(
            f"cannot download {weights.url}: {error}. Without internet, get that file "
            f"on another machine and put it at {path}; the environment variable "
            f"{CACHE_VARIABLE} names another folder to look for it."
        ) from error


def fetch_source(
    name: str = "attrnn-gsc", cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Download published weights, or find them where an earlier call put them.

    Parameters
    ----------
    name : str, default="attrnn-gsc"
        One of `PUBLISHED`.
    cache_dir : path-like, default=None
        Folder to keep the file in. None means the environment variable
        ``SKLEARN_V2S_CACHE``, or the folder of the system for caches.

    Returns
    -------
    Path
        The file, with the right SHA-256, for `sklearn_v2s.sources.importers.keras_h5`.

    Raises
    ------
    DownloadError
        If the file cannot be reached or written.
    CheckpointError
        If what was downloaded has another SHA-256; nothing is kept then.
    ImportError
        If the file must be downloaded and pooch or filelock is not installed.

    Examples
    --------
    >>> from sklearn_v2s.sources.download import fetch_source
    >>> fetch_source("attrnn-gsc").name  # doctest: +SKIP
    'model-attRNN.h5'
    """
    path = cached_file(name, cache_dir)
    weights = PUBLISHED[name]

    def is_there() -> bool:
        return path.is_file() and file_sha256(path) == weights.sha256

    if is_there():
        return path
    pooch, filelock = _import_downloaders()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT):
            # Another process may have downloaded it while this one waited.
            if not is_there():
                _download(pooch, weights, path)
    except DownloadError:
        raise
    except OSError as error:
        # The time-out of the lock is an OSError too.
        raise DownloadError(
            f"cannot keep {name!r} at {path}: {error}. Set the environment variable "
            f"{CACHE_VARIABLE}, or cache_dir, to a folder that can be written to."
        ) from error
    return path
