# SPDX-License-Identifier: Apache-2.0
"""
Source models: shipped, of your own training, and torchaudio's
==============================================================

The source model is a parameter. Three trained ones are shipped, the paper's other
architectures can be trained by a command, and torchaudio's speech models can be used.
"""

# %%
# What there is
# -------------
#
# A shipped name is a trained source. ``NAME:untrained`` is an architecture with random
# weights, always the same ones: before you have trained it, and as a control.
# ``v2s pretrain --architecture NAME`` trains it on folders of spoken words.

import time

import matplotlib.pyplot as plt

from sklearn_v2s import V2SClassifier, V2SExplanationDisplay
from sklearn_v2s.datasets import load_ucr
from sklearn_v2s.sources import list_sources, load_source

print(", ".join(list_sources()))
X_train, y_train = load_ucr("GunPoint", "train")
X_test, y_test = load_ucr("GunPoint", "test")

# %%
# One after the other
# -------------------
#
# With the view ``"replicas"`` only, so that no other source takes part: V2Sa,
# V2Su, WaveBank, and those of the paper's Table 4 with random weights, in the sizes
# that can be trained on a CPU (``resnet-paper``, ``tcn-paper`` and ``vggish-paper``
# have the paper's own).

names = [
    "attrnn",
    "unet-attrnn",
    "wavebank",
    "attrnn:untrained",
    "resnet:untrained",
    "tcn:untrained",
    "vggish:untrained",
]
accuracy, seconds, fitted = {}, {}, {}
for name in names:
    start = time.perf_counter()
    classifier = V2SClassifier(name, views="replicas", max_epochs=0, random_state=0)
    fitted[name] = classifier.fit(X_train, y_train)
    accuracy[name] = classifier.score(X_test, y_test)
    seconds[name] = time.perf_counter() - start
    size = sum(each.numel() for each in load_source(name).parameters())
    print(f"{name:<18}{size / 1e6:5.2f} million parameters, {accuracy[name]:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
axes[0].barh(names, accuracy.values())
axes[0].set(title="accuracy", xlim=(0, 1))
axes[0].invert_yaxis()
axes[1].barh(names, seconds.values(), color="C1")
axes[1].set_title("seconds, fit and prediction")

# %%
# Random weights do about as well where a learned mapping reads an embedding. The
# paper's mapping, from source classes, needs a trained source.

# %%
# Explanations work for all of them
# ---------------------------------
#
# The panel of a network without attention says so, and the layer to map can be chosen.

V2SExplanationDisplay.from_estimator(fitted["unet-attrnn"], X_test[0])
V2SExplanationDisplay.from_estimator(
    fitted["resnet:untrained"], X_test[0], layer="network.stem", cam="hires-cam"
)

# %%
# YAMNet and its 521 classes of sound
# -----------------------------------
#
# ``v2s sources import yamnet.h5 yamnet.safetensors`` makes a source of the published
# weights; here is the same network without them.

yamnet = load_source("yamnet:untrained")
print(f"{len(yamnet.classes)} classes, such as {', '.join(yamnet.classes[:3])}")

# %%
# torchaudio's models
# -------------------
#
# ``"torchaudio:NAME"`` names a bundle of ``torchaudio.pipelines``, and behind a second
# colon a layer to take the embedding from. Weights are never downloaded: without them
# the error says which file is missing, and how to fetch it.

try:
    V2SClassifier("torchaudio:WAV2VEC2_ASR_BASE_960H:6").fit(X_train, y_train)
except (FileNotFoundError, ImportError) as error:
    print(error)
plt.show()
