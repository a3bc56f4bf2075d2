# SPDX-License-Identifier: Apache-2.0
"""The 80 datasets of the UCR archive that the original command line numbers."""

import csv
import os
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sklearn_v2s.datasets.folders import check_split, find_file, load_dataset

__all__ = ["UCRDataset", "find_ucr", "list_ucr", "load_ucr", "locate_ucr"]


class UCRDataset(NamedTuple):
    """A dataset of the UCR archive, and its sizes where they are known.

    Attributes
    ----------
    number : int
        In the list of the original command line.
    name : str
        As the UCR archive spells it.
    n_train, n_test : int or None
        Series in the official parts.
    n_timepoints : int or None
        Length of the series.
    n_classes : int or None
        Classes.
    """

    number: int
    name: str
    n_train: int | None = None
    n_test: int | None = None
    n_timepoints: int | None = None
    n_classes: int | None = None


@cache
def _table() -> tuple[UCRDataset, ...]:
    file = resources.files("sklearn_v2s.datasets") / "ucr_numbers.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return tuple(
        UCRDataset(
            name=row.pop("name"),
            **{key: int(value) for key, value in row.items() if value},
        )
        for row in rows
    )


def list_ucr() -> list[UCRDataset]:
    """Return the datasets that the original command line numbers.

    Returns
    -------
    list of UCRDataset
        By number, 0 to 79.

    Examples
    --------
    >>> from sklearn_v2s.datasets import list_ucr
    >>> list_ucr()[32].name
    'GunPoint'
    """
    return list(_table())


def find_ucr(name_or_number: str | int) -> UCRDataset:
    """Return a dataset by its name or its number.

    Parameters
    ----------
    name_or_number : str or int
        A name, in any case, or a number from 0 to 79, also as text.

    Returns
    -------
    UCRDataset
        Number, name and sizes.

    Raises
    ------
    ValueError
        If there is none of that name or number.

    Examples
    --------
    >>> from sklearn_v2s.datasets import find_ucr
    >>> find_ucr(18).name, find_ucr("coffee").number
    ('Coffee', 18)
    """
    text = str(name_or_number).strip()
    table = _table()
    if text.lstrip("-").isdecimal():
        number = int(text)
        if not 0 <= number < len(table):
            raise ValueError(
                f"dataset {number} is none of the numbers 0 to {len(table) - 1}; "
                "list_ucr() or 'v2s datasets list' shows them."
            )
        return table[number]
    for dataset in table:
        if dataset.name.lower() == text.lower():
            return dataset
    close = [entry.name for entry in table if text.lower() in entry.name.lower()]
    hint = f" Did you mean one of {close}?" if text and close else ""
    raise ValueError(
        f"dataset {name_or_number!r} is none of the {len(table)} names of the list."
        f"{hint} list_ucr() or 'v2s datasets list' shows them."
    )


def _archive_name(name_or_number: str | int) -> str:
    try:
        return find_ucr(name_or_number).name
    except ValueError:
        # The archive has more datasets than the original command line numbers.
        if find_spec("aeon") is not None:
            from aeon.datasets.tsc_datasets import tsc_zenodo

            if name_or_number in tsc_zenodo:
                return str(name_or_number)
        raise


def _places(folder: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Return where datasets may lie on this machine, in the order of search."""
    places = {} if folder is None else {"folder": Path(folder)}
    aeon = find_spec("aeon")
    if aeon is not None and aeon.origin is not None:
        places["aeon, bundled"] = Path(aeon.origin).parent / "datasets" / "data"
        # The folder into which aeon downloads. aeon's own function would create it.
        cached = os.environ.get("AEON_DATA", os.path.join("~", "aeon_data"))
        places["aeon, downloaded"] = Path(cached).expanduser()
    return places


def locate_ucr(name: str, folder: str | os.PathLike[str] | None = None) -> str | None:
    """Say where both parts of a dataset lie on this machine.

    Parameters
    ----------
    name : str
        As the UCR archive spells it.
    folder : path-like, default=None
        Looked into first.

    Returns
    -------
    {"folder", "aeon, bundled", "aeon, downloaded"} or None
        None where it would have to be downloaded.
    """
    for place, path in _places(folder).items():
        if find_file(path, name, "train") and find_file(path, name, "test"):
            return place
    return None


def load_ucr(
    name_or_number: str | int,
    split: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
) -> tuple[Any, np.ndarray]:
    """Load one part of a dataset of the UCR archive.

    Parameters
    ----------
    name_or_number : str or int
        A number of the original command line, from 0 to 79, or a name; also one of
        aeon's archive that has no number.
    split : {"train", "test"}
        Official part.
    folder : path-like, default=None
        A folder in UCR layout, searched first; see `load_dataset`. After it come what
        is bundled with aeon, and aeon's cache.
    download : bool, default=True
        Let aeon download the dataset into its cache if it is in none of these places.

    Returns
    -------
    X : ndarray of shape (n, n_timepoints) or (n, n_channels, n_timepoints), or list
        Series, as `load_dataset` returns them.
    y : ndarray of shape (n,)
        Labels as they stand.

    Raises
    ------
    FileNotFoundError
        If it would have to be downloaded and `download` is False.
    ImportError
        If aeon is needed and missing.
    ValueError
        If the name, the number or the split is unknown.

    Examples
    --------
    >>> from sklearn_v2s.datasets import load_ucr
    >>> X, y = load_ucr(32, "train")  # GunPoint, which is bundled with aeon
    >>> X.shape
    (50, 1, 150)
    """
    check_split(split)
    if folder is not None and find_file(Path(folder), str(name_or_number), split):
        return load_dataset(str(name_or_number), split, folder)
    name = _archive_name(name_or_number)
    if folder is not None and find_file(Path(folder), name, split):
        return load_dataset(name, split, folder)
    if not download and locate_ucr(name) is None:
        raise FileNotFoundError(
            f"dataset {name!r} is not on this machine: "
            + ("" if folder is None else f"{str(folder)!r} does not have it, ")
            + "it is not bundled with aeon and aeon has not downloaded it. Name a "
            "folder in UCR layout that has it, or allow the download."
        )
    return load_dataset(name, split)
