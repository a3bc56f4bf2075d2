# SPDX-License-Identifier: Apache-2.0
"""Methods that the benchmark compares, by name."""

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["METHODS", "SHUFFLED_LABELS", "V2S_SETTINGS", "Method", "resolve_method"]

# Ends the name of a control.
SHUFFLED_LABELS = ":shuffled-labels"

# Method to parameters of V2SClassifier that differ from its defaults.
V2S_SETTINGS: dict[str, dict[str, Any]] = {
    "v2s": {},
    # The quick mode, and the default of 0.1.0:
    "v2s-quick": {"max_epochs": 0},
    "v2s-0.1.0": {"source": "attrnn", "source_output": "embedding", "max_epochs": 0},
    # The paper's method, one perturbation and logits, at settings that work (chosen on
    # training parts: docs/reproduction.md).
    "v2s-frequency": {
        "source": "attrnn",
        "source_output": "logits",
        "label_mapping": "frequency",
        "lr": 0.03,
        "dropout": 0.0,
    },
    # Controls. Without any perturbation:
    "v2s-zero": {"init_scale": 0.0, "max_epochs": 0},
    # Sources of the same architectures with random weights:
    "v2s-untrained": {
        "source": "tc-resnet:untrained",
        "tone_source": "attrnn:untrained",
        "wave_source": "wavebank:untrained",
    },
    # The placed series without a perturbation:
    "v2s-attrnn": {"views": ["replicas", "tone"], "max_epochs": 0},
    "v2s-wavebank": {"views": ["wave", "slope"]},
    # A ridge over the source outputs for the placed series, without a perturbation.
    "linear-probe": {"views": "replicas", "init_scale": 0.0, "max_epochs": 0},
}


@dataclass(frozen=True)
class Method:
    """How a method of the benchmark is made and judged.

    Attributes
    ----------
    name : str
        As results name it.
    make : callable
        From seed and number of threads to an estimator that is not fitted.
    probabilities : {"own", "largest", "calibrated", "predicted"}
        Where probabilities come from: the estimator's `predict_proba`; the same, and
        the largest is what `predict` returns, so that one call does for both; a
        `CalibratedHead`; or 1 for the predicted class. ``"own"`` of an estimator
        without `predict_proba` is ``"calibrated"`` if it has `decision_function` and
        ``"predicted"`` if not.
    min_length : int
        Shorter series are padded by repeating their last value.
    uses_seed : bool
        Whether the seed changes a run; if not, one seed is enough.
    shuffled_labels : bool
        Whether the training labels are permuted: a control that must not do better
        than chance.
    """

    name: str
    make: Callable[[int, int], Any]
    probabilities: Literal["own", "largest", "calibrated", "predicted"] = "own"
    min_length: int = 1
    uses_seed: bool = True
    shuffled_labels: bool = False


def _v2s(settings: dict[str, Any]) -> Callable[[int, int], Any]:
    def make(seed: int, n_threads: int) -> Any:
        from sklearn_v2s.classifier import V2SClassifier

        return V2SClassifier(random_state=seed).set_params(**settings)

    return make


def _v2s_paper(seed: int, n_threads: int) -> Any:
    from sklearn_v2s.classifier import V2SClassifier

    return V2SClassifier.from_paper(random_state=seed)


def _baseline(name: str) -> Callable[[int, int], Any]:
    def make(seed: int, n_threads: int) -> Any:
        baselines = importlib.import_module("sklearn_v2s.baselines")
        return getattr(baselines, name)(random_state=seed)

    return make


def _aeon(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"aeon.classification.{module}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'{name} needs aeon: pip install "sklearn-v2s[benchmark]"'
        ) from error


def _rocket(name: str) -> Callable[[int, int], Any]:
    def make(seed: int, n_threads: int) -> Any:
        return _aeon("convolution_based", name)(random_state=seed, n_jobs=n_threads)

    return make


def _dtw(seed: int, n_threads: int) -> Any:
    return _aeon("distance_based", "KNeighborsTimeSeriesClassifier")(
        distance="dtw",
        distance_params={"window": 0.1},
        n_neighbors=1,
        n_jobs=n_threads,
    )


def _majority(seed: int, n_threads: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _registered() -> dict[str, Method]:
    listed = [
        Method(name, _v2s(chosen), "largest") for name, chosen in V2S_SETTINGS.items()
    ]
    listed += [
        Method("v2s-paper", _v2s_paper, "largest"),
        Method("fine-tuning", _baseline("TransferClassifier"), "largest"),
        Method("fcn", _baseline("FCNClassifier"), "largest"),
        Method("minirocket", _rocket("MiniRocketClassifier"), "calibrated", 9),
        Method("rocket", _rocket("RocketClassifier"), "calibrated"),
        Method(
            "multirocket-hydra", _rocket("MultiRocketHydraClassifier"), "calibrated", 10
        ),
        # One neighbour gives probabilities of 0 and 1, no more than predict does.
        Method("1nn-dtw", _dtw, "predicted", uses_seed=False),
        Method("majority", _majority, uses_seed=False),
    ]
    return {method.name: method for method in listed}


METHODS: dict[str, Method] = _registered()


def resolve_method(text: str) -> Method:
    """Return the method that a text names.

    Parameters
    ----------
    text : str
        A name in `METHODS` or ``package.module:Class``, then, optionally, a JSON object
        of parameters, then, optionally, ``:shuffled-labels``. A class gets seed and
        threads where it has the parameters `random_state` and `n_jobs`.

    Returns
    -------
    Method
        Named `text`. A class is imported only when the estimator is made.

    Raises
    ------
    ValueError
        If the name is unknown or the parameters are not a JSON object.

    Examples
    --------
    >>> from sklearn_v2s.benchmark.methods import resolve_method
    >>> resolve_method('sklearn.linear_model:RidgeClassifier{"alpha": 10}').make(0, 1)
    RidgeClassifier(alpha=10, random_state=0)
    >>> resolve_method("v2s:shuffled-labels").shuffled_labels
    True
    """
    shuffled = text.endswith(SHUFFLED_LABELS)
    name, brace, given = text.removesuffix(SHUFFLED_LABELS).partition("{")
    parameters = _parse_parameters(text, brace + given) if brace else {}
    if name in METHODS:
        method = METHODS[name]
        if parameters:
            method = replace(method, make=_changed(method.make, parameters))
    elif ":" in name:
        method = _user_method(name, parameters)
    else:
        raise ValueError(
            f"method {text!r} is unknown; choose among {sorted(METHODS)} or name a "
            "class as package.module:Class."
        )
    return replace(
        method,
        name=text,
        shuffled_labels=shuffled,
        uses_seed=method.uses_seed or shuffled,
    )


def _parse_parameters(text: str, given: str) -> dict[str, Any]:
    try:
        return json.loads(given)
    except ValueError as error:
        raise ValueError(
            f"method {text!r}: the parameters {given!r} are not a JSON object "
            f'({error}); write them like {{"alpha": 10}}.'
        ) from error


def _changed(
    make: Callable[[int, int], Any], parameters: dict[str, Any]
) -> Callable[[int, int], Any]:
    return lambda seed, n_threads: make(seed, n_threads).set_params(**parameters)


def _user_method(name: str, parameters: dict[str, Any]) -> Method:
    module, _, attribute = name.partition(":")

    def make(seed: int, n_threads: int) -> Any:
        estimator = getattr(importlib.import_module(module), attribute)
        known = inspect.signature(estimator).parameters
        offered = {"random_state": seed, "n_jobs": n_threads}
        taken = {key: value for key, value in offered.items() if key in known}
        return estimator(**(taken | parameters))

    return Method(name, make)
