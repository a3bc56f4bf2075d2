# SPDX-License-Identifier: Apache-2.0
"""Fitted classifiers as files: arrays and JSON, no pickle.

The weights of a source are found again by name and SHA-256; only those that were
fine-tuned are in the file.
"""

import os
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import sklearn_v2s.label_mapping as label_mappings
from sklearn_v2s.sources.contract import SourceReference
from sklearn_v2s.sources.registry import load_reference
from sklearn_v2s.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.views import WaveView

if TYPE_CHECKING:
    from sklearn_v2s.classifier import V2SClassifier

    Classifier = TypeVar("Classifier", bound=V2SClassifier)

__all__ = ["load_classifier", "save_classifier"]

_KIND = "V2SClassifier"
_PLAIN = (str, int, float, bool, type(None))
_FITTED_NUMBERS = ("n_features_in_", "n_timepoints_in_", "n_channels_in_")
_MAPPINGS = {
    name: getattr(label_mappings, name)
    for name in label_mappings.__all__
    if not name.startswith("Base")
}


def _plain_parameters(owner: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON values, or say which cannot be one."""
    plain = {}
    for name, value in parameters.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, tuple | list):
            # A sequence of names or numbers; JSON gives it back as a list.
            value = list(value)
            plain_value = all(isinstance(item, _PLAIN) for item in value)
        else:
            plain_value = isinstance(value, _PLAIN)
        if not plain_value:
            raise ValueError(
                f"{owner} cannot be saved with {name}={value!r}: a file holds numbers "
                "and strings. Give a registered source by name, an int as "
                "random_state, a device by name; set class_weight and callbacks to "
                "None after fit; or use joblib."
            )
        plain[name] = value
    return plain


def _classes_document(classes: np.ndarray) -> dict[str, Any]:
    values = [
        value.item() if isinstance(value, np.generic) else value
        for value in classes.tolist()
    ]
    strange = [value for value in values if not isinstance(value, _PLAIN)]
    if strange:
        raise ValueError(
            f"{_KIND} cannot be saved with the class {strange[0]!r}: a file holds "
            "numbers and strings. Use joblib."
        )
    return {"dtype": classes.dtype.str, "values": values}


def _check_as_fitted(classifier: "V2SClassifier") -> None:
    """Raise if parameters that the file is to be read with are not those of the fit."""
    reprogrammed = classifier.net_.module_.reprogrammed
    perturbation, placement = reprogrammed.perturbation, reprogrammed.placement
    segments = classifier.n_segments
    fitted = {
        "n_views": len(perturbation.delta),
        "n_segments": segments if segments == "auto" else placement.n_segments,
        "mask": perturbation.mask is not None,
        "fine_tune": reprogrammed.owns_source,
        "normalization": classifier._normalizer.mode,
        "precision": str(perturbation.delta.dtype).removeprefix("torch."),
    }
    for name, value in fitted.items():
        if getattr(classifier, name) != value:
            raise ValueError(
                f"{_KIND} cannot be saved with {name}={getattr(classifier, name)!r}: "
                f"it was fitted with {value!r}. Set it back, or fit again."
            )


def _reference(reference: SourceReference | None) -> dict[str, str]:
    """Return where a source is found again, or say that it is not."""
    if reference is None:
        raise ValueError(
            "the classifier was fitted with a source that did not come from a "
            "checkpoint, and a saved classifier holds no source weights. Save the "
            "source with sklearn_v2s.sources.save_checkpoint and fit with its path, "
            "or use joblib."
        )
    return {"name": reference.name, "sha256": reference.sha256}


def save_classifier(classifier: "V2SClassifier", path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier; see `V2SClassifier.save`."""
    reference = _reference(classifier._source_reference)
    wave_sources = [
        # A module of the user need not have the attribute.
        _reference(getattr(view.source, "reference", None))
        for view in classifier._fixed_views.values()
        if isinstance(view, WaveView)
    ]
    _check_as_fitted(classifier)
    mapping = classifier.label_mapping_
    if type(mapping) not in _MAPPINGS.values():
        raise ValueError(
            f"label_mapping_ is a {type(mapping).__name__}, which only joblib can "
            f"keep; files hold {sorted(_MAPPINGS)}."
        )
    # A folder of this machine says nothing elsewhere.
    parameters = classifier.get_params(deep=False) | {"memory": None}
    given = parameters["label_mapping"]
    if not isinstance(given, str):
        # Written below, beside the fitted one.
        parameters["label_mapping"] = None
    reprogrammed = classifier.net_.module_.reprogrammed
    perturbation = reprogrammed.perturbation
    tensors = {
        "perturbation/delta": perturbation.delta.detach().cpu().numpy(),
        "perturbation/log_gain": perturbation.log_gain.detach().cpu().numpy(),
        "normalizer/mean": classifier._normalizer.mean_,
        "normalizer/scale": classifier._normalizer.scale_,
    }
    if reprogrammed.owns_source:
        for name, tensor in reprogrammed.source.state_dict().items():
            tensors[f"source/{name}"] = tensor.cpu().numpy()
    for name, view in classifier._fixed_views.items():
        for key, value in view.arrays().items():
            tensors[f"view/{name}/{key}"] = value
    fitted: dict[str, Any] = {}
    for name, value in vars(mapping).items():
        if not name.endswith("_"):
            continue
        if isinstance(value, np.ndarray):
            tensors[f"label_mapping/{name}"] = value
        else:
            fitted[name] = value.item() if isinstance(value, np.generic) else value
    header = {
        "kind": _KIND,
        "source": reference,
        "wave_source": wave_sources[0] if wave_sources else None,
        "views": list(classifier.views_),
        "parameters": _plain_parameters(_KIND, parameters),
        "classes": _classes_document(classifier.classes_),
        "fitted": {name: getattr(classifier, name) for name in _FITTED_NUMBERS},
        "unequal_length": classifier.unequal_length_,
        "feature_names": list(getattr(classifier, "feature_names_in_", [])),
        "history": classifier.history_,
        # JSON has no infinity: null means that there is no limit.
        "temperature_limit": (
            classifier._temperature_limit
            if np.isfinite(classifier._temperature_limit)
            else None
        ),
        "label_mapping": {
            "class": type(mapping).__name__,
            "parameters": _plain_parameters("label_mapping", mapping.get_params()),
            # What fit filled in, such as block_sizes, is not what the user gave.
            "given": _plain_parameters(
                "label_mapping",
                (given if type(given) is type(mapping) else mapping).get_params(),
            ),
            "fitted": fitted,
        },
    }
    write_tensor_file(path, tensors, header)


def load_classifier(
    cls: "type[Classifier]", path: str | os.PathLike[str]
) -> "Classifier":
    """Read a fitted classifier; see `V2SClassifier.load`."""
    tensors, header, _ = read_tensor_file(path)
    if header.get("kind") != _KIND:
        raise TensorFileError(
            f"{path} holds a {header.get('kind')!r}, not a {_KIND!r}."
        )
    try:
        return _rebuild(cls, tensors, header)
    except (AttributeError, KeyError, TypeError, RuntimeError) as error:
        # The SHA-256 is right, so this is what was written.
        raise TensorFileError(
            f"{path} holds a {_KIND} that this version of sklearn-v2s cannot read "
            f"({error!r}). Update sklearn-v2s, or fit again."
        ) from error


def _rebuild(
    cls: "type[Classifier]", tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> "Classifier":
    document = header["label_mapping"]
    mapping_class = _MAPPINGS[document["class"]]
    mapping = mapping_class(**document["parameters"])
    for name, value in document["fitted"].items():
        setattr(mapping, name, value)
    for name, value in tensors.items():
        if name.startswith("label_mapping/"):
            setattr(mapping, name.removeprefix("label_mapping/"), value)
    parameters = header["parameters"]
    if parameters["label_mapping"] is None:
        parameters["label_mapping"] = mapping_class(**document["given"])
    classifier = cls(**parameters)
    for name in _FITTED_NUMBERS:
        setattr(classifier, name, header["fitted"][name])
    classifier.unequal_length_ = header["unequal_length"]
    if header["feature_names"]:
        classifier.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    classes = header["classes"]
    classifier.classes_ = np.array(classes["values"], dtype=np.dtype(classes["dtype"]))
    classifier.views_ = tuple(header["views"])
    views: dict[str, dict[str, np.ndarray]] = {name: {} for name in classifier.views_}
    for name, value in tensors.items():
        if name.startswith("view/"):
            _, view, key = name.split("/")
            views[view][key] = value
    source, wave_source = (
        None
        if reference is None
        else load_reference(
            reference["name"], reference["sha256"], classifier.precision
        )
        for reference in (header["source"], header["wave_source"])
    )
    classifier._restore(
        source,
        wave_source,
        mapping,
        views=views,
        tuned={
            name.removeprefix("source/"): value
            for name, value in tensors.items()
            if name.startswith("source/")
        },
        mean=tensors["normalizer/mean"],
        scale=tensors["normalizer/scale"],
        delta=tensors["perturbation/delta"],
        log_gain=tensors["perturbation/log_gain"],
        history=header["history"],
        temperature_limit=header["temperature_limit"],
    )
    return classifier
