# SPDX-License-Identifier: Apache-2.0
"""Predictions of small fits, kept in ``data/predictions.json``.

``python -m tests.stored_predictions NAME ...`` writes those of the estimators of these
names anew, with the versions that made them. That is for a change which is meant to
change predictions; the changelog then says so.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_v2s import (
    BlackBoxV2SClassifier,
    V2SClassifier,
    V2SClassifierCV,
    V2STransformer,
)
from sklearn_v2s.datasets import make_control_charts, make_cylinder_bell_funnel
from tests.small import DEFAULT_OF_0_1_0, make_series

FILE = Path(__file__).parent / "data" / "predictions.json"
_SHARED = Path(__file__).resolve().parents[2] / "shared" / "ucr"
_N_TRAIN, _N_TEST = 36, 10

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _split(X: np.ndarray, y: np.ndarray) -> Data:
    return X[:_N_TRAIN], y[:_N_TRAIN], X[_N_TRAIN:], y[_N_TRAIN:]


def _ucr(name: str) -> Data | None:
    """Return a part of a real dataset, None where it is missing."""
    if not _SHARED.is_dir():
        return None
    train, test = (
        np.loadtxt(_SHARED / name / f"{name}_{part}.tsv") for part in ("TRAIN", "TEST")
    )
    train, test = train[:_N_TRAIN], test[:_N_TEST]
    return train[:, 1:], train[:, 0].astype(int), test[:, 1:], test[:, 0].astype(int)


def datasets() -> dict[str, Data | None]:
    """Return the data by name: three generated sets and two real ones."""
    n = _N_TRAIN + _N_TEST
    return {
        "cylinder-bell-funnel": _split(*make_cylinder_bell_funnel(n, random_state=0)),
        "control-charts": _split(*make_control_charts(n, random_state=0)),
        "three-channels": _split(*make_series(n, n_classes=3, n_channels=3, seed=3)),
        "GunPoint": _ucr("GunPoint"),
        "ItalyPowerDemand": _ucr("ItalyPowerDemand"),
    }


def _loudness(waveforms: np.ndarray) -> np.ndarray:
    parts = waveforms.reshape(len(waveforms), 8, -1)
    return np.square(parts).mean(axis=2) + 1e-3


def _classifier(**parameters: Any) -> Callable[[], V2SClassifier]:
    return lambda: V2SClassifier(**{"random_state": 0, "device": "cpu"} | parameters)


# Whatever becomes a default later: these predictions stay.
def _quick(**parameters: Any) -> Callable[[], V2SClassifier]:
    return _classifier(**DEFAULT_OF_0_1_0 | parameters)


# In float64 a training amplifies nothing that could be seen: such pins are tight.
_TRAINED = {
    "source": "attrnn",
    "source_output": "embedding",
    "views": "replicas",
    "dropout": 0.0,
    "max_epochs": 3,
    "batch_size": 12,
    "lr": 0.01,
    "precision": "float64",
}

_TRAINED_ONCE = _TRAINED | {"cross_fit": 1}

#: Estimators by name; everything that decides a result is given here.
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "default": _classifier(precision="float64", max_epochs=6, batch_size=12),
    "default, mapping size": _classifier(
        precision="float64", max_epochs=3, batch_size=12, mapping_size=10
    ),
    "default, one training": _classifier(
        precision="float64", cross_fit=1, max_epochs=6, batch_size=12
    ),
    "quick": _classifier(max_epochs=0),
    "default of 0.1.0": _quick(),
    "default of 0.1.0 in float64": _quick(precision="float64"),
    "from_paper": lambda: V2SClassifier.from_paper(
        max_epochs=4,
        n_segments=3,
        normalization="global",
        lr=0.01,
        precision="float64",
        random_state=0,
    ),
    "trained": _classifier(
        **_TRAINED_ONCE | {"dropout": 0.2}, n_views=2, train_gain=True
    ),
    "trained in float32": _classifier(**_TRAINED_ONCE | {"precision": "float32"}),
    "trained with mask": _classifier(
        **_TRAINED_ONCE, mask=True, lr_schedule="constant"
    ),
    "trained, all views": _classifier(
        **_TRAINED_ONCE | {"views": "auto", "max_epochs": 2, "lr": 3e-3}
    ),
    "trained, early stopping": _classifier(
        **_TRAINED_ONCE, early_stopping=True, validation_fraction=0.25
    ),
    "iterative mapping": _classifier(
        **_TRAINED | {"source_output": "logits"},
        label_mapping="iterative",
        mapping_size=5,
    ),
    "bayesian mapping": _quick(source_output="logits", label_mapping="bayesian"),
    "logits and embedding": _quick(views=["replicas", "tone"], source_output="both"),
    "fine-tuned": _classifier(**_TRAINED, fine_tune=True),
    "other source": _quick(
        source="unet-attrnn", tone_source=None, views=["replicas", "tone"]
    ),
    "balanced, by series": _quick(
        class_weight="balanced", normalization="series", views=["tone", "level"]
    ),
    "black box": lambda: BlackBoxV2SClassifier(
        _loudness, input_length=400, max_iter=8, n_segments=1, random_state=0
    ),
    "search": lambda: V2SClassifierCV(
        V2SClassifier.from_paper(
            max_epochs=0, label_mapping="frequency", random_state=0
        ),
        mapping_size=[1, 3],
        n_segments=[1, 2],
        cv=3,
    ),
}

#: What is pinned: the default of 0.1.0 everywhere, the rest where it says most.
CASES = [
    *((name, "default of 0.1.0") for name in datasets()),
    *(
        ("cylinder-bell-funnel", name)
        for name in ESTIMATORS
        if name not in ("default of 0.1.0", "balanced, by series")
    ),
    ("control-charts", "default"),
    ("three-channels", "default"),
    ("three-channels", "quick"),
    ("three-channels", "trained"),
    ("three-channels", "from_paper"),
    ("three-channels", "balanced, by series"),
    ("GunPoint", "from_paper"),
    ("GunPoint", "trained"),
    ("ItalyPowerDemand", "trained, all views"),
]


#: Estimators that compute in float64 throughout, beside the black box.
DOUBLE = {
    name
    for name, make in ESTIMATORS.items()
    if getattr(make(), "precision", "float64") == "float64" and name != "search"
}

#: Estimators that count responses above thresholds, in the views of the kernels.
COUNTING = {
    name
    for name, make in ESTIMATORS.items()
    if getattr(make(), "views", None) == "auto" and make().source_output != "logits"
}


def predict(dataset: str, estimator: str) -> np.ndarray | None:
    """Return the probabilities of one case; None without its data."""
    data = datasets()[dataset]
    if data is None:
        return None
    X, y, X_test, _ = data
    return ESTIMATORS[estimator]().fit(X, y).predict_proba(X_test)


def feature_sums() -> np.ndarray:
    """Return, for each series and block of features, its mean and mean square."""
    X = datasets()["cylinder-bell-funnel"][0]  # type: ignore[index]
    transformer = V2STransformer(
        "attrnn", source_output="embedding", random_state=0, device="cpu"
    )
    features = transformer.fit_transform(X)
    blocks = np.array_split(features, 12, axis=1)
    return np.array([[part.mean(), np.square(part).mean()] for part in blocks])


def continued() -> np.ndarray:
    """Return probabilities after ``fit``, ``partial_fit`` twice and a warm start."""
    X, y, X_test, _ = datasets()["cylinder-bell-funnel"]  # type: ignore[misc]
    classifier = ESTIMATORS["trained"]().fit(X, y)
    classifier.partial_fit(X[:20], y[:20]).partial_fit(X[20:], y[20:])
    return classifier.set_params(warm_start=True).fit(X, y).predict_proba(X_test)


def _versions() -> dict[str, str]:
    names = ("sklearn-v2s", "torch", "numpy", "scikit-learn", "skorch")
    # Between two releases the version says little.
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=FILE.parent,
        capture_output=True,
        check=True,
        text=True,
    )
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "commit": commit.stdout.strip(),
    }


def main(names: list[str]) -> None:
    """Write the predictions of estimators of these names anew, and keep the others."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    known = {(case["dataset"], case["estimator"]): case for case in stored["cases"]}
    versions = _versions()
    if versions not in stored["versions"]:
        stored["versions"].append(versions)
    for dataset, estimator in CASES:
        if estimator in names:
            known[dataset, estimator] = {
                "dataset": dataset,
                "estimator": estimator,
                "versions": stored["versions"].index(versions),
                "values": np.round(predict(dataset, estimator), 7).tolist(),
            }
    stored["cases"] = [known[case] for case in CASES]
    if "continued" in names:
        stored["continued"] = np.round(continued(), 7).tolist()
    if "feature_sums" in names:
        stored["feature_sums"] = np.round(feature_sums(), 7).tolist()
    text = json.dumps(stored, indent=1) + "\n"
    temporary = FILE.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
