# SPDX-License-Identifier: Apache-2.0
"""
Reprogramming and the distance to speech
========================================

The paper explains why reprogramming works by a distance: the closer the reprogrammed
series come to speech in the space of the source's logits, the smaller the risk. Here it
is measured, during training and after, and compared with the risk that it should bound.
"""

# %%
# Series and speech
# -----------------
#
# Logits of a few hundred clips of real speech are kept with each source model, so that
# no corpus is needed.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_v2s import (
    SourceEmbeddingDisplay,
    TrainingHistoryDisplay,
    TransferClassifier,
    V2SClassifier,
)
from sklearn_v2s.alignment import (
    LARGEST_RISK,
    AlignmentCallback,
    alignment_scores,
    rank_sources,
    risk_bound,
)
from sklearn_v2s.sources.logits import load_source_logits

rng = np.random.default_rng(0)
angles = np.linspace(0, 2 * np.pi, 60)


def make_waves(n):
    """Return noisy waves of one, two or three periods, and how many they are."""
    y = np.arange(n) % 3 + 1
    phases = rng.uniform(0, 2 * np.pi, size=(n, 1))
    return np.sin(y[:, None] * angles + phases) + rng.normal(scale=0.3, size=(n, 60)), y


X_train, y_train = make_waves(60)
X_test, y_test = make_waves(120)
speech = load_source_logits("attrnn")
print(f"{len(speech.logits)} clips of {speech.card['corpus']}")
print(f"accuracy {speech.accuracy:.3f}, loss {speech.loss:.3f}, risk {speech.risk:.3f}")

# %%
# During training
# ---------------
#
# A callback records the sliced Wasserstein distance; the learning curves then have a
# panel for it. The steps of the paper are large, and its curves go up as well as down:
# what counts is the epoch of the least validation loss, which the fit keeps.

classifier = V2SClassifier.from_paper(
    n_segments=8,
    max_epochs=24,
    callbacks=[AlignmentCallback("attrnn", every=2)],
    random_state=0,
).fit(X_train, y_train)
print(f"accuracy {classifier.score(X_test, y_test):.3f}")
TrainingHistoryDisplay.from_estimator(classifier)

# %%
# After training, and the bound
# -----------------------------
#
# The theorem adds the risk of the source to ``2 sqrt(K)`` times the exact distance W1.
# No risk can be above the root of 2: a larger bound is vacuous.

scores = alignment_scores(classifier, X_test, random_state=0)
bound = risk_bound(speech.risk, len(speech.classes), scores.wasserstein1)
proba = classifier.predict_proba(X_test)
truth = y_test[:, None] == classifier.classes_
risk = np.linalg.norm(proba - truth, axis=1).mean()
print(f"sliced W2 {scores.sliced_wasserstein:.2f}, exact W1 {scores.wasserstein1:.2f}")
print(f"risk {risk:.2f}, largest possible {LARGEST_RISK:.2f}, 'bound' {bound:.1f}")

# %%
# Before and after reprogramming
# ------------------------------
#
# The paper's figure 5: how the source represents the test series without the
# perturbation, after fine-tuning, and with the perturbation. t-SNE may show groups
# where there are none; the silhouette is that of the source's own space.

transfer = TransferClassifier(max_epochs=5, random_state=0).fit(X_train, y_train)
SourceEmbeddingDisplay.from_estimators(
    classifier, X_test, y_test, transfer=transfer, random_state=0
)

# %%
# Choosing a source
# -----------------
#
# The paper's Table 3 ranks sources by the distance. Logits of different sources live in
# different spaces, so that the order is a hint and no more: compare it with accuracy.

ranks = rank_sources(X_train, y_train)
accuracies = [
    V2SClassifier(rank.name, views="replicas", max_epochs=0, random_state=0)
    .fit(X_train, y_train)
    .score(X_test, y_test)
    for rank in ranks
]
for rank, accuracy in zip(ranks, accuracies, strict=True):
    print(
        f"{rank.name}: distance {rank.scores.sliced_wasserstein:.2f}, source loss "
        f"{rank.source_loss:.3f}, accuracy {accuracy:.3f}"
    )
plt.show()
