# SPDX-License-Identifier: Apache-2.0
"""
Voice2Series on two real datasets
=================================

Train `V2SClassifier` with its shipped source models on GunPoint and ItalyPowerDemand,
which come with aeon, and compare it with its quick mode, which trains nothing, and with
aeon's MiniRocket; print the scores and draw the input of the source model. Run it with
``make demo`` or ``python examples/demo.py``.
"""

# %%
# V2SClassifier and MiniRocket are used with their defaults. MiniRocket ends in a ridge
# classifier: its probabilities are 0 and 1, which is what its log-loss shows.

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


def spectrum(perturbation, sample_rate: int):
    """Return frequencies [Hz] and levels [dB], means over bands of 125 Hz."""
    power = np.square(np.abs(np.fft.rfft(perturbation)))[1:]
    bands = power[: len(power) // 125 * 125].reshape(-1, 125).mean(axis=1)
    step = 125 * sample_rate / len(perturbation)
    return step * (np.arange(len(bands)) + 0.5), 10 * np.log10(bands)


def draw(classifier, quick, name: str, X_test, y_test) -> Figure:
    """Draw what a fitted classifier has learned, beside one that trained nothing."""
    source = load_source(classifier.source)
    milliseconds = 1000 * np.arange(source.input_length) / source.sample_rate
    waveform = classifier.reprogram(X_test[:1])[0, 0]
    perturbation = classifier.perturbation_[0]
    with torch.inference_mode():
        features = source.front_end(torch.from_numpy(waveform)[None])[0].numpy()
    figure, axes = plt.subplots(2, 3, figsize=(15, 7), layout="constrained")
    figure.suptitle(f"V2SClassifier on {name}: the input of the speech model")
    axes[0, 0].plot(milliseconds, waveform - perturbation, linewidth=0.7)
    axes[0, 0].set(title="placed series", xlabel="time [ms]", ylabel="amplitude")
    learned = perturbation - quick.perturbation_[0]
    axes[0, 1].plot(milliseconds, learned, linewidth=0.3, color="tab:orange")
    axes[0, 1].set(title="what training added to the perturbation", xlabel="time [ms]")
    for fitted, label in ((quick, "random, at the start"), (classifier, "learned")):
        found = spectrum(fitted.perturbation_[0], source.sample_rate)
        axes[0, 2].plot(*found, label=label)
    axes[0, 2].set(
        title="spectrum of the perturbation", xlabel="frequency [Hz]", ylabel="[dB]"
    )
    axes[0, 2].legend()
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
    losses = [row["train_loss"] for row in classifier.history_]
    axes[1, 1].plot(range(1, len(losses) + 1), losses)
    axes[1, 1].set(title="training", xlabel="epoch", ylabel="log-loss")
    ConfusionMatrixDisplay.from_estimator(
        classifier, X_test, y_test, ax=axes[1, 2], colorbar=False
    )
    axes[1, 2].set_title("confusion on the test part")
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
            "quick mode": V2SClassifier(max_epochs=0, random_state=0),
            "MiniRocket": MiniRocketClassifier(random_state=0),
        }
        for label, classifier in classifiers.items():
            row = {"dataset": name, "classifier": label, **measure(classifier, *parts)}
            results.append(row)
        fitted, quick = classifiers["V2SClassifier"], classifiers["quick mode"]
        figure = draw(fitted, quick, name, X_test, y_test)
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
