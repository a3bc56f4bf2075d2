# SPDX-License-Identifier: Apache-2.0
"""
Bring your own source model
===========================

Any `torch.nn.Module` that takes a waveform can be reprogrammed. Here it is a small
network of our own, trained in a moment to tell tones from noises and clicks.
"""

# %%
# A model that is not ours to change
# ----------------------------------
#
# Somebody has trained a recogniser of sounds. It takes half a second at 8 kHz and was
# made without this package or time series in mind.

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from sklearn_v2s import V2SClassifier
from sklearn_v2s.sources import SourceOutputs, check_source, register_source

SOUNDS = ["low tone", "high tone", "rising tone", "noise", "clicks", "hum"]
LENGTH, RATE = 4000, 8000


def make_sounds(n, generator):
    """Return n waveforms and which of the sounds each one is."""
    codes = torch.arange(n) % len(SOUNDS)
    time = torch.arange(LENGTH) / RATE
    shape = (n // len(SOUNDS), 1)
    low, high, start, hum = (
        a + (b - a) * torch.rand(shape, generator=generator)
        for a, b in [(200, 500), (1500, 3000), (300, 800), (40, 80)]
    )
    waves = torch.empty(n, LENGTH)
    waves[0::6] = torch.sin(2 * torch.pi * low * time)
    waves[1::6] = torch.sin(2 * torch.pi * high * time)
    waves[2::6] = torch.sin(2 * torch.pi * (start + 2000 * time) * time)
    waves[3::6] = torch.randn(len(low), LENGTH, generator=generator)
    waves[4::6] = 8.0 * (torch.rand(len(low), LENGTH, generator=generator) > 0.998)
    waves[5::6] = torch.sign(torch.sin(2 * torch.pi * hum * time))
    return waves + 0.1 * torch.randn(n, LENGTH, generator=generator), codes


def build_recogniser():
    """Return a network of three convolutions and a mean over time."""
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        nn.Conv1d(1, 32, kernel_size=64, stride=16),
        nn.ReLU(),
        nn.Conv1d(32, 32, kernel_size=5, stride=2),
        nn.ReLU(),
        nn.Conv1d(32, 24, kernel_size=5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(24, len(SOUNDS)),
    )


def train_recogniser(steps=100):
    """Return a trained recogniser; the global generator stays as it was."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recogniser = build_recogniser()
    optimizer = torch.optim.Adam(recogniser.parameters(), lr=3e-3)
    for _ in range(steps):
        waves, codes = make_sounds(60, generator)
        loss = nn.functional.cross_entropy(recogniser(waves), codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        waves, codes = make_sounds(300, generator)
        accuracy = (recogniser(waves).argmax(1) == codes).float().mean()
    return recogniser, float(accuracy)


recogniser, accuracy = train_recogniser()
print(f"the recogniser names {accuracy:.1%} of new sounds")

# %%
# The contract
# ------------
#
# A source has four attributes and maps waveforms ``(batch, input_length)`` to
# `SourceOutputs`: logits of the source classes and an embedding, both differentiable.
# That is all that a wrapper provides; `check_source` says what is wrong if it does not.


class OwnSource(nn.Module):
    """The recogniser, by the contract of a source."""

    def __init__(self, recogniser):
        super().__init__()
        self.recogniser = recogniser
        self.sample_rate = RATE
        self.input_length = LENGTH
        self.classes = SOUNDS
        self.embedding_size = recogniser[-1].in_features

    def forward(self, waveform):
        embedding = self.recogniser[:-1](waveform)
        return SourceOutputs(self.recogniser[-1](embedding), embedding)


own = check_source(OwnSource(recogniser))

# %%
# With a registered name, parameters stay short. A
# process that unpickles it has to register the name too; an instance as `source` is
# pickled whole.

register_source("sounds", lambda: OwnSource(recogniser))

# %%
# Series
# ------
#
# Waves of one, two or three periods in noise. Both sources are given replicas with a
# trained perturbation and nothing else. The paper's mapping reads the logits; for three
# target classes, two of the six source classes each, where attrnn has 43 to choose
# from. The linear mapping reads the embedding, which carries more information.

rng = np.random.default_rng(0)
angles = np.linspace(0, 2 * np.pi, 60)


def make_waves(n):
    """Return noisy waves, and how many periods they have."""
    y = np.arange(n) % 3 + 1
    phases = rng.uniform(0, 2 * np.pi, size=(n, 1))
    return np.sin(y[:, None] * angles + phases) + rng.normal(scale=0.3, size=(n, 60)), y


X_train, y_train = make_waves(60)
X_test, y_test = make_waves(120)
READINGS = {
    "logits": {"source_output": "logits", "label_mapping": "frequency"},
    "embedding": {"source_output": "embedding", "label_mapping": "linear"},
}
scores = {}
for source in ("sounds", "attrnn"):
    for reading, parameters in READINGS.items():
        classifier = V2SClassifier(
            source,
            views="replicas",
            max_epochs=10,
            batch_size=16,
            lr=0.05,
            random_state=0,
            **parameters,
        ).fit(X_train, y_train)
        scores[source, reading] = classifier.score(X_test, y_test)
        print(f"{source}, {reading}: accuracy {scores[source, reading]:.3f}")
        if (source, reading) == ("sounds", "logits"):
            by_logits = classifier

# %%
# From source classes to target classes
# -------------------------------------
#
# The mean probabilities of the source classes of our own source, for each target class.
# Dots mark the source classes that the label mapping assigned to a target class, before
# the training, because they were predicted most often for its series.

logits = torch.from_numpy(by_logits.source_outputs(X_test).logits[:, 0])
proba = torch.softmax(logits, dim=1).numpy()
means = np.array([proba[y_test == label].mean(axis=0) for label in by_logits.classes_])

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
image = axes[0].imshow(means, cmap="Blues", vmin=0, vmax=1, aspect="auto")
for row, groups in enumerate(by_logits.label_mapping_.source_indices_):
    axes[0].plot(groups, [row] * len(groups), "o", color="C1")
axes[0].set(
    title="probability of the sounds (dots: mapped)",
    xticks=range(len(SOUNDS)),
    yticks=range(3),
    yticklabels=[f"{label} period(s)" for label in by_logits.classes_],
)
axes[0].set_xticks(range(len(SOUNDS)), SOUNDS, rotation=30, ha="right")
figure.colorbar(image, label="mean over the test series")
places = np.arange(len(READINGS))
for shift, source in ((-0.2, "sounds"), (0.2, "attrnn")):
    bars = [scores[source, reading] for reading in READINGS]
    axes[1].bar_label(axes[1].bar(places + shift, bars, 0.4, label=source), fmt="%.2f")
axes[1].axhline(1 / 3, color="0.5", linewidth=0.8)
axes[1].set(title="accuracy (line: chance)", ylim=(0, 1.3))
axes[1].set_xticks(places, READINGS)
axes[1].legend(loc="upper center", ncols=2)
plt.show()
