# SPDX-License-Identifier: Apache-2.0
"""From a series to a class, in one figure.

Fits `V2SClassifier` to GunPoint, which comes with aeon, and draws what happens to one
test series. ::

    python -m docs.studies.overview

Writes `docs/_static/overview.png`, which README and the first page of the site show.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from aeon.datasets import load_gunpoint
from matplotlib.figure import Figure

from sklearn_v2s import V2SClassifier
from sklearn_v2s.plotting import LabelMappingDisplay

_OUTPUT = Path(__file__).parents[2] / "_static" / "overview.png"
_NAMES = {"1": "gun", "2": "point"}


def draw(classifier: V2SClassifier, row: np.ndarray) -> Figure:
    """Draw a series on its way through a fitted classifier."""
    figure = plt.figure(figsize=(15, 3.4), layout="constrained")
    axes = figure.subplots(1, 5, width_ratios=[1, 1.3, 1.3, 1, 0.7])
    source = classifier.model_.reprogrammed.source
    milliseconds = 1000 * np.arange(source.input_length) / source.sample_rate
    waveform = classifier.reprogram(row[None])[0, 0]
    perturbation = classifier.perturbation_[0]
    axes[0].plot(row[0], color="tab:blue")
    axes[0].set(title="1  a series", xlabel="time point")
    placed = waveform - perturbation
    axes[1].plot(milliseconds, placed, linewidth=0.8, label="the series, placed")
    axes[1].plot(
        milliseconds, perturbation, linewidth=0.2, label="learned perturbation"
    )
    axes[1].set(title="2  a second of sound", xlabel="time [ms]")
    axes[1].legend(loc="lower right", fontsize="small")
    with torch.inference_mode():
        bands = source.front_end(torch.from_numpy(waveform)[None])[0].numpy()
    axes[2].imshow(
        bands.T, origin="lower", aspect="auto", extent=(0, 1000, 0, bands.shape[1])
    )
    axes[2].set(
        title="3  what the frozen recogniser reads",
        xlabel="time [ms]",
        ylabel="mel band",
    )
    LabelMappingDisplay.from_estimator(classifier, n_source_classes=4, ax=axes[3])
    axes[3].set(title="4  words speak for classes", ylabel="", xlabel="")
    proba = classifier.predict_proba(row[None])[0]
    axes[4].bar(classifier.classes_, proba, color="tab:blue")
    axes[4].set(title="5  probabilities", ylim=(0, 1))
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Draw the figure."""
    parser = argparse.ArgumentParser("python -m docs.studies.overview")
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="FILE.png")
    output = parser.parse_args(arguments).output
    X, y = load_gunpoint(split="train")
    X_test, _ = load_gunpoint(split="test")
    labels = np.array([_NAMES[label] for label in y])
    classifier = V2SClassifier(random_state=0).fit(X, labels)
    figure = draw(classifier, X_test[0])
    figure.savefig(output, dpi=90, metadata={"Software": None})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
