# SPDX-License-Identifier: Apache-2.0
"""
Pipelines, stacking, calibration
================================

`V2SClassifier` and `V2STransformer` are scikit-learn estimators: they go wherever those
go.
"""

# %%
# In a pipeline
# -------------
#
# Control charts: normal, cyclic, with a trend or with a shift. First comes a step of
# one's own, a running mean.

import matplotlib.pyplot as plt
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_v2s import V2SClassifier, V2STransformer
from sklearn_v2s.datasets import make_control_charts

X_train, y_train = make_control_charts(60, noise=2.0, random_state=0)
X_test, y_test = make_control_charts(300, noise=2.0, random_state=1)


def running_mean(X):
    """Return means of three neighbouring time points."""
    return (X[:, :-2] + X[:, 1:-1] + X[:, 2:]) / 3


smoothed = make_pipeline(
    FunctionTransformer(running_mean), V2SClassifier(max_epochs=0, random_state=0)
)
for name, estimator in {
    "as they are": V2SClassifier(max_epochs=0, random_state=0),
    "smoothed": smoothed,
}.items():
    scores = cross_val_score(estimator, X_train, y_train, cv=3)
    print(f"{name:<12} accuracy in cross-validation {scores.mean():.3f}")

# %%
# As features
# -----------
#
# `V2STransformer` returns the outputs of the source models, for any other classifier.

features = make_pipeline(
    V2STransformer(random_state=0),
    StandardScaler(),
    PCA(30, random_state=0),
    LogisticRegression(max_iter=1000),
).fit(X_train, y_train)
print(f"accuracy of features, PCA and regression {features.score(X_test, y_test):.3f}")

# %%
# Stacked with another classifier
# -------------------------------
#
# A random forest that reads the values themselves, and a regression that reads the
# probabilities of both.

members = {
    "v2s": V2SClassifier(max_epochs=0, random_state=0),
    "forest": RandomForestClassifier(random_state=0),
}
stack = StackingClassifier(list(members.items()), cv=3).fit(X_train, y_train)
for name, fitted in stack.named_estimators_.items():
    print(f"{name:<8} accuracy {fitted.score(X_test, y_test):.3f}")
print(f"{'stacked':<8} accuracy {stack.score(X_test, y_test):.3f}")

# %%
# Calibrated
# ----------
#
# The probabilities of a linear label mapping are calibrated in `fit`, by leave-one-out
# scores. Those of a mapping from source classes are not, since all source classes share
# the probability. `CalibratedClassifierCV` helps there. The task: does a chart with
# much noise have a trend or a shift?

X_train, y_train = make_control_charts(120, noise=5.0, random_state=0)
X_test, y_test = make_control_charts(300, noise=5.0, random_state=1)
trained, tested = y_train >= 2, y_test >= 2
frequency = V2SClassifier(
    source_output="logits", label_mapping="frequency", max_epochs=0, random_state=0
)
candidates = {
    "linear": V2SClassifier(max_epochs=0, random_state=0),
    "frequency": frequency,
    "frequency, calibrated": CalibratedClassifierCV(frequency, cv=3),
}
figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
for name, estimator in candidates.items():
    proba = estimator.fit(X_train, trained).predict_proba(X_test)[:, 1]
    print(f"{name:<22} log-loss {log_loss(tested, proba):.3f}")
    CalibrationDisplay.from_predictions(
        tested, proba, n_bins=6, strategy="quantile", name=name, ax=axes
    )
axes.set_title("test part")
plt.show()
