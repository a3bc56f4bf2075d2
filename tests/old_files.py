# SPDX-License-Identifier: Apache-2.0
"""Files that a release wrote, kept in ``data/<version>/``.

``python -m tests.old_files`` writes those of the installed version. It is run once for
each release; files of earlier ones are never written again.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_v2s import V2SClassifier, __version__
from sklearn_v2s.datasets import make_cylinder_bell_funnel
from sklearn_v2s.label_mapping import FrequencyLabelMapping
from sklearn_v2s.sources import FRONT_ENDS, load_source, save_checkpoint
from sklearn_v2s.sources.checkpoint import ARCHITECTURES
from tests.small import DEFAULT_OF_0_1_0, make_series

DATA = Path(__file__).parent / "data"
_TRAINED = {
    "source": "attrnn",
    "source_output": "embedding",
    "views": "replicas",
    "dropout": 0.0,
    "max_epochs": 2,
    "batch_size": 12,
    "lr": 0.01,
    "precision": "float64",
    "random_state": 0,
}


_TRAINED_ONCE = _TRAINED | {"cross_fit": 1}


def series(channels: int | None = None) -> tuple[Any, Any, Any]:
    """Return X and y to fit, and X to predict."""
    if channels is None:
        X, y = make_cylinder_bell_funnel(40, random_state=1)
        X, y = X[:, ::4], np.array(["cylinder", "bell", "funnel"])[y - y.min()]
    else:
        X, y = make_series(40, n_classes=2, n_channels=channels, seed=2)
    return X[:32], y[:32], X[32:]


def unequal() -> tuple[Any, Any, Any]:
    """Return the same with series of two lengths."""
    X, y, X_new = series()
    return [*X[:16], *X[16:, :20]], y, [*X_new[:4], *X_new[4:, :25]]


#: Classifiers by the names of their files, and the data that they are fitted to.
CLASSIFIERS: dict[str, tuple[Callable[[], V2SClassifier], Callable[[], Any]]] = {
    "default": (lambda: V2SClassifier(**DEFAULT_OF_0_1_0, random_state=0), series),
    "from-paper": (
        lambda: V2SClassifier.from_paper(
            max_epochs=2, normalization="global", precision="float64", random_state=0
        ),
        series,
    ),
    "trained": (
        lambda: V2SClassifier(**_TRAINED_ONCE, n_views=2, train_gain=True, mask=True),
        series,
    ),
    "two-channels": (
        lambda: V2SClassifier(
            **DEFAULT_OF_0_1_0, views=["replicas", "slope", "level"], random_state=0
        ),
        lambda: series(channels=2),
    ),
    "fine-tuned": (
        lambda: V2SClassifier(
            **_TRAINED | {"source": "source.safetensors", "precision": "float32"},
            fine_tune=True,
        ),
        series,
    ),
    "unequal-length": (lambda: V2SClassifier(**_TRAINED_ONCE), unequal),
    "tone-alone": (
        lambda: V2SClassifier(
            source_output="embedding",
            views="tone",
            max_epochs=0,
            missing="interpolate",
            random_state=0,
        ),
        series,
    ),
    "mapping-given": (
        lambda: V2SClassifier(
            "attrnn",
            source_output="logits",
            label_mapping=FrequencyLabelMapping(mapping_size=4),
            max_epochs=0,
            random_state=0,
        ),
        series,
    ),
}


def checkpointed() -> V2SClassifier:
    """Return the classifier whose training is written half way."""
    return V2SClassifier(
        **_TRAINED_ONCE | {"max_epochs": 4, "dropout": 0.2}, early_stopping=True
    )


class _Stop(Exception):
    pass


def _write_checkpoint(path: Path) -> None:
    from skorch.callbacks import Callback

    from sklearn_v2s.training.resume import fit_with_checkpoints

    class Stop(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            if len(net.history) == 3:
                raise _Stop

    X, y, _ = series()
    interrupted = checkpointed().set_params(callbacks=[Stop()])
    try:
        fit_with_checkpoints(interrupted, X, y, path)
    except _Stop:
        return
    raise AssertionError("the training was not stopped")


def outputs_of(path: Path) -> list[Any]:
    """Return logits of a source for a waveform."""
    source = load_source(path, torch.float64)
    waveform = torch.linspace(-0.5, 0.5, source.input_length, dtype=torch.float64)
    return source(waveform[None]).logits.tolist()


def _write_source(path: Path) -> list[Any]:
    front_end = replace(FRONT_ENDS["kapre"], input_length=4000, n_mels=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = ARCHITECTURES["attrnn"].build(front_end, ["yes", "no"])
    save_checkpoint(path, source, {"corpus": "none"})
    return outputs_of(path)


def main() -> None:
    """Write the files of this version."""
    folder = DATA / __version__
    folder.mkdir(parents=True)
    # Files name their sources: a relative name is found in any clone.
    os.chdir(folder)
    expected = {"source": _write_source(Path("source.safetensors"))}
    for name, (make, data) in CLASSIFIERS.items():
        X, y, X_new = data()
        classifier = make().fit(X, y)
        classifier.save(f"{name}.safetensors")
        expected[name] = np.round(classifier.predict_proba(X_new), 7).tolist()
    _write_checkpoint(Path("training.safetensors"))
    X, y, X_new = series()
    straight = checkpointed().fit(X, y)
    expected["training"] = np.round(straight.predict_proba(X_new), 7).tolist()
    text = json.dumps(expected, indent=1) + "\n"
    Path("expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
