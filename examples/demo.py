# SPDX-License-Identifier: Apache-2.0
"""
Voice2Series on two real datasets
=================================

Train `V2SClassifier` with its shipped source model on GunPoint and ItalyPowerDemand,
which come with aeon, and compare it with aeon's MiniRocket; print the scores of both
and draw the input of the source model. Run it with ``make demo`` or
``python examples/demo.py``.
"""

# %%
# Both classifiers are used with their defaults. MiniRocket ends in a ridge classifier:
# its probabilities are 0 and 1, which is what its log-loss shows.

import argparse
import json
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from aeon.classification.convolution_based import MiniRocketClassifier
from aeon.datasets import load_gunpoint, load_italy_power_demand
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, log_loss

from sklearn_v2s import V2SClassifier
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.runtime.tensor_file import write_bytes
from sklearn_v2s.sources import load_source

DATASETS = {"GunPoint": load_gunpoint, "ItalyPowerDemand": load_italy_power_demand}


def measure(classifier, X_train, y_train, X_test, y_test):
    """Fit and predict; return accuracy, log-loss and seconds."""
    start = time.perf_counter()
    classifier.fit(X_train, y_train)
    fitted = time.perf_counter()
    proba = classifier.predict_proba(X_test)
    predicted = classifier.classes_[proba.argmax(axis=1)]
    return {
        "accuracy": accuracy_score(y_test, predicted),
        "log_loss": log_loss(y_test, proba, labels=classifier.classes_),
        "fit_seconds": fitted - start,
        "predict_seconds": time.perf_counter() - fitted,
    }


def draw(classifier, name: str, X_test, y_test) -> Figure:
    """Draw series, perturbation, spectrogram and confusion of a fitted classifier."""
    source = load_source(classifier.source)
    milliseconds = 1000 * np.arange(source.input_length) / source.sample_rate
    waveform = classifier.reprogram(X_test[:1])[0, 0]
    perturbation = classifier.perturbation_[0]
    with torch.inference_mode():
        features = source.front_end(torch.from_numpy(waveform)[None])[0].numpy()
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    figure.suptitle(f"V2SClassifier on {name}: the input of the speech model")
    axes[0, 0].plot(milliseconds, waveform - perturbation, linewidth=0.7)
    axes[0, 0].set(title="placed series", xlabel="time [ms]", ylabel="amplitude")
    axes[0, 1].plot(milliseconds, perturbation, linewidth=0.3, color="tab:orange")
    axes[0, 1].set(title="perturbation of view 1", xlabel="time [ms]")
    image = axes[1, 0].imshow(
        features.T,
        origin="lower",
        aspect="auto",
        extent=(0, 1000, 0, features.shape[1]),
    )
    axes[1, 0].set(
        title="log-mel spectrogram of both", xlabel="time [ms]", ylabel="mel band"
    )
    figure.colorbar(image, ax=axes[1, 0], label="standardised")
    ConfusionMatrixDisplay.from_estimator(
        classifier, X_test, y_test, ax=axes[1, 1], colorbar=False
    )
    axes[1, 1].set_title("confusion on the test part")
    return figure


# %%
# Each dataset comes with its own training and test part.


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for name, load in DATASETS.items():
        X_train, y_train = load(split="train")
        X_test, y_test = load(split="test")
        parts = (X_train, y_train, X_test, y_test)
        print(f"\n{name}: {len(X_train)} + {len(X_test)} series of {X_train.shape[2]}")
        classifiers = {
            "V2SClassifier": V2SClassifier(random_state=0, verbose=1),
            "MiniRocket": MiniRocketClassifier(random_state=0),
        }
        for label, classifier in classifiers.items():
            row = {"dataset": name, "classifier": label, **measure(classifier, *parts)}
            results.append(row)
        figure = draw(classifiers["V2SClassifier"], name, X_test, y_test)
        figure.savefig(output / f"{name}.png", dpi=110)
        plt.close(figure)
    header = f"{'dataset':<18}{'classifier':<15}{'accuracy':>9}{'log-loss':>10}"
    print(f"\n{header}{'fit [s]':>9}{'predict [s]':>13}")
    for row in results:
        print(
            f"{row['dataset']:<18}{row['classifier']:<15}{row['accuracy']:>9.3f}"
            f"{row['log_loss']:>10.3f}{row['fit_seconds']:>9.1f}"
            f"{row['predict_seconds']:>13.1f}"
        )
    document = {"environment": describe_environment(), "seed": 0, "results": results}
    write_bytes(output / "demo.json", (json.dumps(document, indent=2) + "\n").encode())
    print("\nMiniRocket's time includes the compilation of its kernels at first use.")
    print(f"Figures and numbers: {output}/")


if __name__ == "__main__":
    main()
