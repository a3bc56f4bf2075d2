# SPDX-License-Identifier: Apache-2.0
"""Fitted classifiers as pickles and as files."""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier
from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.sources import (
    CheckpointError,
    FrontEndConfig,
    load_source,
    save_checkpoint,
)
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from tests.small import WORDS, make_classifier, make_series

ROOT = Path(__file__).resolve().parents[2]
MAPPINGS = ["random", "contiguous", "frequency", "iterative", "bayesian", "linear"]


def write_small_checkpoint(path, seed):
    """Write an AttRNN that takes 512 samples and has 12 source classes."""
    front_end = FrontEndConfig(
        input_length=512, n_fft=64, hop_length=32, pad_left=16, pad_right=16, n_mels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source = build_attrnn(front_end, [f"word{number}" for number in range(12)])
    save_checkpoint(path, source, {})
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return write_small_checkpoint(folder / "small.safetensors", seed=0)


@pytest.fixture(scope="module")
def fitted(checkpoint):
    """Return a classifier that must not be changed."""
    X, y = make_series()
    return make_classifier(checkpoint, dropout=0.1, max_epochs=2).fit(X, y)


def assert_same(restored, classifier, X):
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))
    assert_array_equal(restored.predict(X), classifier.predict(X))
    assert_array_equal(restored.reprogram(X), classifier.reprogram(X))
    assert_array_equal(restored.classes_, classifier.classes_)
    assert restored.classes_.dtype == classifier.classes_.dtype
    for name in ("perturbation_", "input_gain_"):
        mine, theirs = getattr(restored, name), getattr(classifier, name)
        assert mine.dtype == theirs.dtype
        assert_array_equal(mine, theirs)
    for name in (
        "history_",
        "n_iter_",
        "n_features_in_",
        "n_timepoints_in_",
        "n_channels_in_",
        "unequal_length_",
    ):
        assert getattr(restored, name) == getattr(classifier, name)


# --- pickle --------------------------------------------------------------------------


def by_cloudpickle(classifier):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(classifier))


def by_joblib(classifier):
    stream = io.BytesIO()
    joblib.dump(classifier, stream)
    stream.seek(0)
    return joblib.load(stream)


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(lambda model: pickle.loads(pickle.dumps(model)), id="pickle"),
        pytest.param(by_cloudpickle, id="cloudpickle"),
        pytest.param(by_joblib, id="joblib"),
    ],
)
@pytest.mark.parametrize("mapping", ["linear", "iterative"])
@pytest.mark.parametrize("kind", ["module", "checkpoint"])
def test_a_pickled_classifier_predicts_the_same_bits(
    tiny_source, checkpoint, copy, mapping, kind
):
    X, y = make_series(n_classes=3)
    output = "embedding" if mapping == "linear" else "logits"
    source = tiny_source if kind == "module" else checkpoint
    classifier = make_classifier(
        source, label_mapping=mapping, source_output=output, early_stopping=True
    ).fit(X, np.array(["a", "b", "c"])[y])
    restored = copy(classifier)
    assert_same(restored, classifier, X)
    labels = classifier.classes_[y]
    for model in (restored, classifier):
        model.partial_fit(X, labels)
    assert_same_up_to_seconds(restored, classifier)


def assert_same_up_to_seconds(restored, classifier):
    assert_array_equal(restored.perturbation_, classifier.perturbation_)
    for mine, theirs in zip(restored.history_, classifier.history_, strict=True):
        assert mine["train_loss"] == theirs["train_loss"]


def test_an_unfitted_classifier_can_be_pickled(tiny_source):
    X, y = make_series()
    restored = pickle.loads(pickle.dumps(make_classifier(tiny_source)))
    expected = make_classifier(tiny_source).fit(X, y).predict_proba(X)
    assert_array_equal(restored.fit(X, y).predict_proba(X), expected)


def test_a_pickle_holds_no_weights_of_a_source_with_a_name():
    X, y = make_series(n=8)
    classifier = make_classifier("attrnn", n_views=1, n_segments=1, max_epochs=1)
    classifier.fit(X, y)
    content = pickle.dumps(classifier)
    # Perturbation, its copy and two moments of Adam, 64 kB each; and the mapping. The
    # source would add 800 kB.
    assert 4 * 64_000 < len(content) < 450_000
    source = load_source("attrnn")
    for name in ("network.lstm1.weight_hh_l0", "network.dense1.weight"):
        weights = source.state_dict()[name].numpy().tobytes()
        assert weights[:64] not in content, name


def test_a_pickle_holds_the_weights_of_a_module_that_was_handed_in(tiny_source):
    X, y = make_series()
    content = pickle.dumps(make_classifier(tiny_source).fit(X, y))
    weights = tiny_source.state_dict()["lstm.weight_hh_l0"].numpy().tobytes()
    assert weights in content


def test_a_pickle_holds_no_training_data(checkpoint):
    X, y = make_series(n=300)
    small = make_classifier(checkpoint, max_epochs=1, early_stopping=True)
    large = make_classifier(checkpoint, max_epochs=1, early_stopping=True)
    small.fit(X[:30], y[:30])
    large.fit(X, y)
    difference = len(pickle.dumps(large)) - len(pickle.dumps(small))
    assert abs(difference) < 500


FRESH = """
import pickle, socket, sys
import numpy as np

def refuse(*args, **kwargs):
    raise AssertionError("the network was used")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
data = np.load(sys.argv[1])
with open(sys.argv[2], "rb") as stream:
    pickled = pickle.load(stream)
assert "sklearn_v2s" in sys.modules
from sklearn_v2s import V2SClassifier
loaded = V2SClassifier.load(sys.argv[3])
np.savez(
    sys.argv[4],
    pickled=pickled.predict_proba(data),
    loaded=loaded.predict_proba(data),
)
"""


@pytest.mark.slow
def test_a_fresh_process_without_network_predicts_the_same_bits(tmp_path):
    X, y = make_series(n=8)
    classifier = make_classifier("attrnn", n_views=1, n_segments=1, max_epochs=1)
    classifier.fit(X, y)
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(classifier))
    classifier.save(tmp_path / "model.safetensors")
    files = ["X.npy", "model.pkl", "model.safetensors", "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *(str(tmp_path / name) for name in files)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = np.load(tmp_path / "out.npz")
    expected = classifier.predict_proba(X)
    assert_array_equal(seen["pickled"], expected)
    assert_array_equal(seen["loaded"], expected)


def test_a_pickle_refuses_another_checkpoint_of_the_same_name(tmp_path, forget_sources):
    X, y = make_series()
    source = write_small_checkpoint(tmp_path / "source.safetensors", seed=0)
    content = pickle.dumps(make_classifier(source, max_epochs=0).fit(X, y))
    write_small_checkpoint(tmp_path / "source.safetensors", seed=1)
    # As in a new process, where the first one has not been loaded.
    forget_sources()
    with pytest.raises(CheckpointError, match=r"source\.safetensors.*SHA-256"):
        pickle.loads(content)


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("handed_in", [False, True])
def test_a_saved_classifier_predicts_the_same_bits(
    checkpoint, tmp_path, mapping, handed_in
):
    X, y = make_series(n_classes=3)
    output = "embedding" if mapping == "linear" else "logits"
    classifier = make_classifier(
        checkpoint, label_mapping=mapping, source_output=output
    ).fit(X, y)
    if handed_in:
        instance = type(classifier.label_mapping_)()
        classifier.set_params(label_mapping=instance).fit(X, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    assert_same(restored, classifier, X)
    assert type(restored.label_mapping_) is type(classifier.label_mapping_)
    mine, theirs = vars(restored.label_mapping_), vars(classifier.label_mapping_)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        if isinstance(value, list):
            assert mine[name] == value
        else:
            assert_array_equal(mine[name], value)
    mine, theirs = restored.get_params(deep=False), classifier.get_params(deep=False)
    if handed_in:
        assert type(mine.pop("label_mapping")) is type(theirs.pop("label_mapping"))
    assert mine == theirs


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(np.array(["no", "yes", "Ünïcode ω"]), id="strings"),
        pytest.param(np.array([-1, 1, 7]), id="integers"),
        pytest.param(np.array([-1, 1, 7], dtype=np.int16), id="short integers"),
        pytest.param(np.array([False, True]), id="booleans"),
        pytest.param(np.array(["a", "b", "c"], dtype=object), id="objects"),
        pytest.param(np.array([0.0, 1.0, 2.0]), id="whole floats"),
    ],
)
def test_a_saved_classifier_keeps_classes_of_any_kind(checkpoint, tmp_path, labels):
    X, codes = make_series(n_classes=len(labels))
    y = labels[codes]
    classifier = make_classifier(checkpoint, max_epochs=0).fit(X, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    assert_same(restored, classifier, X)
    assert restored.score(X, y) == classifier.score(X, y) > 0.5


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"normalization": "series"}, id="normalised one by one"),
        pytest.param({"normalization": None}, id="not normalised"),
        pytest.param({"mask": True, "dropout": 0.3}, id="mask"),
        pytest.param({"train_gain": True}, id="gain"),
        pytest.param({"precision": "float64"}, id="float64"),
        pytest.param({"source_output": "both"}, id="both outputs"),
        pytest.param({"n_segments": "auto", "n_views": 1}, id="one view"),
        pytest.param({"early_stopping": True}, id="early stopping"),
        pytest.param({"random_state": None}, id="no random state"),
        pytest.param(
            {**WORDS, "label_mapping": BayesianLabelMapping(smoothing=2.0, plus=True)},
            id="parameters of a mapping",
        ),
        pytest.param(
            {"label_mapping": LinearLabelMapping(solver="logistic")}, id="logistic"
        ),
    ],
)
def test_a_saved_classifier_keeps_its_settings(checkpoint, tmp_path, parameters):
    X, y = make_series()
    classifier = make_classifier(checkpoint, **parameters).fit(X, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    assert_same(restored, classifier, 3.0 * X + 1.0)
    assert (
        restored.label_mapping_.get_params() == classifier.label_mapping_.get_params()
    )


def test_a_saved_classifier_keeps_channels(checkpoint, tmp_path):
    X, y = make_series(n_channels=3)
    classifier = make_classifier(checkpoint).fit(X, y)
    classifier.save(tmp_path / "model.safetensors")
    assert_same(V2SClassifier.load(tmp_path / "model.safetensors"), classifier, X)


def test_a_saved_classifier_keeps_unequal_lengths(checkpoint, tmp_path):
    X, y = make_series()
    cut = [series[: 24 - position % 5] for position, series in enumerate(X)]
    classifier = make_classifier(checkpoint).fit(cut, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    assert_same(restored, classifier, cut)
    assert_array_equal(restored.predict(X[:, :9]), classifier.predict(X[:, :9]))


def test_a_saved_classifier_keeps_the_names_of_columns(checkpoint, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y = make_series()
    table = pandas.DataFrame(X, columns=[f"t{time}" for time in range(24)])
    classifier = make_classifier(checkpoint, max_epochs=0).fit(table, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    assert_array_equal(restored.feature_names_in_, classifier.feature_names_in_)
    with pytest.raises(ValueError, match="feature names"):
        restored.predict(table[table.columns[::-1]])


def test_a_loaded_classifier_can_be_trained_further(checkpoint, tmp_path):
    X, y = make_series()
    classifier = make_classifier(checkpoint, max_epochs=0).fit(X, y)
    classifier.save(tmp_path / "model.safetensors")
    restored = V2SClassifier.load(tmp_path / "model.safetensors")
    for model in (restored, classifier):
        for _ in range(2):
            model.partial_fit(X, y)
    assert_same_up_to_seconds(restored, classifier)
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))
    assert len(restored.history_) == 2
    restored.set_params(warm_start=True, max_epochs=0).fit(X, y)
    assert_array_equal(restored.perturbation_, classifier.perturbation_)


def test_a_classifier_can_be_saved_and_loaded_again_and_again(fitted, tmp_path):
    X, _ = make_series()
    model = fitted
    for turn in range(3):
        path = tmp_path / f"model{turn}.safetensors"
        model.save(path)
        model = V2SClassifier.load(path)
    assert_same(model, fitted, X)
    first, last = (tmp_path / f"model{turn}.safetensors" for turn in (0, 2))
    assert first.read_bytes() == last.read_bytes()


@pytest.mark.parametrize("n_views", [1, 4])
def test_a_saved_file_has_some_tens_of_kilobytes_for_each_view(tmp_path, n_views):
    X, y = make_series(n=8)
    classifier = make_classifier("attrnn", n_views=n_views, max_epochs=0)
    path = tmp_path / "model.safetensors"
    classifier.fit(X, y).save(path)
    assert 64_000 < path.stat().st_size / n_views < 100_000


def test_a_saved_file_is_a_plain_safetensors_file(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    tensors = safetensors.numpy.load_file(path)
    assert_array_equal(tensors["perturbation/delta"], fitted.perturbation_)
    with safetensors.safe_open(path, "numpy") as opened:
        document = json.loads(opened.metadata()["sklearn_v2s"])
    assert document["kind"] == "V2SClassifier"
    assert document["source"]["sha256"] in {
        source.reference.sha256 for source in [load_source(fitted.source)]
    }
    # No weights of the source: only what was learned.
    assert {name.split("/")[0] for name in tensors} == {
        "perturbation",
        "normalizer",
        "label_mapping",
    }


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    fitted.save(folder / "model.safetensors")
    return folder, (folder / "model.safetensors").read_bytes()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_byte_anywhere_is_an_error(saved, data):
    folder, content = saved
    position = data.draw(st.integers(0, len(content) - 1), label="position")
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255), label="xor")
    path = folder / "changed.safetensors"
    path.write_bytes(changed)
    with pytest.raises(TensorFileError, match=r"changed\.safetensors is not an intact"):
        V2SClassifier.load(path)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_cut_or_extended_file_is_an_error(saved, data):
    folder, content = saved
    length = data.draw(st.integers(0, len(content) - 1), label="length")
    extra = data.draw(st.binary(min_size=1, max_size=8), label="extra")
    path = folder / "cut.safetensors"
    for damaged in (content[:length], content + extra):
        path.write_bytes(damaged)
        with pytest.raises(TensorFileError, match=r"cut\.safetensors is not an intact"):
            V2SClassifier.load(path)


def test_a_checkpoint_of_a_source_is_no_classifier(checkpoint):
    with pytest.raises(TensorFileError, match="'source model', not a 'V2SClassifier'"):
        V2SClassifier.load(checkpoint)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        V2SClassifier.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda head: head.pop("classes"), id="a key is missing"),
        pytest.param(
            lambda head: head["parameters"].update(loudness=3), id="unknown parameter"
        ),
        pytest.param(
            lambda head: head["label_mapping"].update({"class": "os"}),
            id="unknown mapping",
        ),
        pytest.param(
            lambda head: head["settings"].pop("n_segments"), id="a setting is missing"
        ),
        pytest.param(
            lambda head: head["parameters"].update(memory=3), id="wrong parameter"
        ),
        pytest.param(
            lambda head: head["label_mapping"]["fitted"].update(temperature_=None),
            id="no temperature",
        ),
    ],
)
def test_an_intact_file_of_another_version_is_a_clear_error(saved, tmp_path, change):
    folder, _ = saved
    tensors, header, _ = read_tensor_file(folder / "model.safetensors")
    change(header)
    write_tensor_file(tmp_path / "other.safetensors", tensors, header)
    with pytest.raises(TensorFileError, match=r"this version of sklearn-v2s cannot"):
        V2SClassifier.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "perturbation/delta",
        "perturbation/log_gain",
        "normalizer/mean",
        "normalizer/scale",
        "label_mapping/classes_",
        "label_mapping/coef_",
        "label_mapping/intercept_",
        "label_mapping/mean_",
        "label_mapping/bound_",
        "label_mapping/selected_",
        "label_mapping/block_sizes_",
    ],
)
def test_an_array_that_would_be_broadcast_is_refused(saved, tmp_path, name):
    folder, _ = saved
    tensors, header, _ = read_tensor_file(folder / "model.safetensors")
    tensors[name] = np.ravel(tensors[name])[:1].reshape((1,) * 3)
    write_tensor_file(tmp_path / "other.safetensors", tensors, header)
    with pytest.raises(TensorFileError, match=r"other\.safetensors.*cannot read"):
        V2SClassifier.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("part", "value"),
    [("n_features_in_", []), ("n_features_in_", 3), ("n_timepoints_in_", "x")],
)
def test_a_shape_that_no_series_has_is_refused(saved, tmp_path, part, value):
    folder, _ = saved
    tensors, header, _ = read_tensor_file(folder / "model.safetensors")
    header["fitted"][part] = value
    write_tensor_file(tmp_path / "other.safetensors", tensors, header)
    with pytest.raises(TensorFileError, match=r"other\.safetensors.*cannot read"):
        V2SClassifier.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("mapping", ["frequency", "bayesian"])
def test_a_mapping_of_source_classes_must_fit_the_source(checkpoint, tmp_path, mapping):
    path = tmp_path / "model.safetensors"
    words = {"source_output": "logits", "label_mapping": mapping, "max_epochs": 0}
    make_classifier(checkpoint, **words).fit(*make_series()).save(path)
    tensors, header, _ = read_tensor_file(path)
    tensors["label_mapping/weights_"] = tensors["label_mapping/weights_"][:1]
    write_tensor_file(path, tensors, header)
    with pytest.raises(TensorFileError, match=r"weights_ has shape \(1, 2\)"):
        V2SClassifier.load(path)


def test_a_file_refuses_another_checkpoint_of_the_same_name(tmp_path, forget_sources):
    X, y = make_series()
    source = write_small_checkpoint(tmp_path / "source.safetensors", seed=0)
    make_classifier(source, max_epochs=0).fit(X, y).save(tmp_path / "model.safetensors")
    write_small_checkpoint(tmp_path / "source.safetensors", seed=1)
    forget_sources()
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors.*source\.safetensors.*fit again"
    ):
        V2SClassifier.load(tmp_path / "model.safetensors")
    (tmp_path / "source.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"source\.safetensors"):
        V2SClassifier.load(tmp_path / "model.safetensors")


# --- what cannot be saved ------------------------------------------------------------


def test_an_unfitted_classifier_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError, match="V2SClassifier"):
        V2SClassifier().save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_module_as_source_cannot_be_saved(tiny_source, tmp_path):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=r"no source weights.*save_checkpoint.*joblib"):
        classifier.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


class OwnMapping(RandomLabelMapping):
    pass


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"callbacks": [Callback()]}, "callbacks="),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "class_weight="),
        ({"random_state": np.random.RandomState(0)}, "random_state="),
        ({"device": torch.device("cpu")}, "device="),
        ({"label_mapping": LinearLabelMapping(alphas=np.ones(2))}, "alphas="),
        ({**WORDS, "label_mapping": OwnMapping()}, "OwnMapping.*only joblib"),
    ],
    ids=["callbacks", "class_weight", "random_state", "device", "alphas", "mapping"],
)
def test_a_parameter_that_no_file_can_hold_is_named(
    checkpoint, tmp_path, parameters, message
):
    X, y = make_series()
    classifier = make_classifier(checkpoint, **({"max_epochs": 1} | parameters))
    classifier.fit(X, y)
    with pytest.raises(ValueError, match=message):
        classifier.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_mapping_of_the_same_name_from_elsewhere_cannot_be_saved(
    checkpoint, tmp_path
):
    foreign = type("LinearLabelMapping", (LinearLabelMapping,), {})
    X, y = make_series()
    classifier = make_classifier(checkpoint, label_mapping=foreign(), max_epochs=0)
    with pytest.raises(ValueError, match="only joblib"):
        classifier.fit(X, y).save(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"n_views": 3},
        {"n_segments": 2},
        {"mask": True},
        {"normalization": "series"},
        {"precision": "float64"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parameters_changed_after_fit_do_not_change_what_is_saved(
    checkpoint, tmp_path, change
):
    X, y = make_series()
    classifier = make_classifier(checkpoint, max_epochs=0).fit(X, y)
    expected = classifier.predict_proba(X)
    classifier.set_params(**change).save(tmp_path / "model.safetensors")
    loaded = V2SClassifier.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == classifier.get_params()
    assert_array_equal(loaded.predict_proba(X), expected)


def test_a_failed_save_leaves_the_file_that_was_there(
    fitted, saved, tmp_path, monkeypatch
):
    _, content = saved
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the file before")

    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        fitted.save(path)
    assert path.read_bytes() == b"the file before"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    fitted.save(path)
    assert path.read_bytes() == content
