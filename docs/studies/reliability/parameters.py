# SPDX-License-Identifier: Apache-2.0
"""Random settings and random small data: valid ones fit, others raise a named error."""

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from docs.studies.reliability.children import count
from sklearn_v2s import V2SClassifier
from sklearn_v2s.sources import FrontEndConfig
from sklearn_v2s.sources.checkpoint import ARCHITECTURES

__all__ = ["try_settings"]

RIGHT = (
    "fits and predicts",
    "refused by name",
    "invalid, without effect, as a warning says",
)

# What may be, and what may not; of the valid ones, some do not go together.
_VALID: dict[str, tuple[Any, ...]] = {
    "source_output": ("logits", "embedding", "both"),
    "views": ("auto", "replicas", "wave", "level", ["replicas", "level"], ("slope",)),
    "tone_source": (None,),
    "n_views": (1, 2),
    "n_segments": ("auto", 1, 3, 50),
    "mask": (False, True),
    "dropout": (0, 0.2, 0.9),
    "input_gain": (0.5, 3),
    "train_gain": (False, True),
    "init_scale": (0.0, 0.1, 2),
    "label_mapping": (
        "random", "contiguous", "frequency", "iterative", "bayesian", "linear",
    ),
    "mapping_size": (None, 1, 3, 10_000),
    "cross_fit": (1, 2, 5),
    "max_epochs": (0, 1, 2),
    "batch_size": ("auto", 1, 7, 1000),
    "lr": (1e-3, 0.1),
    "lr_schedule": ("constant", "cosine"),
    "fine_tune": (False, True),
    "source_lr": (1e-4,),
    "l2": (0, 0.1),
    "early_stopping": (False, True),
    "validation_fraction": (0.1, 0.5),
    "n_iter_no_change": (1, 3),
    "class_weight": (None, "balanced"),
    "warm_start": (False, True),
    "normalization": ("global", "series", None),
    "missing": ("error", "interpolate"),
    "precision": ("float32", "float64"),
    "device": ("cpu", "auto"),
    "random_state": (0, None),
    "verbose": (0,),
    "callbacks": (None, []),
}  # fmt: skip
_INVALID: dict[str, tuple[Any, ...]] = {
    "source": ("nowhere", 3, None, "nowhere.safetensors"),
    "source_output": ("words", None, 1),
    "views": ("noise", [], ["replicas", "replicas"], 3, None),
    "wave_source": ("nowhere", 3),
    "n_views": (0, -1, 1.5, "two", None),
    "n_segments": (0, "many", 1.5, None),
    "mask": ("yes", None, 2),
    "dropout": (-0.1, 1.0, "half", None, float("nan")),
    "input_gain": (0, -1, "loud", None, float("inf"), float("nan")),
    "train_gain": ("no", None),
    "init_scale": (-1, "x", None, float("nan"), float("inf")),
    "label_mapping": ("nearest", 3, None),
    "mapping_size": (0, -2, 1.5, "x"),
    "cross_fit": (0, 1.5, None, "x"),
    "max_epochs": (-1, 1.5, None, "many"),
    "batch_size": (0, -4, 2.5, None, "x"),
    "lr": (0, -1, None, "x", float("nan")),
    "lr_schedule": ("linear", None, 1),
    "fine_tune": ("x", None),
    "source_lr": (0, -1, None, "x"),
    "l2": (-1, None, "x", float("nan")),
    "early_stopping": ("x", None),
    "validation_fraction": (0, 1, -1, 2, None, "x"),
    "n_iter_no_change": (0, -1, 1.5, None),
    "class_weight": ("even", 3, {0: -1}, {"nobody": 1.0}),
    "warm_start": ("x", None),
    "normalization": ("unit", 3),
    "missing": ("ignore", None),
    "precision": ("float16", None, 32),
    "device": ("toaster", 3.5, None),
    "memory": (3, 1.5, object()),
    "random_state": (-1, "x", 1.5),
    "verbose": (-1, "x"),
    "callbacks": (3, "x", [3]),
}


def _draw_data(rng: random.Random) -> tuple[Any, Any]:
    """Return series and labels; each class has two series or more."""
    draws = np.random.default_rng(rng.randrange(2**32))
    n_classes = rng.randint(2, 4)
    n = n_classes * rng.randint(2, 6)
    length = rng.choice((1, 2, 7, 16, 60, 399))
    n_channels = rng.choice((None, None, 1, 3))
    shape = (n, length) if n_channels is None else (n, n_channels, length)
    X: Any = draws.normal(scale=rng.choice((1e-9, 1.0, 1e9)), size=shape)
    kind = rng.choice(("float64", "float32", "int", "constant", "list", "unequal"))
    if kind == "float32":
        X = X.astype(np.float32)
    elif kind == "int":
        X = np.rint(np.clip(X, -9, 9)).astype(int)
    elif kind == "constant":
        X[:] = 3.0
    elif kind == "list":
        X = X.tolist()
    elif kind == "unequal" and length > 2:
        X = [row[..., : rng.randint(2, length)] for row in X]
    codes = np.arange(n) % n_classes
    y: Any = rng.choice(
        (codes, codes - 2, codes.astype(str), codes > 0, codes.tolist())
    )
    return X, y


def _make_source() -> Any:
    front_end = FrontEndConfig(
        input_length=400, n_fft=64, hop_length=32, pad_left=16, pad_right=16, n_mels=8
    )
    words = [f"word{number}" for number in range(12)]
    return ARCHITECTURES["tc-resnet"].build(front_end, words).eval()


def _outcome(source: Any, rng: random.Random) -> tuple[str, str]:
    X, y = _draw_data(rng)
    names = rng.sample(sorted(_VALID), rng.randint(0, 6))
    setting = {name: rng.choice(_VALID[name]) for name in names}
    invalid = rng.choice(sorted(_INVALID)) if rng.random() < 0.5 else None
    if invalid is not None:
        setting[invalid] = rng.choice(_INVALID[invalid])
    # The defaults take their time: one epoch, and the small source for all.
    classifier = V2SClassifier(
        **{"source": source, "tone_source": None, "max_epochs": 1} | setting
    )
    told = f"{setting} {type(X).__name__} {np.shape(X[0])} x {len(X)}"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            classifier.fit(X, y)
        found = classifier.predict_proba(X)
    except (FileNotFoundError, TypeError, ValueError) as error:
        # Valid ones may not go together, which may show before an invalid one does.
        named = any(name in str(error) for name in setting)
        kind = "refused by name" if named else "error without a name"
        return kind, f"{error!r} {told}"
    except Exception as error:
        return "other exception", f"{error!r} {told}"
    if invalid is not None:
        # What is never looked at is not checked either.
        idle = any(invalid in str(warning.message) for warning in caught)
        return (RIGHT[2] if idle else "invalid, and fits"), told
    sums_to_one = np.allclose(found.sum(axis=1), 1.0, atol=1e-6)
    if found.shape != (len(y), len(classifier.classes_)) or not sums_to_one:
        return "no probabilities", told
    return "fits and predicts", ""


def _outcomes(tries: int, seed: int) -> Iterator[tuple[str, str]]:
    source = _make_source()
    for number in range(tries):
        yield _outcome(source, random.Random(f"setting {seed} {number}"))


def try_settings(tries: int, seed: int) -> dict[str, Any]:
    """Fit and predict with random parameters on random data.

    Parameters
    ----------
    tries : int
        How many settings.
    seed : int
        Of parameters and data.

    Returns
    -------
    dict
        Outcomes, counted.
    """
    return {**count(_outcomes(tries, seed), RIGHT), "seed": seed}
