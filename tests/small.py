# SPDX-License-Identifier: Apache-2.0
"""A small problem, and a classifier that solves it in a moment."""

from typing import Any

import numpy as np
import torch

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    FrequencyLabelMapping,
    IterativeLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.series import check_series

# Every parameter that decides a result: the defaults may change. Those of a training,
# and of an early stopping, have no effect without one.
SETTING: dict[str, Any] = {
    "views": "replicas",
    "source_output": "embedding",
    "n_views": 2,
    "n_segments": 3,
    "mask": False,
    "input_gain": 0.5,
    "init_scale": 0.3,
    "label_mapping": "linear",
    "mapping_size": None,
    "max_epochs": 3,
    "normalization": "global",
    "missing": "error",
    "precision": "float32",
    "device": "cpu",
    "random_state": 0,
}
OF_TRAINING: dict[str, Any] = {
    "dropout": 0.0,
    "train_gain": False,
    "batch_size": 16,
    "lr": 0.02,
    "lr_schedule": "constant",
    "l2": 0.0,
    "early_stopping": False,
}
OF_EARLY_STOPPING: dict[str, Any] = {"validation_fraction": 0.2, "n_iter_no_change": 5}
# What decided the predictions of 0.1.0 at its defaults, which trained nothing.
DEFAULT_OF_0_1_0: dict[str, Any] = {
    "source": "attrnn",
    "source_output": "embedding",
    "max_epochs": 0,
}
MAPPINGS = {
    "random": RandomLabelMapping,
    "contiguous": ContiguousLabelMapping,
    "frequency": FrequencyLabelMapping,
    "iterative": IterativeLabelMapping,
    "bayesian": BayesianLabelMapping,
    "linear": LinearLabelMapping,
}
OUTPUT_OF = {name: "logits" for name in MAPPINGS} | {"linear": "embedding"}
WORDS = {"source_output": "logits", "label_mapping": "random"}


def make_series(
    n: int = 36,
    n_classes: int = 2,
    n_timepoints: int = 24,
    n_channels: int | None = None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy sines, a frequency for each class, and the classes 0, 1, ..."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    shape = (n, n_timepoints) if n_channels is None else (n, n_channels, n_timepoints)
    angles = np.linspace(0, 2 * np.pi, n_timepoints)
    phases = rng.uniform(0, 0.5, size=(n, 1))
    sines = np.sin((codes + 1)[:, None] * angles + phases)
    noise = rng.normal(scale=0.4, size=shape)
    return noise + (sines if n_channels is None else sines[:, None, :]), codes


def make_classifier(source: Any, **parameters: Any) -> V2SClassifier:
    """Return a classifier with SETTING, changed where asked."""
    setting = SETTING | parameters
    if setting["max_epochs"] != 0:
        setting = OF_TRAINING | setting
        # One training, where a test does not ask for a cross-fit.
        mapping = setting["label_mapping"]
        linear = mapping == "linear" or isinstance(mapping, LinearLabelMapping)
        if linear and not setting.get("fine_tune"):
            setting = {"cross_fit": 1} | setting
    if setting.get("early_stopping"):
        setting = OF_EARLY_STOPPING | setting
    all_views = setting["views"] == "auto" and setting["source_output"] != "logits"
    if all_views or "tone" in np.ravel(setting["views"]):
        # The shipped one takes its time.
        setting = {"tone_source": None} | setting
    return V2SClassifier(source, **setting)


def normalised(estimator: Any, X: Any) -> np.ndarray:
    """Return series as the views of a fitted estimator get them."""
    series, _ = check_series(estimator, X, reset=False, missing=estimator.missing)
    return estimator.model_.normalizer.transform(series)


def fixed_features(estimator: Any, X: Any) -> np.ndarray:
    """Return the features of the views that no training changes, as columns."""
    model, series = estimator.model_, normalised(estimator, X)
    parts = [
        model.view_features(name, series, torch.device("cpu"))
        for name in model.views
        if name != "replicas"
    ]
    return np.concatenate(parts, axis=1)
