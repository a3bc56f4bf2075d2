# SPDX-License-Identifier: Apache-2.0
"""Small datasets in UCR layout."""

from pathlib import Path

import numpy as np

from tests.small import make_series


def write_part(
    folder: Path, name: str, split: str, X: np.ndarray, y: np.ndarray
) -> Path:
    """Write ``<folder>/<name>/<name>_<split>.tsv``."""
    path = folder / name / f"{name}_{split.upper()}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        "\t".join([str(label), *(repr(float(value)) for value in series)])
        for label, series in zip(y, X, strict=True)
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_dataset(
    folder: Path,
    name: str,
    n_train: int = 18,
    n_test: int = 15,
    n_classes: int = 3,
    n_timepoints: int = 12,
) -> None:
    """Write both parts of a dataset of noisy sines with the labels 1, 2, ..."""
    for seed, (split, n) in enumerate((("train", n_train), ("test", n_test))):
        X, codes = make_series(n, n_classes, n_timepoints, seed=seed)
        write_part(folder, name, split, X, codes + 1)
