# SPDX-License-Identifier: Apache-2.0
"""Labelled series from folders in UCR layout and from aeon's archive."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_v2s.datasets.files import aeon_datasets, load_file

__all__ = ["check_split", "find_file", "list_datasets", "load_dataset"]

_SPLITS = ("train", "test")
# In the order of preference: the first needs nothing beyond numpy.
_SUFFIXES = (".tsv", ".ts")


def check_split(split: str) -> None:
    """Raise if a split is none of the two that the archive has."""
    if split not in _SPLITS:
        raise ValueError(f"split={split!r} is unknown; choose 'train' or 'test'.")


def find_file(folder: Path, name: str, split: str) -> Path | None:
    """Return the file of one part of a dataset, or None."""
    for suffix in _SUFFIXES:
        path = folder / name / f"{name}_{split.upper()}{suffix}"
        if path.is_file():
            return path
    return None


def list_datasets(
    folder: str | os.PathLike[str], splits: Sequence[str] = _SPLITS
) -> list[str]:
    r"""Return the names of the datasets in a folder.

    Parameters
    ----------
    folder : path-like
        Holds ``<name>/<name>_TRAIN.tsv`` and ``<name>/<name>_TEST.tsv``, or the same
        with ``.ts``.
    splits : sequence of {"train", "test"}, default=("train", "test")
        Parts that a dataset must have to be listed.

    Returns
    -------
    list of str
        Sorted.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If a split is unknown.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.datasets import list_datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "Waves").mkdir()
    ...     for part in ("TRAIN", "TEST"):
    ...         path = Path(folder) / "Waves" / f"Waves_{part}.tsv"
    ...         _ = path.write_text("1\t0.5\t0.7\n")
    ...     list_datasets(folder)
    ['Waves']
    """
    folder = Path(folder)
    for split in splits:
        check_split(split)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder={str(folder)!r} is not there; give a folder that holds "
            "<name>/<name>_TRAIN.tsv."
        )
    return sorted(
        path.name
        for path in folder.iterdir()
        if all(find_file(folder, path.name, split) for split in splits)
    )


def load_dataset(
    name: str, split: str, folder: str | os.PathLike[str] | None = None
) -> tuple[Any, np.ndarray]:
    r"""Load one part of a dataset.

    Parameters
    ----------
    name : str
        Dataset, as the UCR archive spells it.
    split : {"train", "test"}
        Official part.
    folder : path-like, default=None
        Holds ``<name>/<name>_TRAIN.tsv`` (label first, tab separated) or ``.ts``
        files, which aeon reads; ``.tsv`` is taken where both are there. None loads
        the dataset by aeon: one that is bundled with aeon, one in aeon's cache, or a
        download into that cache.

    Returns
    -------
    X : ndarray of shape (n, n_timepoints) or (n, n_channels, n_timepoints), or list
        Series as the file has them: two dimensions from ``.tsv``, three from aeon, a
        list of ndarrays of shape (n_channels, n_timepoints) where lengths differ.
    y : ndarray of shape (n,)
        Labels as they stand: integers stay integers, all else is text.

    Raises
    ------
    FileNotFoundError
        If the folder does not have this part of the dataset.
    ImportError
        If aeon is needed and missing.
    ValueError
        If `split` or, without `folder`, `name` is unknown, or if a file is no table
        of numbers with a label in front.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_v2s.datasets import load_dataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "Waves").mkdir()
    ...     path = Path(folder) / "Waves" / "Waves_TRAIN.tsv"
    ...     _ = path.write_text("1\t0.5\t0.7\n-1\t0.1\t0.2\n")
    ...     X, y = load_dataset("Waves", "train", folder)
    >>> X.shape, y.tolist()
    ((2, 2), [1, -1])
    """
    check_split(split)
    if folder is None:
        return aeon_datasets().load_classification(name, split=split)
    path = find_file(Path(folder), name, split)
    if path is None:
        there = list_datasets(folder, splits=[split])
        raise FileNotFoundError(
            f"name={name!r}: {str(folder)!r} has no "
            f"{name}/{name}_{split.upper()}.tsv and no .ts; it has {there}."
        )
    X, y = load_file(path)
    if y is None:
        raise ValueError(f"{path.name} has no labels.")
    return X, y
